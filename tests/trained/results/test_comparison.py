"""Runs side by side: sorted, with paired differences where the images are the same, folds and seeds as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.data.samples import Sample, one_hot
from medcompress.benchmarks.statistics.measures import OVERALL
from medcompress.cli.main import run
from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import InputError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint
from medcompress.trained.data.splits import DataSource, Split
from medcompress.trained.results.comparison import _medical, compare
from medcompress.trained.results.cross_validation import BY_FOLD
from medcompress.trained.results.run_report import METRICS, write_run_report
from medcompress.trained.spec import ModelSpec

DECISION = Decision("binary", ("WELL", "SICK"), "SICK")
MakeRun = Callable[..., Path]


def _samples(folder: Path, part: str, count: int, classes: tuple[str, ...]) -> tuple[Sample, ...]:
    turned = classes[0] == "SICK"
    labels = [(i + turned) % 2 for i in range(count)]
    return tuple(
        Sample(folder / part / f"{i}.png", one_hot(label, 2), f"{part}{i // 2}") for i, label in enumerate(labels)
    )


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    # A comparison reads none of them, and they take most of the time.
    for name in ("confusion", "roc", "precision_recall", "reliability", "learning"):
        monkeypatch.setattr(f"medcompress.trained.results.run_report.{name}_plot", lambda *arguments: b"")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A finished run whose model tells the classes apart with the given skill."""

    def make(
        name: str,
        skill: float,
        *,
        decision: Decision = DECISION,
        images: int = 120,
        part: str = "test",
        val: str = "val",
    ) -> Path:
        folder = tmp_path / "data"
        split = Split(
            folder,
            decision.classes,
            (),
            _samples(folder, val, 20, decision.classes),
            _samples(folder, part, images, decision.classes),
        )
        shared, own = np.random.default_rng(0), np.random.default_rng(len(name) + round(100 * skill))
        logits = {}
        for what in ("val", "test"):
            samples = getattr(split, what)
            target = np.array([sample.target for sample in samples])
            noise = shared.normal(size=target.shape) + 0.3 * own.normal(size=target.shape)
            logits[what] = noise + skill * target
        spec = ModelSpec("timm/resnet18", Preprocessing((32, 32)), decision)
        history = [{"epoch": 1, "loss": 0.5, "val_loss": 0.5, "val_auroc": 0.8}]
        checkpoint = Checkpoint(spec, {}, DataSource(str(folder)), "split", history=history, epoch=1)
        options = {"weights": "scratch", "strategy": "full"}
        write_run_report(tmp_path / name, checkpoint, split, logits, options, 60.0, draws=100)
        return tmp_path / name

    return make


def test_rows_are_sorted_and_differences_paired(make_run: MakeRun) -> None:
    runs = [make_run("middle", 1.0), make_run("best", 2.5), make_run("worst", 0.2)]
    found = compare(runs, draws=200)
    assert [Path(row.run).name for row in found.rows] == ["best", "middle", "worst"]
    assert Path(found.reference).name == "best" and found.rows[0].difference is None
    for row in found.rows[1:]:
        assert row.difference.value == pytest.approx(row.figures["auroc"].value - found.rows[0].figures["auroc"].value)
        assert row.difference.low < row.difference.value < row.difference.high < 0
    assert (found.rows[0].weights, found.rows[0].size, found.rows[0].seconds) == ("scratch", 32, 60.0)
    by_error = compare(runs, figure="brier", draws=50)
    assert Path(by_error.rows[0].run).name == "best", "less is better"
    against = compare(runs, reference=runs[0], draws=200)
    assert against.rows[0].difference.low > 0


def test_other_test_images_have_no_difference(make_run: MakeRun) -> None:
    found = compare([make_run("a", 2.0), make_run("b", 1.0, images=80), make_run("c", 0.5, part="other")], draws=50)
    assert [(row.difference, row.status) for row in found.rows[1:]] == [(None, "other test images")] * 2


def test_the_order_of_the_classes_does_not_matter(make_run: MakeRun) -> None:
    runs = [make_run("a", 2.0), make_run("b", 1.0)]
    turned = make_run("turned", 2.0, decision=Decision("binary", ("SICK", "WELL"), "SICK"))
    alone = compare([turned], draws=0).rows[0].figures["auroc"].value
    row = next(row for row in compare([*runs, turned], reference=runs[0], draws=50).rows if row.run == str(turned))
    base = compare(runs[:1], draws=0).rows[0].figures["auroc"].value
    assert row.figures["auroc"].value == alone > 0.8
    assert row.difference.value == pytest.approx(alone - base)


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (Decision("binary", ("WELL", "ILL"), "ILL"), r"has the classes \['ILL'\] where the others have \['SICK'\]"),
        (Decision("binary", ("WELL", "SICK"), "WELL"), "has the finding WELL, the others SICK"),
        (Decision("multilabel", ("WELL", "SICK")), "is multilabel, the others binary"),
    ],
)
def test_models_of_another_question_are_refused(make_run: MakeRun, decision: Decision, told: str) -> None:
    runs = [make_run("a", 2.0), make_run("b", 1.0, decision=decision)]
    with pytest.raises(InputError, match=told):
        compare(runs, draws=0)


