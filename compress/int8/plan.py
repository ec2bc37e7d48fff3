"""How an INT8 form is made of a float graph: what one step of the ladder changes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Clipping: TypeAlias = Literal["minmax", "percentile", "entropy", "lse"]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one INT8 form.

    Attributes:
        clipping: how a tensor's range follows from its histogram, see :mod:`.clipping`.
        equalized: the float graph's channels were scaled first, see :mod:`.equalization`.
        bias_corrected: the mean error of every layer was taken out of its bias, see :mod:`.bias_correction`.
        float_layers: layers (names of their first outputs) that stay float, see :mod:`.sensitivity`.
        fine_tuned: the float graph is that of a network trained with its quantization, see :mod:`.fine_tuning`.
    """

    clipping: Clipping = "minmax"
    equalized: bool = False
    bias_corrected: bool = False
    float_layers: tuple[str, ...] = ()
    fine_tuned: bool = False
