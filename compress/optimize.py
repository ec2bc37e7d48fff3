"""The pipeline: checkpoint -> export -> calibrate -> emit per target -> measure each -> gate -> bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..benchmarks.candidate import Candidate
from ..benchmarks.cautions import cautions_of
from ..benchmarks.data.checks import Checks, check_data
from ..benchmarks.data.labelled import label_samples, labelled
from ..benchmarks.data.rendering import render_all
from ..benchmarks.data.samples import count_by_class, pixel_hashes
from ..benchmarks.data.subgroups import Grouping, group_samples, notes_of
from ..benchmarks.evaluation import Answers, answer, read_logits, save_logits
from ..benchmarks.locking import cautions_of_lock, check_rule, locked
from ..benchmarks.progress import stage as say
from ..benchmarks.report.record import SCHEMA as REPORT_SCHEMA
from ..benchmarks.report.record import Report
from ..benchmarks.row import Row
from ..benchmarks.statistics.operating import rule_words
from ..benchmarks.tolerance import Registration, registered
from ..benchmarks.versions import versions
from ..benchmarks.weighing import weigh
from ..runtime.bundle import REFERENCE_FILE, Calibration, publish
from ..runtime.errors import DataError, InputError, MachineError
from ..runtime.hardware import this_cpu
from ..runtime.records import from_json
from ..trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from ..trained.data.splits import Split, located, split_of
from . import calibration
from .assembly import assemble
from .choice import choose
from .emission import emit_all
from .environment import check_disk, check_packages
from .options import Options, command_of
from .recipes import REFERENCE, Recipe, select
from .review import write_review
from .workspace import Workspace

_PARITY_IMAGES = 16


class Outcome(msgspec.Struct, frozen=True):
    """Where the bundle lies, and its report.

    Attributes:
        review: the report with pictures of the images whose answer changed: patient data, so beside the bundle and not
            in it. None where no answer changed, or none was asked for.
    """

    bundle: Path
    report: Report
    review: Path | None


class _Export(msgspec.Struct):
    parity: float
    opset: int


class _Measured(msgspec.Struct):
    rows: tuple[Row, ...]
    at: str


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
    check_packages(options.int8)
    _check_cpu(recipes)
    checkpoint = load_checkpoint(options.checkpoint)
    split = _find_data(checkpoint, options)
    groupings = _groupings(checkpoint, split, options)
    check_rule(checkpoint.spec.decision, options.tolerance.threshold)
    digest = hashlib.sha256(options.checkpoint.read_bytes()).hexdigest()
    destination = (options.out or _default_out(options)).absolute()
    if options.threads < 1:
        raise DataError(f"--threads {options.threads}: at least 1 is needed")
    # Not the tolerance: what was measured does not depend on it, and when it was measured is to be remembered.
    key = {
        "checkpoint": digest,
        "split": split.fingerprint,
        "recipes": [recipe.name for recipe in recipes],
        "threads": options.threads,
        "seed": options.seed,
        "accept_leaks": options.accept_leaks,
        "versions": versions(),
        "cpu": msgspec.to_builtins(this_cpu()),
        "touched": [sample.path.stat().st_mtime_ns for sample in (*split.train, *split.val, *split.test)],
    }
    images = len(split.val) + len(split.test)
    check_disk(destination.parent, options.checkpoint, images, checkpoint.spec.preprocessing)
    workspace = Workspace(destination, key, replace=options.replace)
    try:
        seen = _measured_before(destination, digest, split.fingerprint)
        report, candidates, rendered = _run(workspace, checkpoint, digest, split, groupings, recipes, seen, options)
        publish(workspace.folder / "bundle", destination)
        review = write_review(destination, report, checkpoint, split, candidates, rendered, options)
    except BaseException:
        workspace.close()
        raise
    workspace.remove()
    return Outcome(options.out or _default_out(options), report, review)


def _run(
    workspace: Workspace,
    checkpoint: Checkpoint,
    digest: str,
    split: Split,
    groupings: Sequence[Grouping],
    recipes: Sequence[Recipe],
    seen: str,
    options: Options,
) -> tuple[Report, list[Candidate], Path]:
    preprocessing, decision = checkpoint.spec.preprocessing, checkpoint.spec.decision
    parts = {"test": split.test, "val": split.val}

    def calibrate(folder: Path) -> Calibration:
        samples = calibration.choose(split.train, options.seed)
        hashes = pixel_hashes(samples)
        render_all([sample.path for sample in samples], preprocessing, "Reading", folder / "images.npy")
        return Calibration(options.seed, tuple(hashes), count_by_class(samples, split.classes))

    def export(folder: Path) -> _Export:
        from .export import export

        images = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:_PARITY_IMAGES]])
        made = export(rebuild(checkpoint), images, folder / REFERENCE_FILE)
        return _Export(made.parity, made.opset)

    def measure(folder: Path) -> _Measured:
        at = _now()
        images = {part: folder / f"{part}.npy" for part in parts}
        for part, samples in parts.items():
            label_samples(samples, decision, preprocessing, images[part], f"Reading the {part} images")
        found = answer(candidates, REFERENCE, preprocessing, images, options.threads)
        save_logits(folder / "logits.npz", found.logits)
        return _Measured(found.rows, at)

    def check(folder: Path) -> Checks:
        train = [*split.train, *split.val]
        return check_data(train, split.test, split.classes, accept_leaks=options.accept_leaks)

    _, checks = workspace.stage("check", "Comparing training and held-out images", Checks, check)
    calibrated, record = workspace.stage("calibrate", "Choosing calibration images", Calibration, calibrate)
    rendered = np.load(calibrated / "images.npy", mmap_mode="r")
    exported, parity = workspace.stage("export", "Exporting to ONNX", _Export, export)
    reference = exported / REFERENCE_FILE
    candidates, problems = emit_all(workspace, recipes, reference, rendered, preprocessing)
    folder, found = workspace.stage("measure", f"Measuring {len(candidates)} variants", _Measured, measure)
    say("Weighing the evidence")
    answers = Answers(found.rows, read_logits(folder / "logits.npz"))
    test, val = (labelled(samples, decision, folder / f"{part}.npy") for part, samples in parts.items())
    decision = locked(decision, options.tolerance, val, answers.logits["val"][REFERENCE])
    rows, evidence = weigh(answers, REFERENCE, decision, test, val, options.tolerance, groupings)
    rows = (*rows, *problems)
    choice = choose(rows, evidence, recipes, accept_inconclusive=options.accept_inconclusive)
    images = count_by_class(split.test, split.classes)
    report = Report(
        schema=REPORT_SCHEMA,
        created=_now(),
        model=f"{checkpoint.spec.architecture.split('/')[-1]}: {', '.join(decision.classes)}",
        decision=decision,
        rule=rule_words(options.tolerance.threshold),
        verdict=choice.verdict,
        accepted=choice.accepted,
        reason=choice.reason,
        cautions=(
            *checks.cautions,
            *cautions_of(rows, REFERENCE, images, options.tolerance),
            *cautions_of_lock(options.tolerance, decision, val, split.classes),
        ),
        chosen=choice.chosen,
        reference=REFERENCE,
        tolerance=options.tolerance,
        registration=msgspec.structs.replace(
            options.registration or registered(options.tolerance), measured=min(filter(None, (seen, found.at)))
        ),
        threads=options.threads,
        cpu=this_cpu(),
        images=images,
        held_out=len(split.test),
        patients=len(set(test.patients)),
        rows=rows,
        evidence=evidence,
        provenance={
            "command": command_of(options),
            "checkpoint": f"{options.checkpoint.name}, sha256 {digest}",
            "split": split.fingerprint,
            "data": f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test images",
            "calibration": f"{len(record.sha256)} training images, seed {record.seed}",
            "export": f"opset {parity.opset}, parity with torch {parity.parity:.1e} of the largest logit",
            "data checks": checks.words,
            **notes_of(groupings),
            "versions": versions(),
        },
        checks=msgspec.structs.replace(checks, notes=split.warnings),
    )
    say("Writing the bundle")
    spec = msgspec.structs.replace(checkpoint.spec, decision=decision)
    assemble(workspace.folder / "bundle", spec, report, choice.kept, candidates, record, rendered)
    return report, candidates, test.rendered


def _groupings(checkpoint: Checkpoint, split: Split, options: Options) -> tuple[Grouping, ...]:
    """The subgroups of the test images: told before the first stage where they cannot be found."""
    subgroups = options.tolerance.subgroups
    if options.metadata:
        return group_samples(split.test, split.folder, subgroups, options.metadata)
    source = located(checkpoint.data, options.data, options.checkpoint)
    table = Path(source.table) if source.table else None
    return group_samples(split.test, split.folder, subgroups, table, source.image_column)


class _Seen(msgspec.Struct):
    """What is asked of the report that is replaced, of whatever schema."""

    created: str
    provenance: dict[str, Any]
    registration: Registration | None = None


def _measured_before(destination: Path, checkpoint: str, split: str) -> str:
    """When the bundle that is replaced was measured, where it is of the same network and images; else empty."""
    path = destination / "report.json"
    if not path.is_file():
        return ""
    try:
        seen = from_json(path.read_bytes(), _Seen, str(path))
    except InputError:
        say(f"note: {path} cannot be read, so when these images were first answered is not known")
        return ""
    told = str(seen.provenance)
    if checkpoint not in told or split not in told:
        return ""
    return seen.registration.measured if seen.registration else seen.created


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _find_data(checkpoint: Checkpoint, options: Options) -> Split:
    source = located(checkpoint.data, options.data, options.checkpoint)
    split = split_of(source, checkpoint.spec.decision.classes)
    if split.fingerprint != checkpoint.split:
        if options.data is None:
            raise DataError(
                f"{source.folder}: the images changed since {options.checkpoint.name} was trained on them, and the "
                "test images may be among those it saw; restore them, or name the folder with --data to accept them"
            )
        say("note: these are not the images the checkpoint was trained with; make sure it saw none of the test images")
    return split


def _check_cpu(recipes: Sequence[Recipe]) -> None:
    """What cannot be measured here cannot be proven here: told before the first stage, not after the last."""
    emitted = [recipe for recipe in recipes if recipe.emitted]
    if emitted and all(this_cpu().lacks(recipe.requires) for recipe in emitted):
        lacks = ", ".join(this_cpu().lacks(emitted[0].requires))
        raise MachineError(
            f"this CPU has no {lacks}, so the forms for that target cannot be proven here; run it on a machine of that "
            "kind, or give --target cpu-avx2"
        )


def _default_out(options: Options) -> Path:
    suffix = "int8" if options.int8 else "float"
    return options.checkpoint.with_name(f"{options.checkpoint.stem}-{suffix}")
