"""INT8 graphs for ONNX Runtime on x86: unsigned 8-bit activations, signed weights a channel.

Signed activations run 20 times slower there (MatMulInteger has no kernel for them). A CPU without VNNI adds pairs
of u8 x s8 products in 16 bits and saturates; with 7-bit weights no pair can overflow: 2 * 255 * 64 < 2^15.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..runtime.errors import MachineError

_RANGES = "ranges.json"
_PREPARED = "prepared.onnx"
_OPERATIONS = sorted({*QLinearOpsRegistry, *QDQRegistry})


class _Images(CalibrationDataReader):
    def __init__(self, images: Iterable[npt.NDArray[np.float32]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:  # pyright: ignore  # None ends it
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def gather_ranges(reference: Path, images: Iterable[npt.NDArray[np.float32]], folder: Path) -> None:
    """Leave in ``folder`` the graph made ready for quantization, and every tensor's range over the images.

    Ranges are the widest seen (MinMax). They are gathered once, for all forms.

    Args:
        reference: the FP32 ONNX file.
        images: prepared calibration images (C, H, W).
    """
    prepared = folder / _PREPARED
    # Its symbolic shape inference fails on some exported networks (ConvNeXt V2), and is not needed.
    quant_pre_process(reference, prepared, skip_symbolic_shape=True)
    augmented = folder / "augmented.onnx"
    calibrator = create_calibrator(prepared, _OPERATIONS, str(augmented), CalibrationMethod.MinMax)
    calibrator.collect_data(_Images(images))
    save_tensors_data(calibrator.compute_data(), folder / _RANGES)
    augmented.unlink()


def emit(ranges: Path, path: Path, *, full_range: bool) -> Path:
    """Write an INT8 form.

    Args:
        ranges: the folder :func:`gather_ranges` filled.
        path: of the ONNX file to write.
        full_range: 8-bit weights, for CPUs with VNNI; otherwise 7-bit ones.

    Raises:
        MachineError: the written graph has not the form its CPU needs.
    """
    prepared = ranges / _PREPARED
    logging.getLogger().addFilter(_no_advice)
    try:
        quantize_static(
            prepared,
            path,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATIONS,
            per_channel=True,
            reduce_range=not full_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_products_of_activations(onnx.load(prepared)),
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=ranges / _RANGES,
        )
    finally:
        logging.getLogger().removeFilter(_no_advice)
    check_form(path, full_range=full_range)
    return path


def check_form(path: Path, *, full_range: bool) -> None:
    """The postcondition: u8 activations, s8 weights, and within 7 bits where the CPU needs it.

    Raises:
        MachineError: the graph is not of that form.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
            if zero_point is None or zero_point.data_type != onnx.TensorProto.UINT8:
                raise MachineError(f"{path.name}: activation {node.input[0]} is not quantized to unsigned 8 bits")
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            tensor = constants[node.input[0]]
            if tensor.data_type == onnx.TensorProto.INT32:  # a bias
                continue
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.uint8:  # a constant operand of an elementwise node: no product is summed
                continue
            weights += 1
            if values.dtype != np.int8 or (not full_range and np.abs(values.astype(np.int16)).max() > 64):
                raise MachineError(f"{path.name}: weight {tensor.name} is not within {8 if full_range else 7} bits")
    if not weights:
        raise MachineError(f"{path.name}: no weight was quantized; onnxruntime cannot quantize this network")


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """MatMul nodes without a constant operand: in INT8 they cost accuracy (attention) and gain no time."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name for node in model.graph.node if node.op_type == "MatMul" and not constants.intersection(node.input)
    ]


def _no_advice(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
