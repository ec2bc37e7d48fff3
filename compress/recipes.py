"""Which forms of a model are made, for which engine, CPU or accelerator."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..runtime.errors import InputError
from ..runtime.hardware import this_cpu
from .int8.plan import Kind

REFERENCE = "onnxruntime-fp32"


class Recipe(msgspec.Struct, frozen=True):
    """One form to make.

    Attributes:
        requires: CPU features or devices without which its answers are not faithful, or the engine refuses.
        kind: for INT8: the kind of CPU or accelerator its graph is made for.
        graph: name of the recipe whose graph it runs, in another precision or by another engine.
        half: its graph is in 16-bit floats, made of the reference's or of that of ``graph``.
        targets: what it is made for, of :data:`KINDS`; empty for all.
        network: name of the pruned network it is a form of; empty for the dense one.
    """

    name: str
    engine: str
    precision: str
    requires: tuple[str, ...] = ()
    kind: Kind | None = None
    graph: str = ""
    half: bool = False
    targets: tuple[str, ...] = ()
    network: str = ""

    def of(self, network: str) -> Recipe:
        """The same form of a pruned network, under a name of its own."""
        graph = self.graph and f"{network}-{self.graph}"
        return msgspec.structs.replace(self, name=f"{network}-{self.name}", graph=graph, network=network)

    @property
    def compressed(self) -> bool:
        """Whether it is less than the FP32 model."""
        return bool(self.network) or self.precision != "fp32"

    @property
    def quantized(self) -> bool:
        """Whether it is INT8; float forms run the reference file, or that in 16-bit floats."""
        return self.precision.startswith("int8")


_CPUS = ("cpu-vnni", "cpu-avx2", "cpu-arm")
_NVIDIA, _INTEL, _NPU = ("nvidia",), ("intel-gpu",), ("npu",)

# No one graph is fast, or faithful, on every engine and CPU: the README's tables show what each gains where.
RECIPES = (
    Recipe(REFERENCE, "onnxruntime", "fp32"),
    Recipe("openvino-fp32", "openvino", "fp32", targets=_CPUS),
    Recipe("openvino-bf16", "openvino", "bf16", ("bf16",), targets=("cpu-vnni",)),
    Recipe("onnxruntime-int8-vnni", "onnxruntime", "int8", ("vnni",), "vnni", targets=("cpu-vnni",)),
    Recipe("onnxruntime-int8-avx2", "onnxruntime", "int8", (), "avx2", targets=("cpu-avx2",)),
    Recipe("onnxruntime-int8-arm", "onnxruntime", "int8", ("arm64",), "arm", targets=("cpu-arm",)),
    Recipe("openvino-int8-vnni", "openvino", "int8", ("vnni",), "vnni", targets=("cpu-vnni",)),
    Recipe(
        "openvino-int8-bf16",
        "openvino",
        "int8-bf16",
        ("vnni", "bf16"),
        "vnni",
        graph="openvino-int8-vnni",
        targets=("cpu-vnni",),
    ),
    Recipe("openvino-int8-avx2", "openvino", "int8", (), "avx2", targets=("cpu-avx2",)),
    Recipe("onnxruntime-cuda-fp32", "onnxruntime-cuda", "fp32", _NVIDIA, targets=("gpu",)),
    Recipe("onnxruntime-cuda-tf32", "onnxruntime-cuda", "tf32", _NVIDIA, targets=("gpu",)),
    Recipe("onnxruntime-cuda-fp16", "onnxruntime-cuda", "fp16", _NVIDIA, half=True, targets=("gpu",)),
    Recipe("tensorrt-fp16", "tensorrt", "fp16", _NVIDIA, half=True, targets=("gpu",)),
    Recipe("tensorrt-int8", "tensorrt", "int8", _NVIDIA, "gpu", targets=("gpu",)),
    Recipe("tensorrt-int8-fp16", "tensorrt", "int8-fp16", _NVIDIA, "gpu", "tensorrt-int8", half=True, targets=("gpu",)),
    Recipe("onnxruntime-tensorrt-fp16", "onnxruntime-tensorrt", "fp16", _NVIDIA, half=True, targets=("gpu",)),
    Recipe("onnxruntime-tensorrt-int8", "onnxruntime-tensorrt", "int8", _NVIDIA, "gpu", targets=("gpu",)),
    Recipe("openvino-gpu-fp16", "openvino-gpu", "fp16", _INTEL, targets=("intel-gpu",)),
    Recipe("openvino-gpu-int8", "openvino-gpu", "int8-fp16", _INTEL, "vnni", targets=("intel-gpu",)),
    Recipe("openvino-npu-fp16", "openvino-npu", "fp16", _NPU, targets=("npu",)),
    Recipe("openvino-npu-int8", "openvino-npu", "int8-fp16", _NPU, "vnni", targets=("npu",)),
    Recipe("openvino-auto-fp32", "openvino-auto", "fp32", targets=("auto",)),
)

# What --target takes: CPUs with VNNI, CPUs without, ARM's; NVIDIA's GPUs; Intel's GPUs and NPUs; what OpenVINO's AUTO
# chooses. ``cpu`` is the CPUs of this machine's architecture.
KINDS = (*_CPUS, "gpu", "intel-gpu", "npu", "auto")
TARGETS = ("cpu", *KINDS)


def select(targets: Sequence[str], *, int8: bool) -> tuple[Recipe, ...]:
    """The recipes for these targets, the reference first.

    Raises:
        InputError: a target that is not known.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise InputError(f"target {', '.join(unknown) or '(none)'} is not known; known are: {', '.join(TARGETS)}")
    kinds = {target for target in targets if target in KINDS}
    if "cpu" in targets:
        kinds |= {"cpu-arm"} if this_cpu().architecture == "arm64" else {"cpu-vnni", "cpu-avx2"}
    return tuple(
        recipe
        for recipe in RECIPES
        if (int8 or not recipe.quantized) and (not recipe.targets or kinds.intersection(recipe.targets))
    )
