"""What explains the variant that runs, beside it: loaded when it is first asked for, and given up where it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import EngineError, InputError
from .explanation import Explainer, load_explainer
from .golden import read_golden
from .variants import Running

_Floats = npt.NDArray[np.float32]


class Asked(NamedTuple):
    """What an explainer gave for a batch.

    Attributes:
        why: it gave nothing; empty where it did.
        explainer, tensors: that make the heat maps.
        logits: raw outputs that stand for the variant's own; None where it has to be run itself.
        ms: that the run took, milliseconds.
    """

    why: str = ""
    explainer: Explainer | None = None
    tensors: Sequence[_Floats] = ()
    logits: _Floats | None = None
    ms: float = 0.0


class Explainers:
    """What explains the answers of the variant that runs: loaded when it is first asked for.

    Whatever fails here costs the heat maps, and no answer: it is said, and not tried again until another variant runs.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._loaded: tuple[Running, Explainer] | None = None
        self._failed: tuple[Running, str] | None = None
        self._loading = threading.Lock()

    def ask(self, running: Running, batch: _Floats) -> Asked:
        """Run a batch (N, C, H, W) through what explains a variant."""
        try:
            explainer = self.of(running)
            start = time.perf_counter()
            logits, tensors = explainer.run(batch)
            ms = (time.perf_counter() - start) * 1e3
            if not np.isfinite(logits).all():
                raise EngineError(f"what explains {running.variant.name} gave outputs that are not numbers")
        except (EngineError, InputError) as error:
            self.give_up(running, str(error))
            return Asked(str(error))
        return Asked("", explainer, tensors, logits if explainer.faithful else None, ms)

    def give_up(self, running: Running, why: str) -> None:
        """Make no heat maps of a variant any more."""
        with self._loading:
            self._failed = running, why
            if self._loaded is not None and self._loaded[0] is running:
                self._free()

    def of(self, running: Running) -> Explainer:
        """Of a variant that runs.

        Raises: see :func:`load_explainer`; EngineError also where it failed before.
        """
        with self._loading:
            if self._failed is not None and self._failed[0] is running:
                raise EngineError(self._failed[1])
            if self._loaded is None or self._loaded[0] is not running:
                golden = read_golden(self._bundle)
                explainer = load_explainer(self._bundle, golden, running.variant, running.engine)
                self._free()
                self._loaded = running, explainer
            return self._loaded[1]

    def close(self) -> None:
        """Free what was loaded."""
        with self._loading:
            self._free()

    def _free(self) -> None:
        if self._loaded is not None:
            self._loaded[1].close()
            self._loaded = None
