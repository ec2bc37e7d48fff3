"""Whether held-out images were seen in training: the same picture, a changed copy of it, or the same patient."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.errors import DataError
from ...runtime.images import read_image
from ..progress import track
from .likeness import likeness
from .scan import Scan, grey

# How a copy may lie: quarter turns to the left, of the picture or of its mirror image.
_TURNS = ("", "turned 90°", "turned 180°", "turned 270°")
ORIENTATIONS = (*_TURNS, "mirrored", *(f"mirrored, {turn}" for turn in _TURNS[1:]))
# Measured, see check().
NEAREST, COARSE_SIDE, COARSE = 4, 16, 0.75
MIDDLE_SCALE, MIDDLE = 2, 0.88
FINE_SIDE, FINE_SCALE, FINE = 96, 1, 0.87
# Pairs in memory at a time, thumbnails and images; and products of the coarse search, 4 bytes each.
_CHUNK, _FINE_CHUNK, _PRODUCTS = 64, 16, 32_000_000

Thumbnails = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float32]


class Pair(msgspec.Struct, frozen=True):
    """A picture that is there twice.

    Attributes:
        first: path of the training image; of the earlier one, where both are held out.
        second: path of the held-out image.
        likeness: 1 for the same pixels; else the correlation of details, :data:`FINE`..1.
        change: how the copy lies; empty for upright.
    """

    first: str
    second: str
    likeness: float
    change: str = ""


class Leaks(msgspec.Struct, frozen=True):
    """What :func:`check` found.

    Attributes:
        train, held_out: images compared.
        exact: the same pixels on both sides, under whatever name or file format.
        near: the same picture on both sides, changed.
        patients: who have images on both sides.
        contradicting: of all pairs, and of equal images within a side, those with different labels.
        repeated: pairs within the held-out side, changed copies of different patients only: they make the test
            smaller than it looks.
    """

    train: int
    held_out: int
    exact: tuple[Pair, ...] = ()
    near: tuple[Pair, ...] = ()
    patients: tuple[str, ...] = ()
    contradicting: tuple[Pair, ...] = ()
    repeated: tuple[Pair, ...] = ()

    @property
    def spoils(self) -> bool:
        """Whether figures measured on the held-out images would be worth nothing."""
        return bool(self.exact or self.near or self.patients)

    @property
    def seen(self) -> int:
        """Held-out images that are also among the training images."""
        return len({pair.second for pair in (*self.exact, *self.near)})

    @property
    def findings(self) -> tuple[str, ...]:
        """What was found, each in a few words; names no file and no patient."""
        exact = len({pair.second for pair in self.exact})
        copies = f"of {self.held_out} held-out images are changed copies of training images"
        same = f"of {self.held_out} held-out images are training images too, pixel by pixel"
        counts = (
            (exact, same, same),
            (self.seen - exact, copies, copies),
            (len(self.patients), "patient has images on both sides", "patients have images on both sides"),
            (
                len(self.contradicting),
                "pair of one picture has different labels",
                "pairs of one picture have different labels",
            ),
            (
                len(self.repeated),
                "held-out image repeats another held-out image",
                "held-out images repeat another held-out image",
            ),
        )
        return tuple(f"{count} {one if count == 1 else several}" for count, one, several in counts if count)


def check(train: Scan, held_out: Scan) -> Leaks:
    """Compare two parts of a data set, and the held-out one with itself.

    Copies are looked for in three steps, each among what the one before let through: the 4 nearest training images
    of each held-out one, by correlation of 16 x 16 thumbnails, over the 8 ways a copy may lie (at least 0.75); their
    32 x 32 thumbnails, aligned, by details (0.88); the images at 96 x 96, aligned, by details (0.87).

    The last threshold lies between measured likenesses. Above: all 150 viral images of a public 4-class chest set,
    found among 5,216 paediatric radiographs of another size and encoding (0.89 and more); 48 pairs of a public brain
    MRI set, test images that are mirrored, turned or brightened training images (0.87 and more; all looked at, all
    true). Below: neighbouring slices of one head (at most 0.74), the 312 test radiographs of the paediatric set against
    its training part (none above 0.7), and synthetic phantoms, all drawn by one formula (at most 0.86). Not to be
    relied on: crops of much more than 5 %, small turns, heavy noise on pictures of little contrast.
    """
    exact = _equal(train, held_out)
    near = _near(train, held_out)
    patient = {str(sample.path): sample.patient for sample in held_out.samples}
    alike = [pair for pair in _near(held_out, held_out) if patient[pair.first] != patient[pair.second]]
    repeated = [*_equal(held_out, held_out), *alike]
    target = {str(sample.path): sample.target for sample in (*train.samples, *held_out.samples)}
    pairs = {(pair.first, pair.second): pair for pair in (*exact, *near, *repeated, *_equal(train, train))}
    return Leaks(
        len(train.samples),
        len(held_out.samples),
        tuple(exact),
        tuple(near),
        tuple(sorted({s.patient for s in train.samples} & {s.patient for s in held_out.samples})),
        tuple(pair for pair in pairs.values() if target[pair.first] != target[pair.second]),
        tuple(repeated),
    )


def refuse(leaks: Leaks, mend: str = "") -> None:
    """Raise a DataError where the held-out figures would be spoiled: counts, an example, and how to mend it."""
    if not leaks.spoils:
        return
    pairs = (*leaks.exact, *leaks.near)
    if pairs:
        pair = pairs[0]
        how = f" ({pair.change})" if pair.change else ""
        example = f"{pair.first} (training) is the same picture as {pair.second} (held out){how}"
    else:
        example = f"patient {leaks.patients[0]}"
    findings = "; ".join(leaks.findings[: bool(leaks.exact) + bool(leaks.near) + bool(leaks.patients)])
    raise DataError(
        f"{findings}, so what is measured on them would be worth nothing. For example {example}; "
        f"move all images of a patient, and all copies, to one side or remove them{mend}"
    )


def _equal(first: Scan, second: Scan) -> list[Pair]:
    """Pairs of the same pixels, one for each image of ``second`` that has one; within one scan, with the earliest."""
    where: dict[str, str] = {}
    pairs = []
    if first is not second:
        for digest, sample in zip(first.hashes, first.samples, strict=True):
            where.setdefault(digest, str(sample.path))
    for digest, sample in zip(second.hashes, second.samples, strict=True):
        if first is second and digest not in where:
            where[digest] = str(sample.path)
        elif digest in where:
            pairs.append(Pair(where[digest], str(sample.path), 1.0))
    return pairs


def _near(first: Scan, second: Scan) -> list[Pair]:
    """Changed copies; what has equal pixels is passed over."""
    rows = _coarse(first.thumbnails, second.thumbnails, within=first is second)
    rows = [row for row in rows if first.hashes[row[0]] != second.hashes[row[1]]]
    found: list[tuple[int, int, int, float]] = []
    for start in track(range(0, len(rows), _CHUNK), "Comparing pictures that look alike", len(rows) // _CHUNK + 1):
        found += _fine(first, second, *_middle(first, second, np.array(rows[start : start + _CHUNK])))
    return [
        Pair(str(first.samples[i].path), str(second.samples[j].path), round(score, 3), ORIENTATIONS[turn])
        for i, j, turn, score in found
    ]


def _coarse(first: Thumbnails, second: Thumbnails, *, within: bool) -> list[tuple[int, int, int]]:
    """(index in first, index in second, orientation) of the nearest by thumbnails; within one scan, each pair once."""
    if not len(first) or not len(second):
        return []
    base = _unit(first)
    rows: list[tuple[int, int, int]] = []
    step = max(1, _PRODUCTS // (len(ORIENTATIONS) * len(first)))
    for start in track(range(0, len(second), step), "Searching for copies", len(second) // step + 1):
        part = second[start : start + step]
        every = np.concatenate([_unit(_turn(part, turn)) for turn in range(len(ORIENTATIONS))])
        products = (every @ base.T).reshape(len(ORIENTATIONS), len(part), len(first))
        best = products.max(axis=0)
        if within:
            best[np.arange(len(first)) >= np.arange(start, start + len(part))[:, None]] = -1
        nearest = min(NEAREST, len(first))
        top = np.argpartition(-best, nearest - 1, axis=1)[:, :nearest]
        for row, column in np.argwhere(np.take_along_axis(best, top, 1) >= COARSE):
            i = int(top[row, column])
            rows.append((i, start + int(row), int(products[:, row, i].argmax())))
    return rows


def _middle(first: Scan, second: Scan, rows: Rows) -> tuple[Rows, Maps]:
    """Those whose thumbnails agree in detail, and how they are aligned."""
    still = first.thumbnails[rows[:, 0]].astype(np.float32)
    moving = _turned(second.thumbnails[rows[:, 1]].astype(np.float32), rows[:, 2])
    score, maps = likeness(still, moving, MIDDLE_SCALE)
    kept = score >= MIDDLE
    return rows[kept], maps[kept]


def _fine(first: Scan, second: Scan, rows: Rows, maps: Maps) -> list[tuple[int, int, int, float]]:
    """(index in first, index in second, orientation, likeness) of those that agree in detail at full size."""

    def read(path: Path) -> npt.NDArray[np.uint8]:
        return grey(read_image(path, at_least=(2 * FINE_SIDE, 2 * FINE_SIDE)), FINE_SIDE)

    found: list[tuple[int, int, int, float]] = []
    for start in range(0, len(rows), _FINE_CHUNK):
        part = rows[start : start + _FINE_CHUNK]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            still = np.array(list(pool.map(read, (first.samples[i].path for i in part[:, 0]))), np.float32)
            moving = np.array(list(pool.map(read, (second.samples[j].path for j in part[:, 1]))), np.float32)
        score, _ = likeness(still, _turned(moving, part[:, 2]), FINE_SCALE, maps[start : start + _FINE_CHUNK], 4)
        kept = zip(part.tolist(), score.tolist(), strict=True)
        found += [(i, j, turn, own) for (i, j, turn), own in kept if own >= FINE]
    return found


def _unit(images: Thumbnails) -> npt.NDArray[np.float32]:
    """(N, 256): 16 x 16 means, of mean 0 and length 1."""
    side = images.shape[-1] // COARSE_SIDE
    small = images.reshape(len(images), COARSE_SIDE, side, COARSE_SIDE, side).mean(axis=(2, 4), dtype=np.float32)
    flat = small.reshape(len(images), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)


def _turn(images: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    mirrored = images[:, :, ::-1] if turn >= 4 else images
    return np.rot90(mirrored, turn % 4, axes=(1, 2))


def _turned(images: npt.NDArray[np.float32], turns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Each image turned its own way."""
    turned = images.copy()
    for turn in set(turns.tolist()):
        turned[turns == turn] = _turn(images[turns == turn], turn)
    return turned
