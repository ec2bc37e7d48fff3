"""``medcompress data``: what a set holds, part by part, and the same set organised."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from ..benchmarks.progress import console as stderr
from ..runtime.errors import InputError
from .documents import Described, as_json_option, print_json
from .source import source_from, source_options
from .table import wide_console

if TYPE_CHECKING:
    from ..trained.data.splits import Split


@click.command("data")
@click.argument("data", metavar="DATA")
@source_options
@click.option("--out", type=click.Path(path_type=Path), help="New folder for split.csv, which train takes as --table.")
@click.option("--copy", is_flag=True, help="Also copy the images to OUT/train|val|test/CLASS.")
@click.option("--leaks", is_flag=True, help="Look for images both trained on and held out; reads every image.")
@as_json_option
def command(data: str, out: Path | None, copy: bool, leaks: bool, as_json: bool, **options: Any) -> None:
    """Say what DATA holds: its task, classes, and the parts it is split into by patient.

    DATA is a folder (train, val and test parts, class folders, or images with a CSV of labels), an .npz file of
    MedMNIST's form, or the name of a MedMNIST set. Nothing in it is changed.
    """
    if copy and out is None:
        raise InputError("--copy needs --out; name the new folder")
    from ..trained.data.organize import count_parts, image_sizes, organize
    from ..trained.data.splits import split_of
    from ..trained.tasks import TASKS, decision_for

    source = source_from(data, **options)
    split = split_of(source)
    task = TASKS.get(split.task)
    decision = decision_for(split.classes, multilabel=split.multilabel)
    sizes, modes = image_sizes([sample for samples in split.parts.values() for sample in samples])
    leaked = _leaks(split) if leaks else None
    written = organize(split, out, copy=copy) if out is not None else None
    found = Described(
        data=source.folder,
        task=split.task,
        title=task.title if task else "",
        modality=task.modality if task else "",
        kind=decision.kind,
        classes=split.classes,
        positive=decision.positive,
        parts=count_parts(split),
        unrecognised=split.unrecognised,
        notes=split.notes,
        sizes=dict(sizes.most_common()),
        modes=dict(modes.most_common()),
        fingerprint=split.fingerprint,
        table=source.table,
        organized=str(written) if written else None,
        leaks=leaked,
    )
    if as_json:
        print_json(found)
    else:
        _show(found)
        for warning in split.warnings:
            stderr.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
        if written is not None:
            where = written.parent if copy else data
            click.echo(f"wrote {written}; train with: medcompress train --data {where} --table {written}")


def _leaks(split: Split) -> tuple[str, ...]:
    """What the test images share with the others: in words, then the files."""
    from ..benchmarks.data.scan import scan
    from ..trained.data.screening import leaks_of

    found = leaks_of(scan([sample for samples in split.parts.values() for sample in samples]), split)
    pairs = [f"{pair.second} = {pair.first} {pair.change}".rstrip() for pair in (*found.exact, *found.near)]
    other = [f"different labels: {pair.second} = {pair.first}" for pair in found.contradicting]
    return (*found.findings, *pairs, *other)


def _show(found: Described) -> None:
    console = wide_console(120)
    sizes, modes = Counter(found.sizes), Counter(found.modes)
    looked = sizes.total()
    facts = {
        "data": found.data,
        "labels": found.table or "by folder",
        "task": f"{found.task} ({found.title})" if found.task else "none of the registry",
        "modality": found.modality or "unknown",
        "kind": f"{found.kind}, finding {found.positive}" if found.positive else found.kind,
        "images": f"of {looked} looked at: {_most(modes)}; {_most(sizes)}" if looked else "none could be read",
        "fingerprint": found.fingerprint,
    }
    for name, value in facts.items():
        console.print(f"{name:12} {value}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("finding" if found.kind == "multilabel" else "class")
    for part in found.parts:
        table.add_column(part, justify="right")
    for name in found.classes:
        table.add_row(name, *(str(part.classes[name]) for part in found.parts.values()))
    table.add_section()
    table.add_row("images", *(str(part.images) for part in found.parts.values()))
    table.add_row("patients", *(str(part.patients) for part in found.parts.values()))
    console.print(table)
    if found.leaks is not None:
        console.print("\n".join(("leaks:", *found.leaks)) if found.leaks else "no leaks found")


def _most(counts: Counter[str], most: int = 3) -> str:
    shown = ", ".join(f"{count} {name}" for name, count in counts.most_common(most))
    return shown + (f" and {len(counts) - most} other kinds" if len(counts) > most else "")
