"""From a bundle to answers: the ten lines an integrator needs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .answering import add_heat, answer_batch
from .bundle import GUARD_FILE, Bundle, Variant, open_bundle
from .engines import Executed
from .errors import EngineError, ImageRefused
from .explainers import Asked, Explainers
from .explanation import require_explanations
from .golden import PIXEL_TOLERANCE, Golden, pixel_error, read_golden
from .guard import Policy, judge
from .images import ImageSource, reasons_of
from .learned import MAX_BYTES, Learned, read_learned
from .placement import in_order, place, remembered
from .prediction import Prediction
from .reasons import Reason
from .variants import Running, Succession, golden_error

if TYPE_CHECKING:
    from .selftest import SelfTest

# Images run together by predict_batch: bounds the memory a long list takes.
_BATCH = 32


class Predictor:
    """A bundle with one of its variants loaded. Safe to call from several threads.

    A variant that fails while it runs is set aside, with a warning, and the next one answers in its place.

    Attributes:
        bundle: the opened bundle.
    """

    def __init__(
        self, bundle: Bundle, variants: Succession, learned: Learned | None = None, guard: Policy = "refuse"
    ) -> None:
        self.bundle = bundle
        self._variants = variants
        self._learned, self._guard = learned, guard
        self._explainers = Explainers(bundle)

    @property
    def variant(self) -> Variant:
        """The one that runs."""
        return self._variants.running.variant

    @property
    def executed(self) -> Executed:
        """Engine, device, precision and threads that really run, by the engine's own account."""
        return self._variants.running.engine.executed

    @property
    def setbacks(self) -> tuple[str, ...]:
        """Why better variants were set aside, a sentence each."""
        return self._variants.setbacks

    def predict(self, source: ImageSource, *, explain: bool = False) -> Prediction:
        """Answer for one image: a path, bytes, an array or a PIL image.

        Args:
            explain: with a heat map. The first one takes longer: what makes it is loaded, and held against the golden
                vectors. The answer is the same as without; where no heat map can be made on this machine it comes
                without one, and ``unexplained`` says why.

        Raises:
            ImageError: the image is refused.
            InputError: a heat map was asked for, and the bundle holds no explanation.
            EngineError: the variant fails, and no other could take over.
        """
        return self._predict_chunk([source], explain)[0]

    def predict_batch(self, sources: Iterable[ImageSource], *, explain: bool = False) -> list[Prediction]:
        """Answer for several images, in their order.

        Raises: see :meth:`predict`; of an image that is refused, and no answers are given then.
        """
        sources = list(sources)
        starts = range(0, len(sources), _BATCH)
        return [answer for start in starts for answer in self._predict_chunk(sources[start : start + _BATCH], explain)]

    def check(self, golden: Golden) -> float:
        """Run the bundle's first golden input once more; returns its golden error.

        Raises:
            EngineError: the engine fails or its outputs are not what they were, and no other variant could take over.
        """
        running = self._variants.running
        try:
            return golden_error(self.bundle, golden, running.variant, running.engine, count=1)
        except EngineError as error:
            running = self._take_over(running, error)
        return golden_error(self.bundle, golden, running.variant, running.engine, count=1)

    def self_test(self) -> SelfTest:
        """Check every file, the preprocessing, and every variant against all its golden vectors and heat maps.

        The variants are tried in a process of their own, the one that runs by its own engine too. What fails is set
        aside; where it is the one that runs, the next takes its place.

        Raises:
            BundleError: the manifest or the golden vectors are damaged, or the bundle is another by now.
            EngineError: the variant that runs fails, and no other could take over.
        """
        from .selftest import self_test

        running = self._variants.running
        threads = running.engine.executed.threads
        found = self_test(self.bundle, threads, running)
        for check in found.variants:
            if check.name != running.variant.name and not check.ok:
                self._variants.set_aside(check.name, check.status)
        of_running = next(check for check in found.variants if check.name == running.variant.name)
        if not of_running.ok:
            self._take_over(running, EngineError(of_running.status))
        self.check(read_golden(self.bundle))
        return found

    def close(self) -> None:
        """Free the engine."""
        self._explainers.close()
        self._variants.close()

    def _predict_chunk(self, sources: list[ImageSource], explain: bool) -> list[Prediction]:
        manifest = self.bundle.manifest
        prepare = manifest.preprocessing
        tensors, prepared_ms, reasons = [], [], []
        for source in sources:
            start = time.perf_counter()
            image = prepare.decode(source)
            pixels = prepare.draw(image)
            reasons.append((*reasons_of(image), *self._guarded(source, image, pixels)))
            tensors.append(prepare.normalize(pixels))
            prepared_ms.append((time.perf_counter() - start) * 1e3)
        batch = tensors[0][None] if len(tensors) == 1 else np.stack(tensors)
        running = self._variants.running
        if explain and running.variant.explanation is None:
            require_explanations(manifest, running.variant)
        try:
            logits, asked, engine_ms = self._run(running, batch, explain)
        except EngineError as error:
            running = self._take_over(running, error)
            logits, asked, engine_ms = self._run(running, batch, explain)
        found = answer_batch(manifest, logits, running.variant.name, engine_ms, prepared_ms, reasons)
        return found if asked is None else add_heat(found, asked, manifest, running, self._explainers)

    def _run(self, running: Running, batch: np.ndarray, explain: bool) -> tuple[np.ndarray, Asked | None, float]:
        """The raw outputs, what heat maps are made of where these are asked for, and milliseconds."""
        asked = self._explainers.ask(running, batch) if explain else None
        if asked is not None and asked.logits is not None:
            return asked.logits, asked, asked.ms
        start = time.perf_counter()
        logits = running.engine.run(batch)
        if not np.isfinite(logits).all():
            name = running.variant.name
            raise EngineError(f"variant {name} gave outputs that are not numbers; run: medcompress doctor")
        return logits, asked, (time.perf_counter() - start) * 1e3 + (asked.ms if asked else 0.0)

    def _guarded(self, source: ImageSource, image: Image.Image, pixels: np.ndarray) -> tuple[Reason, ...]:
        """What the guard says of an image that may be answered; see :meth:`predict` for one that may not."""
        if self._learned is None:
            return ()
        found = judge(self._learned, image, pixels)
        refusal = found.refusal
        if refusal is None:
            return found.cautions
        if self._guard == "refuse":
            name = source if isinstance(source, (str, Path)) else "image"
            raise ImageRefused(f"{name}: {refusal.text}", refusal.code)
        return (Reason(refusal.code, f"the image {refusal.text}"),)

    def _take_over(self, failed: Running, error: EngineError) -> Running:
        running = self._variants.replace(failed, str(error))
        if running is not failed:
            name = running.variant.name
            warnings.warn(f"{failed.variant.name} failed ({error}); {name} answers now", RuntimeWarning, stacklevel=4)
        return running


