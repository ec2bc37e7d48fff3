"""What a run leaves is whole, can be read back, and is refused where it was changed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.statistics.metrics import scores, truth
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import DataError, InputError
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint
from medcompress.trained.data.splits import Split, split_of
from medcompress.trained.results.predictions import read_predictions
from medcompress.trained.results.run_report import METRICS, RunReport, read_run, write_run_report
from medcompress.trained.results.summary import duration, label

HISTORY = [
    {"epoch": 1, "loss": 0.7, "val_loss": 0.7, "val_auroc": 0.6},
    {"epoch": 2, "loss": 0.5, "val_loss": float("nan"), "val_auroc": 0.8},
]
LEFT = {"metrics.json", "predictions.csv", "summary.md", "curves.png", "confusion.png", "roc.png", "pr.png"}
LEFT |= {"reliability.png"}


@pytest.fixture
def blank_plots() -> None:
    """They are drawn here."""


@pytest.fixture
def run(checkpoint: Path) -> tuple[Checkpoint, Split, dict[str, np.ndarray]]:
    """A checkpoint as training has it at its end, its split, and outputs for the held-out parts."""
    found = load_checkpoint(checkpoint)
    found.history.extend(HISTORY)
    split = split_of(found.data, found.spec.decision.classes)
    rng = np.random.default_rng(0)
    return found, split, {part: rng.normal(size=(len(getattr(split, part)), 2)) for part in ("val", "test")}


def test_a_run_leaves_everything(run, tmp_path: Path) -> None:
    checkpoint, split, logits = run
    command = "medcompress train --data here"
    report = write_run_report(tmp_path, checkpoint, split, logits, {"weights": "scratch"}, 61.0, command, ["odd"], 100)
    assert {path.name for path in tmp_path.iterdir()} == LEFT
    stored, parts = read_run(tmp_path)
    assert stored == report
    assert set(stored.parts) == set(parts) == {"val", "test"}
    decision = checkpoint.spec.decision
    expected = scores(decision, truth([s.target for s in split.test], decision), logits["test"]).figures()
    assert {name: stored.parts["test"].figures[name].value for name in expected} == pytest.approx(expected)
    assert stored.data.split == split.fingerprint
    assert sum(stored.data.images["train"].values()) == len(split.train)
    assert (parts["test"].probabilities == decision.probabilities(logits["test"])).all()
    assert [split.folder / file for file in parts["test"].files] == [sample.path for sample in split.test]
    page = (tmp_path / "summary.md").read_text()
    for told in (command, "odd", "AUROC", "SYNTHETIC-OPACITY", "1.0 min", "patient data"):
        assert told in page
    assert stored.training.history[1]["val_loss"] is None


def test_perfect_figures_have_a_mark_and_one_footnote(run, tmp_path: Path) -> None:
    checkpoint, split, _ = run
    perfect = {"test": np.array([sample.target for sample in split.test]) * 9.0}
    write_run_report(tmp_path, checkpoint, split, perfect, {"weights": "scratch"}, 34.4, draws=50)
    page = (tmp_path / "summary.md").read_text()
    assert "| AUROC | 1.000\\* |" in page and "same value" not in page
    assert page.count("Every draw of patients") == 2 and "1.000]† |" in page
    assert "| 34 s on" in page
    assert duration(59.7) == "1.0 min"


def test_accuracy_of_findings_says_what_it_is() -> None:
    assert label("accuracy", Decision("multilabel", ("a", "b"))) == "accuracy (all findings right)"
    assert label("accuracy", Decision("multilabel", ("a",))) == label("accuracy", Decision("multiclass", ("a", "b")))


def test_outputs_that_do_not_line_up_are_refused(run, tmp_path: Path) -> None:
    checkpoint, split, logits = run
    with pytest.raises(DataError, match="do not line up"):
        write_run_report(tmp_path, checkpoint, split, {"test": logits["test"][1:]}, {}, draws=0)
    assert not list(tmp_path.iterdir())


def _damage(folder: Path, how: str) -> None:
    metrics, table = folder / METRICS, folder / "predictions.csv"
    if how == "truncated":
        metrics.write_bytes(metrics.read_bytes()[:300])
    elif how == "newer":
        report = msgspec.json.decode(metrics.read_bytes())
        metrics.write_bytes(msgspec.json.encode(report | {"schema": 99}))
    elif how == "a row less":
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    elif how == "another label":
        lines = table.read_text().splitlines()
        fields = lines[-1].split(",")
        fields[3], fields[4] = fields[4], fields[3]
        table.write_text("\n".join([*lines[:-1], ",".join(fields)]))
    elif how == "no number":
        table.write_text(table.read_text().replace(",1,0,", ",1,x,", 1))
    elif how == "cut":
        table.write_text(table.read_text()[:-30])
    elif how == "other table":
        table.write_text("file,patient\na,b\n")
    elif how == "no table":
        table.unlink()
    else:
        table.write_text("")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("truncated", "is not a valid RunReport"),
        ("newer", "schema 99"),
        ("a row less", "do not line up"),
        ("another label", "do not line up"),
        ("no number", "no number"),
        ("cut", "columns|no number|line up"),
        ("other table", "no table of predictions"),
        ("no table", "cannot be read"),
        ("empty", "no table of predictions"),
    ],
)
def test_what_was_changed_is_refused(run, tmp_path: Path, how: str, told: str) -> None:
    checkpoint, split, logits = run
    write_run_report(tmp_path, checkpoint, split, {"test": logits["test"]}, {}, draws=0)
    _damage(tmp_path, how)
    with pytest.raises(InputError, match=told):
        read_run(tmp_path)


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finished run"):
        read_run(tmp_path)


def test_names_with_commas_and_quotes_survive(run, tmp_path: Path) -> None:
    checkpoint, split, logits = run
    first = split.test[0]
    odd = msgspec.structs.replace(first, path=split.folder / 'a, "b".png', patient="O'Hara, J.")
    changed = Split(split.folder, split.classes, split.train, split.val, (odd, *split.test[1:]))
    write_run_report(tmp_path, checkpoint, changed, {"test": logits["test"]}, {}, draws=0)
    found = read_predictions(tmp_path / "predictions.csv")["test"]
    assert (found.files[0], found.patients[0]) == ('a, "b".png', "O'Hara, J.")
    assert isinstance(read_run(tmp_path)[0], RunReport)
