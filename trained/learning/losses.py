"""From raw outputs and targets to the loss."""

from __future__ import annotations

import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from ...runtime.decision import Kind
from .options import TrainOptions

# Of the focal loss: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 5.
GAMMA = 2.0


def class_weights(targets: torch.Tensor, kind: Kind) -> torch.Tensor:
    """(classes,) weights that give each class the same weight in total.

    One class an image: inversely to its count, with mean 1 over the images. Findings: absent to present, for the
    images that have it, at most 20.
    """
    present, absent = (targets == 1).sum(dim=0).float(), (targets == 0).sum(dim=0).float()
    if kind == "multilabel":
        return (absent / present.clamp(min=1)).clamp(0.05, 20)
    return present.sum() / (len(present) * present.clamp(min=1))


def image_weights(targets: torch.Tensor) -> torch.Tensor:
    """(N,) how often each image should be drawn: inversely to the count of the rarest class it has."""
    counts = (targets == 1).sum(dim=0).clamp(min=1).float()
    rarest = torch.where(targets == 1, counts, torch.inf).amin(dim=1)
    # An image without any finding counts as one of the class of such images.
    rarest[rarest.isinf()] = max(1.0, float(rarest.isinf().sum()))
    return 1 / rarest


def loss(
    outputs: torch.Tensor, targets: torch.Tensor, kind: Kind, options: TrainOptions, weights: torch.Tensor | None
) -> torch.Tensor:
    """The mean loss over a batch.

    Args:
        outputs: (N, classes), raw.
        targets: (N, classes): 1, 0, or -1 for unknown, which is not counted.
        weights: of :func:`class_weights`, or None.
    """
    if kind == "multilabel":
        return _of_findings(outputs, targets, options, weights)
    labels = targets.argmax(dim=1)
    smoothing = options.label_smoothing
    if options.loss == "cross-entropy":
        return functional.cross_entropy(outputs, labels, weights, label_smoothing=smoothing)
    each = functional.cross_entropy(outputs, labels, weights, label_smoothing=smoothing, reduction="none")
    likelihood = outputs.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    each = each * (1 - likelihood) ** GAMMA
    return each.mean() if weights is None else each.sum() / weights[labels].sum()


def _of_findings(
    outputs: torch.Tensor, targets: torch.Tensor, options: TrainOptions, weights: torch.Tensor | None
) -> torch.Tensor:
    known = targets >= 0
    smoothed = targets.clamp(min=0).to(outputs.dtype)
    smoothed = smoothed * (1 - options.label_smoothing) + options.label_smoothing / 2
    if options.loss == "focal":
        each = sigmoid_focal_loss(outputs, smoothed, alpha=-1, gamma=GAMMA)
        each = each if weights is None else each * torch.where(targets == 1, weights, 1.0)
    else:
        each = functional.binary_cross_entropy_with_logits(outputs, smoothed, pos_weight=weights, reduction="none")
    # A batch that knows nothing still has a gradient, of zero.
    return (each * known).sum() / known.sum().clamp(min=1)
