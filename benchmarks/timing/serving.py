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
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from ...runtime import load
from ...runtime.engines import load_engine
from ...runtime.predictor import Predictor
from .hostile import Hostile, hostile_requests
from .http_client import Connection, Response

PARTS = ("saturation", "half", "crowd", "mixed")
_ROUNDS = 5
_CLIENTS = 8
# Of the image an answer is for; JSON keeps every digit of a double.
_EXACT = 1e-12


class Done(NamedTuple):
    """So many answers, in so many seconds."""

    answers: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class Saturation(msgspec.Struct, frozen=True):
    """Answers a second, medians over rounds taken in turn.

    Attributes:
        of_predictor, of_engine: the server's share, median of the rounds' own.
        server_cpu_ms, predictor_cpu_ms: CPU time an answer takes, which a busy machine changes least.
        loader_cpu: CPU seconds a second that the loading process took meanwhile.
    """

    server: float
    predictor: float
    engine: float
    of_predictor: float
    of_engine: float
    server_cpu_ms: float
    predictor_cpu_ms: float
    loader_cpu: float


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds from a request's due time to its answer."""

    rate: float
    requests: int
    failed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_of_median: float


class Crowd(msgspec.Struct, frozen=True):
    """``statuses``: of every request; ``broken``: connections that ended without an answer."""

    clients: int
    statuses: dict[str, int]
    broken: int
    unanswered: int
    longest_wait_s: float
    rss_before_mb: float
    rss_after_mb: float


class Mixed(msgspec.Struct, frozen=True):
    """``wrong``: answers other than the offline prediction; ``let_in``: hostile requests that were answered."""

    seconds: float
    answered: int
    wrong: int
    hostile: int
    let_in: int
    broken: int
    statuses: dict[str, int]
    rss_start_mb: float
    rss_end_mb: float
    growth: float


class Served(msgspec.Struct, frozen=True):
    """What was asked for of it."""

    variant: str
    workers: int
    saturation: Saturation | None = None
    half_load: Spread | None = None
    crowd: Crowd | None = None
    mixed: Mixed | None = None


class Load:
    """A server under load.

    Attributes:
        expected: of each image, class -> probability, as predicted offline.
    """

    def __init__(self, images: list[bytes], port: int, predictor: Predictor) -> None:
        self.images = images
        self.port = port
        self.predictor = predictor
        self.expected = [predictor.predict(image).probabilities for image in images]
        self.head = "Content-Type: application/octet-stream\r\n"

    def connection(self) -> Connection:
        """A new one."""
        return Connection("127.0.0.1", self.port)

    async def figure(self, name: str) -> float:
        """One of the server's figures, by its own account."""
        connection = self.connection()
        text = (await connection.ask("GET", "/metrics")).body.decode()
        connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    async def rss_mb(self) -> float:
        """The server's resident memory."""
        return round(await self.figure("process_resident_memory_bytes") / 1e6, 1)

    def is_right(self, image: int, response: Response) -> bool:
        """Whether an answer is the offline prediction."""
        found = json.loads(response.body)["probabilities"]
        expected = self.expected[image]
        return set(found) == set(expected) and all(abs(found[name] - p) <= _EXACT for name, p in expected.items())

    async def keep_busy(self, seconds: float, clients: int) -> Done:
        """``clients`` ask without a pause; who has asked when the time is up is still answered."""
        end = time.monotonic() + seconds

        async def client(number: int) -> int:
            connection, count = self.connection(), 0
            while time.monotonic() < end:
                image = self.images[(number + count) % len(self.images)]
                response = await connection.ask("POST", "/predict", image, self.head)
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {response.body[:200]!r}")
                count += 1
            connection.close()
            return count

        start = time.monotonic()
        counts = await asyncio.gather(*(client(number) for number in range(clients)))
        return Done(sum(counts), time.monotonic() - start)

    async def spread(self, rate: float, seconds: float) -> Spread:
        """Latencies of requests that are due at random moments, however long those before them take."""
        draw = random.Random(0)
        idle: list[Connection] = []
        taken: list[float] = []
        failed = 0

        async def one(due: float, image: bytes) -> None:
            nonlocal failed
            connection = idle.pop() if idle else self.connection()
            response = await connection.ask("POST", "/predict", image, self.head)
            idle.append(connection)
            if response.status == 200:
                taken.append((time.monotonic() - due) * 1e3)
            else:
                failed += 1

        tasks, due = [], time.monotonic()
        end = due + seconds
        while (due := due + draw.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one(due, self.images[len(tasks) % len(self.images)])))
        await asyncio.gather(*tasks)
        for connection in idle:
            connection.close()
        p50, p90, p99 = (float(each) for each in np.percentile(taken, (50, 90, 99)))
        return Spread(rate, len(tasks), failed, p50, p90, p99, p99 / p50)

    async def crowd(self, clients: int, patience_s: float) -> Crowd:
        """Many clients at once; who is told to come back comes back."""
        before = await self.rss_mb()
        statuses: Counter[str] = Counter()
        broken, unanswered, longest = 0, 0, 0.0
        end = time.monotonic() + patience_s

        async def client(number: int) -> None:
            nonlocal broken, unanswered, longest
            connection = self.connection()
            while time.monotonic() < end:
                start = time.monotonic()
                try:
                    async with asyncio.timeout(patience_s):
                        image = self.images[number % len(self.images)]
                        response = await connection.ask("POST", "/predict", image, self.head)
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    broken += 1
                    await asyncio.sleep(1)
                    continue
                longest = max(longest, time.monotonic() - start)
                statuses[str(response.status)] += 1
                if response.status == 200:
                    connection.close()
                    return
                await asyncio.sleep(float(response.headers.get("retry-after", "1")) * random.uniform(0.5, 1.5))
            unanswered += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        return Crowd(clients, dict(statuses), broken, unanswered, longest, before, await self.rss_mb())

    async def mixed(self, seconds: float, hostile: list[Hostile]) -> Mixed:
        """A tenth of the requests are hostile; every answer is checked."""
        await self.keep_busy(2, _CLIENTS)  # memory is read once everything has been used
        before = await self.rss_mb()
        statuses: Counter[str] = Counter()
        count: Counter[str] = Counter()
        start = time.monotonic()

        async def client(number: int) -> None:
            draw = random.Random(number)
            connection = self.connection()
            while time.monotonic() < start + seconds:
                bad = draw.choice(hostile) if draw.random() < 0.1 else None
                image = draw.randrange(len(self.images))
                try:
                    async with asyncio.timeout(60):
                        if bad:
                            count["hostile"] += 1
                            response = await connection.send(bad.data, cut=bad.cut)
                            connection.close()  # it may have announced more than it sent
                        else:
                            response = await connection.ask("POST", "/predict", self.images[image], self.head)
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    connection.close()
                    count["broken"] += not (bad and bad.may_break)
                    continue
                statuses[f"{'hostile ' if bad else ''}{response.status}"] += 1
                if bad:
                    count["let in"] += response.status < 400
                elif response.status == 200:
                    count["answered"] += 1
                    count["wrong"] += not self.is_right(image, response)
                elif response.status == 503:
                    await asyncio.sleep(0.05)
            connection.close()

        await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
        taken = time.monotonic() - start
        after = await self.rss_mb()
        return Mixed(
            taken,
            count["answered"],
            count["wrong"],
            count["hostile"],
            count["let in"],
            count["broken"],
            dict(statuses),
            before,
            after,
            after / before - 1,
        )


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
            found = tell(half_load=asyncio.run(server.spread(rate / 2, seconds)))
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
