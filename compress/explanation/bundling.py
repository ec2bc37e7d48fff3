"""The explanations of a bundle's variants: their graphs put into it, and each held against torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from ...benchmarks.candidate import Candidate
from ...benchmarks.progress import stage as say
from ...runtime.bundle import Explanation
from ...runtime.errors import MedcompressError, is_full_disk
from ...runtime.explanation import PARITY, heat_map
from ...trained.checkpoint import Checkpoint, rebuild
from ...trained.results.explanation import explain
from ..int8.emission import QUANTIZED
from .asking import Asked
from .making import GRAPH, explained_beside, reason
from .tensors import restored, scales

FOLDER = "explanations"
# Real images the heat maps are held against torch's on.
_IMAGES = 12

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Origin:
    """What a form was made of.

    Attributes:
        checkpoint: of its network.
        reference: the FP32 file of the network as the form has it: fine-tuned, where it is.
        equalized: the float graph with its channels scaled, where they are.
    """

    checkpoint: Checkpoint
    reference: Path
    equalized: Path | None = None


def explain_forms(
    bundle: Path,
    forms: Sequence[Candidate],
    origins: Mapping[str, Origin],
    inputs: npt.NDArray[np.uint8],
    images: npt.NDArray[np.uint8],
    threads: int,
) -> tuple[dict[str, Explanation], dict[str, _Floats]]:
    """The explanation of each form that has one, and its golden maps.

    Args:
        bundle: the folder that is put together.
        origins: by the names of the forms.
        inputs: golden, rendered.
        images: real ones, rendered; the heat maps of these are held against torch's, and of none is anything stored.

    Returns:
        both by the names of the forms. A form that cannot be explained is said, and left out.

    Raises:
        OSError: the disk is full.
    """
    (bundle / FOLDER).mkdir()
    made: dict[str, Explanation] = {}
    maps: dict[str, _Floats] = {}
    graphs: dict[tuple[Path, Path | None], str] = {}
    expected: dict[tuple[int, tuple[int, ...]], _Floats] = {}
    told: set[str] = set()
    rendered = bundle / FOLDER / "inputs.npy"
    pictures = np.concatenate([inputs, images[:_IMAGES]])
    np.save(rendered, pictures)
    for form in forms:
        origin = origins[form.name]
        own = (origin.reference, origin.equalized)
        try:
            explained = explained_beside(origin.reference)
            if explained.why:
                raise MedcompressError(explained.why)
            tensors = explained.tensors
            name = graphs.setdefault(own, f"{FOLDER}/{form.name}.onnx")
            if not (bundle / name).exists():
                _write(bundle / name, origin, tensors, inputs)
            if form.precision.startswith("int8"):
                tensors = restored(form.files[0].with_name(QUANTIZED), tensors)
            with Asked(form, threads) as asked:
                preprocessing = origin.checkpoint.spec.preprocessing
                found, classes = asked.maps(bundle / name, tensors, rendered, preprocessing)
            key = (id(origin.checkpoint), tuple(classes))
            if key not in expected:
                expected[key] = explain(rebuild(origin.checkpoint), origin.checkpoint.spec, pictures, classes)
            shown = np.stack([heat_map(each, preprocessing.size) for each in found])
            off = float(np.abs(shown - expected[key]).max())
            correlation = float(
                np.mean([_alike(*pair) for pair in zip(shown, expected[key], strict=True)][len(inputs) :])
            )
            if form.precision == "fp32" and not off <= PARITY:
                raise MedcompressError(f"its heat maps are off torch's by {off:.2g}, {PARITY} is allowed")
        except Exception as error:  # torch and engines raise what they like: it costs the heat maps, not the bundle
            if is_full_disk(error):
                raise
            if (why := reason(error)) not in told:
                say(f"{form.name} has no heat maps: {why}")
            told.add(why)
            continue
        maps[form.name] = found[: len(inputs)]
        made[form.name] = Explanation(name, tensors, explained.grid, off, correlation)
    rendered.unlink()
    used = {each.graph for each in made.values()}
    for path in (bundle / FOLDER).iterdir():
        if f"{FOLDER}/{path.name}" not in used:
            path.unlink()
    return made, maps


def _write(path: Path, origin: Origin, tensors: Sequence[str], inputs: npt.NDArray[np.uint8]) -> None:
    """The graph of a network, or one that undoes the scaling of its channels first."""
    source = origin.reference.with_name(GRAPH)
    if origin.equalized is None:
        shutil.copyfile(source, path)
        return
    normalize = origin.checkpoint.spec.preprocessing.normalize
    images = np.stack([normalize(pixels) for pixels in inputs])
    model = onnx.load(source)
    found = scales(origin.reference, origin.equalized, tensors, images)
    for place, factors in enumerate(found):
        name, scaled, constant = model.graph.input[place].name, f"scaled_{place}", f"scale_{place}"
        for node in model.graph.node:
            node.input[:] = [scaled if each == name else each for each in node.input]
        model.graph.initializer.append(onnx.numpy_helper.from_array(factors, constant))
        model.graph.node.insert(0, onnx.helper.make_node("Mul", [name, constant], [scaled], scaled))
    onnx.save_model(model, path)


def _alike(found: _Floats, expected: _Floats) -> float:
    """The correlation of two heat maps; of one without any heat, whether the other has none."""
    if not (found.any() and expected.any()):
        return float(found.any() == expected.any())
    return float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
