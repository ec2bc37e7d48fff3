"""Make the forms of a model: one stage a recipe, each failing alone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.candidate import Candidate
from ..benchmarks.progress import stage as say
from ..benchmarks.row import Row
from ..runtime.preprocessing import Preprocessing
from .recipes import Recipe
from .workspace import Workspace


class _Emitted(msgspec.Struct):
    files: tuple[str, ...]


def emit_all(
    workspace: Workspace,
    recipes: Sequence[Recipe],
    reference: Path,
    rendered: np.ndarray,
    preprocessing: Preprocessing,
) -> tuple[list[Candidate], list[Row]]:
    """The candidates that could be made, and a row for each that could not."""
    candidates, problems = [], []
    for recipe in recipes:
        files: tuple[Path, ...] = (reference,)
        if recipe.emitted:

            def action(folder: Path, recipe: Recipe = recipe) -> _Emitted:
                return _emit(recipe, reference, rendered, preprocessing, workspace, folder)

            try:
                folder, made = workspace.stage(recipe.name, f"Making {recipe.name}", _Emitted, action)
            except OSError:
                raise  # a full disk is no fault of the recipe
            except Exception as error:  # the quantizers raise what they like; the other forms are still made
                _refuse_full_disk(workspace.folder, reference)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                reason = reason.replace(f"{workspace.folder}/", "")
                problems.append(Row(recipe.name, recipe.engine, recipe.precision, 0, f"error: not made: {reason}"))
                say(f"  {recipe.name} could not be made: {reason}")
                continue
            files = tuple(folder / name for name in made.files)
        candidates.append(Candidate(recipe.name, recipe.engine, recipe.precision, files, recipe.requires))
    return candidates, problems


def _emit(
    recipe: Recipe,
    reference: Path,
    rendered: np.ndarray,
    preprocessing: Preprocessing,
    workspace: Workspace,
    folder: Path,
) -> _Emitted:
    if recipe.engine == "openvino":
        from . import emit_openvino

        images = [preprocessing.normalize(pixels) for pixels in rendered]
        made = emit_openvino.emit(reference, images, folder / f"{recipe.name}.xml", full_range=recipe.full_range)
    else:
        from . import emit_onnxruntime

        def gather(folder: Path) -> _Emitted:
            images = (preprocessing.normalize(pixels) for pixels in rendered)
            emit_onnxruntime.gather_ranges(reference, images, folder)
            return _Emitted(())

        ranges, _ = workspace.stage("onnxruntime-ranges", "  gathering ranges for ONNX Runtime", _Emitted, gather)
        made = [emit_onnxruntime.emit(ranges, folder / f"{recipe.name}.onnx", full_range=recipe.full_range)]
    return _Emitted(tuple(path.name for path in made))


def _refuse_full_disk(folder: Path, reference: Path) -> None:
    """Some quantizers report a full disk as an error of their own: it is not to be taken for one of the graph."""
    if shutil.disk_usage(folder).free < reference.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
