"""Which forms of a model are made, for which engine and CPU."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..runtime.errors import InputError

REFERENCE = "onnxruntime-fp32"


class Recipe(msgspec.Struct, frozen=True):
    """One form to make.

    Attributes:
        requires: CPU features without which its answers are not faithful, or the engine refuses.
        full_range: for INT8: 8-bit weights, which only a CPU with VNNI adds up without saturating.
        targets: kinds of CPU it is made for; empty for all.
    """

    name: str
    engine: str
    precision: str
    requires: tuple[str, ...] = ()
    full_range: bool = False
    targets: tuple[str, ...] = ()

    @property
    def emitted(self) -> bool:
        """Whether it needs a graph of its own; float forms run the reference file."""
        return self.precision == "int8"


# No one graph is fast, or faithful, on every engine and CPU: the README's tables show what each gains where.
RECIPES = (
    Recipe(REFERENCE, "onnxruntime", "fp32"),
    Recipe("openvino-fp32", "openvino", "fp32"),
    Recipe("openvino-bf16", "openvino", "bf16", ("bf16",), targets=("cpu-vnni",)),
    Recipe("onnxruntime-int8-vnni", "onnxruntime", "int8", ("vnni",), True, ("cpu-vnni",)),
    Recipe("onnxruntime-int8-avx2", "onnxruntime", "int8", targets=("cpu-avx2",)),
    Recipe("openvino-int8-vnni", "openvino", "int8", ("vnni",), True, ("cpu-vnni",)),
    Recipe("openvino-int8-avx2", "openvino", "int8", targets=("cpu-avx2",)),
)

# What --target takes: CPUs with VNNI, CPUs without, or both.
TARGETS = {"cpu": ("cpu-vnni", "cpu-avx2"), "cpu-vnni": ("cpu-vnni",), "cpu-avx2": ("cpu-avx2",)}


def select(targets: Sequence[str], *, int8: bool) -> tuple[Recipe, ...]:
    """The recipes for these targets, the reference first.

    Raises:
        InputError: a target that is not known.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise InputError(f"target {', '.join(unknown) or '(none)'} is not known; known are: {', '.join(TARGETS)}")
    kinds = {kind for target in targets for kind in TARGETS[target]}
    return tuple(
        recipe
        for recipe in RECIPES
        if (int8 or not recipe.emitted) and (not recipe.targets or kinds.intersection(recipe.targets))
    )
