"""The options that say which DICOM files a model is made for, and how they are shown to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _parted(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Commas part several, and so does repeating the option."""
    return tuple(part.strip().upper() for value in values for part in value.split(",") if part.strip())


_OPTIONS = (
    click.option(
        "--modality",
        multiple=True,
        callback=_parted,
        metavar="CODES",
        help="DICOM modalities the model is made for: CR,DX; others are refused.  [default: any]",
    ),
    click.option(
        "--body-part",
        multiple=True,
        callback=_parted,
        metavar="CODES",
        help="Body parts in DICOM's terms: CHEST; others are refused.  [default: any]",
    ),
    click.option(
        "--dicom",
        multiple=True,
        metavar="NAME=VALUE",
        help="How DICOM files are shown and taken: window=40/400, frame=middle, secondary-capture=flag, lossy=ignore.",
    ),
)


def dicom_options(command: F) -> F:
    """Add the options to a command, as ``modality``, ``body_part`` and ``dicom``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
