"""What can be said against a training's data before it begins: unreadable images, leaks, telling files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...benchmarks.data.confounding import confounds
from ...benchmarks.data.leaks import Leaks, check
from ...benchmarks.data.scan import Scan, name_unreadable, refuse_unreadable, scan
from ...benchmarks.progress import stage
from .splits import DataSource, Split, split_of


def screen(
    source: DataSource, split: Split, *, skip_unreadable: bool = False, drop_leaks: bool = False
) -> tuple[DataSource, Split, tuple[str, ...]]:
    """Look at every image once.

    Leaks and confounding are warned of; they block where figures are proven: in ``optimize``.

    Args:
        skip_unreadable: leave images out that cannot be read, rather than refuse them.
        drop_leaks: leave training images out that are copies of held-out ones.

    Returns:
        The source and the split without what was left out, and warnings, a sentence each.

    Raises:
        DataError: images that cannot be read, all named on stderr; or what is left is too little.
        MachineError: scikit-learn is not installed.
    """
    few = source.per_class
    if few:  # What stands in for an image that is left out must have been looked at too.
        source = msgspec.structs.replace(source, per_class=0)
        split = split_of(source, split.classes)
    scanned = scan([sample for samples in split.parts.values() for sample in samples])
    warnings: list[str] = []
    if scanned.unreadable:
        if not skip_unreadable:
            refuse_unreadable(scanned, "mend or remove them, or leave them out with --skip-unreadable")
        name_unreadable(scanned)
        source, split = _without(source, split, {entry.path for entry in scanned.unreadable})
        warnings.append(f"images that cannot be read were left out: {len(scanned.unreadable)}")
    leaks = leaks_of(scanned, split)
    dropped = 0
    # Parts that are drawn are drawn anew without the copies, and that may part others.
    while drop_leaks and (copies := {pair.first for pair in (*leaks.exact, *leaks.near)}):
        dropped += len(copies)
        source, split = _without(source, split, copies)
        leaks = leaks_of(scanned, split)
    if dropped:
        warnings.append(f"training images that are copies of held-out ones were left out: {dropped}")
    warnings += leaks.findings
    for pair in leaks.contradicting:
        stage(f"different labels of one picture: {pair.first}, {pair.second}")
    chosen_by = check(scanned.part(split.train), scanned.part(split.val)).seen
    if chosen_by:
        warnings.append(f"{chosen_by} of {len(split.val)} validation images are training images too: they flatter")
    if leaks.spoils:
        warnings.append(
            "the test figures will be better than on new patients, and optimize will refuse these data; "
            "--drop-leaks leaves such training images out"
        )
    if few:
        source = msgspec.structs.replace(source, per_class=few)
        split = split_of(source, split.classes)
    confounding = confounds(scanned, split.classes)
    if confounding.finding:
        warnings.append(confounding.finding)
    return source, split, tuple(warnings)


def leaks_of(scanned: Scan, split: Split) -> Leaks:
    """What the test images share with those that trained or chose the epoch."""
    return check(scanned.part((*split.train, *split.val)), scanned.part(split.test))


def _without(source: DataSource, split: Split, paths: set[str]) -> tuple[DataSource, Split]:
    names = sorted(Path(path).relative_to(split.folder).as_posix() for path in paths)
    source = msgspec.structs.replace(source, excluded=(*source.excluded, *names))
    return source, split_of(source, split.classes)
