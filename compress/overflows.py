"""What would saturate on a CPU without VNNI: of a full-range form, on calibration images."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.progress import stage as say
from ..benchmarks.trace import LayerOverflow
from ..runtime.errors import first_line, is_full_disk
from ..runtime.preprocessing import Preprocessing
from .forms import Forms
from .int8.emission import QUANTIZED
from .int8.saturation import count_overflows
from .workspace import Workspace

_IMAGES = 16


class _Overflows(msgspec.Struct):
    layers: tuple[LayerOverflow, ...]


def overflows_of(
    workspace: Workspace, forms: Forms, chosen: str, preprocessing: Preprocessing, rendered: np.ndarray
) -> tuple[LayerOverflow, ...]:
    """Of the chosen form where it is full-range, else of the first that is; nothing where none is.

    Args:
        rendered: calibration images, uint8 (N, H, W) or (N, H, W, 3).
    """
    full = sorted((each for each in forms.candidates if "vnni" in each.requires), key=lambda each: each.name != chosen)
    if not full:
        return ()

    def action(folder: Path) -> _Overflows:
        images = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:_IMAGES]])
        found = count_overflows(full[0].files[0].with_name(QUANTIZED), images)
        return _Overflows(tuple(msgspec.structs.replace(layer, form=full[0].name) for layer in found))

    name = f"overflows-{full[0].name}-{forms.digest}"
    try:
        return workspace.stage(name, "Counting what a CPU without VNNI would saturate", _Overflows, action)[1].layers
    except Exception as error:  # ONNX Runtime's and numpy's own: it is no reason to lose what was proven
        if is_full_disk(error):
            raise
        say(f"note: it could not be counted ({first_line(error)}), so the report does not tell")
        return ()
