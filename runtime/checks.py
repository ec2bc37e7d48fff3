"""A variant held against what the bundle says of it: its files, all its golden vectors, its heat maps."""

from __future__ import annotations

import msgspec

from .bundle import Bundle, Variant
from .engines import Engine, Executed
from .errors import BundleError, EngineError
from .golden import Golden
from .variants import start_variant


class VariantCheck(msgspec.Struct, frozen=True):
    """One variant on this machine.

    Attributes:
        status: ``ok``, or why it is not run here.
        golden_error: largest logit difference over all golden vectors, as a share of the largest logit.
        executed: engine, device, precision and threads that really ran.
        damaged: one of its files is missing or was changed.
        heat: of its heat maps: ``ok``, or why none are made here; empty where the bundle holds none of it, or they were
            not looked at.
        heat_error: their largest difference from the golden ones, as a share of the largest value.
    """

    name: str
    ok: bool
    status: str
    golden_error: float | None = None
    executed: Executed | None = None
    damaged: bool = False
    heat: str = ""
    heat_error: float | None = None


def check_variant(
    bundle: Bundle, golden: Golden, variant: Variant, threads: int, *, heat: bool = False
) -> tuple[VariantCheck, Engine | None]:
    """Hold a variant against all its golden vectors, and its heat maps too where asked.

    Returns:
        what came of it, and its engine where it runs.
    """
    try:
        engine, error = start_variant(bundle, golden, variant, threads, count=len(golden.inputs))
    except (BundleError, EngineError) as why:
        return VariantCheck(variant.name, False, str(why), damaged=isinstance(why, BundleError)), None
    check = VariantCheck(variant.name, True, "ok", error, engine.executed)
    if heat and variant.explanation is not None:
        check = _with_heat(check, bundle, golden, variant, engine)
    return check, engine


def _with_heat(check: VariantCheck, bundle: Bundle, golden: Golden, variant: Variant, engine: Engine) -> VariantCheck:
    from .explanation import load_explainer

    try:
        explainer = load_explainer(bundle, golden, variant, engine)
    except (BundleError, EngineError) as why:
        return msgspec.structs.replace(check, heat=str(why))
    explainer.close()
    return msgspec.structs.replace(check, heat="ok", heat_error=explainer.golden_error)
