"""Learning a teacher: another trained network's outputs, where labels alone say less."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ...runtime.decision import Decision, Kind
from ...runtime.errors import InputError
from ..checkpoint import Checkpoint, rebuild
from ..data.datasets import normalization_table, normalize
from ..spec import ModelSpec
from .memory import Memory

# Outputs are divided by it on both sides: what a sure teacher thinks of the unlikely answers then counts too.
TEMPERATURE = 4.0


class Teacher:
    """A trained network that is only asked; no module of the student, so that nothing saves, moves or trains it.

    It sees the student's images, augmented as they are, normalized its own way: Beyer et al., Knowledge distillation: A
    good teacher is patient and consistent, CVPR 2022, https://arxiv.org/abs/2106.05237.

    Args:
        memory: folder where answers are kept for the next time it is shown the same; None asks it every time.

    Attributes:
        digest: SHA-256 of its description and weights.
    """

    def __init__(self, checkpoint: Checkpoint, memory: Path | None = None) -> None:
        self.digest = digest(checkpoint)
        # Another version of torch answers by other bits.
        self._memory = None if memory is None else Memory(memory / f"{self.digest[:32]}-{torch.__version__}.sqlite")
        preprocessing = checkpoint.spec.preprocessing
        self._network = rebuild(checkpoint).requires_grad_(False).to(memory_format=torch.channels_last)
        self._table = normalization_table(preprocessing)
        self._mean, self._std = (
            torch.tensor(values).reshape(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
        )

    def to(self, device: torch.device) -> None:
        """Move it there."""
        self._network.to(device)
        self._table, self._mean, self._std = (each.to(device) for each in (self._table, self._mean, self._std))

    @torch.no_grad()
    def of_augmented(self, images: torch.Tensor) -> torch.Tensor:
        """Float images (N, C, H, W) on 0..1 to raw outputs (N, classes)."""
        return self._recalled((images - self._mean) / self._std)

    @torch.no_grad()
    def of_rendered(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rendered uint8 pixels to raw outputs (N, classes)."""
        return self._recalled(normalize(pixels, self._table))

    def _recalled(self, inputs: torch.Tensor) -> torch.Tensor:
        # A GPU answers sooner than the CPU recognizes a batch.
        if self._memory is None or inputs.device.type != "cpu":
            return self._outputs(inputs)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        return self._memory.recall(inputs, precision, self._outputs)

    def _outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._network(inputs.contiguous(memory_format=torch.channels_last)).float()


def teacher_of(checkpoint: Checkpoint, spec: ModelSpec, name: str, memory: Path | None = None) -> Teacher:
    """The teacher of a network with this spec.

    Args:
        name: of the checkpoint, for the message.
        memory: see :class:`Teacher`.

    Raises:
        InputError: it answers another question, or looks at other images.
        CheckpointError: it cannot be rebuilt.
    """
    own, other = checkpoint.spec, spec
    for what, taught, learned in (
        ("kind of answer", own.decision.kind, other.decision.kind),
        ("classes", ", ".join(own.decision.classes), ", ".join(other.decision.classes)),
        *(
            (words, getattr(own.preprocessing, field), getattr(other.preprocessing, field))
            for words, field in (
                ("input size", "size"),
                ("colour", "colour"),
                ("fit", "fit"),
                ("shorter side", "shorter_side"),
                ("filter", "filter"),
            )
        ),
    ):
        if taught != learned:
            raise InputError(
                f"{name}: cannot teach this network, its {what} is {_plain(taught)} and the network's "
                f"{_plain(learned)}; give a teacher with the same, or train the network for it"
            )
    return Teacher(checkpoint, memory)


def distillation(outputs: torch.Tensor, expected: torch.Tensor, kind: Kind) -> torch.Tensor:
    """How far answers are from the teacher's: the mean over a batch of the KL divergence of the softened answers.

    Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531, with the
    squared temperature of its section 2, so that the gradients are as large as the labels'. Of findings each is an
    answer of its own, and their mean counts.

    Args:
        outputs, expected: (N, classes), raw.
    """
    found, taught = outputs / TEMPERATURE, expected / TEMPERATURE
    if kind == "multilabel":
        # Present and absent as two classes whose outputs differ by the finding's.
        found, taught = (torch.stack([each, torch.zeros_like(each)], dim=-1).flatten(0, 1) for each in (found, taught))
    divergence = functional.kl_div(
        found.log_softmax(dim=1), taught.log_softmax(dim=1), reduction="batchmean", log_target=True
    )
    return divergence * TEMPERATURE**2


def distance(outputs: npt.NDArray[np.floating], expected: npt.NDArray[np.floating], decision: Decision) -> float:
    """Mean absolute difference of the probabilities from the teacher's, 0..1.

    Args:
        outputs, expected: (N, classes), raw.
    """
    return float(np.abs(decision.probabilities(outputs) - decision.probabilities(expected)).mean())


def digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of what a checkpoint's network is: its description and its weights."""
    found = hashlib.sha256(msgspec.json.encode(checkpoint.spec))
    for name in sorted(checkpoint.weights):
        found.update(name.encode())
        found.update(checkpoint.weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _plain(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
