"""INT8 models for OpenVINO on the CPU, through NNCF. https://docs.openvino.ai/2025/openvino-workflow/model-optimization.html"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import nncf
import numpy as np
import numpy.typing as npt
import openvino as ov
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from ..runtime.errors import MachineError

# NNCF's import makes torch warn that there is no GPU.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def emit(reference: Path, images: Sequence[npt.NDArray[np.float32]], path: Path, *, full_range: bool) -> list[Path]:
    """Write the INT8 form of ``reference`` as OpenVINO's xml and bin.

    Ranges are the widest seen: NNCF's default, a mean over the images, clips rare images and moved single logits
    by 2 to 4 where this moves them by tenths.

    Args:
        reference: the FP32 ONNX file.
        images: prepared calibration images (C, H, W).
        path: of the xml file to write; the bin file stands beside it.
        full_range: 8-bit weights, for CPUs with VNNI; otherwise 7-bit ones.

    Raises:
        MachineError: no operation was quantized.
    """
    nncf.set_log_level(logging.ERROR)
    # NNCF draws its progress on standard output, which belongs to results.
    with contextlib.redirect_stdout(io.StringIO()):
        # Converted, not read: NNCF's bias correction is silently skipped on a model read from ONNX.
        quantized = nncf.quantize(
            ov.convert_model(reference),
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            target_device=nncf.TargetDevice.CPU,
            model_type=nncf.ModelType.TRANSFORMER if _has_attention(reference) else None,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE if full_range else OverflowFix.ENABLE,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )
    if not any(op.get_type_name() == "FakeQuantize" for op in quantized.get_ops()):
        raise MachineError(f"{path.name}: NNCF quantized no operation of this network")
    ov.save_model(quantized, path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]


def _has_attention(reference: Path) -> bool:
    return any(op.get_type_name() == "Softmax" for op in ov.Core().read_model(reference).get_ops())
