"""Networks with less in them than the one that was given: how each came about, and what a search tried."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One round of pruning and of recovery, which is learning back from the dense network what was lost.

    Attributes:
        asked: the target, as given: ``macs 0.25``.
        importance: by which the channels were chosen.
        macs, parameters: before the round and after it; multiply-accumulates of one image.
        epochs: of recovery.
        auroc: of the validation images, the mean over the classes: before recovery, after it; None where no class has
            images with and without it.
        distance: mean absolute difference of the probabilities from the dense network's, on the validation images:
            before recovery, after it.
    """

    asked: str
    importance: str
    macs: tuple[int, int]
    parameters: tuple[int, int]
    epochs: int
    auroc: tuple[float | None, float | None]
    distance: tuple[float, float]


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pruned network, whose forms were judged beside the dense one's.

    Attributes:
        name: begins the names of its forms: those of ``macs25`` are ``macs25-openvino-int8-vnni`` and so on.
        macs, parameters: of the dense network, of this one; multiply-accumulates of one image.
        looks_at: (height, width) in pixels the input is resampled to within the network; None: all of it.
        seconds: pruning and recovery took.
    """

    name: str
    macs: tuple[int, int]
    parameters: tuple[int, int]
    looks_at: tuple[int, int] | None
    rounds: tuple[Round, ...]
    seconds: float


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network that a search looked at, on validation images alone.

    Attributes:
        name: as a :class:`Network`'s; the dense one stands among them as the one with all of the MACs.
        macs_share: of the dense network's multiply-accumulates, 0 to 1.
        looks_at: (height, width) in pixels of what its first layer is given.
        form: the fastest of its forms; empty where none ran.
        p50_ms: median of one inference of that form, in milliseconds.
        size_bytes: of that form's files.
        epochs: of recovery so far.
        auroc, auroc_low, auroc_high: with its 95 % interval.
        drop_bound: the AUROC lost against the dense network is at most this, one-sided, with the tolerance's
            confidence.
        flips: images whose answer differs from the dense network's.
        outcome: ``judged``: it went on to the gate. ``short: ...``: which validation figure is not good enough.
            ``slower: ...``: another was faster, and good enough. ``stopped: ...`` or ``error: ...``.
        seconds: it took.
    """

    name: str
    macs_share: float
    looks_at: tuple[int, int]
    form: str
    p50_ms: float | None
    size_bytes: int | None
    epochs: int
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    drop_bound: float | None
    flips: int | None
    outcome: str
    seconds: float

    @property
    def state(self) -> str:
        """The outcome without its reason."""
        return self.outcome.partition(":")[0]


def name_within(form: str, names: Iterable[str]) -> str:
    """Which of these networks a form is of: the longest name it begins with; empty for a form of the dense network.

    The longest, since ``macs10`` begins ``macs10-96px`` too.
    """
    return max((name for name in names if name and form.startswith(f"{name}-")), key=len, default="")
