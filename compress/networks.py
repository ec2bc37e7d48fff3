"""A trained network as the file its forms are made of, and what that file answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ..benchmarks.candidate import Candidate
from ..benchmarks.evaluation import Logits, answer, read_logits, save_logits
from ..trained.checkpoint import Checkpoint, rebuild
from .recipes import REFERENCE
from .workspace import Workspace

_PARITY_IMAGES = 16
_LOGITS = "logits.npz"


@dataclass(frozen=True)
class Network:
    """The dense network, or one with less in it.

    Attributes:
        name: begins the names of its forms; empty for the dense one.
        reference: its FP32 ONNX file.
        expected: that file's raw outputs on the validation images.
        exported: opset and parity with torch, in words.
    """

    name: str
    checkpoint: Checkpoint
    reference: Path
    expected: Logits
    exported: str


class _Export(msgspec.Struct):
    parity: float
    opset: int


class _Answered(msgspec.Struct):
    images: int


def make_network(
    workspace: Workspace,
    checkpoint: Checkpoint,
    rendered: npt.NDArray[np.uint8],
    validation: Path,
    threads: int,
    name: str = "",
) -> Network:
    """Export a checkpoint, and ask the file about the validation images: a stage each.

    Args:
        workspace: the run's, or a room of its own.
        rendered: real images for the parity with torch.
        validation: an .npy file of rendered images.
        threads: of one inference.

    Raises:
        MedcompressError: torch cannot export it, or the file answers otherwise than torch.
    """
    preprocessing = checkpoint.spec.preprocessing
    file = f"{name or 'model'}.onnx"
    of = f" {name}" if name else ""

    def export(folder: Path) -> _Export:
        from .explanation.making import make_explanation
        from .export import export

        images = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:_PARITY_IMAGES]])
        network = rebuild(checkpoint)
        made = export(network, images, folder / file)
        make_explanation(network, checkpoint.spec, images[0], folder / file)
        return _Export(made.parity, made.opset)

    def refer(folder: Path) -> _Answered:
        candidate = Candidate(REFERENCE, "onnxruntime", "fp32", (exported / file,))
        found = answer([candidate], REFERENCE, preprocessing, {"val": validation}, threads)
        save_logits(folder / _LOGITS, found.logits)
        return _Answered(len(found.logits["val"][REFERENCE]))

    exported, made = workspace.stage("export", f"Exporting{of} to ONNX", _Export, export)
    referred, _ = workspace.stage("reference", f"Answering the validation images{of and f' by{of}'}", _Answered, refer)
    expected = read_logits(referred / _LOGITS)["val"][REFERENCE]
    words = f"opset {made.opset}, parity with torch {made.parity:.1e} of the largest logit"
    return Network(name, checkpoint, exported / file, expected, words)
