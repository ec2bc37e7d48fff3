"""The pipeline: checkpoint -> export -> calibrate -> emit per target -> measure each -> gate -> bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.data.checks import Checks, check_data
from ..benchmarks.data.rendering import render_all
from ..benchmarks.data.samples import count_by_class, pixel_hashes
from ..benchmarks.evaluation import Row, evaluate, label_samples
from ..benchmarks.progress import stage as say
from ..benchmarks.report.record import SCHEMA as REPORT_SCHEMA
from ..benchmarks.report.record import Report
from ..benchmarks.tolerance import Tolerance
from ..runtime.bundle import REFERENCE_FILE, Calibration, publish
from ..runtime.errors import DataError, MachineError
from ..runtime.hardware import this_cpu
from ..trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from ..trained.data.splits import Split, located, split_of
from . import calibration
from .assembly import assemble
from .choice import caution, choose
from .emission import emit_all
from .environment import check_disk, check_packages, versions
from .recipes import REFERENCE, Recipe, select
from .workspace import Workspace

_PARITY_IMAGES = 16


class Options(msgspec.Struct, frozen=True):
    """What to make, and how to judge it.

    Attributes:
        data: folder of the images; None takes the one the checkpoint names.
        out: of the bundle; None puts it beside the checkpoint.
        targets: of :data:`medcompress.compress.recipes.TARGETS`.
        threads: of one inference, for the figures and as the bundle's default.
        replace: an older bundle at ``out``.
        seed: of the choice of calibration images.
        accept_leaks: go on where training images are among the held-out ones; the report says so.
    """

    checkpoint: Path
    data: Path | None = None
    out: Path | None = None
    int8: bool = False
    targets: tuple[str, ...] = ("cpu",)
    threads: int = 1
    tolerance: Tolerance = Tolerance()
    replace: bool = False
    seed: int = 0
    accept_leaks: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """Where the bundle lies, and its report."""

    bundle: Path
    report: Report


class _Export(msgspec.Struct):
    parity: float
    opset: int


class _Measured(msgspec.Struct):
    rows: tuple[Row, ...]


def optimize(options: Options) -> Outcome:
    """Make and prove the compressed forms of a checkpoint, and write the bundle.

    Stopped at any point, it goes on from the last finished stage when called again with the same options.

    Returns:
        The bundle and the report. ``report.verdict`` is ``fail`` when nothing compressed passed: the bundle then
        holds the float forms only.

    Raises:
        CheckpointError: not a checkpoint of ours, or damaged.
        DataError: the images are gone, leak, or do not fit the checkpoint.
        InputError: wrong options, or something else lies at ``out``.
        MachineError: a package, or disk space, is missing.
    """
    recipes = select(options.targets, int8=options.int8)
    check_packages(options.int8)
    _check_cpu(recipes)
    checkpoint = load_checkpoint(options.checkpoint)
    split = _find_data(checkpoint, options)
    digest = hashlib.sha256(options.checkpoint.read_bytes()).hexdigest()
    destination = options.out or _default_out(options)
    if options.threads < 1:
        raise DataError(f"--threads {options.threads}: at least 1 is needed")
    key = {
        "checkpoint": digest,
        "split": split.fingerprint,
        "recipes": [recipe.name for recipe in recipes],
        "threads": options.threads,
        "tolerance": msgspec.to_builtins(options.tolerance),
        "seed": options.seed,
        "accept_leaks": options.accept_leaks,
        "versions": versions(),
        "cpu": msgspec.to_builtins(this_cpu()),
        "touched": [sample.path.stat().st_mtime_ns for sample in (*split.train, *split.val, *split.test)],
    }
    check_disk(destination.absolute().parent, options.checkpoint, len(split.test), checkpoint.spec.preprocessing)
    workspace = Workspace(destination.absolute(), key, replace=options.replace)
    try:
        report = _run(workspace, checkpoint, digest, split, recipes, options)
        publish(workspace.folder / "bundle", destination.absolute())
    except BaseException:
        workspace.close()
        raise
    workspace.remove()
    return Outcome(destination, report)


def _run(
    workspace: Workspace,
    checkpoint: Checkpoint,
    digest: str,
    split: Split,
    recipes: Sequence[Recipe],
    options: Options,
) -> Report:
    preprocessing, decision = checkpoint.spec.preprocessing, checkpoint.spec.decision

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
        labelled = label_samples(split.test, decision, preprocessing, folder / "images.npy")
        found = evaluate(candidates, REFERENCE, decision, preprocessing, labelled, options.tolerance, options.threads)
        return _Measured(found)

    def check(folder: Path) -> Checks:
        train = [*split.train, *split.val]
        return check_data(train, split.test, split.classes, accept_leaks=options.accept_leaks)

    _, checks = workspace.stage("check", "Comparing training and held-out images", Checks, check)
    calibrated, record = workspace.stage("calibrate", "Choosing calibration images", Calibration, calibrate)
    rendered = np.load(calibrated / "images.npy", mmap_mode="r")
    exported, parity = workspace.stage("export", "Exporting to ONNX", _Export, export)
    reference = exported / REFERENCE_FILE
    candidates, problems = emit_all(workspace, recipes, reference, rendered, preprocessing)
    _, found = workspace.stage("measure", f"Measuring {len(candidates)} variants", _Measured, measure)
    rows = (*found.rows, *problems)
    verdict, chosen, reason = choose(rows, recipes)
    images = count_by_class(split.test, split.classes)
    report = Report(
        schema=REPORT_SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=f"{checkpoint.spec.architecture.split('/')[-1]}: {', '.join(decision.classes)}",
        verdict=verdict,
        reason=checks.caution + caution(rows, images) + reason,
        chosen=chosen,
        reference=REFERENCE,
        tolerance=options.tolerance,
        threads=options.threads,
        cpu=this_cpu(),
        images=images,
        rows=rows,
        provenance={
            "checkpoint": f"{options.checkpoint.name}, sha256 {digest}",
            "data": f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test images, "
            f"split {split.fingerprint}",
            "calibration": f"{len(record.sha256)} training images, seed {record.seed}",
            "export": f"opset {parity.opset}, parity with torch {parity.parity:.1e} of the largest logit",
            "data checks": checks.words,
            "versions": versions(),
        },
        checks=checks,
    )
    say("Writing the bundle")
    assemble(workspace.folder / "bundle", checkpoint.spec, report, candidates, record, rendered)
    return report


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
