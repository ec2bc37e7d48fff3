"""Put a bundle together from what was proven."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..benchmarks.candidate import Candidate
from ..benchmarks.report.files import write_report
from ..benchmarks.report.record import Report
from ..benchmarks.row import ACCURACY_FIGURES, Row
from ..benchmarks.timing.worker import Worker
from ..runtime.bundle import (
    CALIBRATION_FILE,
    GOLDEN_FILE,
    GUARD_FILE,
    RANGES_FILE,
    REFERENCE_FILE,
    SCHEMA,
    Calibration,
    Manifest,
    Variant,
)
from ..runtime.golden import Golden, make_picture
from ..runtime.guard import Guard
from ..runtime.preprocessing import Preprocessing
from ..runtime.records import to_json
from ..runtime.sealing import seal
from ..trained.spec import ModelSpec
from .explanation.bundling import Origin, explain_forms


def assemble(
    folder: Path,
    spec: ModelSpec,
    report: Report,
    kept: Sequence[str],
    candidates: Sequence[Candidate],
    calibrated: Calibration,
    rendered: np.ndarray,
    ranges: Path | None,
    origins: Mapping[str, Origin],
    guard: Guard | None,
    learned: Path,
) -> None:
    """Put the bundle together: the reference, and of the other forms those that are ``kept``.

    Args:
        rendered: calibration images.
        ranges: the file with what was gathered on them; None without INT8.
        origins: candidate -> what it was made of, for its heat maps.
        learned: the file with what the guard learned; not there where there is none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "variants").mkdir(parents=True)
    rows = {row.name: row for row in report.rows if row.name in kept}
    proven = [candidate for candidate in candidates if candidate.name in rows]
    (reference,) = next(candidate for candidate in proven if candidate.name == report.reference).files
    places = {reference: REFERENCE_FILE}
    for file in dict.fromkeys(file for candidate in proven for file in candidate.files):
        places.setdefault(file, f"variants/{file.name}")
        shutil.copyfile(file, folder / places[file])
    golden = _golden(spec.preprocessing, rendered, proven, report.threads, folder)
    explained, maps = explain_forms(folder, proven, origins, golden.inputs, rendered, report.threads)
    golden = msgspec.structs.replace(golden, maps=maps)
    variants = []
    for candidate in proven:
        variants.append(
            Variant(
                name=candidate.name,
                engine=candidate.engine,
                precision=candidate.precision,
                files=tuple(places[file] for file in candidate.files),
                requires=candidate.requires,
                figures=_figures(rows[candidate.name]),
                explanation=explained.get(candidate.name),
            )
        )
    (folder / GOLDEN_FILE).write_bytes(golden.to_bytes())
    if guard is not None:
        shutil.copyfile(learned, folder / GUARD_FILE)
    (folder / CALIBRATION_FILE).write_bytes(to_json(calibrated))
    if ranges is not None:
        shutil.copyfile(ranges, folder / RANGES_FILE)
    write_report(folder, report, msgspec.to_builtins(spec))
    seal(
        folder,
        Manifest(
            schema=SCHEMA,
            created=report.created,
            verdict=report.verdict,
            accepted=report.accepted,
            guard=guard,
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
                "registration": msgspec.to_builtins(report.registration),
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
    return {name: getattr(row, name) for name in (*ACCURACY_FIGURES, "p50_ms", "p90_ms")}
