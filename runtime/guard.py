"""The input guard: does an image look like those the model was made for, and is it fit to be answered?

A network answers whatever it is given. What the guard knows it learned from the model's own training images
(``medcompress.compress.guard``), and it looks at three things:

    measures    exposure, contrast, detail, colour, shape and size: each as in training
    likeness    of two small pictures (:class:`medcompress.runtime.sight.Seen`), the distance from the training images
                within their principal components, and the remainder that these do not explain (Jackson and Mudholkar
                1979, "Control procedures for residuals associated with principal component analysis", Technometrics
                21:341-349)
    posture     whether it is likelier one of them that was turned, flipped or inverted: a task that needs no foreign
                image to learn from (Golan and El-Yaniv 2018, "Deep anomaly detection using geometric transformations",
                NeurIPS, https://arxiv.org/abs/1805.10917)

The network's own features have no say: they differ from form to form. Nor does it follow that an image it lets pass is
answered well.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from .learned import COLUMNS, Learned
from .reasons import Reason
from .sight import MEASURES, POSTURES, UNDONE_BY, Seen, observe, posed

# What becomes of an image the guard would refuse: see medcompress.runtime.predictor.load.
Policy: TypeAlias = Literal["refuse", "flag", "off"]

# Told, and no reason to refuse: it may be as it should, of a patient whose organs lie the other way round.
ONLY_CAUTIONS = ("mirrored",)
_BLANK = 3.0  # grey levels: a standard deviation below it shows nothing

_Doubles = npt.NDArray[np.float64]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the manifest says of a bundle's guard; what it learned lies in ``guard.npz``.

    Attributes:
        images: training and validation images it was learned from.
        false_alarms: share of such images that its limits were set to refuse.
        held_out: test images it was tried on afterwards; ``refused``: how many of them it refuses.
        interval: of that share, exact (Clopper and Pearson 1934), 95 %.
        detected: mistake -> share of these test images, so changed, that it refuses (``mirrored``: cautions against).
    """

    images: Annotated[int, msgspec.Meta(ge=1)]
    false_alarms: _Share
    held_out: Annotated[int, msgspec.Meta(ge=0)]
    refused: Annotated[int, msgspec.Meta(ge=0)]
    interval: tuple[_Share, _Share]
    detected: dict[str, _Share] = {}


class Judgement(NamedTuple):
    """``refusal``: what the image does, a clause, where it is not to be answered; ``cautions``: what to beware of."""

    refusal: Reason | None = None
    cautions: tuple[Reason, ...] = ()


def _code(name: str) -> str:
    return f"unlike-{name.replace(' ', '-')}"


# What turning an image round would mend; its texture is much the same.
_LIKENESS = {"thumbnail distance", "thumbnail remainder", *POSTURES} - set(ONLY_CAUTIONS)
MIRRORED = "it may be mirrored, left for right: check the side marker"
# The plainest first.
_WORDS = {
    "upside down": "it looks upside down; turn it",
    "flipped": "it looks flipped, top for bottom; turn it",
    "turned left": "it looks turned by a quarter to the left; turn it",
    "turned right": "it looks turned by a quarter to the right; turn it",
    "mirrored": "it looks mirrored, left for right; check the side marker",
    "negative": "it looks like a negative, black for white; invert it",
    "brightness low": "it is too dark",
    "brightness high": "it is too bright",
    "contrast low": "it has too little contrast",
    "contrast high": "it has too much contrast",
    "detail low": "it is blurred, or shows too little detail",
    "detail high": "it is noisy, or shows too much detail",
    "sharpness low": "it is blurred",
    "sharpness high": "it is noisy",
    "black low": "it has no black parts",
    "black high": "too much of it is black",
    "white low": "it has no white parts",
    "white high": "too much of it is white",
    "colour low": "it has too little colour",
    "colour high": "it has colours that are not of such images",
    "red low": "its colours are not of such images",
    "red high": "its colours are not of such images",
    "blue low": "its colours are not of such images",
    "blue high": "its colours are not of such images",
    "shape low": "it is too tall for its width",
    "shape high": "it is too wide for its height",
    "pixels low": "it has too few pixels",
    "black": "it is blank, black",
    "blank": "it is blank, of one grey level",
    "another": "it shows something else, or shows it in another way; check that it is the right image",
    "grain": "its greys and its grain are not those of such images",
}
# Of every refusal: see medcompress.runtime.reasons.
CODES = tuple(_code(name) for name in _WORDS)


def judge(learned: Learned, image: Image.Image, pixels: npt.NDArray[np.uint8]) -> Judgement:
    """Look at a decoded image and what was rendered of it; see :func:`medcompress.runtime.sight.observe`."""
    seen = observe(image, pixels)
    odd = _odd(learned, seen)
    if (odd <= 1).all():
        return Judgement()
    beyond = _names(odd)
    if beyond - set(ONLY_CAUTIONS):
        name = _plainest(learned, seen, beyond)
        why = f"does not look like the images this model was made for: {_WORDS[name]}"
        return Judgement(Reason(_code(name), why))
    return Judgement(cautions=(Reason("perhaps-mirrored", MIRRORED),))


def _odd(learned: Learned, seen: Seen) -> _Doubles:
    return learned.oddness(seen.thumbnail[None], seen.texture[None], seen.measures[None])[0]


def _plainest(learned: Learned, seen: Seen, beyond: set[str]) -> str:
    """Of what is beyond its limit, by its name in ``_WORDS``."""
    measure = dict(zip(MEASURES, seen.measures, strict=True))
    if measure["contrast"] < _BLANK:
        return "black" if measure["brightness"] < 64 else "blank"
    for name in ("colour high", "colour low", "pixels low"):
        if name in beyond:
            return name
    for name in POSTURES:
        if name in beyond and not _names(_odd(learned, _righted(seen, name))) & _LIKENESS:
            return name
    if beyond & _LIKENESS:
        return "another"
    return next((name for name in _WORDS if name in beyond - set(POSTURES)), "grain")


def _names(odd: _Doubles) -> set[str]:
    """Of the columns that are beyond their limits."""
    return {name for name, value in zip(COLUMNS, odd, strict=True) if not value <= 1}


def _righted(seen: Seen, posture: str) -> Seen:
    return seen._replace(thumbnail=posed(seen.thumbnail[None], UNDONE_BY[posture])[0])
