"""Where the network looked: Grad-CAM heat maps on a machine without torch.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017
(https://arxiv.org/abs/1610.02391). The variant gives the feature maps of its last layer with a grid beside its answer;
a small graph of the bundle, what follows that layer and its gradient, weighs them. A heat map shows what spoke for a
class, coarsely; it is no segmentation, and no proof that the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .decision import Decision
from .engines import Engine, load_engine
from .errors import EngineError, InputError
from .golden import Golden

if TYPE_CHECKING:
    from .bundle import Bundle, Manifest, Variant

# How far a machine's golden maps may be off from those of the build machine, as a share of the largest value.
TOLERANCE = {"fp32": 0.01, "tf32": 0.1, "bf16": 0.1, "fp16": 0.1, "int8": 0.1, "int8-bf16": 0.1, "int8-fp16": 0.1}
# How far a heat map of the FP32 reference may be off from torch's, on its scale of 0 to 1.
PARITY = 0.01

_Floats = npt.NDArray[np.float32]


class Explainer:
    """A variant that gives its feature maps beside its answer. Safe to call from several threads.

    Attributes:
        faithful: its answers to the golden inputs are those of the variant alone, bit by bit; so it may answer in its
            place, and an explained answer costs one run and not two.
        golden_error: largest difference from the golden maps, as a share of the largest value; see
            :func:`load_explainer`.
    """

    def __init__(
        self, engine: Engine, weigh: Callable[[Sequence[_Floats]], _Floats], classes: int, *, faithful: bool = True
    ) -> None:
        self.faithful = faithful
        self.golden_error = 0.0
        self._engine = engine
        self._weigh = weigh
        self._classes = np.eye(classes, dtype=np.float32)

    def run(self, batch: _Floats) -> tuple[_Floats, list[_Floats]]:
        """(N, C, H, W) to raw outputs (N, classes), and the tensors that heat maps are made of, each (N, ...).

        Raises:
            EngineError: the engine fails.
        """
        logits, *tensors = self._engine.run_all(batch)
        return logits, tensors

    def weigh(self, tensors: Sequence[_Floats], place: int, explained: int) -> _Floats:
        """The feature maps of one image of a run, summed by their weights: (height, width) of their grid.

        Args:
            tensors: of :meth:`run`.
            place: of the image in the batch.
            explained: index of the class.

        Raises:
            EngineError: the graph fails.
        """
        own = [tensor[place : place + 1] for tensor in tensors]
        return self._weigh([*own, self._classes[explained : explained + 1]])

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def load_explainer(bundle: Bundle, golden: Golden, variant: Variant, plain: Engine) -> Explainer:
    """Load what explains a variant's answers, and hold it against the golden vectors.

    Args:
        plain: the variant's engine.

    Raises:
        InputError: the bundle holds no explanation for this variant.
        BundleError: one of its files was changed.
        EngineError: the heat maps of this machine are not those of the build machine.
    """
    from .engines.onnxruntime_engine import load_graph

    manifest = bundle.manifest
    if variant.explanation is None:
        raise _unexplained(variant)
    tensors = variant.explanation.tensors
    with bundle.checked(variant.listed) as (*files, graph):
        weigh = load_graph(graph)
        engine = load_engine(variant.engine, files, variant.precision, plain.executed.threads, tensors)
    explainer = Explainer(engine, weigh, len(manifest.decision.classes))
    try:
        batch = np.stack([manifest.preprocessing.normalize(pixels) for pixels in golden.inputs])
        logits, _ = explainer.run(batch)
        explainer.faithful = bool(np.array_equal(logits, plain.run(batch)))
        error = explainer.golden_error = heat_error(explainer, golden, variant, batch)
    except BaseException:
        engine.close()
        raise
    if not error <= TOLERANCE[variant.precision]:
        engine.close()
        raise EngineError(
            f"the heat maps of {variant.name} are off by {error:.3f} of their largest value on this machine, "
            f"{TOLERANCE[variant.precision]} is allowed"
        )
    return explainer


def require_explanations(manifest: Manifest, variant: Variant) -> None:
    """Refuse where no variant of a bundle can be explained; ``variant`` is named.

    Raises:
        InputError: none can be.
    """
    if not any(each.explanation for each in manifest.variants):
        raise _unexplained(variant)


def _unexplained(variant: Variant) -> InputError:
    return InputError(f"this bundle holds no explanation of {variant.name}; make it again with: medcompress optimize")


def heat_error(explainer: Explainer, golden: Golden, variant: Variant, batch: _Floats) -> float:
    """Largest difference from the golden maps of the variant, as a share of the largest value.

    Args:
        batch: the golden inputs, normalized.

    Raises:
        EngineError: the engine fails.
    """
    expected = golden.maps.get(variant.name)
    if expected is None:
        return float("inf")
    found = weigh_all(explainer, batch, golden.logits[variant.name])
    if found.shape != expected.shape:
        return float("inf")
    error = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    return error if np.isfinite(error) else float("inf")


def weigh_all(explainer: Explainer, batch: _Floats, logits: _Floats) -> _Floats:
    """The weighed maps (N, height, width) of a batch, each of the class with the largest of these raw outputs."""
    _, tensors = explainer.run(batch)
    return np.stack([explainer.weigh(tensors, place, int(row.argmax())) for place, row in enumerate(logits)])


def explained_class(decision: Decision, probabilities: npt.NDArray[np.float64]) -> int:
    """Index of the class that a row of probabilities answers; of several findings, the likeliest, found or not."""
    if decision.kind == "multilabel":
        return int(probabilities.argmax())
    return int(decision.answers(probabilities[None])[0].argmax())


def heat_map(weighed: _Floats, size: tuple[int, int]) -> _Floats:
    """What speaks for the class, at the rendered image's (height, width), from 0 to its own strongest place, 1.

    All 0 where nothing does. By the rule of the ``grad-cam`` library: rectified, scaled, resized bilinearly, scaled.
    """
    grid = _stretched(np.maximum(weighed, np.float32(0)))
    rows, columns = (_between(coarse, fine) for coarse, fine in zip(grid.shape, size, strict=True))
    return _stretched(np.asarray(rows @ grid @ columns.T, np.float32))


def _stretched(heat: _Floats) -> _Floats:
    """In place: fresh memory for each step would take longer than the steps."""
    heat -= heat.min()
    heat /= 1e-7 + heat.max()
    return heat


@lru_cache(maxsize=64)
def _between(coarse: int, fine: int) -> _Floats:
    """(fine, coarse): bilinear weights, the centres of the pixels in place; beyond the outermost one its own value."""
    at = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    low = np.minimum(at.astype(np.intp), max(coarse - 2, 0))
    weights = np.zeros((fine, coarse), np.float32)
    weights[np.arange(fine), low] = 1 - (at - low)
    if coarse > 1:
        weights[np.arange(fine), low + 1] = at - low
    return weights
