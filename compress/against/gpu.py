"""Every form of a network on an NVIDIA GPU, in turn with torch's own.

    python -m medcompress.compress.against.gpu [NET] [--json]

NET is one of the networks of :mod:`.latency`, ResNet-50 by default, with random weights: enough for speed; how much
accuracy a form loses is for ``medcompress optimize --target gpu`` to say. A run goes from the host's array to the
host's, so copies and launches count; the engine's own share is told by CUDA events where the engine has them. Exit code
3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from ...benchmarks.candidate import Candidate
from ...benchmarks.progress import stage, track
from ...benchmarks.timing.latency import Latency, measure
from ...benchmarks.timing.worker import Worker
from ...benchmarks.versions import versions
from ...runtime.errors import EngineError, MachineError
from ...runtime.gpu import this_gpu, why_no_gpu
from ..command import run
from .torch_gpu import COMPILED, EAGER, GRAPHS, candidates

MANY = 64
CUDA, TENSORRT = "onnxruntime-cuda", "tensorrt"
_IMAGES = 16
_ROUNDS = 12
_PARTS = 100


class Form(msgspec.Struct, frozen=True):
    """One form; None what was not measured.

    Attributes:
        p50_ms, p90_ms, p99_ms: of one image.
        engine_ms: median by the GPU's clock, without copies.
        images_per_second: in batches of :data:`MANY`, by their median.
        failed: why it did not run, or not with so many images; empty where it did.
    """

    name: str
    precision: str
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    engine_ms: float | None = None
    images_per_second: float | None = None
    failed: str = ""


class Goal(msgspec.Struct, frozen=True):
    """A ratio of two forms' speeds, above 1 where the first is faster; None where one of them did not run."""

    of: str
    ratio: float | None
    at_least: float

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        return None if self.ratio is None else self.ratio >= self.at_least


class Found(msgspec.Struct, frozen=True):
    """What was measured on one GPU."""

    network: str
    gpu: str
    versions: dict[str, str]
    forms: tuple[Form, ...]
    goals: tuple[Goal, ...]


class _Watch:
    """A plan's build takes minutes: each is announced, and no more."""

    def started(self, phase: str, parent: str, steps: int) -> None: ...
    def stepped(self, phase: str, step: int) -> None: ...
    def finished(self, phase: str) -> None: ...

    def noted(self, what: str) -> None:
        stage(what)


def make_forms(network: str, folder: Path) -> tuple[tuple[int, int, int], list[Candidate]]:
    """Ours for the GPU, their plans built, and torch's; and the shape (C, H, W) of an image.

    Raises:
        MedcompressError: a form cannot be made.
    """
    import numpy as np

    from ...runtime.decision import Decision
    from ...runtime.preprocessing import Preprocessing
    from ...trained.spec import ModelSpec
    from ..export import export
    from ..plain import make_plain
    from ..recipes import select
    from .latency import NETWORKS, random_network

    name, side, _ = NETWORKS[network]
    preprocessing = Preprocessing((side, side))
    rendered = np.random.default_rng(0).integers(0, 256, (_IMAGES, side, side), np.uint8)
    batch = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:4]])
    stage(f"{network}: exporting")
    export(random_network(name, preprocessing, batch), batch[:2], folder / "model.onnx")
    stage(f"{network}: making the forms")
    recipes = [recipe for recipe in select(("gpu",), int8=True) if "nvidia" in recipe.requires]
    ours = make_plain(folder / "model.onnx", rendered, preprocessing, recipes, folder)
    spec = ModelSpec(f"timm/{name}", preprocessing, Decision("binary", ("clear", "opacity"), "opacity"))
    return preprocessing.shape, [*ours, *candidates(spec, folder)]


def build_plan(form: Candidate) -> None:
    """Build the plan of a form for TensorRT, where it is not built yet; some minutes.

    Raises:
        EngineError: there is no TensorRT, or it does not take the model.
    """
    from ...runtime.engines.tensorrt_builder import build, key_here
    from ...runtime.plans import find

    key = key_here(form.files[0], form.precision)
    try:
        find(key)
    except EngineError:
        stage(f"building the plan of {form.name}, some minutes")
        build(form.files[0], key, _Watch())


def time_gpu(forms: Sequence[Candidate], shape: Sequence[int]) -> tuple[Form, ...]:
    """One image and :data:`MANY`, all forms in turn, each in a process of its own."""
    failed: dict[str, str] = {}
    precisions = {form.name: form.precision for form in forms}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for form in forms:
            worker = stack.enter_context(Worker(form.command))
            stage(f"starting {form.name}")
            try:
                if form.engine == TENSORRT:
                    build_plan(form)
                precisions[form.name] = worker.load(form.engine, form.files, form.precision, 1).precision
                # Compiles, and captures graphs: not to be timed.
                worker.time((1, *shape), 0.0, 4)
                workers[form.name] = worker
            except EngineError as error:
                failed[form.name] = str(error)
        one = measure(workers, shape, track(range(_ROUNDS), "One image at a time", _ROUNDS))
        engine = {name: _engine_ms(worker, shape) for name, worker in workers.items()}
        many: dict[str, Latency | EngineError] = {}
        ready = {}
        for name, worker in workers.items():
            try:
                worker.time((MANY, *shape), 0.0, 4)
                ready[name] = worker
            except EngineError as error:
                many[name] = error
        many |= measure(ready, shape, track(range(_ROUNDS), f"{MANY} images at a time", _ROUNDS), MANY)
    return tuple(
        _form(name, precisions[name], one.get(name), many.get(name), engine.get(name), failed.get(name, ""))
        for name in precisions
    )


