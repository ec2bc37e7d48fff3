"""Flipped cases drawn: the image as the network sees it, and where the reference and the variant looked."""

from __future__ import annotations

import base64
import importlib.util
import io
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..runtime.decision import Decision
from ..runtime.errors import EngineError, missing_package
from ..runtime.preprocessing import Preprocessing
from .candidate import Candidate
from .data.samples import Sample
from .flips import KINDS, Flip
from .occlusion import occlusion_map
from .progress import stage, track
from .report.picture import Picture
from .report.record import Report
from .timing.worker import Worker

# Longer side of a picture, pixels.
SIDE = 224
# Perceptually uniform, and legible without colour vision: brightness rises with the heat.
COLOUR_MAP = "inferno"
# Where the heat is 1. The cold stays as it is: an even veil would hide the image where nothing is to be shown.
OPACITY = 0.65
# Log odds: the scale of two maps ends no lower, so that what moves nothing is not painted as if it did. At the
# threshold 0.5 it is a probability of 0.025.
LEAST_SCALE = 0.1
_QUALITY = 85
# Images an average is taken of, evenly over all.
_AVERAGED = 400

# The image's index and the class's.
_Place = tuple[int, int]
_Heat = npt.NDArray[np.float32]


def require_matplotlib() -> None:
    """Raise a MachineError where matplotlib is not installed: to be called before long work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_package("matplotlib", "report")


def draw_report(
    report: Report,
    samples: Sequence[Sample],
    folder: Path,
    rendered: Path,
    candidates: Sequence[Candidate],
    preprocessing: Preprocessing,
) -> dict[tuple[str, int], Picture]:
    """Pictures of a report's gravest flips, the chosen variant's first: :func:`draw_cases`."""
    chosen_first = sorted(report.evidence, key=lambda each: each.variant != report.chosen)
    flips = {each.variant: each.flips for each in chosen_first}
    forms = {candidate.name: candidate for candidate in candidates}
    reference = forms[report.reference]
    return draw_cases(
        flips, samples, folder, rendered, reference, forms, report.decision, preprocessing, report.threads
    )


def draw_cases(
    flips: Mapping[str, Sequence[Flip]],
    samples: Sequence[Sample],
    folder: Path,
    rendered: Path,
    reference: Candidate,
    candidates: Mapping[str, Candidate],
    decision: Decision,
    preprocessing: Preprocessing,
    threads: int,
    limit: int = 24,
) -> dict[tuple[str, int], Picture]:
    """Pictures of the gravest flips, by (variant, :attr:`Flip.case`); ``limit`` over all variants.

    Each costs two heat maps of about 200 runs, see :func:`medcompress.benchmarks.occlusion.occlusion_map`; the
    reference's of an image that flips in several variants is made once. An engine that fails loses its pictures, and
    that is said on stderr; without the reference there are none.

    Args:
        flips: variant -> its flips, the gravest first; the first variant's are drawn first, then those of the others,
            the gravest first.
        samples: of all held-out images, in the order of ``rendered``.
        folder: that the images lie in; files are named from there.
        rendered: an .npy file, uint8 (N, H, W) or (N, H, W, 3).
        candidates: by name, every variant of ``flips``.
        threads: of one inference.

    Raises:
        MachineError: matplotlib is not installed.
    """
    require_matplotlib()
    chosen = _gravest(flips, limit)
    if not chosen:
        return {}
    images = np.load(rendered, mmap_mode="r", allow_pickle=False)
    averages = _averages(images, {flip.index for _, flip in chosen})
    places = {(name, flip.case): (flip.index, decision.classes.index(flip.of)) for name, flip in chosen}
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:

        def maps(candidate: Candidate, wanted: Sequence[_Place]) -> dict[_Place, _Heat]:
            return _maps(candidate, wanted, images, averages, decision, preprocessing, threads, Path(scratch))

        before = maps(reference, list(dict.fromkeys(places.values())))
        after = {}
        for name in dict.fromkeys(name for name, _ in chosen) if before else ():
            after[name] = maps(candidates[name], [place for (variant, _), place in places.items() if variant == name])
    pictures = {}
    for (name, case), place in places.items():
        if place in before and place in after[name]:
            sample = samples[place[0]]
            drawn = _draw(images[place[0]], before[place], after[name][place])
            pictures[name, case] = Picture(_within(sample.path, folder), sample.patient, *drawn)
    return pictures


def _gravest(flips: Mapping[str, Sequence[Flip]], limit: int) -> list[tuple[str, Flip]]:
    first = next(iter(flips), None)
    every = [(name, flip) for name, found in flips.items() for flip in found]
    every.sort(key=lambda each: (each[0] != first, KINDS.index(each[1].kind), each[1].case))
    return every[:limit]


def _averages(images: npt.NDArray[np.uint8], wanted: Collection[int]) -> dict[int, npt.NDArray[np.float64]]:
    """Of each wanted image, the average of the others; even where there are none."""
    taken = set(np.unique(np.linspace(0, len(images) - 1, min(_AVERAGED, len(images))).astype(int)).tolist())
    total = np.zeros(images.shape[1:])
    for index in sorted(taken):
        total += images[index]
    averages = {}
    for index in wanted:
        own = images[index] if index in taken else 0
        averages[index] = (total - own) / max(1, len(taken) - (index in taken))
    return averages


def _maps(
    candidate: Candidate,
    wanted: Sequence[_Place],
    images: npt.NDArray[np.uint8],
    averages: Mapping[int, npt.NDArray[np.float64]],
    decision: Decision,
    preprocessing: Preprocessing,
    threads: int,
    scratch: Path,
) -> dict[_Place, _Heat]:
    """A model's maps; none where its engine fails."""
    try:
        with Worker(candidate.command) as worker:
            worker.load(candidate.engine, candidate.files, candidate.precision, threads)
            found: dict[_Place, _Heat] = {}
            for index, c in track(wanted, f"Heat maps of {candidate.name}", len(wanted)):
                image = np.asarray(images[index])
                found[index, c] = occlusion_map(worker, image, averages[index], preprocessing, scratch, decision, c)
            return found
    except EngineError as error:
        stage(f"  no heat maps of {candidate.name}: {error}; its flipped cases are shown without pictures")
        return {}


def _draw(pixels: npt.NDArray[np.uint8], before: _Heat, after: _Heat) -> tuple[str, str, str]:
    """The image, and with either map, as data URIs."""
    scale = max(float(before.max()), float(after.max()), LEAST_SCALE)
    longest = max(pixels.shape[:2])
    height, width = (max(1, round(side * SIDE / longest)) for side in pixels.shape[:2])
    image = Image.fromarray(np.asarray(pixels)).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    shown = [image, *(_overlay(image, heat / scale) for heat in (before, after))]
    reference, first, second = (_data_uri(each) for each in shown)
    return reference, first, second


def _overlay(image: Image.Image, heat: _Heat) -> Image.Image:
    import matplotlib

    grown = Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)
    warmth = np.clip(np.asarray(grown), 0, 1)
    colours = matplotlib.colormaps[COLOUR_MAP](warmth, bytes=True)[..., :3]
    opacity = OPACITY * warmth[:, :, None]
    return Image.fromarray((np.asarray(image) * (1 - opacity) + colours * opacity).round().astype(np.uint8))


def _data_uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
