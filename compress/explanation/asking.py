"""A form asked for its feature maps, in a process of its own: an engine that crashes there takes nothing with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmarks.candidate import Candidate
from ...benchmarks.timing.worker import Worker, serve
from ...runtime.building import make_ready
from ...runtime.engines import Engine, load_engine
from ...runtime.engines.onnxruntime_engine import load_graph
from ...runtime.explanation import Explainer, weigh_all
from ...runtime.preprocessing import Preprocessing

_COMMAND = (sys.executable, "-P", "-m", "medcompress.compress.explanation.asking")


class Asked(Worker):
    """The parent's end, of one form."""

    def __init__(self, candidate: Candidate, threads: int) -> None:
        """Start it.

        Raises:
            EngineError: it cannot be loaded, or its process died.
        """
        super().__init__(_COMMAND)
        self._candidate = candidate
        self.load(candidate.engine, candidate.files, candidate.precision, threads)

    def maps(
        self,
        graph: Path,
        tensors: Sequence[str],
        rendered: Path,
        preprocessing: Preprocessing,
    ) -> tuple[npt.NDArray[np.float32], list[int]]:
        """The weighed maps (N, height, width) of images, and the classes they are of: those with the largest output.

        Args:
            graph: that weighs.
            tensors: of the form, what it takes.
            rendered: an .npy file of images.

        Raises:
            EngineError: the form has no such tensors, or the engine fails.
        """
        answer = self._ask(
            do="maps",
            engine=self._candidate.engine,
            files=[str(file) for file in self._candidate.files],
            precision=self._candidate.precision,
            graph=str(graph),
            tensors=list(tensors),
            rendered=str(rendered),
            preprocessing=msgspec.to_builtins(preprocessing),
        )
        return np.asarray(answer["maps"], dtype=np.float32), answer["classes"]


def _open(plain: Engine) -> dict[str, Any]:
    def maps(
        engine: str,
        files: Sequence[str],
        precision: str,
        graph: str,
        tensors: Sequence[str],
        rendered: str,
        preprocessing: dict[str, Any],
    ) -> dict[str, Any]:
        prepare = msgspec.convert(preprocessing, Preprocessing)
        batch = np.stack([prepare.normalize(pixels) for pixels in np.load(rendered, allow_pickle=False)])
        threads = plain.executed.threads
        paths = [Path(file) for file in files]
        make_ready(engine, paths, precision, tensors)
        loaded = load_engine(engine, paths, precision, threads, tensors)
        logits = np.concatenate([plain.run(image[None]) for image in batch])
        explainer = Explainer(loaded, load_graph(Path(graph)), logits.shape[1])
        return {"maps": weigh_all(explainer, batch, logits).tolist(), "classes": logits.argmax(axis=1).tolist()}

    return {"maps": maps}


if __name__ == "__main__":
    serve(_open)
