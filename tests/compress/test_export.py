"""Networks with our own heads, and our own network, answer the same as ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medcompress.compress.export import export
from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import HeadKind, ModelSpec


@pytest.mark.parametrize(
    ("architecture", "head"), [("medcompress/small_cnn", "mlp-bn"), ("torchvision/squeezenet1_1", "mlp")]
)
def test_heads_and_the_small_network_are_exported(tmp_path: Path, architecture: str, head: HeadKind) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(architecture, Preprocessing((40, 40)), Decision("multiclass", ("a", "b", "c")), head)
    network = build(spec)
    images = np.random.default_rng(0).normal(size=(3, 3, 40, 40)).astype(np.float32)
    network(torch.from_numpy(images))  # statistics of BatchNorm that are not 0 and 1
    exported = export(network.eval(), images, tmp_path / "model.onnx")
    assert exported.parity < 1e-5
