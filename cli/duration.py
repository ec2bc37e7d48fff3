"""A length of time, as it is given on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0, "": 1.0}


class Duration(click.ParamType[float]):
    """``90s``, ``30m``, ``2h``, ``1h30m`` or a bare number of minutes; becomes minutes."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no length of time; give 90s, 30m, 2h or 1h30m", param, ctx)
        return sum(float(number) * _MINUTES[unit] for number, unit in parts)
