"""How an INT8 form is made of a float graph: what one step of the ladder changes."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import msgspec

Clipping: TypeAlias = Literal["minmax", "percentile", "entropy", "lse"]
# Of CPU (vnni: adds u8 x s8 products exactly; avx2: saturates, so 7-bit weights; arm) or accelerator.
Kind: TypeAlias = Literal["vnni", "avx2", "arm", "gpu"]


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

    @property
    def digest(self) -> str:
        """Another plan has another one."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]

    @property
    def words(self) -> str:
        """For the report."""
        said = [f"{self.clipping} ranges"]
        said += ["channels equalized"] * self.equalized + ["biases corrected"] * self.bias_corrected
        said += ["fine-tuned"] * self.fine_tuned
        count = len(self.float_layers)
        return ", ".join(said + [f"{count} layer{'s' * (count > 1)} float"] * (count > 0))
