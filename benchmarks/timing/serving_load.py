"""The loads that are put on a server: from this process, over loopback, every answer held against the offline one."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...runtime.predictor import Predictor
from .hostile import Hostile
from .http_client import Connection, Response
from .serving_records import Crowd, Done, Mixed, Spread

_CLIENTS = 8
# Of the image an answer is for; JSON keeps every digit of a double.
_EXACT = 1e-12


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

    async def spread(self, rate: float, seconds: float, workers: int) -> Spread:
        """Latencies of requests that are due at random moments, however long those before them take.

        Args:
            rate: requests a second, half of what ``workers`` manage.
        """
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

        tasks, arrivals, due = [], [], time.monotonic()
        end = due + seconds
        while (due := due + draw.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            arrivals.append(due)
            tasks.append(asyncio.create_task(one(due, self.images[len(tasks) % len(self.images)])))
        await asyncio.gather(*tasks)
        for connection in idle:
            connection.close()
        p50, p90, p99 = (float(each) for each in np.percentile(taken, (50, 90, 99)))
        perfect = ideal(arrivals, workers, workers / (2 * rate))
        return Spread(rate, len(tasks), failed, p50, p90, p99, p99 / p50, perfect)

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


def ideal(arrivals: Sequence[float], workers: int, seconds: float) -> float:
    """p99 over median of the times in a perfect queue: first come first served, each request takes ``seconds``."""
    free = [0.0] * workers
    taken = []
    for due in arrivals:
        first = min(range(workers), key=free.__getitem__)
        free[first] = max(due, free[first]) + seconds
        taken.append(free[first] - due)
    p50, p99 = np.percentile(taken, (50, 99))
    return float(p99 / p50)
