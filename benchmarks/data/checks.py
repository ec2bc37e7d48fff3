"""What can be said against a data set before anything is measured on it; stored in the report."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .confounding import confounds
from .leaks import check, refuse
from .samples import Sample
from .scan import refuse_unreadable, scan


class Checks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts and words only: a report travels, and names of files or patients must not.

    Attributes:
        train, held_out: images compared.
        leaks: what :attr:`medcompress.benchmarks.data.leaks.Leaks.findings` says.
        accepted: the leaks spoil the figures, and the maker went on.
        confounding: how the files give a class away; empty where they do not.
        notes: what was noted about the data, such as patient names that stand in two parts.
        confounding_auroc: see :class:`medcompress.benchmarks.data.confounding.Confounding`.
    """

    train: int
    held_out: int
    leaks: tuple[str, ...] = ()
    accepted: bool = False
    confounding: str = ""
    confounding_auroc: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What has to be said before the verdict, a sentence each."""
        if not self.accepted:
            return ()
        return (f"Leaks were accepted ({'; '.join(self.leaks)}), so this is not the accuracy on new patients.",)

    @property
    def words(self) -> str:
        """All of it in one line."""
        compared = f"{self.held_out} held-out images compared with {self.train}"
        found = (*self.leaks, *(["leaks accepted"] if self.accepted else []), *filter(None, [self.confounding]))
        return f"{compared}: {'; '.join(found) or 'nothing found'}"


def check_data(
    train: Sequence[Sample], held_out: Sequence[Sample], classes: Sequence[str], *, accept_leaks: bool = False
) -> Checks:
    """Look for leaks and for confounding.

    Args:
        train: every image that had a say in the model: trained on, or choosing the epoch.
        accept_leaks: go on where held-out images were seen in training.

    Raises:
        DataError: images that cannot be read, all named on stderr; leaks that spoil the figures, unless accepted.
        MachineError: scikit-learn is not installed.
    """
    scanned = scan([*train, *held_out])
    refuse_unreadable(scanned)
    leaks = check(scanned.part(train), scanned.part(held_out))
    if not accept_leaks:
        refuse(leaks, ", or go on with --accept-leaks, which the report will say")
    found = confounds(scanned, classes)
    return Checks(leaks.train, leaks.held_out, leaks.findings, leaks.spoils, found.finding, found.auroc)
