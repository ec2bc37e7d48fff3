"""From a torch module to the ONNX reference, with its numbers checked on real images."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from ..runtime.engines import load_engine
from ..runtime.errors import CheckpointError, MachineError, MedcompressError

OPSET = 20
# float32 sums in another order differ by up to 2e-4 of the largest logit on the deepest networks tried.
PARITY = 1e-3


class Exported(msgspec.Struct, frozen=True):
    """What came of an export: the opset, and the parity with torch over ``images`` real images.

    Attributes:
        parity: largest logit difference, as a share of the largest logit (at least 1).
    """

    opset: int
    parity: float
    images: int


def export(module: nn.Module, images: npt.NDArray[np.float32], path: Path) -> Exported:
    """Write ``module`` as one ONNX file with a dynamic batch, and hold it against torch.

    Args:
        module: in evaluation mode; (N, C, H, W) to (N, classes).
        images: (N, C, H, W) real, prepared images; N at least 2.
        path: of the file to write.

    Raises:
        MedcompressError: torch cannot export the network; the message names the reason.
        MachineError: ONNX Runtime's answers differ from torch's: a fault of the installed versions.
    """
    # Two images: a batch of one would be taken for a constant.
    example = torch.from_numpy(images[:2])
    batch = torch.export.Dim("batch", min=1, max=4096)
    write_onnx(module, (example,), path, ["image"], ["logits"], ({0: batch},))
    parity = _parity(module, images, path)
    if not parity <= PARITY:
        raise MachineError(
            f"the exported ONNX model answers otherwise than torch (by {parity:.2g} of the largest logit, {PARITY} is "
            "allowed); update torch, onnx, onnxscript and onnxruntime together"
        )
    return Exported(OPSET, parity, len(images))


def write_onnx(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: tuple[dict[int, Any], ...] | None = None,
) -> None:
    """Write a module as one ONNX file, its inputs and outputs under these names.

    Args:
        module: in evaluation mode.
        example: of its inputs.
        path: of the file to write.
        inputs, outputs: names.
        dynamic_shapes: of each input, the dimensions that are not those of the example; None for none.

    Raises:
        MedcompressError: torch cannot export it; the message names the reason.
    """
    # The exporter reports its steps and every fallback as warnings and log lines; parity is the check.
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=dynamic_shapes,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MedcompressError(f"torch cannot export this network to ONNX ({reason.strip()[:300]})") from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    onnx.save_model(_without_traces(program.model_proto), path)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The exporter notes Python stack traces, with this machine's paths, at every node: they are not to be shipped."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    return model


def _parity(module: nn.Module, images: npt.NDArray[np.float32], path: Path) -> float:
    engine = load_engine("onnxruntime", [path], "fp32", threads=1)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy().astype(np.float64)
    if not np.isfinite(expected).all():
        raise CheckpointError(
            "the network answers real images with NaN or infinite values, so there is nothing to compress; look at its "
            "weights and its normalizations, or train it again"
        )
    difference = np.abs(engine.run(images) - expected).max()
    engine.close()
    return float(difference / max(1.0, np.abs(expected).max()))
