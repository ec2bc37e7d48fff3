"""A search on a network that is pruned in a second, with the latency of its forms given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medcompress.benchmarks.data.labelled import Labelled, label_samples
from medcompress.benchmarks.networks import Trial
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.compress.pruning.counting import count_macs
from medcompress.compress.search import looking, rungs
from medcompress.compress.search.search import Found, search
from medcompress.compress.workspace import Workspace
from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint
from medcompress.trained.data.splits import DataSource, Split, split_of
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec

Result = tuple[tuple[Found, ...], tuple[Trial, ...]]


@dataclass
class Search:
    """What a search needs; call it to search.

    Time stands still but for one second a network that is timed.

    Attributes:
        timed: million MACs of every network that was timed.
        recovered: epochs of every recovery that was begun.
        broken: networks with fewer million MACs cannot be exported.
        real: recoveries train; else they leave the network as it is.
    """

    folder: Path
    checkpoint: Checkpoint
    split: Split
    val: Labelled
    tolerance: Tolerance
    timed: list[float] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    broken: float = 0.0
    real: bool = False

    def __call__(self, name: str = "run", networks: int = 3, epochs: int = 1, **options: Any) -> Result:
        """Until so many networks were timed, the dense one and those of a search before among them."""
        workspace = Workspace(self.folder / name, {}, replace=False)
        rendered = np.load(self.val.rendered)[:4]
        try:
            return search(
                workspace.room("search"),
                self.checkpoint,
                self.split,
                (),
                rendered,
                self.val,
                self.checkpoint.spec.decision,
                self.tolerance,
                threads=1,
                deadline=networks,
                epochs=epochs,
                **options,
            )
        finally:
            workspace.close()


def checkpoint_of(architecture: str, phantoms: Path, size: int = 32) -> Checkpoint:
    """With random weights."""
    source = DataSource(str(phantoms))
    split = split_of(source)
    decision = Decision("binary", split.classes, "SYNTHETIC-OPACITY")
    spec = ModelSpec(architecture, Preprocessing((size, size)), decision)
    torch.manual_seed(0)
    return Checkpoint(spec, build(spec).state_dict(), source, split.fingerprint)


@pytest.fixture(scope="session")
def _pruned() -> dict[str, Checkpoint]:
    return {}


@pytest.fixture
def make_search(
    phantoms: Path,
    wide: Tolerance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    _pruned: dict[str, Checkpoint],
) -> Callable[..., Search]:
    """A search of a network with random weights, whose latency is its MACs; what one test has pruned, others take."""

    def make(architecture: str = "medcompress/small_cnn", size: int = 32, tolerance: Tolerance = wide) -> Search:
        checkpoint = checkpoint_of(architecture, phantoms, size)
        split = split_of(checkpoint.data)
        spec = checkpoint.spec
        val = label_samples(split.val, spec.decision, spec.preprocessing, tmp_path / "val.npy", "Reading")
        made = Search(tmp_path, checkpoint, split, val, tolerance)

        def fastest(network: nn.Module, preprocessing: Preprocessing, *_: object) -> tuple[str, float, int]:
            macs = count_macs(network, preprocessing.shape) / 1e6
            made.timed.append(macs)
            if macs < made.broken:
                raise RuntimeError("the exporter does not know this\nand more lines")
            return "onnxruntime-fp32", macs, 1000

        recover, prune = rungs.recover, rungs.prune

        def pruned_once(dense: Checkpoint, *args: Any, **options: Any) -> Checkpoint:
            key = f"{dense.spec} {args[0]} {options}"  # its weights are those of its architecture
            if key not in _pruned:
                _pruned[key] = prune(dense, *args, **options)
            return dataclasses.replace(_pruned[key])

        def counted(*args: Any, **options: Any) -> Checkpoint:
            made.recovered.append(options["epochs"])
            if made.real:
                return recover(*args, **options | {"deadline": None})
            rows = [{"epoch": float(epoch), "val_auroc": 0.5} for epoch in range(options["epochs"] + 1)]
            return dataclasses.replace(args[0], history=rows)

        clock = SimpleNamespace(monotonic=lambda: float(len(made.timed)))
        monkeypatch.setattr(rungs, "time", clock)
        monkeypatch.setattr(looking, "time", clock)
        monkeypatch.setattr(rungs, "prune", pruned_once)
        monkeypatch.setattr(rungs, "fastest", fastest)
        monkeypatch.setattr(rungs, "recover", counted)
        return made

    return make
