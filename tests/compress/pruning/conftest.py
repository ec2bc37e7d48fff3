"""Small networks with weights that let nothing pass unseen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from medcompress.runtime.decision import Decision
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import HeadKind, ModelSpec

Made = Callable[..., Checkpoint]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made() -> Made:
    """A checkpoint of random weights: every channel matters, none as much as another."""

    def make(architecture: str, size: int = 64, head: HeadKind = "linear", classes: str = "abc") -> Checkpoint:
        spec = ModelSpec(architecture, Preprocessing((size, size)), Decision("multiclass", tuple(classes)), head)
        torch.manual_seed(0)
        network = build(spec).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                spread = (len(parameter) / parameter.numel()) ** 0.5 if parameter.ndim > 1 else 0.3
                parameter.normal_(0, spread)
            for module in network.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    assert module.running_mean is not None and module.running_var is not None
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 1.5)
                    module.weight.uniform_(0.5, 1.5)
        weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        return Checkpoint(spec, weights, DataSource("/data"), "0" * 64)

    return make
