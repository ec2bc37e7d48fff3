"""The plans a bundle's TensorRT variants need, built on the machine that is to run them, and what comes of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .bundle import Bundle, Variant
from .engines import load_engine
from .errors import EngineError, InputError
from .golden import read_golden
from .placement import in_order, remember
from .plans import Key, Record, find
from .trial import Trial, measure

if TYPE_CHECKING:
    from .engines.tensorrt_builder import Watch
    from .engines.tensorrt_lane import Parts

ENGINE = "tensorrt"
_RUNS = 100


class Shares(msgspec.Struct, frozen=True):
    """One image, milliseconds by the GPU's clock, medians.

    Attributes:
        whole: from its upload to its answer; the same work one by one is what the others are measured of.
        graph: ``whole`` was given to the GPU by one call.
        called: by this machine's clock, as whoever calls the engine sees it.
    """

    upload: float
    engine: float
    download: float
    whole: float
    graph: bool
    called: float | None


class Plan(msgspec.Struct, frozen=True):
    """A variant's plan on this machine.

    Attributes:
        explains: it is the one that gives what heat maps are made of.
        kept: it was there already, built from just this.
        ok, status: of the variant, against its golden vectors: ``ok``, or why it does not run here.
        shares: None where it does not run.
    """

    variant: str
    explains: bool
    kept: bool
    record: Record
    ok: bool
    status: str
    golden_error: float | None
    p50_ms: float | None
    shares: Shares | None


class Built(msgspec.Struct, frozen=True):
    """What was built of a bundle.

    Attributes:
        gpus: how many CUDA shows this process; ``gpu`` is the first.
        memory: library the engine's memory and streams are had by.
        failed: variant -> why its plan could not be built; the others were.
        answers: the variant that answers here from now on, as the fastest; None where none runs.
    """

    bundle: str
    gpu: str
    gpus: int
    driver: str
    tensorrt: str
    memory: str
    plans: tuple[Plan, ...]
    failed: dict[str, str]
    answers: str | None

    @property
    def exit_code(self) -> int:
        """0: every plan was built, and runs faithfully here; 3: one does not."""
        return 0 if not self.failed and all(plan.ok for plan in self.plans) else 3


def build_plans(bundle: Bundle, watch: Watch, *, version_compatible: bool = False) -> Built:
    """Build what is not built yet, some minutes a plan; then try and time every variant, and remember the fastest.

    Raises:
        InputError: the bundle has no variant for TensorRT.
        BundleError: a file of one was changed.
        EngineError: there is no GPU or no TensorRT, they do not go together, or no plan at all can be built.
    """
    from .engines.cuda_memory import cuda
    from .engines.tensorrt_library import library, usable_gpu

    manifest = bundle.manifest
    variants = [variant for variant in manifest.variants if variant.engine == ENGINE]
    if not variants:
        raise InputError(
            f"{bundle.folder}: has no variant for TensorRT; make it with: medcompress optimize --target gpu"
        )
    gpu, trt = usable_gpu(), library()
    if gpu.count > 1:
        watch.noted(f"of {gpu.count} GPUs the first is used, {gpu.name}; CUDA_VISIBLE_DEVICES chooses another")
    records: list[tuple[Variant, bool, bool, Record]] = []
    failed: dict[str, EngineError] = {}
    for variant in variants:
        try:
            records += _records(bundle, variant, watch, version_compatible)
        except EngineError as error:  # another may fit, or have no such layer
            failed[variant.name] = error
    if not records:
        raise next(iter(failed.values()))
    watch.noted("trying every variant")
    trials = {trial.check.name: trial for trial in measure(bundle, manifest.threads)}
    order = in_order(bundle, remember(bundle, manifest.threads, tuple(trials.values())))
    return Built(
        bundle=str(bundle.folder),
        gpu=gpu.name,
        gpus=gpu.count,
        driver=gpu.driver,
        tensorrt=str(trt.__version__),
        memory=cuda().name,
        plans=tuple(_plan(bundle, *each, trials[each[0].name]) for each in records),
        failed={name: str(error) for name, error in failed.items()},
        answers=next((variant.name for variant in order if trials[variant.name].check.ok), None),
    )


def make_ready(engine: str, files: Sequence[Path], precision: str, tensors: Sequence[str] = ()) -> None:
    """Build the plan an engine loads a model from, where it is one that needs it and it is not there yet: for what
    measures models. What serves them builds nothing.

    Raises: as :func:`medcompress.runtime.engines.tensorrt_builder.build`.
    """
    if engine == ENGINE:
        from .engines.tensorrt_builder import build, key_here

        key = key_here(files[0], precision, tuple(tensors))
        if _found(key, False) is None:
            build(files[0], key, _Nobody())


class _Nobody:
    """Watches no build."""

    def started(self, phase: str, parent: str, steps: int) -> None: ...

    def stepped(self, phase: str, step: int) -> None: ...

    def finished(self, phase: str) -> None: ...

    def noted(self, what: str) -> None: ...


def _records(
    bundle: Bundle, variant: Variant, watch: Watch, version_compatible: bool
) -> list[tuple[Variant, bool, bool, Record]]:
    """The plans of a variant: its own, and where its answers can be explained the one that does; built or found."""
    from .engines.tensorrt_builder import build, key_here

    explaining = [variant.explanation.tensors] if variant.explanation else []
    found = []
    with bundle.checked(variant.files) as files:
        for outputs in ((), *explaining):
            key = key_here(files[0], variant.precision, outputs)
            record = _found(key, version_compatible)
            if record is None:
                what = "its heat maps' plan" if outputs else "its plan"
                watch.noted(f"{variant.name}: building {what}, some minutes")
                built = build(files[0], key, watch, version_compatible=version_compatible)
                found.append((variant, bool(outputs), False, built))
            else:
                found.append((variant, bool(outputs), True, record))
    return found


def _found(key: Key, version_compatible: bool) -> Record | None:
    try:
        record, _ = find(key)
    except EngineError:
        return None
    return record if record.key == key and (record.version_compatible or not version_compatible) else None


def _plan(bundle: Bundle, variant: Variant, explains: bool, kept: bool, record: Record, trial: Trial) -> Plan:
    check = trial.check
    shares = _shares(bundle, variant, trial) if check.ok and not explains else None
    return Plan(variant.name, explains, kept, record, check.ok, check.status, check.golden_error, trial.p50_ms, shares)


def _shares(bundle: Bundle, variant: Variant, trial: Trial) -> Shares:
    """Of one image: a golden one."""
    batch = bundle.manifest.preprocessing.normalize(read_golden(bundle).inputs[0])[None]
    with bundle.checked(variant.files) as files:
        engine = load_engine(ENGINE, files, variant.precision, bundle.manifest.threads)
    try:
        parts: Sequence[Parts] = engine.parts(batch, _RUNS)  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        engine.close()
    upload, computed, download, whole = (
        round(statistics.median(getattr(each, name) for each in parts), 4)
        for name in ("upload", "engine", "download", "whole")
    )
    return Shares(upload, computed, download, whole, parts[-1].graph, trial.p50_ms)
