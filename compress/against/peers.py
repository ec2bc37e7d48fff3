"""INT8 forms as the peers make them, each by its own defaults."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...benchmarks.candidate import Candidate
from ...runtime.errors import missing_package
from ...runtime.hardware import this_cpu

ORT, NNCF = "peer-onnxruntime-int8", "peer-nncf-int8"


def make_peers(reference: Path, images: Sequence[npt.NDArray[np.float32]], folder: Path) -> list[Candidate]:
    """ONNX Runtime's ``quantize_static`` and NNCF's ``quantize``.

    Args:
        reference: the FP32 ONNX file.
        images: prepared calibration images (C, H, W).
        folder: to write to.

    Raises:
        MachineError: nncf is not installed.
    """
    # They ask nothing of the CPU, whatever it makes of their files.
    # OpenVINO's own default: what is not in INT8 runs in bf16 where the CPU has it.
    precision = "int8-bf16" if "bf16" in this_cpu().features else "int8"
    return [
        Candidate(ORT, "onnxruntime", "int8", (_onnxruntime(reference, images, folder / f"{ORT}.onnx"),)),
        Candidate(NNCF, "openvino", precision, _nncf(reference, images, folder / f"{NNCF}.xml")),
    ]


def _onnxruntime(reference: Path, images: Sequence[npt.NDArray[np.float32]], path: Path) -> Path:
    """https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: pre-process, then quantize."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:  # pyright: ignore  # None ends it
            image = next(self._left, None)
            return None if image is None else {"image": image[None]}

    prepared = path.with_suffix(".prepared.onnx")
    # Its symbolic shape inference fails on some exported networks (ConvNeXt V2).
    quant_pre_process(reference, prepared, skip_symbolic_shape=True)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        quantize_static(prepared, path, Reader())
    finally:
        logging.getLogger().setLevel(level)
    return path


def _nncf(reference: Path, images: Sequence[npt.NDArray[np.float32]], path: Path) -> tuple[Path, Path]:
    """https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html"""
    try:
        import nncf
    except ImportError as error:
        raise missing_package("nncf", "peers") from error
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    # Its progress bars go to standard output, which belongs to results.
    with contextlib.redirect_stdout(io.StringIO()):
        model = nncf.quantize(ov.convert_model(reference), nncf.Dataset([image[None] for image in images]))
    ov.save_model(model, path)
    return path, path.with_suffix(".bin")