def goals_of(forms: Sequence[Form]) -> tuple[Goal, ...]:
    """The figures that are to be reached."""
    ms = {form.name: form.p50_ms for form in forms if form.p50_ms}
    rates = {form.name: form.images_per_second for form in forms if form.images_per_second}
    half, fp16, int8 = f"{CUDA}-fp16", f"{TENSORRT}-fp16", f"{TENSORRT}-int8"
    compiled = min((name for name in (COMPILED, GRAPHS) if name in ms), key=lambda name: ms[name], default=COMPILED)
    fastest = max(
        (name for name in (COMPILED, GRAPHS) if name in rates), key=lambda name: rates[name], default=COMPILED
    )
    eight = min((name for name in (int8, f"{int8}-fp16") if name in ms), key=lambda name: ms[name], default=int8)
    return (
        Goal(f"{half} against {EAGER}, one image", _ratio(ms, EAGER, half), 3.0),
        Goal(f"{half} against {compiled}, one image", _ratio(ms, compiled, half), 1.2),
        Goal(f"{half} against {fastest}, {MANY} images", _ratio(rates, half, fastest), 0.8),
        Goal(f"{eight} against {fp16}, one image", _ratio(ms, fp16, eight), 1.0),
        Goal(f"{eight} against {half}, one image", _ratio(ms, half, eight), 1.3),
    )


def _ratio(values: Mapping[str, float], above: str, below: str) -> float | None:
    return values[above] / values[below] if above in values and below in values else None


def _engine_ms(worker: Worker, shape: Sequence[int]) -> float | None:
    try:
        taken = worker.engine_times((1, *shape), _PARTS)
    except EngineError:
        return None
    return statistics.median(taken) if taken else None


def _form(
    name: str,
    precision: str,
    one: Latency | EngineError | None,
    many: Latency | EngineError | None,
    engine_ms: float | None,
    failed: str,
) -> Form:
    failed = next((str(each) for each in (one, many) if isinstance(each, EngineError)), failed)
    if not isinstance(one, Latency):
        return Form(name, precision, failed=failed)
    rate = 1e3 * MANY / many.p50_ms if isinstance(many, Latency) else None
    return Form(name, precision, one.p50_ms, one.p90_ms, one.p99_ms, engine_ms, rate, failed)


def main() -> None:
    """Time and print.

    Raises:
        MachineError: there is no GPU.
        MedcompressError: the forms cannot be made.
    """
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.against.gpu")
    parser.add_argument("network", nargs="?", default="resnet50", metavar="NET", help="resnet50 by default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    gpu = this_gpu()
    if gpu is None:
        raise MachineError(f"this measures a GPU, and here is none to use: {why_no_gpu()}")
    from .latency import NETWORKS

    if given.network not in NETWORKS:
        parser.error(f"{given.network} is not known; known are: {', '.join(NETWORKS)}")
    with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
        shape, forms = make_forms(given.network, Path(folder))
        timed = time_gpu(forms, shape)
    found = Found(given.network, gpu.words, versions(), timed, goals_of(timed))
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)


def _print(found: Found) -> None:
    print(f"{found.network} on {found.gpu}; from the host's array to the host's, medians\n")
    print(f"| form | runs as | ms, one image | p90 | p99 | engine ms | its share | images/s, {MANY} at once |")
    print("|---|---|---|---|---|---|---|---|")
    for form in found.forms:
        if form.p50_ms is None:
            print(f"| {form.name} | {form.precision} | fails: {form.failed} | | | | | |")
            continue
        share = f"{min(1.0, form.engine_ms / form.p50_ms):.0%}" if form.engine_ms else "-"
        rate = f"{form.images_per_second:,.0f}" if form.images_per_second else f"fails: {form.failed}"
        cells = (form.p50_ms, form.p90_ms, form.p99_ms, form.engine_ms)
        shown = " | ".join("-" if value is None else f"{value:.3f}" for value in cells)
        print(f"| {form.name} | {form.precision} | {shown} | {share} | {rate} |")
    print()
    for goal in found.goals:
        ratio = "not measured" if goal.ratio is None else f"{goal.ratio:.2f}"
        word = {True: "reached", False: "NOT reached", None: ""}[goal.met]
        print(f"{goal.of}: {ratio}, at least {goal.at_least:g} {word}".rstrip())


if __name__ == "__main__":
    run(main)
