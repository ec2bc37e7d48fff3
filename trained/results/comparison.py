"""Several runs side by side: one row a run, and its paired difference to one of them on the same test images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...benchmarks.statistics.assessment import CONFIDENCE, DRAWS, Figure, mean_figures
from ...benchmarks.statistics.judged import Judged
from ...benchmarks.statistics.measures import OVERALL
from ...runtime.decision import Decision
from ...runtime.errors import InputError
from ..run_files import BEST, LAST, OPTIONS, RESUME
from ..tasks import task_for
from .cross_validation import CrossValidation, cross_validation, own_values, spread
from .predictions import Predictions
from .run_report import METRICS, RunReport, read_run

# Figures that are better when smaller.
SMALLER = {"ece", "brier"}
_MEMBER = re.compile(r"(fold|seed)-\d+")
_FROM = "from "
_BEGUN = (OPTIONS, LAST, RESUME, BEST)


class Row(msgspec.Struct, frozen=True):
    """One run, or the folds or seeds of one.

    Attributes:
        run: its folder, as it was given.
        status: empty, ``unfinished``, or what is odd about it.
        members: trainings whose figures are averaged; 1 for a run.
        weights: it began with: ``scratch``, ``imagenet``, or ``from FILE``, the file with as much of its
            path as tells it from others.
        seconds: of training, of all members.
        figures: on the part's images, each with its interval by patient; of several members their mean.
        spread: standard deviation of the members' figures; empty for one.
        difference: of the asked figure to the reference, paired; None where the images are others.
        cross_validation: of folds.
    """

    run: str
    status: str = ""
    members: int = 1
    architecture: str = ""
    weights: str = ""
    strategy: str = ""
    size: int = 0
    epochs: int = 0
    seconds: float | None = None
    images: int = 0
    patients: int = 0
    figures: dict[str, Figure] = {}
    spread: dict[str, float] = {}
    difference: Figure | None = None
    cross_validation: CrossValidation | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Rows from the best ``figure`` on ``part`` to the worst; differences are to ``reference``."""

    figure: str
    part: str
    reference: str
    draws: int
    confidence: float
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Entry:
    """A row before its difference: its models' answers, and what tells their images from others."""

    row: Row
    models: tuple[Judged, ...] = ()
    fingerprint: str = ""


