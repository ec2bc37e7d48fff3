"""What the input guard of a data set refuses: its own test images, the same handed over wrongly, and other images.

    python -m medcompress.compress.against.guard DATA [--other [NAME=]FOLDER ...] [--size 224] [--table CSV] [--json]

DATA is split as for training; the guard learns from its training and validation images. No network is needed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from ...benchmarks.data.samples import Sample
from ...runtime.errors import DataError
from ...runtime.images import SUFFIXES
from ...runtime.learned import Learned, read_learned
from ...runtime.preprocessing import Preprocessing
from ...trained.data.splits import DataSource, split_of
from ..command import run
from ..guard import exact_interval, make_guard, refuses
from ..looks import Looks, look
from ..mistakes import MISTAKES

_MOST = 1000
_FRAMES = 50


class Line(msgspec.Struct, frozen=True):
    """Of one set: how many ``images``, how many of them were ``refused``, that share's interval, and ``mirrored``:
    cautioned against as mirrored and not refused."""

    of: str
    images: int
    refused: int
    interval: tuple[float, float]
    mirrored: int


def measure(learned: Learned, name: str, looks: Looks) -> Line:
    """What it does with a set."""
    refused, told = refuses(learned, looks), refuses(learned, looks, "mirrored")
    count, caught = len(looks), int(refused.sum())
    return Line(name, count, caught, exact_interval(caught, count), int((told & ~refused).sum()))


def frames() -> dict[str, Callable[[np.random.Generator, int], np.ndarray]]:
    """Images of nothing, (side, side): of one grey level, noise, a ramp."""
    return {
        "frames of one grey level": lambda rng, side: np.full((side, side), rng.integers(256)),
        "frames of noise": lambda rng, side: rng.integers(0, 256, (side, side)),
        "ramps": lambda rng, side: np.tile(np.linspace(rng.integers(128), rng.integers(128, 256), side), (side, 1)),
    }


def main() -> None:
    """Learn, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.against.guard")
    parser.add_argument("data", type=Path)
    parser.add_argument("--other", action="append", default=[], metavar="[NAME=]FOLDER", help="of images, at any depth")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--colour", choices=("grey", "rgb"), default="grey", help="of the network's input")
    parser.add_argument("--table", type=Path, help="CSV of labels")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    preprocessing = Preprocessing((given.size, given.size), colour=given.colour)
    table = str(given.table.absolute()) if given.table else None
    split = split_of(DataSource(str(given.data.absolute()), table=table))
    with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
        file = Path(folder) / "guard.npz"
        made = make_guard((*split.train, *split.val), split.test, preprocessing, 0, file)
        if made.guard is None:
            raise DataError(f"{given.data}: no guard, {made.words}")
        learned = read_learned(file.read_bytes(), str(file))
        size = file.stat().st_size
    seen = look(split.test, preprocessing, ("", *MISTAKES))
    lines = [measure(learned, "its own test images" + (f", {name}" if name else ""), seen[name]) for name in seen]
    for other in given.other:
        name, _, place = other.rpartition("=")
        lines.append(measure(learned, name or Path(place).name, look(_images(Path(place)), preprocessing)[""]))
    with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
        for name, draw in frames().items():
            drawn = _drawn(Path(folder) / name, draw, given.size)
            lines.append(measure(learned, name, look(drawn, preprocessing)[""]))
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(lines), indent=2).decode())
        return
    print(f"learned from {made.guard.images} images of {given.data.name} at {given.size} px; {size / 1024:.0f} KiB\n")
    print("| images | refused | share | 95 % interval | told of as mirrored |")
    print("|---|---|---|---|---|")
    for line in lines:
        low, high = line.interval
        share = f"{line.refused / line.images:.1%} | {low:.1%} to {high:.1%}"
        print(f"| {line.of} | {line.refused} of {line.images} | {share} | {line.mirrored} |")


def _images(folder: Path) -> list[Sample]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: there are no images in it; give --other a folder of some")
    return _samples(random.Random(0).sample(found, min(_MOST, len(found))))


def _drawn(folder: Path, draw: Callable[[np.random.Generator, int], np.ndarray], side: int) -> list[Sample]:
    folder.mkdir()
    rng, paths = np.random.default_rng(0), [folder / f"{number}.png" for number in range(_FRAMES)]
    for path in paths:
        Image.fromarray(draw(rng, side).astype(np.uint8)).save(path)
    return _samples(paths)


def _samples(paths: Sequence[Path]) -> list[Sample]:
    return [Sample(path, (), str(path)) for path in paths]


if __name__ == "__main__":
    run(main)
