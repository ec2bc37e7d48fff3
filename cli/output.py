"""What commands print on stdout: one JSON document, or lines for people."""

from __future__ import annotations

from typing import Any

import click
import msgspec


def print_json(record: Any) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
