"""The files of a report, in a folder: in a bundle, or beside it with pictures of patients."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.bundle import MANIFEST
from ...runtime.errors import InputError, MachineError
from ...runtime.records import to_json, write_whole
from .card import render_card
from .html import render_html
from .markdown import render_markdown
from .picture import Picture
from .record import Report

JSON, HTML, MARKDOWN, CARD, FLIPS = "report.json", "report.html", "report.md", "model_card.md", "flips.csv"
FILES = (JSON, HTML, MARKDOWN, CARD, FLIPS)
_COLUMNS = ("case", "kind", "of", "truth", "reference", "variant", "reference_probability", "variant_probability")


def refuse_folder(folder: Path) -> None:
    """Refuse to write into a bundle, whose files are hashed, and which travels where patients' pictures must not.

    It is made where it is not there: whether it can be is told before any work.

    Raises:
        InputError: it is a bundle, or lies in one.
        MachineError: it cannot be made.
    """
    if any((each / MANIFEST).exists() for each in (folder.absolute(), *folder.absolute().parents)):
        raise InputError(f"{folder}: is a bundle, or lies in one; give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be made ({error.strerror}); give another --out") from error


def write_report(
    folder: Path,
    report: Report,
    spec: Mapping[str, Any],
    pictures: Mapping[tuple[str, int], Picture] | None = None,
    files: Sequence[str] = (),
) -> None:
    """Write ``report.json``, ``report.html``, ``report.md`` and ``model_card.md``, each whole.

    Args:
        folder: made where it is not there; other files in it are left alone.
        spec: of the network, for the model card.
        pictures: of flipped cases, for the page. With them it is patient data.
        files: of the held-out images, in their order: writes ``flips.csv``, which names those whose answer changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / JSON, to_json(report))
    write_whole(folder / HTML, render_html(report, pictures or {}).encode())
    write_whole(folder / MARKDOWN, render_markdown(report).encode())
    write_whole(folder / CARD, render_card(report, spec).encode())
    if files:
        write_whole(folder / FLIPS, _flips(report, files).encode())


def _flips(report: Report, files: Sequence[str]) -> str:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["form", "file", *_COLUMNS, "threshold", "sha256"])
    for evidence in report.evidence:
        for flip in evidence.flips:
            values = [getattr(flip, column) for column in (*_COLUMNS, "threshold", "sha256")]
            writer.writerow([evidence.variant, files[flip.index], *values])
    return table.getvalue()
