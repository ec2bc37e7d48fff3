"""From a bundle to answers: the ten lines an integrator needs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from .bundle import Bundle, Variant, open_bundle
from .engines import Engine, Executed, load_engine
from .errors import EngineError
from .golden import PIXEL_TOLERANCE, TOLERANCE, Golden, engine_error, pixel_error, read_golden
from .hardware import this_cpu
from .images import ImageSource
from .saturating import adds_exactly

# Images run together by predict_batch: bounds the memory a long list takes.
_BATCH = 32


class Prediction(msgspec.Struct, frozen=True):
    """The answer for one image.

    Attributes:
        label: the class answered; for several findings the likeliest of them, or None where there is none.
        labels: all classes answered: one, or any number of findings.
        probabilities: of every class.
        time_ms: ``preprocess`` (decode, resize, normalize), ``engine`` and ``total``, of this image; in a
            batch the engine's time is shared out evenly.
        variant: that answered.
    """

    label: str | None
    labels: tuple[str, ...]
    probabilities: dict[str, float]
    time_ms: dict[str, float]
    variant: str


class Predictor:
    """A bundle with one of its variants loaded. Safe to call from several threads.

    Attributes:
        bundle: the opened bundle.
        variant: the one that runs.
        executed: engine, device, precision and threads that really run.
        setbacks: why better variants were passed over, a sentence each.
    """

    def __init__(self, bundle: Bundle, variant: Variant, engine: Engine, setbacks: tuple[str, ...] = ()) -> None:
        self.bundle = bundle
        self.variant = variant
        self.setbacks = setbacks
        self._engine = engine

    @property
    def executed(self) -> Executed:
        """What the engine says it runs."""
        return self._engine.executed

    def predict(self, source: ImageSource) -> Prediction:
        """Answer for one image: a path, bytes, an array or a PIL image.

        Raises:
            ImageError: the image is refused.
        """
        return self._predict_chunk([source])[0]

    def predict_batch(self, sources: Iterable[ImageSource]) -> list[Prediction]:
        """Answer for several images, in their order.

        Raises:
            ImageError: an image is refused; no answers are given then.
        """
        sources = list(sources)
        starts = range(0, len(sources), _BATCH)
        return [answer for start in starts for answer in self._predict_chunk(sources[start : start + _BATCH])]

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _predict_chunk(self, sources: list[ImageSource]) -> list[Prediction]:
        manifest = self.bundle.manifest
        tensors, prepared_ms = [], []
        for source in sources:
            start = time.perf_counter()
            tensors.append(manifest.preprocessing(source))
            prepared_ms.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        logits = self._engine.run(np.stack(tensors))
        if not np.isfinite(logits).all():
            raise EngineError(f"variant {self.variant.name} gave outputs that are not numbers; run: medcompress verify")
        probabilities = manifest.decision.probabilities(logits)
        answers = manifest.decision.answers(probabilities)
        engine_ms = (time.perf_counter() - start) * 1e3 / len(sources)
        return [
            self._prediction(row, answered, {"preprocess": ms, "engine": engine_ms, "total": ms + engine_ms})
            for row, answered, ms in zip(probabilities, answers, prepared_ms, strict=True)
        ]

    def _prediction(self, row: np.ndarray, answered: np.ndarray, time_ms: dict[str, float]) -> Prediction:
        classes = self.bundle.manifest.decision.classes
        labels = tuple(classes[i] for i in np.argsort(-row) if answered[i])
        probabilities = {name: float(p) for name, p in zip(classes, row, strict=True)}
        rounded = {name: round(ms, 3) for name, ms in time_ms.items()}
        return Prediction(labels[0] if labels else None, labels, probabilities, rounded, self.variant.name)


def load(folder: str | Path, *, variant: str | None = None, threads: int | None = None) -> Predictor:
    """Open a bundle and load the best of its variants that this machine runs faithfully.

    Hashes, CPU features and the first golden vector are checked before the first answer. A variant that fails
    is passed over, with a warning, for the next fastest.

    Args:
        folder: of the bundle.
        variant: run this one or none.
        threads: for one inference; None takes the number the bundle was measured with.

    Raises:
        BundleError: damaged, changed or of a newer schema.
        EngineError: no variant runs here; the message says why for each.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    golden = read_golden(bundle)
    off = pixel_error(golden, manifest.preprocessing)
    if off > PIXEL_TOLERANCE:
        raise EngineError(
            f"Pillow here decodes or resizes otherwise than where the bundle was made (by {off} grey levels); "
            f"install the version it names: {manifest.lineage.get('versions', {}).get('pillow', 'unknown')}"
        )
    setbacks: list[str] = []
    for candidate in [manifest.variant(variant)] if variant else by_preference(bundle):
        try:
            engine, _ = start_variant(bundle, golden, candidate, threads or manifest.threads, count=1)
        except EngineError as error:
            setbacks.append(f"{candidate.name}: {error}")
            continue
        for setback in setbacks:
            warnings.warn(f"variant passed over: {setback}", RuntimeWarning, stacklevel=2)
        return Predictor(bundle, candidate, engine, tuple(setbacks))
    raise EngineError(f"{folder}: no variant runs on this machine: {'; '.join(setbacks)}")


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
        EngineError: this CPU lacks a feature or cuts off sums, the engine is absent or fails, or the outputs differ.
        BundleError: one of its files was changed.
    """
    lacks = this_cpu().lacks(variant.requires)
    if lacks:
        raise EngineError(f"needs a CPU with {', '.join(lacks)}, this one is {this_cpu().kind}")
    files = [bundle.check(name) for name in variant.files]
    engine = load_engine(variant.engine, files, variant.precision, threads)
    if "vnni" in variant.requires and variant.engine == "onnxruntime" and not adds_exactly():
        engine.close()
        raise EngineError("its 8-bit weights need sums of 32 bits, and this CPU cuts them off at 16, whatever it says")
    error = engine_error(golden, bundle.manifest.preprocessing, variant, engine, count)
    if error > TOLERANCE[variant.precision]:
        engine.close()
        raise EngineError(
            f"its outputs are off by {error:.3f} of the largest logit on this machine, "
            f"{TOLERANCE[variant.precision]} is allowed"
        )
    return engine, error
