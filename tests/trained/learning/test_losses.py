"""Losses against their definitions, with unknown targets, smoothing, weights and focus."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from medcompress.trained.data.splits import DataSource
from medcompress.trained.learning.losses import GAMMA, class_weights, image_weights, loss
from medcompress.trained.learning.options import TrainOptions

OUTPUTS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [1.0, 1.0, 1.0]])
ONE_HOT = torch.eye(3, dtype=torch.int8)
FINDINGS = torch.tensor([[1, 0, -1], [1, 1, 0], [-1, -1, -1]], dtype=torch.int8)


def options(**changes: object) -> TrainOptions:
    return TrainOptions(DataSource("d"), **changes)  # type: ignore[arg-type]


def test_cross_entropy_is_torchs() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    found = loss(OUTPUTS, ONE_HOT, "multiclass", options(label_smoothing=0.1), weights)
    assert found == functional.cross_entropy(OUTPUTS, torch.arange(3), weights, label_smoothing=0.1)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_focal_loss_is_its_definition(weights: torch.Tensor | None) -> None:
    found = loss(OUTPUTS, ONE_HOT, "multiclass", options(loss="focal"), weights)
    p = OUTPUTS.softmax(dim=1).diagonal()
    each = -((1 - p) ** GAMMA) * p.log()
    w = torch.ones(3) if weights is None else weights
    assert float(found) == pytest.approx(float((w * each).sum() / w.sum()))
    # What is answered well already counts less than in cross entropy.
    plain = loss(OUTPUTS, ONE_HOT, "multiclass", options(), weights)
    assert found < plain


@pytest.mark.parametrize("kind", ["cross-entropy", "focal"])
def test_unknown_findings_have_no_part_in_loss_or_gradient(kind: str) -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    found = loss(outputs, FINDINGS, "multilabel", options(loss=kind), None)
    found.backward()
    assert outputs.grad is not None
    assert (outputs.grad[FINDINGS == -1] == 0).all() and (outputs.grad[FINDINGS >= 0] != 0).all()
    p = OUTPUTS.sigmoid()
    pt = torch.where(FINDINGS == 1, p, 1 - p)[FINDINGS >= 0]
    each = -pt.log() * ((1 - pt) ** GAMMA if kind == "focal" else 1)
    assert found.item() == pytest.approx(each.mean().item())


def test_a_batch_that_knows_nothing_has_a_loss_of_zero() -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    loss(outputs, torch.full((3, 3), -1), "multilabel", options(), None).backward()
    assert outputs.grad is not None and (outputs.grad == 0).all()


def test_each_class_weighs_the_same_in_total() -> None:
    targets = torch.eye(3, dtype=torch.int8)[[0] * 6 + [1] * 3 + [2]]
    weights = class_weights(targets, "multiclass")
    assert (weights * targets.sum(dim=0)).tolist() == pytest.approx([10 / 3] * 3)
    assert float((weights * targets.sum(dim=0)).sum() / 10) == pytest.approx(1)
    assert class_weights(FINDINGS, "multilabel").tolist() == pytest.approx([0.05, 1, 1])


def test_the_sampler_draws_each_class_as_often() -> None:
    targets = torch.eye(3, dtype=torch.int8)[[0] * 60 + [1] * 30 + [2] * 10]
    weights = image_weights(targets)
    per_class = [float(weights[targets[:, c] == 1].sum()) for c in range(3)]
    assert np.allclose(per_class, per_class[0])
    # Of findings, the rarest one an image has counts; healthy images are a class too.
    several = image_weights(torch.tensor([[1, 0], [1, 1], [0, 0], [0, 0]]))
    assert several.tolist() == pytest.approx([0.5, 1, 0.5, 0.5])
