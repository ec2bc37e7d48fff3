"""Forms as they are made without a look at their answers, INT8 ones at the foot of the ladder: for latency alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..benchmarks.candidate import Candidate
from ..runtime.hardware import this_cpu
from ..runtime.preprocessing import Preprocessing
from ..runtime.requirements import lacking
from .half import IMAGES, halve
from .int8.emission import SUFFIX, Request, make
from .int8.gathering import gather
from .int8.graph import prepare
from .int8.plan import Plan
from .int8.ranges import write_ranges
from .recipes import Recipe


def make_plain(
    reference: Path,
    rendered: npt.NDArray[np.uint8],
    preprocessing: Preprocessing,
    recipes: Sequence[Recipe],
    folder: Path,
) -> list[Candidate]:
    """A candidate for each recipe that this machine runs, the float ones on the reference file.

    Args:
        reference: the FP32 ONNX file.
        rendered: calibration images (N, H, W) or (N, H, W, 3).
        folder: to write to.

    Raises:
        MedcompressError: a form cannot be made.
    """
    pixels, prepared, ranges = folder / "images.npy", folder / "prepared.onnx", folder / "ranges.json"
    np.save(pixels, rendered)
    prepare(reference, prepared)
    images = [preprocessing.normalize(each) for each in rendered]
    write_ranges(ranges, gather(prepared, images, threads=this_cpu().cores))
    files: dict[str, tuple[Path, ...]] = {}
    for recipe in recipes:
        if lacking(recipe.requires, this_cpu()):
            continue
        files[recipe.name] = files.get(recipe.graph, (reference,))
        if recipe.kind is not None and not recipe.graph:
            path = folder / recipe.name / f"{recipe.name}{SUFFIX[recipe.engine]}"
            path.parent.mkdir()
            request = Request(
                recipe.engine, recipe.kind, str(prepared), str(ranges), Plan(), str(pixels), preprocessing, str(path)
            )
            files[recipe.name] = tuple(make(request))
        elif recipe.half:
            path = folder / f"{recipe.name}.onnx"
            halve(files[recipe.name][0], path, np.stack(images[:IMAGES]))
            files[recipe.name] = (path,)
    known = {recipe.name: recipe for recipe in recipes}
    return [
        Candidate(name, known[name].engine, known[name].precision, each, known[name].requires)
        for name, each in files.items()
    ]