def compare(
    folders: Sequence[Path],
    figure: str | None = None,
    part: str = "test",
    reference: Path | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare finished runs by what they left.

    Args:
        folders: of runs or evaluations, or of folds (``fold-1`` ...) or repeats (``seed-0`` ...) of one.
        figure: of :data:`medcompress.benchmarks.statistics.measures.OVERALL`: sorts, and differences are of it; None
            takes the task's first one, ``auroc`` where the task is not known.
        part: whose images.
        reference: one of ``folders``; None takes the best.

    Raises:
        InputError: no such folder, nothing finished, damaged files, other classes, or no such figure or reference.
    """
    if figure is not None and figure not in OVERALL:
        raise InputError(f"there is no figure {figure!r}; it is one of {', '.join(OVERALL)}")
    if len({folder.absolute() for folder in folders}) < len(folders):
        raise InputError("a run is given twice; give each once")
    decision: Decision | None = None
    entries: list[_Entry] = []
    for folder in folders:
        entry, decision = _read(folder, part, decision, draws, seed)
        entries.append(entry)
    finished = [entry for entry in entries if entry.models]
    if not finished:
        why = "; ".join(f"{entry.row.run}: {entry.row.status}" for entry in entries)
        raise InputError(f"nothing to compare: {why}; finish one with: medcompress train --resume RUN")
    if figure is None:
        known = task_for(decision.classes) if decision is not None else None
        figure = known.metric if known is not None else "auroc"
    finished.sort(key=lambda entry: _rank(entry.row.figures[figure], figure))
    base = finished[0]
    if reference is not None:
        names = [entry for entry in entries if Path(entry.row.run).absolute() == reference.absolute()]
        if not names or not names[0].models:
            raise InputError(f"--reference {reference}: is no finished run of those given; name one of them")
        base = names[0]
    rows = [_with_difference(entry, base, figure, part, draws, seed) for entry in finished]
    rows += [entry.row for entry in entries if not entry.models]
    names = _medical({row.weights for row in rows})
    rows = [msgspec.structs.replace(row, weights=names.get(row.weights, row.weights)) for row in rows]
    return Comparison(figure, part, base.row.run, draws, CONFIDENCE, tuple(rows))


def _rank(found: Figure, figure: str) -> float:
    if found.value is None:
        return float("inf")
    return found.value if figure in SMALLER else -found.value


def _read(folder: Path, part: str, decision: Decision | None, draws: int, seed: int) -> tuple[_Entry, Decision | None]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the folders of finished runs")
    members = [folder]
    if not (folder / METRICS).is_file():
        inside = [entry for entry in folder.iterdir() if entry.is_dir() and _MEMBER.fullmatch(entry.name)]
        members = sorted(inside, key=lambda entry: (entry.name[:4], int(entry.name[5:]))) or [folder]
    done = [member for member in members if (member / METRICS).is_file()]
    if not done:
        if len(members) == 1 and not any((folder / name).exists() for name in _BEGUN):
            raise InputError(
                f"{folder}: holds no run ({METRICS} and predictions.csv); give the folder of a training, or make "
                "them with: medcompress evaluate MODEL --out DIR"
            )
        # Finished by an older medcompress, or its figures were removed.
        trained = len(members) == 1 and (folder / BEST).exists() and not (folder / RESUME).exists()
        status = "not evaluated: medcompress evaluate it with --out" if trained else "unfinished"
        return _Entry(Row(str(folder), status, len(members))), decision
    runs: list[tuple[RunReport, dict[str, Predictions]]] = []
    for member in done:
        report, parts = read_run(member)
        decision = decision or report.decision
        _refuse_other_classes(member, report.decision, decision)
        if part not in report.parts:
            raise InputError(f"{member}: holds no {part} figures, only {', '.join(report.parts)}; choose with --part")
        runs.append((report, parts))
    assert decision is not None
    status = f"{len(done)} of {len(members)} finished" if len(done) < len(members) else ""
    return _entry(folder, status, runs, part, decision, draws, seed), decision


def _refuse_other_classes(folder: Path, found: Decision, expected: Decision) -> None:
    difference = ""
    if found.kind != expected.kind:
        difference = f"is {found.kind}, the others {expected.kind}"
    elif set(found.classes) != set(expected.classes):
        own, others = set(found.classes) - set(expected.classes), set(expected.classes) - set(found.classes)
        difference = f"has the classes {sorted(own)} where the others have {sorted(others)}"
    elif found.positive != expected.positive:
        difference = f"has the finding {found.positive}, the others {expected.positive}"
    if difference:
        raise InputError(f"{folder}: {difference}; only models of one question can be compared")


def _entry(
    folder: Path,
    status: str,
    runs: Sequence[tuple[RunReport, dict[str, Predictions]]],
    part: str,
    decision: Decision,
    draws: int,
    seed: int,
) -> _Entry:
    reports = [report for report, _ in runs]
    fingerprints = {parts[part].fingerprint for _, parts in runs}
    if len(fingerprints) > 1:
        raise InputError(f"{folder}: its members have other {part} images each; compare them one by one")
    models = tuple(parts[part].judged(_ordered(report.decision, decision)) for report, parts in runs)
    assessed = reports[0].parts[part]
    same = len(runs) == 1 and (assessed.draws, assessed.seed) == (draws, seed)
    figures = assessed.figures if same else mean_figures(models, draws=draws, seed=seed)
    values = own_values([report.parts[part] for report in reports])
    first = reports[0]
    options = first.training.options
    seconds = [report.training.seconds for report in reports]
    row = Row(
        str(folder),
        status,
        len(runs),
        first.architecture.rpartition("/")[2],
        _weights(options),
        str(options.get("strategy", "")),
        first.preprocessing.size[0],
        max(len(report.training.history) for report in reports),
        None if None in seconds else float(sum(value or 0 for value in seconds)),
        assessed.images,
        assessed.patients,
        figures,
        spread(values),
        cross_validation=_of_folds(runs, decision, draws, seed) if len(runs) > 1 else None,
    )
    return _Entry(row, models, fingerprints.pop())


def _ordered(own: Decision, decision: Decision) -> Decision:
    """The model's own threshold over the classes in the common order."""
    return msgspec.structs.replace(own, classes=decision.classes)


def _of_folds(
    runs: Sequence[tuple[RunReport, dict[str, Predictions]]], decision: Decision, draws: int, seed: int
) -> CrossValidation | None:
    """Of the folds' validation images, where no image is in two of them."""
    parts = [(report, parts["val"]) for report, parts in runs if "val" in parts]
    files = [file for _, found in parts for file in found.files]
    if len(parts) < len(runs) or len(set(files)) < len(files):
        return None
    folds = [found.judged(_ordered(report.decision, decision)) for report, found in parts]
    return cross_validation([report.parts["val"] for report, _ in parts], folds, draws, seed)


def _with_difference(entry: _Entry, base: _Entry, figure: str, part: str, draws: int, seed: int) -> Row:
    if entry is base:
        return entry.row
    if entry.fingerprint != base.fingerprint:
        other = f"other {part} images"
        return msgspec.structs.replace(entry.row, status=f"{entry.row.status}; {other}" if entry.row.status else other)
    found = mean_figures(entry.models, base.models, draws, seed)[figure]
    return msgspec.structs.replace(entry.row, difference=found)


def _weights(options: dict[str, Any]) -> str:
    weights = str(options.get("weights", ""))
    return weights if weights in ("", "scratch", "imagenet") else f"{_FROM}{weights}"


def _medical(weights: set[str]) -> dict[str, str]:
    """Short names of the files others begin with: the ends of their paths, as long as tells them apart.

    A ``best.pth`` is named with its run: of itself the name says nothing.
    """
    paths = {given: Path(given.removeprefix(_FROM)).parts for given in weights if given.startswith(_FROM)}
    for length in range(1, max(map(len, paths.values()), default=0) + 1):
        names = {
            given: "/".join(parts[-max(length, 2 if parts[-1] in _BEGUN else 1) :]) for given, parts in paths.items()
        }
        if len(set(names.values())) == len(paths):
            return {given: f"{_FROM}{name}" for given, name in names.items()}
    return {}
