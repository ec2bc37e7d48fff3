"""The review copy: the report with the patients' images, beside the bundle and never in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..benchmarks.candidate import Candidate
from ..benchmarks.cases import draw_report
from ..benchmarks.progress import stage as say
from ..benchmarks.report.files import FILES, FLIPS, HTML, write_report
from ..benchmarks.report.record import Report
from ..trained.checkpoint import Checkpoint
from ..trained.data.splits import Split
from .options import Options


def write_review(
    destination: Path,
    report: Report,
    checkpoint: Checkpoint,
    split: Split,
    candidates: Sequence[Candidate],
    rendered: Path,
    options: Options,
) -> Path | None:
    """The report with what shows patients, beside the bundle; an older one goes, for it is of another bundle."""
    folder = destination.with_name(f"{destination.name}-review")
    if (folder / FLIPS).is_file():
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    if not options.review or not any(each.flips for each in report.evidence):
        return None
    say("Drawing the images whose answer changed (the bundle is made)")
    preprocessing = checkpoint.spec.preprocessing
    pictures = draw_report(report, split.test, split.folder, rendered, candidates, preprocessing)
    files = [sample.path.relative_to(split.folder).as_posix() for sample in split.test]
    write_report(folder, report, msgspec.to_builtins(checkpoint.spec), pictures, files)
    return folder / HTML
