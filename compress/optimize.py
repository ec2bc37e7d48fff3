"""The pipeline: checkpoint -> export -> calibrate -> emit per target -> measure each -> gate -> bundle."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..benchmarks.evaluation import Candidate, Row, evaluate, label_samples
from ..benchmarks.progress import stage as say
from ..benchmarks.rendering import render_all
from ..benchmarks.report import SCHEMA as REPORT_SCHEMA
from ..benchmarks.report import Report, render_html
from ..benchmarks.tolerance import Tolerance
from ..benchmarks.worker import Worker
from ..runtime.bundle import GOLDEN_FILE, REFERENCE_FILE, SCHEMA, Manifest, Variant, publish, seal
from ..runtime.errors import DataError, MachineError, missing_package
from ..runtime.golden import Golden, make_picture
from ..runtime.hardware import this_cpu
from ..runtime.preprocessing import Preprocessing
from ..runtime.records import to_json
from ..trained.checkpoint import Checkpoint, load_checkpoint, rebuild
from ..trained.splits import Split, split_of
from . import calibration
from .recipes import REFERENCE, Recipe, select
from .workspace import Workspace

PACKAGES = ("numpy", "pillow", "torch", "timm", "torchvision", "onnx", "onnxruntime", "openvino", "nncf")
# Import name -> the package to name; all are needed before the first stage begins.
_NEEDED = {
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "openvino": "openvino",
    "sklearn": "scikit-learn",
    "jinja2": "jinja2",
}
_NEEDED_FOR_INT8 = {"nncf": "nncf"}
_PARITY_IMAGES = 16
# Medians of interleaved rounds differ by so much between two runs on a shared machine.
SAME_SPEED = 0.1


class Options(msgspec.Struct, frozen=True):
    """What to make, and how to judge it.

    Attributes:
        data: folder of the images; None takes the one the checkpoint names.
        out: of the bundle; None puts it beside the checkpoint.
        targets: of :data:`medcompress.compress.recipes.TARGETS`.
        threads: of one inference, for the figures and as the bundle's default.
        replace: an older bundle at ``out``.
        seed: of the choice of calibration images.
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


class Outcome(msgspec.Struct, frozen=True):
    """Where the bundle lies, and its report."""

    bundle: Path
    report: Report


class _Export(msgspec.Struct):
    parity: float
    opset: int


class _Measured(msgspec.Struct):
    rows: tuple[Row, ...]


class _Emitted(msgspec.Struct):
    files: tuple[str, ...]


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
    _check_packages(options.int8)
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
        "versions": _versions(),
    }
    workspace = Workspace(destination.absolute(), key, replace=options.replace)
    try:
        _check_disk(workspace.folder, options.checkpoint)
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

    def calibrate(folder: Path) -> calibration.Calibration:
        samples = calibration.choose(split.train, options.seed)
        hashes = calibration.refuse_overlap(samples, [*split.val, *split.test])
        render_all([sample.path for sample in samples], preprocessing, "Reading", folder / "images.npy")
        counts = Counter(split.classes[sample.label] for sample in samples)
        return calibration.Calibration(options.seed, tuple(hashes), dict(counts))

    def export(folder: Path) -> _Export:
        from .export import export

        images = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:_PARITY_IMAGES]])
        made = export(rebuild(checkpoint), images, folder / REFERENCE_FILE)
        return _Export(made.parity, made.opset)

    def measure(folder: Path) -> _Measured:
        paths, labels = [s.path for s in split.test], [s.label for s in split.test]
        labelled = label_samples(paths, labels, decision, preprocessing, folder / "images.npy")
        found = evaluate(candidates, REFERENCE, decision, preprocessing, labelled, options.tolerance, options.threads)
        return _Measured(found.rows)

    calibrated, record = workspace.stage("calibrate", "Choosing calibration images", calibration.Calibration, calibrate)
    rendered = np.load(calibrated / "images.npy", mmap_mode="r")
    exported, parity = workspace.stage("export", "Exporting to ONNX", _Export, export)
    reference = exported / REFERENCE_FILE
    candidates, problems = _emit_all(workspace, recipes, reference, rendered, preprocessing)
    _, found = workspace.stage("measure", f"Measuring {len(candidates)} variants", _Measured, measure)
    rows = (*found.rows, *problems)
    verdict, chosen, reason = choose(rows, recipes)
    report = Report(
        schema=REPORT_SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=f"{checkpoint.spec.architecture.split('/')[-1]}: {', '.join(decision.classes)}",
        verdict=verdict,
        reason=reason,
        chosen=chosen,
        reference=REFERENCE,
        tolerance=options.tolerance,
        threads=options.threads,
        cpu=this_cpu(),
        images=dict(Counter(split.classes[sample.label] for sample in split.test)),
        rows=rows,
        provenance={
            "checkpoint": f"{options.checkpoint.name}, sha256 {digest}",
            "data": f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test images, "
            f"split {split.fingerprint}",
            "calibration": f"{len(record.sha256)} training images, seed {record.seed}",
            "export": f"opset {parity.opset}, parity with torch {parity.parity:.1e} of the largest logit",
            "versions": _versions(),
        },
    )
    _assemble(workspace.folder / "bundle", checkpoint, report, candidates, record, rendered)
    return report


