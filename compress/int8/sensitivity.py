"""Which layers quantization hurts: signal-to-noise ratios, and the images it changed most."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from .gates import closed_for_all
from .graph import Graph
from .walk import Parts, Walk, is_quantized, leading_to, run


class Noise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one quantized layer: signal-to-noise ratios of its output in decibels, more is better.

    That is 10 log10 of the mean square of the float output over the mean square of what quantization changed it by.
    A layer without any change has 200.

    Attributes:
        layer: the name of its output.
        own: with the float graph's input, quantized as the layer's input is, the quantized weight, and the output's
            own quantization, where it is read in no other way.
    """

    layer: str
    own: float


def rank(prepared: onnx.ModelProto, quantized: onnx.ModelProto, images: npt.NDArray[np.float32]) -> tuple[Noise, ...]:
    """The quantized layers, by their own noise, worst first; of equal ones the earlier.

    Args:
        prepared: the float graph.
        quantized: made of it, every layer's output under its own name.
        images: as the network takes them (N, C, H, W).

    Raises:
        KeyError: a layer of the float graph is not in the quantized one.
    """
    exact, rough = Walk(prepared, images), Graph(quantized)
    floats = {*exact.graph.producers, prepared.graph.input[0].name}
    found = []
    for layer in exact.graph.layers:
        name = layer.output[0]
        ours = rough.producers[name]
        if not is_quantized(rough, ours):
            continue
        given = _given(rough, ours)
        nodes = leading_to(rough, [given], floats - {name})
        read = {each for node in nodes for each in node.input} & floats - {name}
        inputs = {each: exact.reach(each) for each in sorted(read)}
        true = _relevant(exact.graph, name, exact.reach(name))
        alone = run(rough, nodes, inputs, [given])[given]
        found.append(Noise(name, _ratio(true, _relevant(exact.graph, name, alone))))
    return tuple(sorted(found, key=lambda noise: noise.own))


def most_changed(
    reference_logits: npt.NDArray[np.floating], logits: npt.NDArray[np.floating], count: int
) -> npt.NDArray[np.intp]:
    """The places of the images a form changed most, by their largest change of any logit, of equal ones the earlier.

    Args:
        reference_logits: of the float form (N, classes).
        logits: of the form in question (N, classes).
        count: of images; all where there are fewer.
    """
    change = np.abs(logits - reference_logits).max(axis=1)
    return np.argsort(-change, kind="stable")[:count]


def _given(quantized: Graph, layer: onnx.NodeProto) -> str:
    """What a layer gives, after its quantization where that is all that is read of it."""
    name = layer.output[0]
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        readers = quantized.consumers[name]
        if len(readers) != 1 or readers[0].op_type != kind:
            return layer.output[0]
        name = readers[0].output[0]
    return name


def _relevant(graph: Graph, name: str, parts: Parts) -> Parts:
    """A tensor's values without what lies below a closed gate: a range may leave it out."""
    closed = closed_for_all(graph, name)
    if closed is None:
        return parts
    shape = (-1, 1, 1) if parts[0].ndim == 4 else (-1,)
    return [np.maximum(part, closed.reshape(shape)) for part in parts]


def _ratio(true: Parts, found: Parts) -> float:
    signal = sum(float(np.square(part, dtype=np.float64).sum()) for part in true)
    pairs = zip(true, found, strict=True)
    noise = sum(float(np.square(ours - exact, dtype=np.float64).sum()) for exact, ours in pairs)
    if noise == 0:
        return 200.0
    return 10 * math.log10(max(signal / noise, 1e-20))
