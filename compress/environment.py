"""What a run needs of this machine, checked before its first long stage, and what it was made with."""

from __future__ import annotations

import importlib.util
import math
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from ..runtime.errors import MachineError, missing_package
from ..runtime.preprocessing import Preprocessing

_RECORDED = ("numpy", "pillow", "torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf")
# Import name -> the package to name.
_NEEDED = {
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "openvino": "openvino",
    "sklearn": "scikit-learn",
    "jinja2": "jinja2",
}
_NEEDED_FOR_INT8 = {"nncf": "nncf"}


def check_packages(int8: bool) -> None:
    """Raise a MachineError that names the first package that is needed and not installed."""
    needed = _NEEDED | (_NEEDED_FOR_INT8 if int8 else {})
    for module, package in needed.items():
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


def versions() -> dict[str, str]:
    """Of medcompress, Python and every package that has a say in the figures."""
    packages = {name: version(name) for name in _RECORDED if importlib.util.find_spec(_module(name))}
    return {"medcompress": version("medcompress"), "python": platform.python_version(), **packages}


def _module(package: str) -> str:
    return {"pillow": "PIL"}.get(package, package)