def choose(rows: Sequence[Row], recipes: Sequence[Recipe]) -> tuple[Literal["pass", "fail"], str, str]:
    """(verdict, chosen, reason): the fastest row that passed; of those as fast, the one most like the reference.

    The verdict is ``fail`` when forms below FP32 were tried and none of them passed: the float model is kept.
    """
    base = next(row for row in rows if row.name == REFERENCE)
    compressed = {recipe.name for recipe in recipes if recipe.precision != "fp32"}
    tried = [row for row in rows if row.name in compressed]
    passed = [row for row in rows if row.passed and row.p50_ms is not None]
    refused = [row for row in tried if row.precision == "int8" and not row.passed]
    limit = min(row.p50_ms or float("inf") for row in passed) * (1 + SAME_SPEED)
    as_fast = [row for row in passed if (row.p50_ms or float("inf")) <= limit]
    fastest = min(as_fast, key=lambda row: (row.flips or 0, row.probability_change or 0.0, row.p50_ms))
    if tried and not any(row.passed for row in tried):
        worst = "; ".join(f"{row.name}: {row.status.removeprefix('fail: ')}" for row in tried)
        return "fail", fastest.name, f"No compressed form passed, the FP32 model is kept. {worst}."
    speed = (base.p50_ms or 0) / (fastest.p50_ms or float("inf"))
    rank = "the fastest" if len(as_fast) == 1 else "the most faithful of the fastest"
    reason = (
        f"{fastest.name} is {rank} of {len(passed)} forms that passed: {fastest.p50_ms:.2f} ms, {speed:.1f} times as "
        f"fast as {REFERENCE}, {100 * fastest.size_bytes / base.size_bytes:.0f} % of its size."
    )
    if refused:
        reason += f" Refused: {', '.join(row.name for row in refused)}."
    return "pass", fastest.name, reason


def _emit_all(
    workspace: Workspace,
    recipes: Sequence[Recipe],
    reference: Path,
    rendered: np.ndarray,
    preprocessing: Preprocessing,
) -> tuple[list[Candidate], list[Row]]:
    """The candidates that could be made, and a row for each that could not."""
    candidates, problems = [], []
    for recipe in recipes:
        files: tuple[Path, ...] = (reference,)
        if recipe.emitted:

            def action(folder: Path, recipe: Recipe = recipe) -> _Emitted:
                return _emit(recipe, reference, rendered, preprocessing, workspace, folder)

            try:
                folder, made = workspace.stage(recipe.name, f"Making {recipe.name}", _Emitted, action)
            except OSError:
                raise  # a full disk is no fault of the recipe
            except Exception as error:  # the quantizers raise what they like; the other forms are still made
                _check_disk(workspace.folder, reference)
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                problems.append(Row(recipe.name, recipe.engine, recipe.precision, 0, f"error: not made: {reason}"))
                say(f"  {recipe.name} could not be made: {reason}")
                continue
            files = tuple(folder / name for name in made.files)
        candidates.append(Candidate(recipe.name, recipe.engine, recipe.precision, files, recipe.requires))
    return candidates, problems


def _emit(
    recipe: Recipe,
    reference: Path,
    rendered: np.ndarray,
    preprocessing: Preprocessing,
    workspace: Workspace,
    folder: Path,
) -> _Emitted:
    if recipe.engine == "openvino":
        from . import emit_openvino

        images = [preprocessing.normalize(pixels) for pixels in rendered]
        made = emit_openvino.emit(reference, images, folder / f"{recipe.name}.xml", full_range=recipe.full_range)
    else:
        from . import emit_onnxruntime

        def gather(folder: Path) -> _Emitted:
            images = (preprocessing.normalize(pixels) for pixels in rendered)
            emit_onnxruntime.gather_ranges(reference, images, folder)
            return _Emitted(())

        ranges, _ = workspace.stage("onnxruntime-ranges", "  gathering ranges for ONNX Runtime", _Emitted, gather)
        made = [emit_onnxruntime.emit(ranges, folder / f"{recipe.name}.onnx", full_range=recipe.full_range)]
    return _Emitted(tuple(path.name for path in made))


