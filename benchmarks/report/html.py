"""The report as a page."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import missing_package
from .record import Report


def render_html(report: Report) -> str:
    """One self-contained page: no script, no request to anywhere.

    Raises:
        MachineError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise missing_package("jinja2", "report") from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(report=report)
