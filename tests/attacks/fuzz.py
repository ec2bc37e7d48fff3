"""Damaged images, DICOM files and manifests, by the hundred thousand: each is read or refused in one line.

    python tests/attacks/fuzz.py [--seconds N | --count N] [--seed S] [--keep FOLDER] [DATA...]

Sound files (this folder's ``sources.py``, and those below DATA) are changed in bytes, numbers, lengths, order and
structure, checksums mended so that the change gets through, and given to what the runtime does with them. Every input
follows from the seed and its number. A process of its own takes them one after the other: one that crashes it, or keeps
it busy for ten seconds, is noted by its number, and the next process goes on after it. What is unexpected (any other
error than a refusal, 2 s of CPU time, 500 MB) is kept in FOLDER. Prints one line; exit code 1 where anything was.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import sources

from medcompress.runtime.dicom.policy import DicomPolicy
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import BundleError, MedcompressError
from medcompress.runtime.manifest import Manifest
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.sight import observe
from medcompress.runtime.variants import by_preference

SLOW_S, LARGE_MIB = 2.0, 500
_HANG_S, _PROCESS_BYTES = 10.0, 4 << 30
_BATCH = 5000
_KINDS = ("image",) * 9 + ("dicom",) * 7 + ("manifest",) * 4
_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_ODD: tuple[Any, ...] = (None, True, -1, 0, 1e308, 1 << 70, "", "\x1b[2J", "../x", "a" * 5000, [], {}, [[[]]], {"a": 1})

Sources = dict[str, list[bytes]]
ASKED = DicomPolicy(modalities=("CR", "DX"), body_parts=("CHEST",))
WAYS = (
    Preprocessing((64, 64)),
    Preprocessing((32, 40), colour="rgb", fit="crop", shorter_side=48),
    Preprocessing((48, 48), fit="pad", dicom=DicomRendering(policy=ASKED)),
)


def everything(places: list[Path]) -> Sources:
    """Sound files by kind."""
    found = {
        "image": list(sources.images().values()),
        "dicom": list(sources.dicoms().values()),
        "manifest": list(sources.manifests().values()),
    }
    for kind, _, data in sources.found_in(places):
        found[kind].append(data)
    return found


def damaged(found: Sources, seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of one input."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choice(_KINDS)
    kind = kind if found[kind] else "image"
    whole = rng.choice(found[kind])
    if kind == "manifest" and rng.random() < 0.7:
        return kind, _of_other_structure(whole, rng)
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 9))):
        _damage(data, rng, rng.choice(found[kind]))
    if data[:4] == b"\x89PNG" and rng.random() < 0.8:
        _mend_checksums(data)
    return kind, bytes(data)


def _damage(data: bytearray, rng: random.Random, other: bytes) -> None:
    """Change something; headers more often than what follows."""
    at = rng.randrange(min(len(data), rng.choice((64, 200, 600, 1 << 30)))) if data else 0
    how = rng.randrange(9)
    length = rng.choice((1, 2, 4, 8, 30, 200))
    if how < 3:
        data[at : at + 1] = bytes([rng.randrange(256)])
    elif how < 5:
        form = rng.choice(("<H", ">H", "<I", ">I"))
        number = (rng.choice(_NUMBERS) + rng.choice((0, 0, 1, -1))) % (1 << 8 * struct.calcsize(form))
        data[at : at + struct.calcsize(form)] = struct.pack(form, number)
    elif how == 5:
        del data[at : rng.choice((at + length, len(data)))]
    elif how == 6:
        data[at:at] = data[at : at + length] * rng.choice((1, 2, 100))
    elif how == 7:
        data[at : at + length] = rng.randbytes(rng.choice((0, 1, length)))
    else:
        start = rng.randrange(len(other))
        data[at : at + length] = other[start : start + rng.choice((length, 1000))]


def _mend_checksums(data: bytearray) -> None:
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def _of_other_structure(whole: bytes, rng: random.Random) -> bytes:
    """JSON with values of another kind or missing, names changed, parts copied over others."""
    root = json.loads(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        spots = list(_spots(root))
        part, key = rng.choice(spots)
        other, place = rng.choice(spots)
        how = rng.randrange(6)
        if how < 3:
            part[key] = deepcopy(rng.choice(_ODD))
        elif how == 3:
            part[key] = deepcopy(other[place])
        elif how == 4 or not isinstance(part, dict):
            del part[key]
        else:
            part[rng.choice(("", "x" * 300, "a/../b", "schema", str(key).upper()))] = deepcopy(part[key])
    text = json.dumps(root)
    return (text.replace('"1.5"', "1e999") if rng.random() < 0.1 else text).encode()


def _spots(part: Any) -> Any:
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], (dict, list)):
            yield from _spots(part[key])


def use_image(data: bytes) -> None:
    """What a predictor does before the engine runs."""
    way = WAYS[len(data) % len(WAYS)]
    image = way.decode(data)
    pixels = way.draw(image)
    observe(image, pixels)
    way.normalize(pixels)


def use_manifest(data: bytes) -> None:
    """What opening a bundle does; its files are not there."""
    from medcompress.runtime.bundle import parse_manifest

    bundle = parse_manifest(Path("bundle"), data)
    assert isinstance(bundle.manifest, Manifest)
    for variant in by_preference(bundle):
        bundle.size(variant)
    for name in bundle.manifest.files:
        try:
            bundle.check(name)
        except BundleError:
            continue
        raise AssertionError(f"{name} is not there, and was found whole")


USES: dict[str, Callable[[bytes], None]] = {"image": use_image, "dicom": use_image, "manifest": use_manifest}


def outcome(use: Callable[[bytes], None], data: bytes) -> str:
    """``read``, ``refused``, or what is unexpected: a traceback, or a message that is none."""
    try:
        use(data)
    except MedcompressError as error:
        line = " ".join(str(error).split())  # as the command line prints it
        return "refused" if line.isprintable() and len(line) < 2000 else f"its message is none: {line[:300]!a}"
    except Exception:
        return traceback.format_exc()
    return "read"


def take(found: Sources, seed: int, first: int, end: int, until: float, number_of: mmap.mmap) -> dict[str, Any]:
    """Inputs one after the other, in this process; a report."""
    counts, odd, slowest, kept = Counter[str](), {}, (0.0, -1), 0
    number = first
    for number in range(first, end):
        if time.time() > until:
            number -= 1
            break
        number_of[:8] = struct.pack("<q", number)
        kind, data = damaged(found, seed, number)
        signal.setitimer(signal.ITIMER_PROF, _HANG_S)  # of CPU time; its signal ends the process
        start = time.process_time()
        said = outcome(USES[kind], data)
        taken = time.process_time() - start
        signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, (taken, number))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if taken > SLOW_S:
            said = f"it took {taken:.1f} s"
        if peak > LARGE_MIB >= kept:
            said = f"it took {peak} MiB"
        kept = peak
        counts[f"{kind} {said}" if said in {"read", "refused"} else f"{kind} unexpected"] += 1
        if said not in {"read", "refused"}:
            odd[number] = said
    return {"next": number + 1, "counts": counts, "odd": odd, "slowest": slowest, "peak": kept}


def main() -> int:
    """Hand out inputs until time or number are up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "medcompress-fuzz")
    parser.add_argument("--take", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = everything(given.data)
    if given.take:
        first, end, until, file = given.take
        resource.setrlimit(resource.RLIMIT_AS, (_PROCESS_BYTES, _PROCESS_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with Path(file).open("r+b") as shared:
            report = take(found, given.seed, int(first), int(end), float(until), mmap.mmap(shared.fileno(), 8))
        print(json.dumps(report))
        return 0
    began, number, counts, odd, slowest, peak = time.time(), 0, Counter[str](), {}, [0.0, -1], 0
    until = began + given.seconds if given.count is None else began + 1e9
    with tempfile.NamedTemporaryFile() as shared:
        shared.write(bytes(8))
        shared.flush()
        while number < (given.count or 1 << 60) and time.time() < until:
            end = min(number + _BATCH, given.count or 1 << 60)
            command = [sys.executable, __file__, *map(str, given.data), "--seed", str(given.seed)]
            command += ["--take", str(number), str(end), str(until), shared.name]
            done = subprocess.run(command, capture_output=True, check=False)  # libtiff speaks to stderr by itself
            if done.returncode:
                died = struct.unpack("<q", Path(shared.name).read_bytes())[0]
                how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
                said = ", it hung" if how == "SIGPROF" else f"\n{done.stderr[-2000:].decode(errors='replace')}"
                odd[died] = f"its process ended: {how}{said}"
                counts["in processes that ended"] += died + 1 - number
                number = died + 1
                continue
            report = json.loads(done.stdout)
            number, peak = report["next"], max(peak, report["peak"])
            counts.update(report["counts"])
            odd |= {int(key): said for key, said in report["odd"].items()}
            slowest = max(slowest, report["slowest"])
    for key, said in odd.items():
        given.keep.mkdir(parents=True, exist_ok=True)
        kind, data = damaged(found, given.seed, key)
        (given.keep / f"{given.seed}-{key}.{kind}").write_bytes(data)
        (given.keep / f"{given.seed}-{key}.txt").write_text(said)
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(
        f"{number} inputs of seed {given.seed} in {time.time() - began:.0f} s: {told}; slowest {slowest[0]:.2f} s of "
        f"CPU (number {slowest[1]}); at most {peak} MiB; unexpected: {len(odd)}"
        + (f", kept in {given.keep}" if odd else "")
    )
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
