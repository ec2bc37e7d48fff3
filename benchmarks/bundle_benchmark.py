"""Measure every variant of a bundle on this machine, on this machine's own images where it is given some."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..runtime.bundle import CALIBRATION_FILE, Bundle, Calibration, Variant
from ..runtime.errors import BundleError, DataError, InputError
from ..runtime.hardware import this_cpu
from ..runtime.records import from_json
from .candidate import Candidate
from .cases import draw_report, require_matplotlib
from .cautions import cautions_of
from .data.labelled import label_samples
from .data.samples import Sample, count_by_class, pixel_hashes
from .data.subgroups import Grouping, group_samples, notes_of
from .evaluation import answer
from .networks import Network
from .progress import stage
from .report.picture import Picture
from .report.record import SCHEMA, Report
from .report.stored import read_report
from .row import ACCURACY_FIGURES, Row
from .statistics.metrics import require_scikit_learn
from .tolerance import Registration, Tolerance, registered
from .verdict import Outcome
from .versions import versions
from .weighing import weigh

# What the chosen variant's row says of it; where it did not run, nothing was shown.
_VERDICTS: dict[str, Outcome] = {"pass": "pass", "reference": "pass", "inconclusive": "inconclusive"}


class Local(msgspec.Struct, frozen=True):
    """Labelled images of this machine's own.

    Attributes:
        folder: the samples are named within.
        metadata: CSV with the columns of the tolerance's subgroups; ``image_column`` of it, where it is not found.
        tolerance: None takes the margins the bundle was made with; ``registration``: how old others are.
        warnings: what the figures must be read with, a sentence each.
        pictures: draw the images whose answer changed, with their heat maps.
        accept_inconclusive: the report says that it was accepted.
    """

    samples: Sequence[Sample]
    folder: Path
    metadata: Path | None = None
    image_column: str = ""
    tolerance: Tolerance | None = None
    registration: Registration | None = None
    warnings: tuple[str, ...] = ()
    pictures: bool = False
    accept_inconclusive: bool = False


class Benchmarked(msgspec.Struct, frozen=True):
    """What was measured: the rows alone, or with images the report too, and pictures of what changed."""

    rows: tuple[Row, ...]
    report: Report | None = None
    pictures: dict[tuple[str, int], Picture] = {}


def candidates(bundle: Bundle) -> list[Candidate]:
    """The bundle's variants, as they lie on disk; the caller has checked the files."""
    return [_candidate(bundle, variant) for variant in bundle.manifest.variants]


def benchmark(bundle: Bundle, local: Local | None, threads: int, baselines: Sequence[Candidate] = ()) -> Benchmarked:
    """The table for this machine.

    Args:
        local: None measures latency only, and shows the accuracy that was measured when the bundle was made.
        threads: of one inference.
        baselines: timed beside the variants.

    Raises:
        BundleError: a file of the bundle was changed.
        DataError: the images cannot be used.
        EngineError: the reference does not run here.
    """
    if local is not None:
        require_scikit_learn()
        if local.pictures:
            require_matplotlib()
    bundle.check_files()
    manifest = bundle.manifest
    forms = candidates(bundle)
    everything = [*forms, *baselines]
    if local is None:
        found = answer(everything, manifest.reference, manifest.preprocessing, {}, threads)
        return Benchmarked(tuple(_with_stored_figures(row, bundle) for row in found.rows))
    tolerance = local.tolerance or _tolerance(bundle)
    groupings, left = _groupings(local, tolerance)
    _refuse_calibration_images(bundle, local.samples)
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        npy = Path(scratch) / "images.npy"
        test = label_samples(local.samples, manifest.decision, manifest.preprocessing, npy, "Reading the images")
        at = _now()
        found = answer(everything, manifest.reference, manifest.preprocessing, {"test": npy}, threads)
        rows, evidence = weigh(found, manifest.reference, manifest.decision, test, None, tolerance, groupings)
        chosen = next(row for row in rows if row.name == manifest.chosen)
        verdict = _VERDICTS.get(chosen.state, "fail")
        images = count_by_class(local.samples, manifest.decision.classes)
        report = Report(
            schema=SCHEMA,
            created=_now(),
            model=f"{manifest.spec.get('architecture', 'model')}: {', '.join(manifest.decision.classes)}",
            decision=manifest.decision,
            rule="locked in the bundle",
            verdict=verdict,
            accepted=verdict == "inconclusive" and local.accept_inconclusive,
            reason=f"{manifest.chosen}, on these images and this machine: {chosen.status}.",
            cautions=(
                *local.warnings,
                *left,
                *_of_bundle(bundle, tolerance),
                *cautions_of(rows, manifest.reference, images, tolerance),
            ),
            chosen=manifest.chosen,
            reference=manifest.reference,
            tolerance=tolerance,
            registration=_registration(bundle, local, at),
            threads=threads,
            cpu=this_cpu(),
            images=images,
            held_out=len(local.samples),
            patients=len(set(test.patients)),
            rows=rows,
            evidence=evidence,
            provenance={
                "bundle": f"made {manifest.created}, manifest sha256 {bundle.identity}",
                "data": f"{len(local.samples)} images of this machine's own",
                **notes_of(groupings),
                "versions": versions(),
            },
            networks=_networks(bundle),
        )
        pictures = {}
        if local.pictures:
            pictures = draw_report(report, local.samples, local.folder, npy, forms, manifest.preprocessing)
    return Benchmarked(rows, report, pictures)


