"""Figures for a monitor, in Prometheus's text format. https://prometheus.io/docs/practices/naming/

No file name and no identifier of a patient or a request is a label: only routes, outcomes, model and variant names.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: an INT8 network on a fast core takes 2 ms, a float one on a slow core a second.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one server, in a registry of their own. Safe to call from several threads.

    Args:
        depth: how many requests wait for a worker or are being answered, asked at each scrape.
    """

    def __init__(self, depth: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "medcompress_requests", "Requests by route and outcome.", ("route", "outcome"), registry=self.registry
        )
        self._refusals = Counter(
            "medcompress_refusals", "Requests or images without an answer, by kind.", ("kind",), registry=self.registry
        )
        self._stages = Histogram(
            "medcompress_stage_seconds",
            "Time an answer spent: decode (and preprocessing), engine, queue.",
            ("stage",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "medcompress_request_seconds",
            "From a request's first byte to its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._variants = Gauge(
            "medcompress_variant_in_use",
            "1 for the variant of a model that answers.",
            ("model", "variant", "engine", "precision"),
            registry=self.registry,
        )
        self._in_use: dict[str, tuple[str, str, str, str]] = {}
        self._ready = Gauge("medcompress_ready", "Whether a model answers as it must.", registry=self.registry)
        self._models = Gauge(
            "medcompress_model_ready", "Whether this one answers as it must.", ("model",), registry=self.registry
        )
        held = Gauge("medcompress_queue_depth", "Requests admitted and not yet answered.", registry=self.registry)
        held.set_function(depth)
        ProcessCollector(registry=self.registry)

    def request(self, route: str, outcome: str, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(route, outcome).inc()
        self._seconds.labels(route).observe(seconds)

    def refusal(self, kind: str) -> None:
        """Count a request, or an image of several, that has no answer."""
        self._refusals.labels(kind).inc()

    def stages(self, queue_s: float, decode_s: float, engine_s: float) -> None:
        """Where the time of one answer went."""
        self._stages.labels("queue").observe(queue_s)
        self._stages.labels("decode").observe(decode_s)
        self._stages.labels("engine").observe(engine_s)

    def variant(self, model: str, variant: str, engine: str, precision: str) -> None:
        """A model's variant answers from now on."""
        if model in self._in_use:
            self._variants.remove(*self._in_use[model])
        self._in_use[model] = (model, variant, engine, precision)
        self._variants.labels(*self._in_use[model]).set(1)

    def ready(self, is_ready: bool, models: Iterable[str], failed: Container[str]) -> None:
        """What /ready says, of the server and of each model."""
        self._ready.set(is_ready)
        for model in models:
            self._models.labels(model).set(model not in failed)

    def text(self) -> bytes:
        """All figures, for a scrape."""
        return generate_latest(self.registry)
