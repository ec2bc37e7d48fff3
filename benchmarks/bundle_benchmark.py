"""Measure every variant of a bundle on this machine, on this machine's own images where it is given some."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..runtime.bundle import CALIBRATION_FILE, Bundle, Calibration, Variant
from ..runtime.errors import BundleError, DataError
from ..runtime.records import from_json
from .data.samples import Sample, find_samples, pixel_hashes
from .evaluation import ACCURACY_FIGURES, Candidate, Row, evaluate, label_samples
from .statistics.metrics import require_scikit_learn
from .tolerance import Tolerance

# Folder names, in lower case, of the part of a data set that may be measured on.
_TEST_NAMES = {"test", "testing"}
_TRAIN_NAMES = {"train", "training"}


def candidates(bundle: Bundle) -> list[Candidate]:
    """The bundle's variants, as they lie on disk; the caller has checked the files."""
    return [_candidate(bundle, variant) for variant in bundle.manifest.variants]


def benchmark(
    bundle: Bundle,
    data: Path | None,
    threads: int,
    baselines: Sequence[Candidate] = (),
) -> tuple[Row, ...]:
    """The table for this machine.

    Args:
        data: a folder per class, or a folder with a ``test`` part; None measures latency only, and shows the
            accuracy that was measured when the bundle was made.
        threads: of one inference.
        baselines: timed beside the variants.

    Raises:
        BundleError: a file of the bundle was changed.
        DataError: the images cannot be used.
        EngineError: the reference does not run here.
    """
    if data is not None:
        require_scikit_learn()
    bundle.check_files()
    manifest = bundle.manifest
    tolerance = _tolerance(bundle)
    everything = [*candidates(bundle), *baselines]
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        labelled = None
        if data is not None:
            samples = find_samples(held_out_folder(data), manifest.decision.classes)
            _refuse_calibration_images(bundle, samples)
            labelled = label_samples(samples, manifest.decision, manifest.preprocessing, Path(scratch) / "images.npy")
        rows = evaluate(
            everything, manifest.reference, manifest.decision, manifest.preprocessing, labelled, tolerance, threads
        )
    if data is None:
        rows = tuple(_with_stored_figures(row, bundle) for row in rows)
    return rows


def held_out_folder(data: Path) -> Path:
    """The folder of class folders to measure on: the test part where there is one.

    Raises:
        DataError: there is a training part and no test part: what is measured on it would be worth nothing.
    """
    parts = {entry.name.lower(): entry for entry in data.iterdir() if entry.is_dir()} if data.is_dir() else {}
    test = next((parts[name] for name in sorted(_TEST_NAMES) if name in parts), None)
    if test is None and _TRAIN_NAMES & set(parts):
        raise DataError(
            f"{data}: has training images and no test folder; give the folder of images it was not trained on"
        )
    return test or data


def _tolerance(bundle: Bundle) -> Tolerance:
    try:
        return msgspec.convert(bundle.manifest.lineage.get("tolerance", {}), Tolerance)
    except msgspec.ValidationError as error:
        raise BundleError(f"{bundle.folder}: its tolerance is none ({error}); make the bundle again") from error


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
