"""The table of accuracy: FP32, the peers' INT8 by their defaults, and the form of a bundle, on the same test images.

    python -m medcompress.compress.against.accuracy CHECKPOINT ... [--json]

for checkpoints that ``medcompress optimize CHECKPOINT --int8`` was run on; the bundle is looked for beside each. The
peers calibrate on the images the bundle was calibrated on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from ...benchmarks.candidate import Candidate
from ...benchmarks.data.labelled import label_samples
from ...benchmarks.data.rendering import render_all
from ...benchmarks.data.samples import pixel_hashes
from ...benchmarks.evaluation import answer
from ...benchmarks.evidence import Evidence
from ...benchmarks.progress import stage
from ...benchmarks.report.files import JSON
from ...benchmarks.report.record import Report
from ...benchmarks.row import Row
from ...benchmarks.weighing import weigh
from ...runtime.bundle import CALIBRATION_FILE, REFERENCE_FILE, Calibration, open_bundle
from ...runtime.errors import DataError
from ...runtime.records import from_json
from ...trained.checkpoint import load_checkpoint
from ...trained.data.splits import located, split_of
from .. import calibration
from ..command import run
from ..recipes import REFERENCE
from .peers import make_peers


class Line(msgspec.Struct, frozen=True):
    """One form of one network, on its test images.

    Attributes:
        form: FP32's, a peer's, or one of the bundle's.
        verdict: of the gate.
    """

    network: str
    form: str
    images: int
    auroc: float | None
    auroc_drop: float | None
    sensitivity: float | None
    specificity: float | None
    flips: int
    logit_change: float
    verdict: str


def compare(path: Path) -> list[Line]:
    """FP32, the peers and the bundle's INT8 forms."""
    checkpoint = load_checkpoint(path)
    bundle = open_bundle(path.with_name(f"{path.stem}-int8"))
    report = from_json((bundle.folder / JSON).read_bytes(), Report, JSON)
    split = split_of(located(checkpoint.data, None, path), checkpoint.spec.decision.classes)
    record = from_json((bundle.folder / CALIBRATION_FILE).read_bytes(), Calibration, CALIBRATION_FILE)
    chosen = calibration.choose(split.train, record.seed, calibration.IMAGES)[: len(record.sha256)]
    if report.provenance["split"] != split.fingerprint or pixel_hashes(chosen) != list(record.sha256):
        raise DataError(f"{bundle.folder}: was made with other images than {path} names; make it again by its defaults")
    preprocessing, decision = bundle.manifest.preprocessing, bundle.manifest.decision
    network = f"{checkpoint.spec.architecture.split('/')[-1]}, {split.folder.name}"
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        folder = Path(scratch)
        pixels = render_all([each.path for each in chosen], preprocessing, "Reading", folder / "calibration.npy")
        images = [preprocessing.normalize(np.asarray(each)) for each in pixels]
        test = label_samples(split.test, decision, preprocessing, folder / "test.npy", "Reading the test images")
        stage(f"{network}: making the peers' forms")
        reference = Candidate(REFERENCE, "onnxruntime", "fp32", (bundle.folder / REFERENCE_FILE,))
        forms = [reference, *make_peers(reference.files[0], images, folder)]
        found = answer(forms, REFERENCE, preprocessing, {"test": test.rendered}, report.threads)
        rows, evidence = weigh(found, REFERENCE, decision, test, None, report.tolerance)
    theirs = [_line(network, row, each) for row in rows for each in evidence if each.variant == row.name]
    ours = [
        _line(network, row, each)
        for row in report.rows
        for each in report.evidence
        if each.variant == row.name and row.precision.startswith("int8")
    ]
    return theirs + ours


def _line(network: str, row: Row, evidence: Evidence) -> Line:
    return Line(
        network,
        row.name,
        evidence.images,
        row.auroc,
        row.auroc_drop,
        row.sensitivity,
        row.specificity,
        row.flips or 0,
        evidence.agreement.largest_logit_change,
        row.status,
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.against.accuracy")
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines = [line for path in given.checkpoints for line in compare(path)]
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(lines)).decode())
        return
    titles = ("network, images", "form", "AUROC", "loss", "sensitivity", "specificity", "flips", "largest logit change")
    print(f"| {' | '.join((*titles, 'verdict'))} |\n|{'---|' * 9}")
    for line in lines:
        loss = "" if line.auroc_drop is None or line.form == REFERENCE else f"{line.auroc_drop:.4f}"
        cells = [
            f"{line.network}, {line.images}",
            line.form,
            _number(line.auroc, 4),
            loss,
            _number(line.sensitivity, 3),
            _number(line.specificity, 3),
            f"{line.flips} ({100 * line.flips / line.images:.1f} %)",
            f"{line.logit_change:.2f}",
            line.verdict.partition(":")[0],
        ]
        print(f"| {' | '.join(cells)} |")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    run(main)