def _networks(bundle: Bundle) -> tuple[Network, ...]:
    """Of which networks its forms are; nothing where its own report cannot be read, which this one does not need."""
    try:
        return read_report(bundle.folder).networks
    except InputError as error:
        stage(f"note: {error}; so this report does not tell which networks were pruned")
        return ()


def _tolerance(bundle: Bundle) -> Tolerance:
    try:
        return msgspec.convert(bundle.manifest.lineage.get("tolerance", {}), Tolerance)
    except msgspec.ValidationError as error:
        raise BundleError(f"{bundle.folder}: its tolerance is none ({error}); make the bundle again") from error


def _groupings(local: Local, tolerance: Tolerance) -> tuple[tuple[Grouping, ...], tuple[str, ...]]:
    """What is asked for here must be there; of the bundle's own subgroups those that are not are told."""
    column = local.image_column
    if local.tolerance is not None or local.metadata is not None:
        return group_samples(local.samples, local.folder, tolerance.subgroups, local.metadata, column), ()
    found: list[Grouping] = []
    left: list[str] = []
    for entry in tolerance.subgroups:
        try:
            found += group_samples(local.samples, local.folder, [entry], None)
        except DataError:
            left.append(f"these images are not divided by {entry.title}: no --metadata is given, or no name fits")
    return tuple(found), tuple(left)


def _of_bundle(bundle: Bundle, tolerance: Tolerance) -> list[str]:
    """What its maker did that a reader here must know, and what of the tolerance is not followed here."""
    said = []
    if bundle.manifest.accepted:
        said.append("The chosen form was not shown to be as good when the bundle was made; its maker accepted it.")
    made = _tolerance(bundle)
    if (tolerance.threshold, tolerance.temperature) != (made.threshold, made.temperature):
        said.append("Threshold and temperature are those locked in the bundle; the tolerance's rules are not followed.")
    return said


def _registration(bundle: Bundle, local: Local, at: str) -> Registration:
    """How old the margins are; an older bundle does not say it of its own."""
    if local.tolerance is not None:
        found = local.registration or registered(local.tolerance)
    else:
        try:
            found = msgspec.convert(bundle.manifest.lineage.get("registration"), Registration)
        except msgspec.ValidationError:
            found = msgspec.structs.replace(registered(_tolerance(bundle)), source="not recorded in the bundle")
    return msgspec.structs.replace(found, measured=at)


def _refuse_calibration_images(bundle: Bundle, samples: Sequence[Sample]) -> None:
    """What is measured on images the INT8 ranges were taken from would be worth nothing."""
    if CALIBRATION_FILE not in bundle.manifest.files:
        return
    path = bundle.check(CALIBRATION_FILE)
    known = set(from_json(path.read_bytes(), Calibration, str(path), BundleError).sha256)
    for sample, digest in zip(samples, pixel_hashes(samples), strict=True):
        if digest in known:
            raise DataError(f"{sample.path}: the bundle was calibrated with this picture; give images it never saw")


def _candidate(bundle: Bundle, variant: Variant) -> Candidate:
    files = tuple(bundle.folder / name for name in variant.files)
    return Candidate(variant.name, variant.engine, variant.precision, files, variant.requires)


def _with_stored_figures(row: Row, bundle: Bundle) -> Row:
    variant = next((variant for variant in bundle.manifest.variants if variant.name == row.name), None)
    if variant is None:
        return row
    stored = {name: value for name, value in variant.figures.items() if name in ACCURACY_FIGURES}
    return msgspec.convert({**msgspec.structs.asdict(row), **stored}, Row, strict=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
