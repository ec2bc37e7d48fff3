"""A long ``--help`` in sections."""

from __future__ import annotations

from typing import Any

import click


class Sectioned(click.Command):
    """Options under titles, in the order they are given.

    Args:
        sections: name of the parameter that begins a section -> its title.
    """

    def __init__(self, *args: Any, sections: dict[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        title, records = "Options", dict[str, list[tuple[str, str]]]()
        for parameter in self.get_params(ctx):
            title = self.sections.get(parameter.name or "", title)
            record = parameter.get_help_record(ctx)
            if record is not None:
                records.setdefault(title, []).append(record)
        for name, rows in records.items():
            with formatter.section(name):
                formatter.write_dl(rows)
