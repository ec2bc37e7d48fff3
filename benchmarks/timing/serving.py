"""How much a server answers, how soon, and whether it stays right and small: ``medcompress serve`` under load.

    python -m medcompress.benchmarks.timing.serving BUNDLE IMAGE... [--seconds 30] [--clients 1000]

starts a server of the bundle in a process of its own and loads it from this one, on loopback:

    saturation   as many requests under way as keep it busy, in turn with what this process answers by itself with as
                 many threads: the engine alone on ready tensors, and the predictor, from a file's bytes to an answer
    half load    arrivals at random (Poisson, as MLPerf's server scenario) at half the rate of saturation
    crowd        so many clients at once, each with one request, over and over until each has had an answer
    mixed        for --seconds: eight clients, a tenth of what they send hostile; every answer is held against the
                 offline prediction, and the server's memory is read before and after

What loads the server takes a part of the same cores: its CPU seconds are told.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ...runtime import load
from ...runtime.engines import load_engine
from .hostile import hostile_requests
from .serving_load import Load
from .serving_records import Done, Saturation, Served

PARTS = ("saturation", "half", "crowd", "mixed")
_ROUNDS = 5


def saturation(load: Load, engine: Callable[[], object], workers: int, seconds: float) -> Saturation:
    """Server, predictor and engine in turn, round after round, so that a slow minute meets all of them alike."""
    rounds: list[tuple[float, float, float]] = []
    images = itertools.cycle(load.images)

    def predict() -> None:
        load.predictor.predict(next(images))

    def server_cpu() -> float:
        return asyncio.run(load.figure("process_cpu_seconds_total"))

    loader, server_ms, predictor_ms = [], [], []
    asyncio.run(load.keep_busy(1, 2 * workers + 2))
    for _ in range(_ROUNDS):
        start, used = time.process_time(), server_cpu()
        server = asyncio.run(load.keep_busy(seconds, 2 * workers + 2))
        server_ms.append((server_cpu() - used) * 1e3 / server.answers)
        loader.append((time.process_time() - start) / server.seconds)
        start = time.process_time()
        offline = _threads(predict, workers, seconds)
        predictor_ms.append((time.process_time() - start) * 1e3 / offline.answers)
        rounds.append((server.rate, offline.rate, _threads(engine, workers, seconds).rate))
    server, offline, alone = (statistics.median(each) for each in zip(*rounds, strict=True))
    return Saturation(
        server,
        offline,
        alone,
        statistics.median(each[0] / each[1] for each in rounds),
        statistics.median(each[0] / each[2] for each in rounds),
        statistics.median(server_ms),
        statistics.median(predictor_ms),
        statistics.median(loader),
    )


def _threads(work: Callable[[], object], workers: int, seconds: float) -> Done:
    """How often so many threads do their work."""
    counts = [0] * workers
    end = time.monotonic() + seconds

    def run(number: int) -> None:
        while time.monotonic() < end:
            work()
            counts[number] += 1

    start = time.monotonic()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Done(sum(counts), time.monotonic() - start)


@contextlib.contextmanager
def _server(arguments: list[str]) -> Iterator[int]:
    """``medcompress serve`` in a process of its own; its port."""
    command = [sys.executable, "-m", "medcompress.cli.main", "serve", "--port", "0", "--no-measure", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port, said = 0, []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            port = int(found[1])
        if " ready: " in line:
            break
    else:
        raise RuntimeError(f"the server did not start: {''.join(said[-3:])}")
    # Its lines are read on, so that it never waits for this process.
    threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
    try:
        yield port
    finally:
        process.terminate()
        code = process.wait(60)
        if code != 0:
            raise RuntimeError(f"the server ended with {code}")


def measure(
    bundle: Path, images: list[bytes], workers: int, seconds: float, clients: int, parts: Sequence[str] = PARTS
) -> Served:
    """Start a server, load it in each of the ways, and end it. Each part is told on stderr as it ends."""
    predictor = load(bundle)
    variant = predictor.variant
    files = [bundle / name for name in variant.files]
    engine = load_engine(variant.engine, files, variant.precision, predictor.executed.threads)
    batch = predictor.bundle.manifest.preprocessing(images[0])[None]
    found = Served(variant.name, workers)

    def tell(**part: object) -> Served:
        sys.stderr.write(f"{part}\n")
        return msgspec.structs.replace(found, **part)

    with _server([str(bundle), "--variant", variant.name, "--workers", str(workers)]) as port:
        server = Load(images, port, predictor)
        rate = asyncio.run(server.keep_busy(1, 2 * workers + 2)).rate
        if "saturation" in parts:
            found = tell(saturation=saturation(server, lambda: engine.run(batch), workers, max(1.0, seconds / 15)))
            rate = found.saturation.server if found.saturation else rate
        if "half" in parts:
            found = tell(half_load=asyncio.run(server.spread(rate / 2, seconds, workers)))
        if "crowd" in parts:
            found = tell(crowd=asyncio.run(server.crowd(clients, patience_s=max(120.0, 10 * clients / rate))))
        if "mixed" in parts:
            found = tell(mixed=asyncio.run(server.mixed(seconds, hostile_requests(images[0], port))))
    return found


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.benchmarks.timing.serving", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, default=2, help="of the server, and threads here (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of half load, and of mixed load (%(default)s)")
    parser.add_argument("--clients", type=int, default=1000, help="at once (%(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; all by default")
    given = parser.parse_args()
    images = [path.read_bytes() for path in given.images]
    found = measure(given.bundle, images, given.workers, given.seconds, given.clients, given.only or PARTS)
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


if __name__ == "__main__":
    main()
