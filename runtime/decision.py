"""From a network's raw outputs to probabilities, and from probabilities to the answer."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Kind: TypeAlias = Literal["binary", "multiclass", "multilabel"]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How outputs become an answer; locked in the bundle.

    Attributes:
        kind: ``binary`` (two classes, softmax), ``multiclass`` (softmax, the likeliest class) or
            ``multilabel`` (a sigmoid a finding, any number of them).
        classes: names in the order of the network's outputs.
        positive: for ``binary``: the class whose probability is held against the threshold.
        threshold: probability at or above which the positive class, or a finding, is the answer.
        thresholds: of ``multilabel``: one a finding, in their order; empty takes ``threshold`` for all.
        temperature: raw outputs are divided by it before they become probabilities; above 1 makes a network that is
            too sure of itself less so (Guo et al. 2017, "On calibration of modern neural networks", ICML).
    """

    kind: Kind
    classes: tuple[str, ...]
    positive: str = ""
    threshold: float = 0.5
    thresholds: tuple[float, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if len(self.classes) < 2 and self.kind != "multilabel":
            raise ValueError("a classifier needs at least two classes")
        if len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError("class names must be distinct and not empty")
        if self.kind == "binary" and (len(self.classes) != 2 or self.positive not in self.classes):
            raise ValueError("a binary classifier has two classes, one of them the positive one")
        if not all(0 < threshold < 1 for threshold in (self.threshold, *self.thresholds)):
            raise ValueError("a threshold lies between 0 and 1")
        if self.thresholds and (self.kind != "multilabel" or len(self.thresholds) != len(self.classes)):
            raise ValueError("thresholds are given one a finding")
        if not 0 < self.temperature < float("inf"):
            raise ValueError("the temperature is a number above 0")

    def threshold_of(self, c: int) -> float | None:
        """The threshold of class ``c``; None for several classes, of which the likeliest is the answer."""
        if self.kind == "multiclass":
            return None
        return self.thresholds[c] if self.thresholds else self.threshold

    @property
    def positive_index(self) -> int:
        """Column of the positive class among the outputs (binary only)."""
        return self.classes.index(self.positive)

    def probabilities(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(N, classes) raw outputs to probabilities, in double precision so that no rounding is added."""
        logits = logits.astype(np.float64) / self.temperature
        if self.kind == "multilabel":
            return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def answers(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """(N, classes) probabilities to the classes answered: one a row, or any number for ``multilabel``."""
        if self.kind == "multilabel":
            return probabilities >= np.asarray(self.thresholds or self.threshold)
        answered = np.zeros(probabilities.shape, dtype=np.bool_)
        if self.kind == "binary":
            positive = probabilities[:, self.positive_index] >= self.threshold
            columns = np.where(positive, self.positive_index, 1 - self.positive_index)
        else:
            columns = probabilities.argmax(axis=1)
        answered[np.arange(len(answered)), columns] = True
        return answered
