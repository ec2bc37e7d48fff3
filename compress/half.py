"""A float graph, or one of Q/DQ nodes, in 16-bit floats (IEEE binary16), for GPUs.

Weights and activations are converted, the graph's inputs and outputs stay in 32 bits. A 16-bit float ends at 65504:
what is larger would be infinite, so layers that hold or meet values near it stay in 32 bits, as do those that sum
squares, which overflow within. The conversion is ONNX Runtime's own, which leaves every tensor its name:
https://onnxruntime.ai/docs/performance/model-optimizations/float16.html
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from ..runtime.errors import MachineError, first_line

LARGEST = float(np.finfo(np.float16).max)
# Images met later may hold larger values than those that were looked at: by no more than this factor.
_ROOM = 4.0
# Images the activations are taken from.
IMAGES = 32
# They sum squares, or what is as large: a mean of squares of 300 is beyond the largest value before its root is taken.
_SUMS = frozenset(
    {
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "ReduceL2",
        "ReduceSumSquare",
    }
)


class Half(msgspec.Struct, frozen=True):
    """What came of a conversion.

    Attributes:
        layers: nodes of the graph that compute.
        kept: of them, by the names of their first outputs, those left in 32 bits for their values.
        sums: those left in 32 bits for what they are.
    """

    layers: int
    kept: tuple[str, ...]
    sums: tuple[str, ...]

    @property
    def words(self) -> str:
        """For the report."""
        left = len(self.kept) + len(self.sums)
        why = f", {len(self.kept)} of them for values near {LARGEST:.0f}" if self.kept else ""
        return f"16-bit floats, {left} of {self.layers} operations in 32 bits{why}" if left else "16-bit floats"


def halve(source: Path, path: Path, images: npt.NDArray[np.float32]) -> Half:
    """Write a graph in 16-bit floats.

    Args:
        source: the FP32 ONNX file; of Q/DQ nodes, or without.
        path: of the file to write.
        images: (N, C, H, W) real, prepared images, whose activations tell which layers must stay in 32 bits.

    Raises:
        MachineError: it cannot be converted, or does not answer these images with numbers.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(source)
    for node in model.graph.node:
        node.name = node.output[0]  # the conversion knows layers by name, and some have none
    large = _large_tensors(model, images) | _large_weights(model)
    work = [node for node in model.graph.node if node.op_type not in {"Constant", "Identity"}]
    kept = tuple(node.name for node in work if large.intersection((*node.input, *node.output)))
    sums = tuple(node.name for node in work if node.op_type in _SUMS and node.name not in kept)
    try:
        converted = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SUMS],
            node_block_list=list(kept),
        )
        _without_round_trips(converted)
        _put_in_order(converted)
        del converted.graph.value_info[:]  # of nodes left in 32 bits it says 16
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:  # the checker's and the conversion's own
        raise MachineError(f"the graph cannot be converted to 16-bit floats ({first_line(error, 300)})") from error
    onnx.save_model(converted, path)
    if not all(np.isfinite(each).all() for each in _session(path.read_bytes())(images[:2])):
        raise MachineError("in 16-bit floats the graph answers real images with NaN or infinite values")
    return Half(len(work), kept, sums)


def _large_weights(model: onnx.ModelProto) -> set[str]:
    """Constants with a value that 16 bits do not hold."""
    found = set()
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            if values.size and float(np.abs(values).max()) > LARGEST:
                found.add(tensor.name)
    return found


def _large_tensors(model: onnx.ModelProto, images: npt.NDArray[np.float32]) -> set[str]:
    """Tensors that hold a value near the largest, or are not finite, for one of the images."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    float_ = onnx.TensorProto.FLOAT
    known = {value.name for value in inferred.graph.value_info if value.type.tensor_type.elem_type == float_}
    made = [output for node in model.graph.node for output in node.output if output in known]
    del probed.graph.output[:]
    for place, name in enumerate(made):
        size, largest = f"size_of_{place}", f"largest_of_{place}"
        probed.graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        probed.graph.node.append(onnx.helper.make_node("ReduceMax", [size], [largest], keepdims=0))
        probed.graph.output.append(onnx.helper.make_tensor_value_info(largest, float_, []))
    most = np.zeros(len(made))
    run = _session(probed.SerializeToString())
    for image in images:
        values = np.array([float(each) for each in run(image[None])])
        most = np.maximum(most, np.where(np.isfinite(values), values, np.inf))
    return {name for name, value in zip(made, most, strict=True) if value > LARGEST / _ROOM}


def _session(model: bytes) -> Callable[[npt.NDArray[np.float32]], list[np.ndarray]]:
    """A graph on the CPU, which computes 16-bit floats in 32 bits, and rounds few of them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: [np.asarray(each) for each in session.run(None, {name: images})]


def _without_round_trips(model: onnx.ModelProto) -> None:
    """What a layer in 32 bits gives to another one is not to pass through 16 bits, as the conversion has it."""
    float_, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    to = {node.output[0]: node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"}
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if to.get(node.output[0]) == half}
    back = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if to.get(node.output[0]) == float_ and node.input[0] in rounded
    }
    inputs, outputs = ({value.name for value in values} for values in (model.graph.input, model.graph.output))
    read = {name for node in model.graph.node if node.output[0] not in back for name in node.input}
    dead = {name for name in rounded if name not in read}
    # A tensor that nothing reads in 16 bits any more keeps its name in 32.
    names = {rounded[name]: name for name in dead if rounded[name] not in inputs}
    names |= {whole: name for name, whole in back.items() if name in outputs}
    kept = [node for node in model.graph.node if node.output[0] not in back and node.output[0] not in dead]
    for node in kept:
        node.input[:] = [names.get(whole := back.get(name, name), whole) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _put_in_order(model: onnx.ModelProto) -> None:
    """The conversion appends its casts: put each node after those that make what it reads."""
    known = {"", *(each.name for each in (*model.graph.input, *model.graph.initializer))}
    left, sorted_ = list(model.graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        if not ready:
            break
        left = [node for node in left if not known.issuperset(node.input)]
        sorted_ += ready
        known.update(output for node in ready for output in node.output)
    del model.graph.node[:]
    model.graph.node.extend((*sorted_, *left))
