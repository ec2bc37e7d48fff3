"""What a network answers for a data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..data.datasets import ImageDataset, in_order, loader, normalization_table, normalize


def predict(network: nn.Module, dataset: ImageDataset, batch_size: int = 32) -> np.ndarray:
    """Raw outputs (N, classes), float32, in the data set's order, computed where the network lies.

    The network is put into evaluation mode.
    """
    device = next(network.parameters()).device
    table = normalization_table(dataset.preprocessing).to(device)
    network.eval()
    with torch.inference_mode():
        outputs = [
            network(normalize(pixels.to(device), table)).float().cpu()
            for pixels, _ in loader(dataset, in_order(len(dataset), batch_size))
        ]
    return torch.cat(outputs).numpy()