def load(
    folder: str | Path,
    *,
    variant: str | None = None,
    threads: int | None = None,
    measure: bool = False,
    trust: str | Path | None = None,
    guard: Policy = "refuse",
) -> Predictor:
    """Open a bundle and load the best of its variants that this machine runs faithfully.

    The best is the fastest of those that were measured here (see :mod:`medcompress.runtime.placement`); where nothing
    was yet, the one chosen when the bundle was made. Hashes, CPU features and the first golden vector are checked
    before the first answer. A variant that is damaged or fails is set aside, with a warning, for the next fastest.

    Args:
        folder: of the bundle.
        variant: run this one or none.
        threads: for one inference; None takes the number the bundle was measured with.
        measure: where nothing was measured here yet, measure now, some seconds, and remember it for this machine.
        trust: a public key, or a folder of them, the bundle must be signed with; see
            :func:`medcompress.runtime.bundle.open_bundle`.
        guard: what becomes of an image that does not look like those the model was made for: ``refuse`` raises an
            ImageRefused, ``flag`` answers and says so among the cautions, ``off`` does not look.

    Raises:
        BundleError: not signed with a trusted key, damaged, changed or of a newer schema; of damaged variants only
            where no other runs here.
        EngineError: no variant runs here; the message says why for each.
    """
    bundle = open_bundle(folder, trust=trust)
    manifest = bundle.manifest
    golden = read_golden(bundle)
    off = pixel_error(golden, manifest.preprocessing)
    if off > PIXEL_TOLERANCE:
        raise EngineError(
            f"Pillow here decodes or resizes otherwise than where the bundle was made (by {off} grey levels); "
            f"install the version it names: {manifest.made_with('pillow') or 'unknown'}"
        )
    threads = threads or manifest.threads
    if variant:
        candidates = [manifest.variant(variant)]
    else:
        candidates = in_order(bundle, place(bundle, threads) if measure else remembered(bundle, threads))
    variants = Succession(bundle, golden, candidates, threads)
    for setback in variants.setbacks:
        warnings.warn(f"variant passed over: {setback}", RuntimeWarning, stacklevel=2)
    learned = None
    if manifest.guard and guard != "off":
        learned = read_learned(bundle.read(GUARD_FILE, MAX_BYTES), str(bundle.folder / GUARD_FILE))
    return Predictor(bundle, variants, learned, guard)
