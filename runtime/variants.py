"""A bundle's variants on this machine: which comes first, each started only where it is faithful, and the next one
where one is damaged, unfit, or starts to fail while it runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from .bundle import Bundle, Variant
from .engines import Engine, load_engine
from .errors import BundleError, EngineError
from .golden import TOLERANCE, Golden, engine_error
from .hardware import this_cpu
from .requirements import refusal
from .saturating import adds_exactly


class Running(msgspec.Struct, frozen=True):
    """A variant that was started and held against its golden vectors."""

    variant: Variant
    engine: Engine


class Succession:
    """The variant that runs, and those that take its place one after the other. Safe to call from several threads.

    Args:
        candidates: in the order they are to be tried; the first that is whole and faithful here runs.
        threads: of one inference.

    Attributes:
        running: the variant that answers; read it once a request, it may be replaced meanwhile.

    Raises:
        BundleError: nothing runs here, and a file of some candidate is damaged.
        EngineError: nothing runs here; the message says why for each.
    """

    def __init__(self, bundle: Bundle, golden: Golden, candidates: Sequence[Variant], threads: int) -> None:
        self._bundle, self._golden, self._threads = bundle, golden, threads
        self._left = list(candidates)
        self._aside: dict[str, str] = {}
        self._damaged = False
        self._closed = False
        self._changing = threading.Lock()
        self.running = self._next()

    @property
    def setbacks(self) -> tuple[str, ...]:
        """Why variants were set aside, a sentence each."""
        return tuple(f"{name}: {why}" for name, why in self._aside.items())

    def replace(self, failed: Running, why: str) -> Running:
        """Set ``failed`` aside and start the next; where another thread was quicker, what runs since.

        Raises:
            BundleError, EngineError: none is left; ``failed`` stays, and may be tried again.
        """
        with self._changing:
            if self._closed or self.running is not failed:
                return self.running
            self._aside[failed.variant.name] = why
            self.running = self._next()
            failed.engine.close()
            return self.running

    def set_aside(self, name: str, why: str) -> None:
        """Let a variant that is not running take nobody's place any more."""
        with self._changing:
            self._aside[name] = why
            self._left = [variant for variant in self._left if variant.name != name]

    def close(self) -> None:
        """Free the engine; nothing takes its place."""
        with self._changing:
            self._closed = True
            self.running.engine.close()

    def _next(self) -> Running:
        while self._left:
            variant = self._left.pop(0)
            try:
                engine, _ = start_variant(self._bundle, self._golden, variant, self._threads, count=1)
            except (BundleError, EngineError) as error:
                self._aside[variant.name] = str(error)
                self._damaged |= isinstance(error, BundleError)
                continue
            return Running(variant, engine)
        kind = BundleError if self._damaged else EngineError
        raise kind(f"{self._bundle.folder}: no variant runs on this machine: {'; '.join(self.setbacks)}")


def by_preference(bundle: Bundle) -> list[Variant]:
    """The chosen variant, then the others by the latency measured for them, the reference last."""
    manifest = bundle.manifest

    def rank(variant: Variant) -> tuple[int, float]:
        place = 0 if variant.name == manifest.chosen else 2 if variant.name == manifest.reference else 1
        return place, variant.figures.get("p50_ms") or float("inf")

    return sorted(manifest.variants, key=rank)


def start_variant(bundle: Bundle, golden: Golden, variant: Variant, threads: int, count: int) -> tuple[Engine, float]:
    """Load a variant and hold it against its golden vectors; returns it and its golden error.

    Raises:
        EngineError: this machine lacks a device or a CPU feature, its CPU cuts off sums, the engine is absent or fails,
            or the outputs differ.
        BundleError: one of its files is missing or was changed.
    """
    why = refusal(variant.requires, this_cpu())
    if why:
        raise EngineError(why)
    with bundle.checked(variant.files) as files:
        engine = load_engine(variant.engine, files, variant.precision, threads)
    if "vnni" in variant.requires and variant.engine == "onnxruntime" and not adds_exactly():
        engine.close()
        raise EngineError("its 8-bit weights need sums of 32 bits, and this CPU cuts them off at 16, whatever it says")
    try:
        error = golden_error(bundle, golden, variant, engine, count)
    except Exception:
        engine.close()
        raise
    return engine, error


def golden_error(bundle: Bundle, golden: Golden, variant: Variant, engine: Engine, count: int) -> float:
    """How far the first ``count`` golden outputs are off, as a share of the largest logit.

    Raises:
        EngineError: by more than its precision allows, or the engine fails.
        BundleError: there are no golden outputs for this variant.
    """
    error = engine_error(golden, bundle.manifest.preprocessing, variant, engine, count)
    if error > TOLERANCE[variant.precision]:
        raise EngineError(
            f"its outputs are off by {error:.3f} of the largest logit on this machine, "
            f"{TOLERANCE[variant.precision]} is allowed"
        )
    return error
