"""Every plot is a picture, the same one each time, whatever the figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.report.plot_style import log_axis, within_unit
from medcompress.benchmarks.report.plots import (
    comparison_plot,
    confusion_plot,
    learning_plot,
    precision_recall_plot,
    reliability_plot,
    roc_plot,
)
from medcompress.benchmarks.statistics.assessment import Figure
from medcompress.benchmarks.statistics.judged import Judged, judged
from medcompress.runtime.decision import Decision

PLOTS = (confusion_plot, roc_plot, precision_recall_plot, reliability_plot)


def _judged(decision: Decision, count: int) -> Judged:
    rng = np.random.default_rng(0)
    classes = len(decision.classes)
    if decision.kind == "multilabel":
        target = (rng.random((count, classes)) < 0.4).astype(int)
        target[:, 0] = 0
    else:
        target = np.eye(classes, dtype=int)[rng.integers(0, classes, count)]
    chances = decision.probabilities(rng.normal(size=(count, classes)) + target)
    return judged(decision, target, chances, [str(i) for i in range(count)])


def _width(png: bytes) -> int:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5, "something is drawn"
        return image.width


@pytest.mark.parametrize(
    ("decision", "count"),
    [
        (Decision("binary", ("cost_$1", "x_{2}$"), "cost_$1"), 60),
        (Decision("multiclass", tuple("ABCDEFGHI")), 90),
        (Decision("multilabel", ("NEVER", "EDEMA", "a finding with a very long name indeed")), 60),
        (Decision("binary", ("SICK", "WELL"), "SICK"), 1),
        (Decision("binary", ("SICK", "WELL"), "SICK"), 0),
        (Decision("multilabel", ("ONE",)), 0),
    ],
    ids=["binary", "nine classes", "findings", "one image", "none", "no finding"],
)
def test_a_plot_is_drawn_of_anything(decision: Decision, count: int) -> None:
    found = _judged(decision, count)
    assert {_width(plot(found, "a run")) for plot in PLOTS} == {1050}


def test_the_same_figures_give_the_same_bytes() -> None:
    found = _judged(Decision("binary", ("SICK", "WELL"), "SICK"), 50)
    assert roc_plot(found, "a") == roc_plot(found, "a") != roc_plot(found, "b")


def test_learning_curves_of_any_history() -> None:
    rows = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0, "val_auroc": 0.6}, {"epoch": 2, "loss": 0.7, "val_auroc": None}]
    for history in (rows, rows[:1], []):
        assert _width(learning_plot(history, len(history), "a run")) == 1050


def test_a_comparison_says_why_a_row_has_no_figure() -> None:
    rows = [("one", Figure(0.9, 0.85, 0.94)), ("two", Figure(0.8)), ("three", Figure(None, reason="no images"))]
    assert _width(comparison_plot(rows, "AUROC", "Test images")) == 1050


@pytest.mark.parametrize("values", [(1.3, 1.3), (3.1, 3.4), (0.06, 13.0), (0.001, 90.0)])
def test_a_log_axis_has_plain_numbers_at_it(values: tuple[float, float]) -> None:
    from matplotlib.figure import Figure as Canvas

    ax = Canvas().subplots()
    log_axis(ax, values)
    low, high = ax.get_xlim()
    shown = [place for place in ax.get_xticks() if low <= place <= high]
    labels = ax.xaxis.get_major_formatter().format_ticks(shown)
    assert 1 <= len(shown) <= 9 and [float(label) for label in labels] == pytest.approx(shown)


def test_an_axis_stays_within_0_and_1() -> None:
    assert within_unit([1.0]) == (0.95, 1.0) and within_unit([0.0, 1.0]) == (0.0, 1.0)
    low, high = within_unit([-0.2, 1.4])
    assert low < -0.2 and high > 1.4