def test_seeds_are_one_row_with_mean_and_spread(make_run: MakeRun, tmp_path: Path) -> None:
    members = [make_run(f"study/seed-{i}", skill) for i, skill in enumerate((1.0, 1.5, 2.0))]
    alone = make_run("alone", 3.0)
    row = compare([tmp_path / "study", alone], draws=100).rows[1]
    values = [compare([member], draws=0).rows[0].figures["auroc"].value for member in members]
    assert row.members == 3
    assert row.figures["auroc"].value == pytest.approx(np.mean(values))
    assert row.figures["auroc"].low < np.mean(values) < row.figures["auroc"].high
    assert row.spread["auroc"] == pytest.approx(np.std(values, ddof=1))
    assert row.difference is not None and row.seconds == 180
    assert row.cross_validation is None, "their validation images are the same"


def test_of_folds_answers_are_pooled_and_scores_are_not(make_run: MakeRun, tmp_path: Path, capsys) -> None:
    folds = [make_run(f"folds/fold-{i + 1}", 1.5, val=f"val{i}") for i in range(3)]
    (row,) = compare([tmp_path / "folds"], draws=50).rows
    found = row.cross_validation
    assert (found.images, found.patients) == (60, 30)
    assert row.images == 120 and row.members == 3
    alone = [compare([fold], part="val", draws=0).rows[0].figures for fold in folds]
    for name in BY_FOLD:
        values = [figures[name].value for figures in alone]
        assert (found.mean[name], found.spread[name]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert set(found.mean) | set(found.pooled) == set(OVERALL) and not set(found.mean) & set(found.pooled)
    accuracy = found.pooled["accuracy"]
    assert accuracy.value == pytest.approx(np.mean([figures["accuracy"].value for figures in alone]))
    assert accuracy.low < accuracy.value < accuracy.high
    assert run(["compare", str(tmp_path / "folds"), "--draws", "50"]) == 0
    told = capsys.readouterr().out
    assert f"of the folds' own AUROC {found.mean['auroc']:.3f} ± {found.spread['auroc']:.3f}, calibration error" in told
    assert f"answers of all folds pooled: accuracy {accuracy.value:.3f} [" in told


def test_unfinished_runs_are_named_so(make_run: MakeRun, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "options.json").touch()
    done = make_run("done", 1.0)
    found = compare([begun, done], draws=0)
    assert [row.status for row in found.rows] == ["", "unfinished"]
    with pytest.raises(InputError, match=r"begun: unfinished.*--resume"):
        compare([begun])
    with pytest.raises(InputError, match="no finished run"):
        compare([begun, done], reference=begun, draws=0)
    (begun / "best.pth").touch()
    assert "not evaluated" in compare([begun, done], draws=0).rows[1].status
    make_run("study/seed-0", 1.0)
    (tmp_path / "study" / "seed-1").mkdir()
    assert compare([tmp_path / "study"], draws=0).rows[0].status == "1 of 2 finished"


def test_bad_input_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("run", 1.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    for runs, options, told in (
        ([empty], {}, "holds no run"),
        ([tmp_path / "absent"], {}, "no such folder"),
        ([run, run], {}, "given twice"),
        ([run], {"figure": "auc"}, "it is one of"),
        ([run], {"part": "all"}, "only val, test"),
        ([run], {"reference": empty}, "no finished run"),
    ):
        with pytest.raises(InputError, match=told):
            compare(runs, draws=0, **options)
    stored = (run / METRICS).read_bytes()
    (run / METRICS).write_bytes(stored[: len(stored) // 2])
    with pytest.raises(InputError, match="not a valid RunReport"):
        compare([run])


def test_a_comparison_is_plain_data(make_run: MakeRun) -> None:
    found = compare([make_run("a", 2.0), make_run("b", 1.0)], draws=50)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_weights_are_named_by_as_much_of_the_path_as_tells_them_apart() -> None:
    def named(*paths: str) -> list[str]:
        weights = [f"from {path}" for path in paths]
        names = _medical({*weights, "scratch", ""})
        assert set(names) == set(weights)
        return [names[each].removeprefix("from ") for each in weights]

    assert named("/x/one/best.pth") == ["one/best.pth"]
    assert named("/x/one/best.pth", "/x/two/best.pth") == ["one/best.pth", "two/best.pth"]
    assert named("/x/a/fold-1/best.pth", "/y/b/fold-1/best.pth") == ["a/fold-1/best.pth", "b/fold-1/best.pth"]
    assert named("/x/radimagenet.pt") == ["radimagenet.pt"]
    assert named() == []
