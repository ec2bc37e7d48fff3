"""What a checkpoint file is, ours or anybody's, without running anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..runtime.errors import CheckpointError
from .checkpoint import MARK, load_checkpoint
from .foreign import describe_foreign, pickle_globals, read_torch
from .pruned import in_short


def describe(path: Path) -> dict[str, Any]:
    """Facts about a checkpoint file, as plain JSON types; ``kind`` says what it is.

    ``medcompress checkpoint``: architecture, head, classes, input, pruning, parameters, metrics, data, split, epoch,
    version.
    ``torch file of another tool``: its keys, tensors, parameters, types, and why it cannot be rebuilt.
    ``Python pickle``: the libraries it would import, and why it is not opened.

    Raises:
        CheckpointError: missing, empty, damaged, or none of these.
    """
    try:
        payload = read_torch(path)
    except CheckpointError as error:
        names = pickle_globals(path)
        if not names or "damaged" in str(error):
            raise
        return {
            "kind": "Python pickle",
            "libraries": list(dict.fromkeys(name.partition(".")[0] for name in names)),
            "imports": names[:20],
            "reason": str(error),
        }
    if not isinstance(payload, dict) or MARK not in payload:
        return describe_foreign(path, payload)
    checkpoint = load_checkpoint(path)
    spec = checkpoint.spec
    return {
        "kind": "medcompress checkpoint",
        "format": checkpoint.format,
        "medcompress": checkpoint.medcompress,
        "architecture": spec.architecture,
        "head": spec.head,
        "classes": list(spec.decision.classes),
        "decision": msgspec.to_builtins(spec.decision),
        "preprocessing": msgspec.to_builtins(spec.preprocessing),
        "pruning": [in_short(each) for each in spec.pruning],
        "shrunk": spec.shrunk,
        "parameters": sum(
            tensor.numel()
            for name, tensor in checkpoint.weights.items()
            if tensor.is_floating_point() and not name.endswith(("running_mean", "running_var"))
        ),
        "epoch": checkpoint.epoch,
        "epochs": len(checkpoint.history),
        "metrics": checkpoint.metrics,
        "data": msgspec.to_builtins(checkpoint.data),
        "split": checkpoint.split,
    }
