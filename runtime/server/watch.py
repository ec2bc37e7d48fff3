"""The watch over the served models: the self-test at the start, and later whether each still answers as it must."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from ..errors import MedcompressError
from .answers import Ready
from .failures import ServingError, log_fault
from .metrics import Metrics
from .models import Member, Model, members_of
from .notify import notify
from .pool import Job, Pool, wait_for
from .settings import Settings

log = logging.getLogger("medcompress.serve")


class Watch:
    """Tests the models through the workers that serve, as long as :meth:`run` does.

    Attributes:
        found: by the last round: whether a model answers, which do not, and why.
    """

    def __init__(self, models: Mapping[str, Model], settings: Settings, pool: Pool, metrics: Metrics) -> None:
        self.found = Ready(False, "the self-test is under way", tuple(models), "starting")
        self._models = models
        self._settings = settings
        self._pool = pool
        self._metrics = metrics
        self._told: dict[str, str] = {}  # model -> variant the log and the figures name

    async def run(self) -> None:
        """Self-test, then every few seconds an answer for the golden inputs."""
        while True:
            hangs = False
            for member in members_of(self._models):
                hangs |= await self._test(member)
            before, self.found = self.found, self._find()
            if self.found != before:
                self._tell(self.found)
            self._metrics.ready(self.found.ready, self._models, self.found.failed)
            # An engine that hangs is mended by a new process; a damaged bundle beside others that answer is not.
            if self.found.ready and not hangs:
                notify("WATCHDOG=1")
            await asyncio.sleep(self._settings.beat_s)

    def _find(self) -> Ready:
        names = tuple(self._models)
        failed = {name: model.fault for name, model in self._models.items() if model.fault}
        if len(failed) < len(names):
            return Ready(True, "", names, "ready", failed)
        return Ready(False, "; ".join(dict.fromkeys(failed.values())), names, "failed", failed)

    async def _test(self, member: Member) -> bool:
        """Note whether one member answers as it must. True where it does not answer at all."""
        try:
            if not member.started:
                await self._in_worker(lambda _: member.start(self._settings), seconds=600)
                for damage in member.damaged:
                    log.warning("model %s: %s", member.name, damage)
            else:
                await self._in_worker(lambda _: member.check(), 2 * self._settings.answer_s)
            self._tell_variant(member)
            member.fault = ""
        except (MedcompressError, ServingError) as error:
            member.fault = f"model {member.name}: the self-test failed: {' '.join(str(error).split())}"
            return isinstance(error, ServingError)
        except Exception as error:  # a fault of ours must not end the tests, nor be taken for their passing
            log_fault("self-test", error)
            member.fault = f"model {member.name}: the self-test failed: a fault in medcompress; see the server's log"
        return False

    def _tell(self, found: Ready) -> None:
        """In the log, and to systemd."""
        for why in dict.fromkeys(found.failed.values()):
            log.error("%s", why)
        answering = [name for name in found.models if name not in found.failed]
        if found.ready:
            log.info("ready: %s", ", ".join(answering))
        notify(f"READY=1\nSTATUS=ready: {', '.join(answering)}" if found.ready else f"STATUS={found.reason}")

    def _tell_variant(self, member: Member) -> None:
        """Which variant answers by now: one that fails is set aside, and the next answers in its place."""
        predictor = member.predictor
        if self._told.get(member.name) == predictor.variant.name:
            return
        self._told[member.name] = predictor.variant.name
        for setback in predictor.setbacks:
            log.warning("model %s: variant set aside: %s", member.name, setback)
        ran = predictor.executed
        log.info("model %s: %s answers (%s, %s)", member.name, predictor.variant.name, ran.engine, ran.precision)
        self._metrics.variant(member.name, predictor.variant.name, ran.engine, ran.precision)

    async def _in_worker(self, work: Callable[[Job[None]], None], seconds: float) -> None:
        job = Job(work, time.monotonic() + seconds)
        await wait_for(self._pool.submit(job), job, seconds)