def _assemble(
    folder: Path,
    checkpoint: Checkpoint,
    report: Report,
    candidates: Sequence[Candidate],
    calibrated: calibration.Calibration,
    rendered: np.ndarray,
) -> None:
    """Put the bundle together: the reference, and of the others only what was proven."""
    say("Writing the bundle")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "variants").mkdir(parents=True)
    rows = {row.name: row for row in report.rows if row.passed}
    if report.verdict == "fail":
        rows = {name: row for name, row in rows.items() if row.precision == "fp32"}
    proven = [candidate for candidate in candidates if candidate.name in rows]
    shutil.copyfile(proven[0].files[0], folder / REFERENCE_FILE)
    variants = []
    for candidate in proven:
        names = (REFERENCE_FILE,)
        if candidate.precision == "int8":
            names = tuple(f"variants/{file.name}" for file in candidate.files)
            for file, name in zip(candidate.files, names, strict=True):
                shutil.copyfile(file, folder / name)
        variants.append(
            Variant(
                name=candidate.name,
                engine=candidate.engine,
                precision=candidate.precision,
                files=names,
                requires=candidate.requires,
                figures=_figures(rows[candidate.name]),
            )
        )
    spec = checkpoint.spec
    golden = _golden(spec.preprocessing, rendered, proven, report.threads, folder)
    (folder / GOLDEN_FILE).write_bytes(golden.to_bytes())
    (folder / "calibration.json").write_bytes(to_json(calibrated))
    (folder / "report.json").write_bytes(to_json(report))
    (folder / "report.html").write_text(render_html(report), encoding="utf-8")
    seal(
        folder,
        Manifest(
            schema=SCHEMA,
            created=report.created,
            verdict=report.verdict,
            reason=report.reason,
            chosen=report.chosen,
            reference=report.reference,
            threads=report.threads,
            decision=spec.decision,
            preprocessing=spec.preprocessing,
            variants=tuple(variants),
            spec=msgspec.to_builtins(spec),
            lineage={
                **report.provenance,
                "tolerance": msgspec.to_builtins(report.tolerance),
                "cpu": msgspec.to_builtins(report.cpu),
            },
        ),
    )


def _golden(
    preprocessing: Preprocessing, rendered: np.ndarray, proven: Sequence[Candidate], threads: int, folder: Path
) -> Golden:
    """Golden inputs that show no patient: a pattern, noise, and the mean of all calibration images, twice."""
    picture = make_picture()
    pattern = preprocessing.render(picture)
    noise = np.random.default_rng(0).integers(0, 256, pattern.shape, dtype=np.uint8)
    mean = rendered.mean(axis=0)
    stretched = (mean - mean.min()) * 255 / max(1.0, float(np.ptp(mean)))
    inputs = np.stack([pattern, noise, mean.astype(np.uint8), stretched.astype(np.uint8)])
    logits = {}
    scratch = folder / "golden-inputs.npy"
    np.save(scratch, inputs)
    for candidate in proven:
        with Worker(candidate.command) as worker:
            worker.load(candidate.engine, candidate.files, candidate.precision, threads)
            logits[candidate.name] = worker.run(scratch, preprocessing)
    scratch.unlink()
    return Golden(inputs, logits, picture, pattern)


def _figures(row: Row) -> dict[str, float | None]:
    names = ("auroc", "auroc_drop", "accuracy", "sensitivity", "specificity", "probability_change", "flips")
    return {name: getattr(row, name) for name in (*names, "p50_ms", "p90_ms")}


def _find_data(checkpoint: Checkpoint, options: Options) -> Split:
    source = checkpoint.data
    if options.data is not None:
        source = msgspec.structs.replace(source, folder=str(options.data.absolute()))
    elif not Path(source.folder).is_dir():
        raise DataError(
            f"{options.checkpoint}: was trained on {source.folder}, which is not there any more; "
            "give the folder with --data"
        )
    split = split_of(source, checkpoint.spec.decision.classes)
    if split.fingerprint != checkpoint.split:
        if options.data is None:
            raise DataError(
                f"{source.folder}: the images changed since {options.checkpoint.name} was trained on them, and the "
                "test images may be among those it saw; restore them, or name the folder with --data to accept them"
            )
        say("note: these are not the images the checkpoint was trained with; make sure it saw none of the test images")
    return split


def _check_packages(int8: bool) -> None:
    needed = _NEEDED | (_NEEDED_FOR_INT8 if int8 else {})
    for module, package in needed.items():
        if importlib.util.find_spec(module) is None:
            raise missing_package(package, "compress")


def _check_disk(folder: Path, checkpoint: Path) -> None:
    """The stages and the bundle take up to ten times the checkpoint."""
    needed = 10 * checkpoint.stat().st_size + 100_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder.parent}: has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed; "
            "free some, or give --out"
        )


def _default_out(options: Options) -> Path:
    suffix = "int8" if options.int8 else "float"
    return options.checkpoint.with_name(f"{options.checkpoint.stem}-{suffix}")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in PACKAGES if importlib.util.find_spec(_module(name))}
    return {"medcompress": version("medcompress"), "python": platform.python_version(), **packages}


def _module(package: str) -> str:
    return {"pillow": "PIL"}.get(package, package)
