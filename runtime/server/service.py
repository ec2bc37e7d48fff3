"""What stands behind the routes: models that were tested, workers, and the two ends of a server's life."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from ..audit import AuditLog, answer_of, preprocessing_mark
from ..errors import ImageError, ImageRefused, MachineError
from ..hardware import this_cpu
from ..images import read_image
from ..prediction import Prediction
from .admission import Admission, Ticket
from .answers import Answer, Failure, Info, Limits, Ready, Why
from .bodies import MAX_BATCH, Receive
from .failures import ServingError, failure_of, log_fault
from .metrics import Metrics
from .models import Model, members_of, open_models
from .notify import notify
from .pool import Job, Pool, wait_for
from .routing import pick
from .settings import Settings, read_token
from .watch import Watch

log = logging.getLogger("medcompress.serve")

# Longer side of a preview, pixels.
PREVIEW_SIDE = 1024


class Service:
    """The models of one server, and who may ask them.

    Args:
        settings: checked here: bundles are opened, and nothing is loaded before :meth:`start`.

    Raises:
        InputError: a bundle, an ensemble or the token is not usable.
        MachineError: the audit log cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.token = read_token(settings)
        self.models = open_models(settings)
        members = members_of(self.models)
        threads = settings.threads or max(member.bundle.manifest.threads for member in members)
        workers = settings.workers or max(1, this_cpu().cores // threads)
        self.pool = Pool(workers)
        self.admission = Admission(workers + settings.queue, settings.max_memory_mib << 20)
        self.metrics = Metrics(lambda: self.admission.count)
        self.audit = AuditLog(settings.audit) if settings.audit else None
        self.stopping = False
        self._watch = Watch(self.models, settings, self.pool, self.metrics)
        self._watching: asyncio.Task[None] | None = None

    @property
    def ready(self) -> Ready:
        """Whether a model answers as it must, and why not; and which of several do not."""
        found = self._watch.found
        return Ready(False, "the server is ending", found.models, "ending", found.failed) if self.stopping else found

    def info(self) -> Info:
        """For ``GET /model/info``."""
        settings = self.settings
        limits = Limits(settings.max_body_mib << 20, MAX_BATCH, settings.body_s, settings.answer_s)
        return Info(tuple(model.info() for model in self.models.values()), limits, version("medcompress"))

    def start(self) -> None:
        """Begin the self-test, and go on testing until :meth:`end`. In the event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch.run())

    def stop(self) -> None:
        """Take nothing new; what was let in is still answered. May be called by a signal."""
        self.stopping = True

    async def end(self) -> None:
        """No answer is under way any more."""
        self.stop()
        notify("STOPPING=1")
        if self._watching:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        self.pool.close()
        if self.audit and not self.pool.running:
            self.audit.close()

    def check_ready(self, models: Sequence[Model]) -> None:
        """Whether a request for one of these models may be let in.

        Raises:
            ServingError: ``stopping``, or ``not_ready`` where the server is not or none of the models answers.
        """
        if self.stopping:
            raise ServingError("stopping", "the server is ending; ask again when it is back")
        ready = self.ready
        if not ready.ready:
            raise ServingError("not_ready", ready.reason)
        if all(model.fault for model in models):
            raise ServingError("not_ready", models[0].fault)

    async def answer(
        self,
        files: Sequence[bytes],
        models: list[Model],
        *,
        explain: bool,
        preview: bool,
        request: str,
        ticket: Ticket,
        deadline: float,
        receive: Receive,
    ) -> list[Answer | Failure]:
        """Answer for images, one after the other, in one worker.

        Args:
            models: those a request could mean.
            ticket: closed when the work is done, which may be later than its time is up.
            deadline: of the monotonic clock.

        Raises:
            ServingError: ``timeout``.
            ClientGone: the connection was closed.
        """

        def work(job: Job[list[Answer | Failure]]) -> list[Answer | Failure]:
            found: list[Answer | Failure] = []
            for data in files:
                try:
                    if job.over:
                        raise ServingError("timeout", "the time was up before it was this image's turn; send fewer")
                    found.append(self._answer(data, models, explain, preview, request, job.queue_s))
                except Exception as error:
                    found.append(self._failure(error, request))
            return found

        job = Job(work, deadline)
        try:
            future = self.pool.submit(job)
        except ServingError:
            ticket.close()
            raise
        future.add_done_callback(lambda _: ticket.close())
        return await wait_for(future, job, max(0.0, deadline - time.monotonic()), receive)

    def _failure(self, error: Exception, request: str) -> Failure:
        failure = failure_of(error)
        if failure.kind == "fault":
            log_fault(request, error)
        return Failure(failure.error, request)

    def _refusal(self, error: ImageError, data: bytes, model: Model, preview: bool, request: str) -> Failure:
        """Of an image, which is shown where no member's DICOM policy refuses it."""
        seen = None
        if preview and isinstance(error, ImageRefused):
            with suppress(ImageError, MachineError):
                for member in model.members:
                    member.bundle.manifest.preprocessing.decode(data)
                seen = _preview(data, model)
        return Failure(failure_of(error).error, request, seen)

    def _answer(
        self, data: bytes, models: list[Model], explain: bool, preview: bool, request: str, queue_s: float
    ) -> Answer | Failure:
        model = pick(models, data)
        if model.fault:
            # Another model is no answer to what was asked.
            raise ServingError("not_ready", model.fault)
        start = time.perf_counter()
        try:
            predictions = model.predict(data, explain)
        except ImageError as error:
            self._audit(data, model, "refused", None, failure_of(error).kind, start)
            return self._refusal(error, data, model, preview, request)
        except MachineError as error:
            self._audit(data, model, "failed", None, failure_of(error).kind, start)
            raise
        found = model.combine(predictions)
        self._audit(data, model, "answered", found, "", start)
        times = found.time_ms
        self.metrics.stages(queue_s, times["preprocess"] / 1e3, times["engine"] / 1e3)
        seen = _preview(data, model) if preview else None
        total_ms = (queue_s + time.perf_counter() - start) * 1e3
        return Answer(
            model=model.name,
            task=model.task,
            bundle=model.identity,
            variant=found.variant,
            label=found.label,
            labels=found.labels,
            probabilities=found.probabilities,
            positive=model.decision.positive or None,
            thresholds=model.thresholds(),
            cautions=found.cautions,
            time_ms={"queue": round(queue_s * 1e3, 3), **times, "total": round(total_ms, 3)},
            heat=None if found.heat is None else _png(Image.fromarray(np.rint(found.heat * 255).astype(np.uint8))),
            explained=found.explained,
            preview=seen,
            request=request,
            whys=tuple(Why(reason.code, reason.values) for reason in found.reasons),
        )

    def _audit(
        self, data: bytes, model: Model, outcome: Any, prediction: Prediction | None, reason: str, start: float
    ) -> None:
        """Write the line of one image; where that fails there is no answer."""
        if self.audit is None:
            return
        try:
            self.audit.append(
                who="token" if self.token else "loopback",
                model=model.name,
                bundle=model.identity,
                variant=model.variant,
                input_sha256=hashlib.sha256(data).hexdigest(),
                preprocessing="+".join(
                    preprocessing_mark(member.bundle.manifest.preprocessing) for member in model.members
                ),
                outcome=outcome,
                answer=None if prediction is None else answer_of(prediction, model.decision),
                reason=reason,
                time_ms=(time.perf_counter() - start) * 1e3,
            )
        except (MachineError, ValueError) as error:
            log.error("audit log: %s", error)
            raise ServingError(
                "audit", "the audit log cannot be written, and nothing is answered without it"
            ) from error


def _preview(data: bytes, model: Model) -> str:
    """An image to look at: rendered as the bundle renders it, whole, and no larger than a screen shows; as a PNG."""
    preprocessing = model.members[0].bundle.manifest.preprocessing
    image = read_image(data, at_least=(PREVIEW_SIDE, PREVIEW_SIDE), dicom=preprocessing.dicom)
    mode = "L" if preprocessing.colour == "grey" else "RGB"
    image = image.convert(mode) if image.mode != mode else image.copy()
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX, reducing_gap=None)
    return _png(image)


def _png(image: Image.Image) -> str:
    """A PNG of the pixels alone: what else a decoded file carries (texts, profiles) stays behind."""
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()
