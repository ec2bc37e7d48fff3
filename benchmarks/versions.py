"""What the figures were made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_RECORDED = ("numpy", "scipy", "scikit-learn", "pillow", "torch", "timm", "torchvision", "onnx", "onnxruntime")
_ENGINES = ("onnxruntime-gpu", "openvino", "nncf", "tensorrt")


def versions() -> dict[str, str]:
    """Of medcompress, Python and every package that has a say in the figures and is installed."""
    found = {"medcompress": version("medcompress"), "python": platform.python_version()}
    for name in (*_RECORDED, *_ENGINES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
