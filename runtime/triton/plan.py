"""A TensorRT plan that ``medcompress build`` made on this machine, for a server that runs on it too."""

from __future__ import annotations

from pathlib import Path

from ..errors import MachineError
from ..plans import Record, find
from .config import Backend


def built_plan(model: Path, precision: str) -> tuple[Record, bytes] | None:
    """The plan of an ONNX file, made from just it, with this GPU, driver and TensorRT; None where there is none."""
    from ..engines.tensorrt_builder import key_here

    try:
        return find(key_here(model, precision))
    except MachineError:  # no GPU, no TensorRT, nothing built, or from something else
        return None


def plan_backend(record: Record) -> Backend:
    """What runs a plan: https://github.com/triton-inference-server/tensorrt_backend#readme"""
    key = record.key
    allow = "; start the server with --backend-config=tensorrt,version-compatible=true" * record.version_compatible
    return Backend(
        "tensorrt",
        "tensorrt_plan",
        profiles=tuple(str(number) for number in range(len(key.profiles))),
        note=f"its plan runs only on this {key.gpu} with driver {key.driver}, in a server with TensorRT {key.tensorrt}"
        f"{' or later' * record.version_compatible}{allow}; for another, build and export it there",
    )
