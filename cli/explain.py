"""``medcompress explain``: Grad-CAM pictures of a checkpoint's answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .documents import Explained, ExplainedImage, as_json_option, print_json

if TYPE_CHECKING:
    from ..trained.results.contact_sheet import Row


@click.command("explain")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="[default: what it was trained on]")
@click.option("--part", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option(
    "--per-class",
    "--per-sheet",
    "per_class",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Images a sheet.",
)
@click.option("--class", "class_name", help="Explain this class; by default the answer, or the likeliest finding.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the images that are drawn.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: explained, beside it]")
@as_json_option
def command(
    checkpoint: Path,
    images: tuple[Path, ...],
    data: Path | None,
    part: str,
    per_class: int,
    class_name: str | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw where CHECKPOINT, or that of a run's folder, looked: each image, its Grad-CAM heat map, and both.

    Without IMAGES there is a contact sheet for each class, of the checkpoint's own test images: first the wrong
    answers it was surest of, at most half of the sheet, then others by chance. With IMAGES the sheets are of those.
    """
    from ..runtime.bundle import MANIFEST
    from ..trained.results.evaluation import find_model
    from ..trained.results.explained import explain_images, explain_part

    if checkpoint.is_dir() and not (checkpoint / MANIFEST).is_file():
        checkpoint = find_model(checkpoint)
    out = out or checkpoint.with_name("explained")
    if images:
        layer, sheets = explain_images(checkpoint, images, out, class_name, per_class)
    else:
        layer, sheets = explain_part(checkpoint, out, data, part, per_class, class_name, seed)
    if as_json:
        listed = tuple(_listed(row, path) for path, rows in sheets.items() for row in rows)
        print_json(Explained(str(checkpoint), layer, tuple(map(str, sheets)), listed))
        return
    for path, rows in sheets.items():
        wrong = sum(row.right is False for row in rows)
        said = f", {wrong} answered wrong" if wrong else ""
        click.echo(f"{path}: {len(rows)} image(s){said}")


def _listed(row: Row, sheet: Path) -> ExplainedImage:
    return ExplainedImage(
        str(row.path), str(sheet), row.truth or None, row.answer or None, row.explained, row.probability, row.right
    )
