"""``medcompress sensitivity``: which layers a network can spare, and which not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runtime.errors import InputError
from .documents import Sensitive, as_json_option, print_json

if TYPE_CHECKING:
    from ..benchmarks.statistics.delong import AurocLoss
    from ..compress.pruning.group_losses import Sensitivity


# So many marks the picture tells apart.
_MOST_SHARES = 5
_OTHERS = (
    "these are not the images the checkpoint was trained with, or they changed since: some may have trained it, and "
    "what it loses on those is less than on others"
)


@click.command("sensitivity")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The images; by default where the checkpoint found them.")
@click.option(
    "--shares", default="25,50,75", show_default=True, help="Percent of a group's units that go, one after another."
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    help="Validation images, at most. [default: 600; with many groups fewer, at least 150]",
)
@click.option("--keep", multiple=True, help="Leave layers of this name out, with * and ?; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Draw it: a file ending in .svg, .png or .pdf.")
@as_json_option
def command(
    checkpoint: Path,
    data: Path | None,
    shares: str,
    images: int | None,
    keep: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Prune every layer group of CHECKPOINT, or that of a run's folder, alone, and see what its answers lose.

    The figures are of validation images and of pruning without any recovery: they say where the network's knowledge
    sits, and which layers to leave out of pruning with --keep NAME, not what is left after training on.
    """
    from ..benchmarks.progress import console
    from ..compress.pruning.sensitivity import measure_sensitivity
    from ..runtime.bundle import MANIFEST
    from ..trained.checkpoint import load_checkpoint
    from ..trained.data.splits import located, split_of
    from ..trained.results.evaluation import find_model

    parts = _shares(shares)
    if out is not None:
        from ..compress.pruning.sensitivity_plot import require_drawable

        require_drawable(out)
    if checkpoint.is_dir() and not (checkpoint / MANIFEST).is_file():
        checkpoint = find_model(checkpoint)
    stored = load_checkpoint(checkpoint)
    split = split_of(located(stored.data, data, checkpoint), stored.spec.decision.classes)
    warnings = () if split.fingerprint == stored.split else (_OTHERS,)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)
    found = measure_sensitivity(stored, split.val, parts, images, keep)
    if out is not None:
        from ..compress.pruning.sensitivity_plot import write_plot

        title = f"{stored.spec.architecture}: each group of channels pruned alone, {found.images} validation images"
        write_plot(out, found, title)
    if as_json:
        print_json(Sensitive(str(checkpoint), str(split.folder), warnings, str(out) if out else None, found))
        return
    _print(found, f"{checkpoint}: {split.folder}")
    if out is not None:
        click.echo(f"plot: {out}")


def _shares(text: str) -> tuple[float, ...]:
    """``25,50`` as 0.25 and 0.5.

    Raises:
        InputError: not rising percentages.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not 0 < len(found) <= _MOST_SHARES or not all(0 < one < 100 for one in found) or sorted(set(found)) != found:
        raise InputError(
            f"--shares {text}: give at most {_MOST_SHARES} rising percentages between 0 and 100, as 25,50,75, of the "
            "units that go"
        )
    return tuple(one / 100 for one in found)


def _print(found: Sensitivity, title: str) -> None:
    """The table: a row a group, in the order in which the network comes to them."""
    from rich import box
    from rich.table import Table

    from .table import wide_console

    shares = [loss.share for loss in found.groups[0].losses]
    middle = len(shares) // 2
    console = wide_console(160)
    auroc = "" if found.auroc is None else f", AUROC {found.auroc:.4f}"
    work = f"{found.macs / 1e6:.4g} million MACs, {found.parameters / 1e6:.4g} million parameters"
    console.print(title, soft_wrap=True)
    console.print(f"{found.images} validation images of {found.patients} patients{auroc}; {work}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group", no_wrap=True)
    table.add_column("units", justify="right", no_wrap=True)
    table.add_column("layers", justify="right", no_wrap=True)
    for what in ("MACs", "params"):
        table.add_column(f"{what} saved\nat {_percent(shares[middle])}", justify="right", no_wrap=True)
    for number, share in enumerate(shares):
        interval = " [95 %]" if number == middle else ""
        table.add_column(f"AUROC lost\nat {_percent(share)}{interval}", justify="right", no_wrap=True)
    table.add_column(f"Δp\nat {_percent(shares[middle])}", justify="right", no_wrap=True)
    table.add_column(f"answers changed\nat {', '.join(map(_percent, shares))}", justify="right", no_wrap=True)
    for group in found.groups:
        chosen = group.losses[middle]
        table.add_row(
            group.name,
            f"{group.units} heads" if group.heads else str(group.units),
            str(len(group.layers)),
            f"{chosen.macs:.1%}",
            f"{chosen.parameters:.1%}",
            *(_loss(loss.auroc, number == middle) for number, loss in enumerate(group.losses)),
            f"{chosen.probability_change:.3f}",
            ", ".join(str(loss.flips) for loss in group.losses),
        )
    console.print(table)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _loss(found: AurocLoss | None, interval: bool) -> str:
    if found is None:
        return "-"
    if not interval or found.low is None or found.high is None:
        return f"{found.loss:+.4f}"
    return f"{found.loss:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
