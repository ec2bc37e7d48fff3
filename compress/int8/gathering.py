"""One pass of the calibration images through the float graph: the range of every tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from ...benchmarks.progress import track
from ...runtime.errors import DataError, InputError
from ..calibration import LEAST_IMAGES
from .graph import INPUT, WEIGHTED, Graph
from .ranges import BINS, Ranges, TensorRange

Image = npt.NDArray[np.float32]

# Values of a tensor and an image that its histogram counts, at most.
SAMPLE = 16_384
# The growth of the ranges is taken over so many images; below CONVERGED the pass ends.
PART = 50
ENOUGH = 100
CONVERGED = 0.01

# Of two, of a histogram's limit: that of a tensor of zeros.
_LEAST_EXPONENT = -100
# An initializer larger than this holds weights, and no shape.
_SHAPE_VALUES = 64


def gather(prepared: Path, images: Sequence[Image], *, threads: int) -> Ranges:
    """Run the images through the graph, and take the range of every float tensor.

    The minimum, maximum and sample of each tensor are taken inside ONNX Runtime, so no activation leaves it. The pass
    ends before the last image when the ranges have converged: after at least 100 images, once the last 50 widened them
    by less than 1 % (the mean over the tensors).

    Args:
        prepared: what :func:`.graph.prepare` wrote.
        images: preprocessed inputs of the graph, (channels, height, width) each, all of one shape, the classes mixed.
        threads: of ONNX Runtime.

    Raises:
        DataError: images that are too few, blank, all the same, or hold NaN or Inf.
        InputError: weights or activations that are NaN or Inf.
    """
    _require_variety(images)
    model = onnx.load(prepared)
    graph = Graph(model)
    _require_finite_weights(graph)
    probes = _add_probes(graph, np.shape(images[0]))
    session = _session(model, threads)
    names = [output for probe in probes for output in probe.outputs]
    tallies = {probe.tensor: _Tally() for probe in probes}
    widths: list[npt.NDArray[np.float64]] = []
    for index, image in enumerate(track(images, "Calibrating", len(images))):
        values = dict(zip(names, cast("list[Image]", session.run(names, {INPUT: image[None]})), strict=True))
        for probe in probes:
            low, high, total, sample = (values[output] for output in probe.outputs)
            if not (np.isfinite(low).all() and np.isfinite(high).all() and not np.isnan(total)):
                raise _not_finite(graph, probe.tensor, index)
            tallies[probe.tensor].add(low, high, sample)
        widths.append(np.array([tally.width for tally in tallies.values()]))
        run = len(widths)
        if run >= ENOUGH and run % PART == 0 and _growth(widths) < CONVERGED:
            break
    return Ranges(len(widths), _growth(widths), {name: tally.result() for name, tally in tallies.items()})


def _growth(widths: Sequence[npt.NDArray[np.float64]]) -> float:
    """Mean share of the tensors' widths that the last part of the images added."""
    part = min(PART, len(widths) // 2)
    now, before = widths[-1], widths[-1 - part]
    varied = now > 0
    return float(np.mean((now[varied] - before[varied]) / now[varied])) if varied.any() else 0.0


class _Tally:
    """What was seen of one tensor so far."""

    def __init__(self) -> None:
        self.channel_low = self.channel_high = np.zeros(0, np.float32)
        self.exponent = _LEAST_EXPONENT
        self.counts = np.zeros(BINS, np.int64)

    def add(self, low: Image, high: Image, sample: Image) -> None:
        """Another image's channel ranges (channels,) and sample (any number,)."""
        low, high = np.atleast_1d(low), np.atleast_1d(high)
        seen = self.channel_low.size > 0
        self.channel_low = np.minimum(self.channel_low, low) if seen else low
        self.channel_high = np.maximum(self.channel_high, high) if seen else high
        self._widen(max(-float(low.min()), float(high.max()), 0.0))
        if sample.size > SAMPLE:
            sample = sample[:: -(-sample.size // SAMPLE)]
        # A power of two scales exactly, so a value falls into the same bin before and after the limit doubles.
        bins = np.floor(sample * np.float32(math.ldexp(BINS / 2, -self.exponent)))
        bins += BINS // 2
        self.counts += np.bincount(bins.astype(np.intp), minlength=BINS)

    def _widen(self, largest: float) -> None:
        """Until the histogram spans the value; with each doubling, two bins become one."""
        needed = max(math.frexp(largest)[1], _LEAST_EXPONENT) if largest else _LEAST_EXPONENT  # largest < 2 ** needed
        if not self.counts.any():
            self.exponent = needed
        while self.exponent < needed:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
            self.exponent += 1

    @property
    def width(self) -> float:
        return float(self.channel_high.max()) - float(self.channel_low.min())

    def result(self) -> TensorRange:
        return TensorRange(
            low=float(self.channel_low.min()),
            high=float(self.channel_high.max()),
            limit=math.ldexp(1.0, self.exponent),
            counts=tuple(self.counts.tolist()),
            channel_low=tuple(self.channel_low.tolist()),
            channel_high=tuple(self.channel_high.tolist()),
        )


class _Probe(NamedTuple):
    """Outputs added to the graph for one tensor: channels' minima, their maxima, the sum, and a sample."""

    tensor: str
    outputs: tuple[str, str, str, str]


def _add_probes(graph: Graph, shape: tuple[int, ...]) -> list[_Probe]:
    """Add to the model, for every float tensor, nodes that take its range.

    The sum is there to find NaN, which a minimum may pass over.
    """
    model = graph.model
    shapes = _float_tensors(model, shape)
    made, probes = [], []
    zero = "calibration/zero"
    constants = {"calibration/all": [-1], zero: [0], "calibration/end": [2**62]}
    for name, dimensions in shapes.items():
        low, high, total, sample = (f"calibration/{what}/{name}" for what in ("low", "high", "sum", "sample"))
        flat = f"calibration/flat/{name}"
        channel = 1 if len(dimensions) == 4 and not _in_product(graph, name) else len(dimensions) - 1
        axes = [axis for axis in range(len(dimensions)) if axis != channel]
        over, step = f"calibration/axes/{len(dimensions)}/{channel}", f"calibration/step/{math.prod(dimensions)}"
        constants |= {over: axes, step: [_step(math.prod(dimensions))]}
        # Without axes to reduce, ONNX reduces all of them unless it is told not to.
        made += [
            onnx.helper.make_node("ReduceMin", [name, over], [low], keepdims=0, noop_with_empty_axes=1),
            onnx.helper.make_node("ReduceMax", [name, over], [high], keepdims=0, noop_with_empty_axes=1),
            onnx.helper.make_node("ReduceSum", [name], [total], keepdims=0),
            onnx.helper.make_node("Reshape", [name, "calibration/all"], [flat]),
            onnx.helper.make_node("Slice", [flat, zero, "calibration/end", zero, step], [sample]),
        ]
        probes.append(_Probe(name, (low, high, total, sample)))
    model.graph.node.extend(made)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()
    )
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for probe in probes for output in probe.outputs)
    return probes


def _step(size: int) -> int:
    """Between the sampled of so many values: it shares no factor with the size, so it goes through all columns."""
    step = max(1, -(-size // SAMPLE))
    while math.gcd(step, size) > 1:
        step += 1
    return step


def _in_product(graph: Graph, name: str) -> bool:
    return any(node.op_type in WEIGHTED and node.op_type != "Conv" for node in graph.consumers[name])


def _float_tensors(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The graph's input and its nodes' float outputs, with their shapes for one image; 1 for a size that is unknown."""
    typed = _inferred(model, (1, *shape))
    names = [INPUT, *(output for node in model.graph.node if node.op_type != "Constant" for output in node.output)]
    return {
        name: tuple(size.dim_value or 1 for size in typed[name].shape.dim)
        for name in names
        if name in typed and typed[name].elem_type == onnx.TensorProto.FLOAT
    }


def _inferred(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, onnx.TypeProto.Tensor]:
    """Types of all tensors by ONNX's shape inference, on a graph without its weights: with them it takes seconds."""
    small, large = [], []
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SHAPE_VALUES:
            small.append(tensor)
        else:
            large.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    inputs = [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape), *large]
    outputs = [onnx.ValueInfoProto(name=output.name) for output in model.graph.output]
    skeleton = onnx.helper.make_model(
        onnx.helper.make_graph(model.graph.node, "calibration", inputs, outputs, small),
        opset_imports=model.opset_import,
    )
    graph = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    return {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A thread that waits must not keep a core busy which others need: measured on a loaded machine, half the time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _require_variety(images: Sequence[Image]) -> None:
    """Refuse images that would give ranges of nothing."""
    if len(images) < LEAST_IMAGES:
        raise DataError(
            f"{len(images)} images are too few to calibrate INT8; at least {LEAST_IMAGES} are needed: "
            "add images to the training split"
        )
    pictures = {hash(image.tobytes()) for image in images if np.any(image != image[:, :1, :1])}
    if not pictures:
        raise DataError(
            f"all {len(images)} calibration images are blank (every pixel alike); the ranges would be of nothing: "
            "check the image files and the preprocessing"
        )
    if len(pictures) < LEAST_IMAGES:
        raise DataError(
            f"of {len(images)} calibration images, only {len(pictures)} differ and are not blank; at least "
            f"{LEAST_IMAGES} must, or the ranges hold for these only: check the image files and the preprocessing"
        )


def _require_finite_weights(graph: Graph) -> None:
    for name, tensor in graph.constants.items():
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
            layer = next((node.output[0] for node in graph.consumers[name]), "no layer")
            raise InputError(
                f"the weights {name} (of {layer}) hold NaN or Inf, so the network computes nothing; "
                "its training diverged: train again, or take an earlier checkpoint"
            )


def _not_finite(graph: Graph, tensor: str, index: int) -> InputError:
    if tensor == INPUT:
        return DataError(
            f"calibration image {index} (counted from 0) holds NaN or Inf after preprocessing; "
            "check its file, and the mean and the standard deviation of the preprocessing"
        )
    return InputError(
        f"the activation {tensor} ({graph.producers[tensor].op_type}) is NaN or Inf for calibration image {index} "
        "(counted from 0), though the weights and the image are finite; the network overflows or divides by zero "
        "there, in FP32 too: mend the network"
    )
