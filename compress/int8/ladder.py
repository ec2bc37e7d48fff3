"""The ladder: from the plainest INT8 form upwards, each step measured, until one holds what it is to hold.

Cheapest first: other ranges, the mean errors out of the biases, channels equalized, the worst layers left float,
fine-tuning with the quantization in place. A step is kept where it brings the outputs nearer to the FP32 model's; the
first that reaches the goal ends the ladder. Where none does, the nearest one goes on to the gate, which will refuse it
or not, on other images.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx

from ...benchmarks.candidate import Candidate
from ...benchmarks.progress import stage as say
from ...benchmarks.trace import Step
from ...runtime.engines import package_of
from ...runtime.errors import EngineError, MedcompressError, first_line, is_full_disk
from ..recipes import Recipe
from ..workspace import Workspace
from .attempt import Figures, Yardstick, assess, failed, loaded, pick, step_of
from .emission import QUANTIZED, SUFFIX, Request, make_apart
from .graph import Graph
from .plan import Clipping, Plan
from .sensitivity import most_changed, rank
from .sources import Sources

_CLIPPINGS: tuple[Clipping, ...] = ("lse", "percentile", "entropy")
_TITLES = {
    "minmax": "the widest ranges",
    "lse": "ranges of the least squared error",
    "percentile": "ranges of 99.99 % of the values",
    "entropy": "ranges of the least loss of information",
}
# Of the layers noisiest by themselves, so many are asked what they do to the outputs, on so many images.
_ASKED, _MOST_CHANGED, _NOISE_IMAGES = 12, 48, 16
# Two timings of one form may differ by so much.
_NOISE = 0.05


class _Attempt(msgspec.Struct):
    """As it is remembered: a stopped run asks nothing twice.

    ``files`` is empty, and ``figures`` None, where it could not be made or did not run.
    """

    plan: Plan
    step: Step
    files: tuple[str, ...] = ()
    figures: Figures | None = None

    @property
    def reached(self) -> bool:
        return self.figures is not None and not self.figures.short


class _Changes(msgspec.Struct):
    layers: tuple[str, ...]


@dataclass
class Ladder:
    """The attempts at one form.

    Attributes:
        stage: begins the names of its stages.
        deadline: by :func:`time.monotonic`; no further step is begun after it.
        steps: what was tried so far.
    """

    recipe: Recipe
    stage: str
    workspace: Workspace
    sources: Sources
    yardstick: Yardstick
    deadline: float
    steps: list[Step] = field(default_factory=list)
    best: _Attempt | None = None
    tried: set[str] = field(default_factory=set)

    def climb(self, start: Plan | None = None) -> tuple[tuple[Path, ...], Plan]:
        """The form's files, and how it was made; no files where no attempt ran.

        Args:
            start: the plan of a form like it, for another CPU or engine: it is tried first.
        """
        done = bool(start and self._try("as the form before it", start)) or any(reached for reached in self._rungs())
        if not done and self.best is not None:
            say(f"  {self.recipe.name}: no step reached the goal; the nearest is kept, and the gate decides")
        return (tuple(map(Path, self.best.files)), self.best.plan) if self.best else ((), Plan())

    def _rungs(self) -> Iterator[bool]:
        """Climb: True where a step reached the goal, and nothing more is to be tried."""
        if self.best is None:
            yield self._try(_TITLES["minmax"], Plan())
        if self.best is None:
            return  # the engine does not take this network in INT8 at all
        for clipping in _CLIPPINGS:
            yield self._try(_TITLES[clipping], self._and(clipping=clipping))
        yield self._try("mean errors out of the biases", self._and(bias_corrected=True))
        yield self._try("channels equalized", self._and(equalized=True))
        if self._and().equalized:
            yield self._try("channels equalized, the widest ranges", self._and(clipping="minmax"))
        graph = Graph(onnx.load(self.sources.plain()[0].prepared))
        depthwise = tuple(layer.output[0] for layer in graph.layers if graph.is_depthwise(layer))
        if depthwise:
            yield self._try("depthwise convolutions float", self._also_float(depthwise))
        yield from self._layer_by_layer(len(graph.layers))
        if self.sources.fine_tune and self._refused():
            # It is trained with a range for each channel there, which one engine has and for others is float.
            first = () if package_of(self.recipe.engine) == "openvino" else depthwise
            tuned = Plan(bias_corrected=True, float_layers=first, fine_tuned=True)
            yield self._try("fine-tuned", tuned)
            layers = self._also_float(first).float_layers
            yield self._try("fine-tuned, the same layers float", msgspec.structs.replace(tuned, float_layers=layers))

    def _layer_by_layer(self, layers: int) -> Iterator[bool]:
        """The worst few layers float, then twice as many, up to half of them."""
        if not self._time_left():
            return
        started = time.monotonic()
        title = "asking which layers cost most"
        try:
            ranked = self._ranked(title)
        except Exception as error:  # it costs these steps, not the form
            if is_full_disk(error):
                raise
            images = len(self.yardstick.images)
            self.steps.append(failed(self.recipe.name, title, _one_line(error), images, started))
            return
        most = layers // 2 - len(self._and().float_layers)
        count = 1
        while count <= min(most, len(ranked)) and self._time_left():
            title = f"the worst {count} layer{'s' * (count > 1)} float"
            yield self._try(title, self._also_float(ranked[:count]))
            count *= 2

    def _try(self, title: str, plan: Plan) -> bool:
        """Make and measure it, unless there is no time left. Whether it reached the goal."""
        done_before = self.workspace.has(f"{self.stage}-{plan.digest}")
        if plan.digest in self.tried or not (done_before or self._time_left()):
            return False
        self.tried.add(plan.digest)
        attempt = self._attempt(title, plan)
        kept = attempt.figures is not None and (self.best is None or _better(attempt.figures, self.best.figures))
        self.steps.append(msgspec.structs.replace(attempt.step, kept=kept))
        say(f"  {self.recipe.name}, {title}: {_words(attempt.step)}{'' if kept else '; not kept'}")
        dropped = self.best if kept else attempt
        for file in map(Path, dropped.files if dropped else ()):
            file.unlink(missing_ok=True)
            file.with_name(QUANTIZED).unlink(missing_ok=True)
        if kept:
            self.best = attempt
        return kept and attempt.reached

    def _attempt(self, title: str, plan: Plan) -> _Attempt:
        def action(folder: Path) -> _Attempt:
            started, images = time.monotonic(), len(self.yardstick.images)
            try:
                files = self._make(plan, folder)
                figures = assess(self._candidate(files), self.yardstick)
            except Exception as error:  # torch, exporters and engines raise what they like: it costs this step
                if is_full_disk(error):
                    raise
                return _Attempt(plan, failed(self.recipe.name, title, _one_line(error), images, started))
            names = tuple(str(self.workspace.folder / stage / file.name) for file in files)
            return _Attempt(plan, step_of(self.recipe.name, title, figures, images, started), names, figures)

        stage = f"{self.stage}-{plan.digest}"
        return self.workspace.stage(stage, f"  trying {self.recipe.name}: {title}", _Attempt, action)[1]

    def _make(self, plan: Plan, folder: Path) -> tuple[Path, ...]:
        source = self.sources.source(plan)
        if source is None:
            raise EngineError("this network has no channels that could be equalized")
        return make_apart(
            Request(
                self.recipe.engine,
                self.recipe.kind or "vnni",
                str(source.prepared),
                str(source.ranges),
                plan,
                str(self.sources.rendered),
                self.sources.preprocessing,
                str(folder / f"{self.recipe.name}{SUFFIX[self.recipe.engine]}"),
            )
        )

    def _ranked(self, title: str) -> tuple[str, ...]:
        """The layers still in INT8, the one whose INT8 costs most first.

        All by their own noise; the noisiest then by what the outputs gain on the most changed images when each alone
        is float.
        """
        best = self.best
        assert best is not None and best.figures is not None
        source = self.sources.source(best.plan)
        assert source is not None

        def action(folder: Path) -> _Changes:
            pixels = np.load(self.sources.rendered, mmap_mode="r", allow_pickle=False)[:_NOISE_IMAGES]
            images = np.stack([self.sources.preprocessing.normalize(np.asarray(each)) for each in pixels])
            quantized = onnx.load(Path(best.files[0]).with_name(QUANTIZED))
            noise = rank(onnx.load(source.prepared), quantized, images)
            names = [each.layer for each in noise if each.layer not in best.plan.float_layers]
            gains = self._gains(names[:_ASKED], best, folder)
            asked = sorted(gains, key=lambda name: gains[name])
            return _Changes((*asked, *(name for name in names if name not in gains)))

        name = f"{self.stage}-layers-{best.plan.digest}"
        return self.workspace.stage(name, f"  {self.recipe.name}: {title}", _Changes, action)[1].layers

    def _gains(self, names: Sequence[str], best: _Attempt, folder: Path) -> dict[str, float]:
        """Layer -> root mean square change of the logits, on the most changed images, when it too is float."""
        yardstick = self.yardstick
        with loaded(self._candidate(tuple(map(Path, best.files))), yardstick.threads) as worker:
            logits = worker.run(yardstick.images.rendered, yardstick.preprocessing)
        chosen = most_changed(yardstick.reference, logits, _MOST_CHANGED)
        images, reference = pick(yardstick.images, yardstick.reference, chosen, folder / "changed.npy")
        gains = {}
        for number, name in enumerate(names):
            place = folder / f"without-{number}"
            place.mkdir()
            plan = msgspec.structs.replace(best.plan, float_layers=(*best.plan.float_layers, name))
            try:
                files = self._make(plan, place)
                with loaded(self._candidate(files), yardstick.threads) as worker:
                    found = worker.run(images.rendered, yardstick.preprocessing)
            except EngineError:
                continue
            finally:
                shutil.rmtree(place)
            gains[name] = float(np.sqrt(((found - reference).astype(np.float64) ** 2).mean()))
        return gains

    def _candidate(self, files: tuple[Path, ...]) -> Candidate:
        return Candidate(self.recipe.name, self.recipe.engine, self.recipe.precision, files, self.recipe.requires)

    def _and(self, **changes: object) -> Plan:
        """The best plan so far, changed."""
        plan = self.best.plan if self.best else Plan()
        return msgspec.structs.replace(plan, **changes)

    def _refused(self) -> bool:
        """Whether the gate would refuse the best so far: only then is what takes long worth its time."""
        return self.best is None or self.best.figures is None or self.best.figures.refused

    def _also_float(self, layers: Sequence[str]) -> Plan:
        """The best plan so far, with these layers float too."""
        return self._and(float_layers=tuple(dict.fromkeys((*self._and().float_layers, *layers))))

    def _time_left(self) -> bool:
        return time.monotonic() < self.deadline


def _one_line(error: Exception) -> str:
    said = first_line(error, 300)
    return said if isinstance(error, MedcompressError) else f"{type(error).__name__}: {said}"


def _better(new: Figures, old: Figures | None) -> bool:
    """Nearer to the FP32 model, and not so slow that only the float form gains; or as near and faster."""
    if old is None:
        return True
    if new.short == "" and old.short:
        return True
    if old.pays and not new.pays:
        return False
    nearer = new.logit_error < old.logit_error
    faster = new.p50_ms < old.p50_ms * (1 - _NOISE)
    return nearer or (faster and new.logit_error <= 1.1 * old.logit_error)


def _words(step: Step) -> str:
    if step.logit_change is None:
        return step.outcome
    return (
        f"{step.outcome.partition(':')[0]}, {step.flips} of {step.images} answers change, logits by up to "
        f"{step.logit_change:.2f}, {step.p50_ms:.2f} ms"
    )
