"""Make the forms of a model, each failing alone: float ones run the reference file, or that in 16-bit floats; INT8 ones
climb the ladder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.candidate import Candidate
from ..benchmarks.data.labelled import Labelled
from ..benchmarks.row import Row
from ..benchmarks.tolerance import Tolerance
from ..benchmarks.trace import Step
from ..runtime.decision import Decision
from ..runtime.errors import EngineError, MachineError
from ..runtime.hardware import this_cpu
from ..runtime.preprocessing import Preprocessing
from ..runtime.requirements import devices_of, lacking
from ..trained.checkpoint import rebuild
from ..trained.data.splits import Split
from .explanation.bundling import Origin
from .half import IMAGES, Half, halve
from .int8.attempt import Yardstick, loaded, part_of
from .int8.emission import QUANTIZED
from .int8.ladder import Ladder
from .int8.plan import Plan
from .int8.ranges import Ranges
from .int8.sources import Sources, Tuner
from .networks import Network
from .options import Options
from .recipes import Recipe
from .workspace import Workspace

# At every step of a ladder at most so many validation images are asked.
_IMAGES = 600


@dataclass(frozen=True)
class Trial:
    """What forms are found with, before the gate: nothing of the test images.

    Attributes:
        rendered: an .npy file of calibration images.
        decision: locked.
        images: for validation.
        deadline: of :func:`time.monotonic`: what is begun then is finished.
    """

    split: Split
    rendered: Path
    decision: Decision
    tolerance: Tolerance
    images: Labelled
    options: Options
    deadline: float


@dataclass(frozen=True)
class Calibrated:
    """What INT8 forms of a network were calibrated with: its ranges as it is, and where they lie."""

    ranges: Ranges
    file: Path

    def words(self, seed: int) -> str:
        """How many images were needed."""
        growth = f"the last of them widened the ranges by {100 * self.ranges.growth:.1f} %"
        return f"{self.ranges.images} training images, seed {seed}; {growth}"


@dataclass(frozen=True)
class Forms:
    """What was made.

    Attributes:
        candidates: to be judged, in the recipes' order.
        problems: a row for each form that could not be made.
        steps: of all ladders, in the order they were taken.
        plans: INT8 form -> how it was made.
        calibrated: by the name of the network; without those that have no INT8 form.
        origins: form -> what it was made of.
        halves: form in 16-bit floats -> how it was made, in words.
    """

    candidates: tuple[Candidate, ...]
    problems: tuple[Row, ...]
    steps: tuple[Step, ...]
    plans: dict[str, Plan]
    calibrated: dict[str, Calibrated]
    origins: dict[str, Origin]
    halves: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of how they were made, and of which files: another one is another set of forms."""
        files = [(each.name, [str(file) for file in each.files]) for each in self.candidates]
        return hashlib.sha256(msgspec.json.encode((self.plans, files), order="deterministic")).hexdigest()[:8]

    @property
    def plans_in_words(self) -> dict[str, str]:
        """INT8 form -> how it was made."""
        return {name: plan.words for name, plan in self.plans.items()}


def make_forms(workspace: Workspace, recipes: Sequence[Recipe], network: Network, trial: Trial) -> Forms:
    """Every form of a network, or a row that says why not.

    Raises:
        DataError: the images cannot be calibrated on.
        OSError: the disk is full.
    """
    made: dict[str, Candidate] = {}
    plans: dict[str, Plan] = {}
    problems: dict[str, Row] = {}
    halves: dict[str, str] = {}
    steps: list[Step] = []
    missing = {each.name: lacking(each.requires, this_cpu()) for each in recipes}
    ladders = [each.name for each in recipes if each.kind and not each.graph and not missing[each.name]]
    preprocessing = network.checkpoint.spec.preprocessing
    sources = Sources(workspace, network.reference, trial.rendered, preprocessing, _tuner(network, trial))
    if ladders:
        sources.plain()  # images that cannot be calibrated on are no fault of a form
    for recipe in recipes:
        lacks = missing[recipe.name]
        if lacks and (recipe.quantized or devices_of(recipe.requires)):
            problems[recipe.name] = _problem(recipe, f"not run here: {lacks}")
        elif recipe.graph and recipe.graph not in made:
            problems[recipe.name] = _problem(recipe, f"error: not made: it is {recipe.graph} in another precision")
        elif recipe.half:
            source = made[recipe.graph].files[0] if recipe.graph else network.reference
            try:
                file, halves[recipe.name] = _halved(workspace, recipe, source, preprocessing, trial)
            except MachineError as error:
                problems[recipe.name] = _problem(recipe, f"error: not made: {error}")
                continue
            made[recipe.name] = _candidate(recipe, (file,))
            if recipe.graph:
                plans[recipe.name] = plans[recipe.graph]
        elif not recipe.quantized:
            made[recipe.name] = _candidate(recipe, (network.reference,))
        elif not recipe.graph:
            siblings = [plans[each.name] for each in recipes if _alike(each, recipe) and each.name in plans]
            # What one form does not need is left for the next ones.
            left = len(ladders) - ladders.index(recipe.name)
            ends = time.monotonic() + (trial.deadline - time.monotonic()) / left
            start = siblings[0] if siblings else None
            files, plan, taken = _climb(workspace, recipe, list(made.values()), start, sources, network, trial, ends)
            steps += taken
            if files:
                made[recipe.name], plans[recipe.name] = _candidate(recipe, files), plan
            else:
                why = taken[-1].outcome.partition(": ")[2] if taken else "the time of --budget was used up"
                problems[recipe.name] = _problem(recipe, f"error: not made: {why}")
        else:
            made[recipe.name] = _candidate(recipe, made[recipe.graph].files)
            plans[recipe.name] = plans[recipe.graph]
    files = {name: sources.origin(plans[name]) if name in plans else (network.reference, None) for name in made}
    origins = {name: Origin(network.checkpoint, *origin) for name, origin in files.items()}
    forms = Forms(tuple(made.values()), tuple(problems.values()), tuple(steps), plans, {}, origins, halves)
    if not plans:
        return forms
    source, ranges = sources.plain()
    return replace(forms, calibrated={network.name: Calibrated(ranges, source.ranges)})


