"""The pipeline: checkpoint -> export -> calibrate -> forms -> measure each -> gate -> bundle."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.cautions import cautions_of
from ..benchmarks.data.checks import Checks, check_data
from ..benchmarks.data.labelled import label_samples, labelled
from ..benchmarks.data.rendering import render_all
from ..benchmarks.data.samples import count_by_class, pixel_hashes
from ..benchmarks.data.subgroups import Grouping, notes_of
from ..benchmarks.evaluation import Answers, answer, read_logits, save_logits
from ..benchmarks.locking import cautions_of_lock, check_rule, locked
from ..benchmarks.progress import stage as say
from ..benchmarks.report.record import SCHEMA as REPORT_SCHEMA
from ..benchmarks.report.record import Report
from ..benchmarks.row import Row
from ..benchmarks.statistics.operating import rule_words
from ..benchmarks.tolerance import registered
from ..benchmarks.versions import versions
from ..benchmarks.weighing import weigh
from ..runtime.bundle import GUARD_FILE, Calibration
from ..runtime.dicom.choices import chosen_rendering
from ..runtime.errors import InputError
from ..runtime.gpu import this_gpu
from ..runtime.hardware import this_cpu
from ..runtime.sealing import publish
from ..trained.checkpoint import Checkpoint, load_checkpoint
from ..trained.data.splits import Split
from . import calibration
from .assembly import assemble
from .choice import choose
from .environment import check_disk, check_packages
from .forms import Trial
from .guard import Guarded, make_guard
from .history import measured_before
from .inputs import check_machine, check_shrunk, find_data, find_groupings
from .lean import Lean, leave_networks, make_lean, networks_of
from .networks import make_network
from .options import Options, command_of
from .overflows import overflows_of
from .recipes import REFERENCE, Recipe, select
from .review import write_review
from .workspace import Workspace


class Outcome(msgspec.Struct, frozen=True):
    """Where the bundle lies, and its report.

    Attributes:
        review: the report with pictures of the images whose answer changed: patient data, so beside the bundle and not
            in it. None where no answer changed, or none was asked for.
        networks: checkpoints of the pruned networks, beside the bundle: they train, prune and compress on.
    """

    bundle: Path
    report: Report
    review: Path | None
    networks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Made:
    """``test``: an .npy file of the rendered test images."""

    report: Report
    lean: Lean
    test: Path


class _Moment(msgspec.Struct):
    at: str


class _Rows(msgspec.Struct):
    rows: tuple[Row, ...]


def optimize(options: Options) -> Outcome:
    """Make and prove the compressed forms of a checkpoint, and write the bundle.

    Stopped at any point, it goes on from the last finished stage when called again with the same options.

    Returns:
        The bundle and the report. Where ``report.verdict`` is not ``pass`` the bundle holds the float forms only,
        unless an inconclusive one was accepted.

    Raises:
        CheckpointError: not a checkpoint of ours, or damaged.
        DataError: the images are gone, leak, or do not fit the checkpoint or the tolerance.
        InputError: wrong options, or something else lies at ``out``.
        MachineError: a package, or disk space, is missing.
    """
    recipes = select(options.targets, int8=options.int8)
    check_packages()
    check_machine(recipes)
    checkpoint = _for_dicom(load_checkpoint(options.checkpoint), options)
    split = find_data(checkpoint, options)
    groupings = find_groupings(checkpoint, split, options)
    check_shrunk(checkpoint, options)
    check_rule(checkpoint.spec.decision, options.tolerance.threshold)
    digest = hashlib.sha256(options.checkpoint.read_bytes()).hexdigest()
    destination = (options.out or _default_out(options)).absolute()
    if options.threads < 1:
        raise InputError(f"--threads {options.threads}: at least 1 is needed")
    if not options.minutes >= 0:
        raise InputError(f"--budget {options.minutes}: give a number of minutes")
    if options.int8 or options.pruning or options.auto:
        calibration.require_enough(split.train)
    # Not the tolerance: when the test images were first answered is to be remembered, whatever the margins are now.
    key = {
        "checkpoint": digest,
        "split": split.fingerprint,
        "recipes": [recipe.name for recipe in recipes],
        "threads": options.threads,
        "seed": options.seed,
        "calibration": options.calibration,
        "accept_leaks": options.accept_leaks,
        "dicom": msgspec.to_builtins(checkpoint.spec.preprocessing.dicom),
        "versions": versions(),
        "cpu": msgspec.to_builtins(this_cpu()),
        "gpu": _gpu(recipes),
        "touched": [sample.path.stat().st_mtime_ns for sample in (*split.train, *split.val, *split.test)],
    }
    images = len(split.val) + len(split.test)
    check_disk(destination.parent, options.checkpoint, images, checkpoint.spec.preprocessing)
    if (options.pruning or options.auto) and not options.replace and networks_of(destination).exists():
        raise InputError(f"{networks_of(destination)}: exists; give another --out, or --force to replace what is there")
    workspace = Workspace(destination, key, replace=options.replace)
    try:
        seen = measured_before(destination, digest, split.fingerprint)
        made = _run(workspace, checkpoint, digest, split, groupings, recipes, seen, options)
        publish(workspace.folder / "bundle", destination)
        networks = leave_networks(destination, made.lean)
        candidates = made.lean.forms.candidates
        review = write_review(destination, made.report, checkpoint, split, candidates, made.test, options)
    except BaseException:
        workspace.close()
        raise
    workspace.remove()
    return Outcome(options.out or _default_out(options), made.report, review, networks)


def _run(
    workspace: Workspace,
    checkpoint: Checkpoint,
    digest: str,
    split: Split,
    groupings: Sequence[Grouping],
    recipes: Sequence[Recipe],
    seen: str,
    options: Options,
) -> _Made:
    preprocessing, decision = checkpoint.spec.preprocessing, checkpoint.spec.decision
    parts = {"test": split.test, "val": split.val}
    tolerance, threads = options.tolerance, options.threads

    def check(folder: Path) -> Checks:
        train = [*split.train, *split.val]
        return check_data(train, split.test, split.classes, accept_leaks=options.accept_leaks)

    def calibrate(folder: Path) -> Calibration:
        render_all([sample.path for sample in chosen], preprocessing, "Reading", folder / "images.npy")
        return Calibration(options.seed, tuple(pixel_hashes(chosen)), count_by_class(chosen, split.classes))

    def render(folder: Path) -> _Moment:
        for part, samples in parts.items():
            label_samples(samples, decision, preprocessing, folder / f"{part}.npy", f"Reading the {part} images")
        return _Moment(_now())

    def measure(folder: Path) -> _Rows:
        files = {part: images / f"{part}.npy" for part in parts}
        found = answer(forms.candidates, REFERENCE, preprocessing, files, threads)
        save_logits(folder / "logits.npz", found.logits)
        return _Rows(found.rows)

    def guard(folder: Path) -> Guarded:
        return make_guard((*split.train, *split.val), split.test, preprocessing, options.seed, folder / GUARD_FILE)

    chosen = calibration.choose(split.train, options.seed, options.calibration)
    _, checks = workspace.stage("check", "Comparing training and held-out images", Checks, check)
    calibrated, record = workspace.stage("calibrate", "Choosing calibration images", Calibration, calibrate)
    rendered = np.load(calibrated / "images.npy", mmap_mode="r")
    images, _ = workspace.stage("images", "Reading validation and test images", _Moment, render)
    test, val = (labelled(samples, decision, images / f"{part}.npy") for part, samples in parts.items())
    dense = make_network(workspace, checkpoint, rendered, val.rendered, threads)
    decision = locked(decision, tolerance, val, dense.expected)
    deadline = time.monotonic() + 60 * options.minutes
    trial = Trial(split, calibrated / "images.npy", decision, tolerance, val, options, deadline)
    lean = make_lean(workspace, recipes, dense, rendered, trial)
    forms = lean.forms
    _, first = workspace.stage("look", "Going on to the test images", _Moment, lambda _: _Moment(_now()))
    folder, found = workspace.stage(
        f"measure-{forms.digest}", f"Measuring {len(forms.candidates)} variants", _Rows, measure
    )
    guarding, guarded = workspace.stage("guard", "Learning to tell images of another kind", Guarded, guard)
    say("Weighing the evidence")
    answers = Answers(found.rows, read_logits(folder / "logits.npz"))
    rows, evidence = weigh(answers, REFERENCE, decision, test, val, tolerance, groupings)
    rows = (*rows, *forms.problems)
    chances = {name: decision.probabilities(found) for name, found in answers.logits["val"].items()}
    off = {name: float(np.abs(each - chances[REFERENCE]).mean()) for name, each in chances.items()}
    choice = choose(rows, evidence, lean.recipes, accept_inconclusive=options.accept_inconclusive, off=off)
    calibrated = lean.calibrated_for(choice.chosen)
    counts = count_by_class(split.test, split.classes)
    report = Report(
        schema=REPORT_SCHEMA,
        created=_now(),
        model=f"{checkpoint.spec.architecture.split('/')[-1]}: {', '.join(decision.classes)}",
        decision=decision,
        rule=rule_words(tolerance.threshold),
        verdict=choice.verdict,
        accepted=choice.accepted,
        reason=choice.reason,
        cautions=(
            *checks.cautions,
            *cautions_of(rows, REFERENCE, counts, tolerance),
            *cautions_of_lock(tolerance, decision, val, split.classes),
        ),
        chosen=choice.chosen,
        reference=REFERENCE,
        tolerance=tolerance,
        registration=msgspec.structs.replace(
            options.registration or registered(tolerance), measured=min(filter(None, (seen, first.at)))
        ),
        threads=threads,
        cpu=this_cpu(),
        images=counts,
        held_out=len(split.test),
        patients=len(set(test.patients)),
        rows=rows,
        evidence=evidence,
        provenance={
            "command": command_of(options),
            "checkpoint": f"{options.checkpoint.name}, sha256 {digest}",
            "split": split.fingerprint,
            **({"task": split.task} if split.task else {}),
            "data": f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test images",
            "export": dense.exported,
            **({"calibration": calibrated.words(record.seed)} if calibrated else {}),
            **({"INT8 forms": forms.plans_in_words} if forms.plans else {}),
            **({"FP16 forms": forms.halves} if forms.halves else {}),
            "data checks": checks.words,
            "input guard": guarded.words,
            **notes_of(groupings),
            "versions": versions(),
        },
        checks=msgspec.structs.replace(checks, notes=split.warnings),
        steps=forms.steps,
        networks=lean.networks,
        trials=lean.trials,
        overflows=overflows_of(workspace, forms, choice.chosen, preprocessing, rendered),
    )
    say("Writing the bundle")
    spec = msgspec.structs.replace(checkpoint.spec, decision=decision)
    used = calibrated.ranges.images if calibrated else len(chosen)
    record = Calibration(record.seed, record.sha256[:used], count_by_class(chosen[:used], split.classes))
    made, ranges = forms.candidates, calibrated.file if calibrated else None
    bundle, learned = workspace.folder / "bundle", guarding / GUARD_FILE
    assemble(bundle, spec, report, choice.kept, made, record, rendered, ranges, forms.origins, guarded.guard, learned)
    return _Made(report, lean, test.rendered)


def _for_dicom(checkpoint: Checkpoint, options: Options) -> Checkpoint:
    """The checkpoint, taking and showing DICOM files as the options say."""
    spec = checkpoint.spec
    chosen = chosen_rendering(spec.preprocessing.dicom, options.modality, options.body_part, options.dicom)
    preprocessing = msgspec.structs.replace(spec.preprocessing, dicom=chosen)
    return replace(checkpoint, spec=msgspec.structs.replace(spec, preprocessing=preprocessing))


def _gpu(recipes: Sequence[Recipe]) -> str:
    """What there is of an NVIDIA GPU; not looked for where no form asks for it."""
    asks = any("nvidia" in recipe.requires for recipe in recipes)
    return gpu.words if asks and (gpu := this_gpu()) else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _default_out(options: Options) -> Path:
    parts = [options.pruning.name] if options.pruning else ["auto"] if options.auto else []
    parts += ["int8"] if options.int8 else [] if parts else ["float"]
    return options.checkpoint.with_name("-".join([options.checkpoint.stem, *parts]))
