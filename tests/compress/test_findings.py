"""Several findings an image, from a table, through the whole job: unknown ones are counted nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medcompress.benchmarks.tolerance import Tolerance
from medcompress.compress.optimize import optimize
from medcompress.compress.options import Options
from medcompress.runtime import load
from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, save_checkpoint
from medcompress.trained.data.splits import DataSource, split_of
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec


def test_a_multilabel_checkpoint_becomes_a_bundle(
    tmp_path: Path, wide: Tolerance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)
    rng = np.random.default_rng(0)
    rows = ["image,mass,nodule,patient"]
    for number in range(80):
        pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02d}.png")
        mass, nodule = number % 2, -1 if number % 10 == 0 else (number // 2) % 2
        rows.append(f"{number:02d}.png,{mass},{nodule},P{number}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows))
    source = DataSource(str(tmp_path / "images"), table=str(table), uncertain="ignore")
    split = split_of(source)
    assert split.multilabel and split.classes == ("mass", "nodule")
    spec = ModelSpec("medcompress/small_cnn", Preprocessing((32, 32)), Decision("multilabel", split.classes))
    torch.manual_seed(0)
    path = tmp_path / "best.pth"
    save_checkpoint(path, Checkpoint(spec, build(spec).state_dict(), source, split.fingerprint))

    outcome = optimize(Options(path, out=tmp_path / "bundle", int8=True, tolerance=wide, targets=("cpu-avx2",)))

    assert outcome.report.verdict == "pass"
    assert outcome.report.images == {
        name: sum(sample.target[column] == 1 for sample in split.test) for column, name in enumerate(split.classes)
    }
    answer = load(tmp_path / "bundle").predict(split.test[0].path)
    assert set(answer.probabilities) == {"mass", "nodule"}
    assert set(answer.labels) == {name for name, p in answer.probabilities.items() if p >= 0.5}
