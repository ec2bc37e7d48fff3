"""In which precision a plan really computes, by the account of TensorRT's engine inspector.

What was asked for is not always what is built: where Q/DQ nodes do not fuse into a layer, it stays in float.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html (Engine Inspector)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

# How the inspector words a tensor's type, ``Int8`` or ``Row major linear FP16 format``, narrowest first.
_TYPES = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "fp16": re.compile(r"\b(fp16|half)\b", re.IGNORECASE),
    "bf16": re.compile(r"\bb(fp16|float16|f16)\b", re.IGNORECASE),
    "fp32": re.compile(r"\b(fp32|float)\b", re.IGNORECASE),
}
# Layers that multiply and add; others (kgen: what is computed value by value) do little.
_PRODUCTS = re.compile(r"conv|gemm|matrix|matmul|fullyconnected|mha", re.IGNORECASE)
_MOVES = re.compile(r"reformat|constant|shuffle|noop|no-op|copy|shape|signal|wait", re.IGNORECASE)
# Of compute capabilities, the first with TF32: Ampere.
_TF32_SINCE = 8


def layers_of(information: str) -> dict[str, int]:
    """How many layers read each precision: those that multiply, or where none is named so all that compute.

    Args:
        information: the inspector's JSON, of an engine built with detailed verbosity. Empty or another text: none.
    """
    layers = list(_layers(information))
    products = [layer for layer in layers if _PRODUCTS.search(_kind(layer))]
    chosen = products or [layer for layer in layers if not _MOVES.search(_kind(layer))]
    counts = Counter(kind for layer in chosen if (kind := _reads(layer)))
    return {kind: counts[kind] for kind in _TYPES if kind in counts}


def precision_of(layers: dict[str, int], asked: str, capability: str) -> str:
    """The precision that was built, in the words of :class:`medcompress.runtime.engines.Executed`.

    Args:
        layers: of :func:`layers_of`; where it tells nothing, the graph's own types, which are what was ``asked`` for.
        capability: compute capability of the GPU, ``9.0``.
    """
    tf32 = asked == "tf32" and int(capability.partition(".")[0]) >= _TF32_SINCE
    if not layers:
        return "fp32" if asked == "tf32" and not tf32 else asked
    floats = [kind for kind in layers if kind != "int8"]
    if "int8" in layers:
        return f"int8-{floats[0]}" if floats and floats[0] != "fp32" and "fp32" not in floats else "int8"
    return floats[0] if floats[0] != "fp32" else "tf32" if tf32 else "fp32"


def _layers(information: str) -> Iterator[dict[str, Any]]:
    try:
        found = msgspec.json.decode(information)
    except msgspec.DecodeError:
        return
    for layer in found.get("Layers", []) if isinstance(found, dict) else []:
        if isinstance(layer, dict):  # with less verbosity it is a name
            yield layer


def _kind(layer: dict[str, Any]) -> str:
    """Its type, and what it is a fusion of: TensorRT's graph compiler calls most things ``kgen``."""
    return f"{layer.get('LayerType', '')} {layer.get('TacticName', '')}"


def _reads(layer: dict[str, Any]) -> str:
    """The narrowest type of its inputs."""
    text = " ".join(str(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs", []))
    return next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), "")
