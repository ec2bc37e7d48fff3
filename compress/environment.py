"""What a run needs of this machine, checked before its first long stage."""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path

from ..runtime.errors import MachineError, missing_package
from ..runtime.preprocessing import Preprocessing

# Import name -> the package to name.
_NEEDED = {
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "openvino": "openvino",
    "sklearn": "scikit-learn",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "torch_pruning": "torch-pruning",
    "optuna": "optuna",
    "pytorch_grad_cam": "grad-cam",
}


def check_packages() -> None:
    """Raise a MachineError that names the first package that is needed and not installed."""
    for module, package in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise missing_package(package, "compress")


def check_disk(folder: Path, checkpoint: Path, images: int, preprocessing: Preprocessing) -> None:
    """Raise a MachineError where ``folder`` (or its nearest parent that exists) has too little room.

    A run takes up to ten times its checkpoint, and the rendered held-out images.
    """
    while not folder.exists():
        folder = folder.parent
    needed = 10 * checkpoint.stat().st_size + images * math.prod(preprocessing.shape) + 100_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder}: has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed; free some, or give --out"
        )