def joined(parts: Sequence[Forms]) -> Forms:
    """The forms of several networks as one."""
    return Forms(
        tuple(each for part in parts for each in part.candidates),
        tuple(each for part in parts for each in part.problems),
        tuple(each for part in parts for each in part.steps),
        {name: plan for part in parts for name, plan in part.plans.items()},
        {name: found for part in parts for name, found in part.calibrated.items()},
        {name: origin for part in parts for name, origin in part.origins.items()},
        {name: words for part in parts for name, words in part.halves.items()},
    )


def _halved(
    workspace: Workspace, recipe: Recipe, source: Path, preprocessing: Preprocessing, trial: Trial
) -> tuple[Path, str]:
    """A graph in 16-bit floats, and how it was made; made once, whichever engines run it.

    Raises:
        MachineError: it cannot be converted.
    """

    def action(folder: Path) -> Half:
        pixels = np.load(trial.rendered, mmap_mode="r", allow_pickle=False)[:IMAGES]
        images = np.stack([preprocessing.normalize(np.asarray(each)) for each in pixels])
        if recipe.quantized:  # its heat maps ask which tensors it has
            shutil.copyfile(source.with_name(QUANTIZED), folder / QUANTIZED)
        return halve(source, folder / name, images)

    of = recipe.name if recipe.graph else "-".join(filter(None, (recipe.network, "fp16")))
    name, stage = f"{of}.onnx", f"half-{of}-{source.parent.name}"
    folder, made = workspace.stage(stage, f"  making {of}: 16-bit floats", Half, action)
    return folder / name, made.words


def _alike(one: Recipe, other: Recipe) -> bool:
    """Whether the plan of one INT8 form may do for the other."""
    return one.engine == other.engine or one.kind == other.kind == "gpu"


def _climb(
    workspace: Workspace,
    recipe: Recipe,
    made: Sequence[Candidate],
    start: Plan | None,
    sources: Sources,
    network: Network,
    trial: Trial,
    deadline: float,
) -> tuple[tuple[Path, ...], Plan, list[Step]]:
    """The files of the form the ladder found, none where it found none; how it was made; and the steps."""
    options, spec = trial.options, network.checkpoint.spec
    # Another goal is another ladder, and other validation images another yardstick.
    goal = hashlib.sha256(msgspec.json.encode(trial.tolerance, order="deterministic")).hexdigest()[:8]

    with tempfile.TemporaryDirectory(dir=workspace.folder) as folder:
        images, expected = part_of(trial.images, network.expected, _IMAGES, Path(folder))
        rival = _rival(recipe, made, options.threads)
        yardstick = Yardstick(
            spec.preprocessing, trial.decision, trial.tolerance, images, expected, options.threads, rival
        )
        ladder = Ladder(recipe, f"{recipe.name}-{goal}", workspace, sources, yardstick, deadline)
        files, plan = ladder.climb(start)
    return files, plan, ladder.steps


def _rival(recipe: Recipe, made: Sequence[Candidate], threads: int) -> Candidate:
    """The same engine's float form of the lowest precision that this machine runs, else the reference."""
    floats = [each for each in made if each.engine == recipe.engine and not each.precision.startswith("int8")]
    for candidate in reversed(floats):
        if lacking(candidate.requires, this_cpu()):
            continue
        try:
            with loaded(candidate, threads):
                return candidate
        except EngineError:
            continue
    return made[0]


def _tuner(network: Network, trial: Trial) -> Tuner | None:
    """Writes the FP32 ONNX file of the network trained on with its quantization in place."""
    if not trial.options.fine_tune:
        return None

    def tune(path: Path) -> None:
        from .explanation.making import make_explanation
        from .export import export
        from .int8.fine_tuning import fine_tune

        seconds = (trial.deadline - time.monotonic()) / 2  # the forms that follow need the rest
        tuned = fine_tune(network.checkpoint, trial.split, path.parent, seconds=seconds)
        pixels = np.load(trial.images.rendered, mmap_mode="r", allow_pickle=False)[:16]
        normalize = network.checkpoint.spec.preprocessing.normalize
        images, own = np.stack([normalize(np.asarray(each)) for each in pixels]), rebuild(tuned)
        export(own, images, path)
        make_explanation(own, tuned.spec, images[0], path)

    return tune


def _candidate(recipe: Recipe, files: tuple[Path, ...]) -> Candidate:
    return Candidate(recipe.name, recipe.engine, recipe.precision, files, recipe.requires)


def _problem(recipe: Recipe, status: str) -> Row:
    return Row(recipe.name, recipe.engine, recipe.precision, 0, status)
