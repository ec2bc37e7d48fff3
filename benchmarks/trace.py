"""How an INT8 form was found: what was tried, step by step; and what would saturate on a CPU without VNNI."""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of the ladder, measured on validation images with the engine itself.

    Attributes:
        form: the name of the form it was a step of, ``openvino-int8-vnni`` and the like.
        title: what was changed, in a few words.
        outcome: ``reached``: within the goal, and the ladder ends; ``short: ...``: which figure is not; ``error: ...``:
            it could not be made, or did not run.
        kept: the form so far; where no step reached the goal, the last one kept is the form.
        images: validation images all figures are of.
        auroc_drop: reference minus this one.
        flips: images whose answer differs from the reference's.
        logit_change: largest change of any logit, of all but one image in 500.
        logit_error: root mean square, over the images, of the largest change of a logit, each counted as at most 1.
        p50_ms, float_p50_ms: median of one inference; and of the fastest float form, timed in turn with it.
        seconds: making and measuring took.
    """

    form: str
    title: str
    outcome: str
    kept: bool
    images: int
    seconds: float
    auroc_drop: float | None = None
    flips: int | None = None
    logit_change: float | None = None
    logit_error: float | None = None
    p50_ms: float | None = None
    float_p50_ms: float | None = None


class LayerOverflow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one layer with 8-bit weights: pairs of u8 x s8 products beyond 16 bits, on calibration images.

    Of every such layer there is one, those with no overflow too: that none was found is worth knowing.

    Attributes:
        layer: the name of its output in the graph.
        pairs: of products that were summed.
        overflows: of those, whose sum leaves 16 bits: a CPU without VNNI cuts it off.
        error: root mean square of what is cut off, a share of the root mean square of the layer's sums.
        images: it was counted on; 0 where that was not kept.
        form: it is a layer of; empty where that was not kept.
    """

    layer: str
    pairs: int
    overflows: int
    error: float
    images: int = 0
    form: str = ""
