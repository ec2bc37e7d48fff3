"""What can be said against a training's data before it begins: unreadable images, leaks, telling files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...benchmarks.confounding import confounds
from ...benchmarks.leaks import check
from ...benchmarks.scan import name_unreadable, refuse_unreadable, scan
from ...runtime.errors import DataError
from .splits import DataSource, Split, split_of


def look_at(source: DataSource, split: Split, skip_unreadable: bool) -> tuple[DataSource, Split, tuple[str, ...]]:
    """Look at every image once.

    Leaks and confounding are warned of; they block where figures are proven: in ``optimize``.

    Returns:
        The source and the split, without the unreadable images where these are skipped, and warnings, a sentence
        each.

    Raises:
        DataError: images that cannot be read, all named on stderr, and not to be skipped.
        MachineError: scikit-learn is not installed.
    """
    held_in, held_out = [*split.train, *split.val], split.test
    scanned = scan([*held_in, *held_out])
    warnings: list[str] = []
    if scanned.unreadable:
        if not skip_unreadable:
            refuse_unreadable(scanned, "mend or remove them, or leave them out with --skip-unreadable")
        name_unreadable(scanned)
        names = [Path(bad.path).relative_to(split.folder).as_posix() for bad in scanned.unreadable]
        source = msgspec.structs.replace(source, excluded=(*source.excluded, *names))
        warnings.append(f"{len(names)} images that cannot be read were left out")
        # What is drawn anew without them may be drawn otherwise; so it is looked up again, not cut out.
        split = split_of(source)
        held_in, held_out = [*split.train, *split.val], split.test
        scanned = scan([*held_in, *held_out])
        if scanned.unreadable:
            raise DataError(f"{scanned.unreadable[0].path}: changed while it was read; run the training again")
    leaks = check(scanned.part(held_in), scanned.part(held_out))
    warnings += [f"leak: {finding}" for finding in leaks.findings]
    if leaks.spoils:
        warnings.append("the test figures will be better than on new patients; optimize will refuse these data")
    confounding = confounds(scanned, split.classes)
    if confounding.finding:
        warnings.append(confounding.finding)
    return source, split, tuple(warnings)
