"""From the raw outputs of a batch to the answers for its images, with their heat maps where asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import EngineError
from .explainers import Asked, Explainers
from .explanation import explained_class, heat_map
from .manifest import Manifest
from .prediction import Prediction
from .reasons import Reason
from .variants import Running

NO_HEAT = Reason("no-heat-map", "its heat map could not be made")


def answer_batch(
    manifest: Manifest,
    logits: npt.NDArray[np.float32],
    variant: str,
    engine_ms: float,
    prepared_ms: Sequence[float],
    reasons: Sequence[tuple[Reason, ...]],
) -> list[Prediction]:
    """The answers for the images of a batch, in their order.

    Args:
        logits: raw outputs (N, classes).
        variant: that gave them.
        engine_ms: that the batch took; it is shared out evenly.
        prepared_ms, reasons: of each image: its preprocessing's time, its cautions.
    """
    start = time.perf_counter()
    decision = manifest.decision
    probabilities = decision.probabilities(logits)
    answers = decision.answers(probabilities)
    engine_ms = (engine_ms + (time.perf_counter() - start) * 1e3) / len(logits)
    return [
        _prediction(
            manifest, row, answered, variant, {"preprocess": ms, "engine": engine_ms, "total": ms + engine_ms}, why
        )
        for row, answered, ms, why in zip(probabilities, answers, prepared_ms, reasons, strict=True)
    ]


def add_heat(
    predictions: Sequence[Prediction], asked: Asked, manifest: Manifest, running: Running, explainers: Explainers
) -> list[Prediction]:
    """The same answers with their heat maps; those that cannot be made cost no answer: it says why."""
    found = []
    for place, prediction in enumerate(predictions):
        if asked.explainer is not None:
            try:
                found.append(_explained(prediction, asked, place, manifest))
                continue
            except EngineError as error:
                explainers.give_up(running, str(error))
                asked = Asked(str(error))
        cautions, reasons = (*prediction.cautions, NO_HEAT.text), (*prediction.reasons, NO_HEAT)
        found.append(msgspec.structs.replace(prediction, unexplained=asked.why, cautions=cautions, reasons=reasons))
    return found


def _explained(prediction: Prediction, asked: Asked, place: int, manifest: Manifest) -> Prediction:
    """With the heat map of the image at ``place`` of the batch."""
    assert asked.explainer is not None
    start = time.perf_counter()
    decision = manifest.decision
    probabilities = np.array([prediction.probabilities[name] for name in decision.classes])
    index = explained_class(decision, probabilities)
    heat = heat_map(asked.explainer.weigh(asked.tensors, place, index), manifest.preprocessing.size)
    ms = (time.perf_counter() - start) * 1e3
    times = {**prediction.time_ms, "explain": round(ms, 3), "total": round(prediction.time_ms["total"] + ms, 3)}
    return msgspec.structs.replace(prediction, heat=heat, explained=decision.classes[index], time_ms=times)


def _prediction(
    manifest: Manifest,
    row: npt.NDArray[np.float64],
    answered: npt.NDArray[np.bool_],
    variant: str,
    time_ms: dict[str, float],
    reasons: tuple[Reason, ...],
) -> Prediction:
    classes = manifest.decision.classes
    labels = tuple(classes[i] for i in np.argsort(-row) if answered[i])
    return Prediction(
        label=labels[0] if labels else None,
        labels=labels,
        probabilities={name: float(p) for name, p in zip(classes, row, strict=True)},
        time_ms={name: round(ms, 3) for name, ms in time_ms.items()},
        variant=variant,
        cautions=tuple(reason.text for reason in reasons),
        reasons=reasons,
    )
