"""How an INT8 form was found, and what would be cut off elsewhere: on the page, in the text and on the card."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.report.card import render_card
from medcompress.benchmarks.report.html import render_html
from medcompress.benchmarks.report.int8_tables import (
    LAYERS_SHOWN,
    fallback,
    overflow_table,
    overflow_words,
    trails,
)
from medcompress.benchmarks.report.markdown import render_markdown
from medcompress.benchmarks.report.tables import text_of
from medcompress.benchmarks.trace import LayerOverflow, Step

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
# Tables of no machine.
NO_MACHINE = ("How much worse", "Layers whose sums", "What was taken out")
TITLES = ("How the INT8 form was found", "On other CPUs")


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    report = MADE.laddered()
    return {"html": render_html(report), "md": render_markdown(report)}


@pytest.mark.parametrize("form", ["html", "md"])
def test_every_step_is_told_and_on_which_images(found: dict[str, str], form: str) -> None:
    text = found[form].partition("<nav")[2] or found[form]
    for said in (
        *TITLES,
        "validation images, never on the held-out images",
        "a logit moves by 1.39, goal 1",
        "not made: the time limit of 120 s",
        "mean errors out of the biases (4 steps, 184 s)",
        "1 of 312",
        "No step reached the goal; nearest came: the widest ranges" if form == "md" else "no step reached the goal",
        "Pairs were too large in 14 of 21 layers with 8-bit weights, on 300 calibration images",
        "is therefore refused on such a CPU when it is loaded",
    ):
        assert said in " ".join(text.split()), said
    assert "fell short of the goal" not in text


def test_without_steps_and_counts_there_is_no_such_section() -> None:
    for text in (render_html(MADE.binary()), render_markdown(MADE.binary())):
        assert not any(title in text for title in TITLES)
        assert 'href="#found"' not in text and 'href="#cpus"' not in text


def test_the_form_is_the_last_step_that_was_kept() -> None:
    trail, other = trails(MADE.laddered())
    assert (trail.form, trail.reached, trail.table.marked) == (MADE.CHOSEN, True, (3,))
    assert [text_of(row[-2]) for row in trail.table.rows] == ["for a while", "no", "no", "the form"]
    assert text_of(trail.table.rows[3][1]) == "✓ goal reached"
    assert text_of(trail.table.rows[2][1]).startswith("! error: not made")
    assert (other.reached, other.table.marked) == (False, (0,))


def test_where_every_step_fell_short_it_says_what_is_kept() -> None:
    report = MADE.laddered("fail")
    said = "Every step fell short of the goal. Kept is openvino-fp32, which runs as fp32."
    assert fallback(report) == said
    assert said in render_html(report) and said in render_markdown(report)
    judged = msgspec.structs.replace(report, chosen=MADE.CHOSEN)
    assert "was judged all the same" in fallback(judged)


def test_nothing_that_ran_at_all() -> None:
    steps = (Step("openvino-int8-vnni", "the widest ranges", "error: it cannot be quantized", False, 312, 2.0),)
    report = msgspec.structs.replace(MADE.binary("fail"), steps=steps)
    (trail,) = trails(report)
    assert trail.said == "no step reached the goal, and none is kept (1 step, 2 s)" and not trail.table.marked
    assert "it cannot be quantized" in render_html(report)


def test_a_form_that_is_no_row_has_a_table_all_the_same() -> None:
    steps = (Step("tensorrt-int8", "the widest ranges", "reached", True, 312, 2.0, 0.0, 0, 0.1, 0.01),)
    (trail,) = trails(msgspec.structs.replace(MADE.binary(), steps=steps))
    assert trail.table.caption == "Steps of tensorrt-int8 (x86-vnni, 1 thread), on validation images"


def test_the_worst_layers_stand_first_and_the_rest_is_counted() -> None:
    report = MADE.laddered()
    errors = {each.layer: each.error for each in report.overflows}
    shown = [errors[str(row[0])] for row in overflow_table(report).rows]
    assert len(shown) == LAYERS_SHOWN and shown == sorted(shown, reverse=True)
    assert overflow_words(report).endswith("The 10 worst are shown, 4 more are in report.json.")


def test_no_overflow_is_no_proof() -> None:
    layers = (LayerOverflow("/conv1/Conv", 1000, 0, 0.0, 300), LayerOverflow("/conv2/Conv", 0, 0, 0.0, 300))
    report = msgspec.structs.replace(MADE.binary(), overflows=layers)
    said = "No pair was too large on 300 calibration images, which is no proof for other images."
    assert overflow_words(report) == said
    assert said in render_html(report) and said in render_markdown(report)
    uncounted = tuple(msgspec.structs.replace(each, images=0) for each in layers)
    assert "on the calibration images" in overflow_words(msgspec.structs.replace(report, overflows=uncounted))


def test_a_share_too_small_to_write_is_not_written_as_nought() -> None:
    report = msgspec.structs.replace(MADE.binary(), overflows=(LayerOverflow("a", 10**9, 3, 0.0),))
    ((_, pairs, cut, share, error),) = overflow_table(report).rows
    assert (pairs, cut, share, error) == (
        "1,000,000,000",
        "3",
        "< 0.001\N{NO-BREAK SPACE}%",
        "0.000\N{NO-BREAK SPACE}%",
    )


def test_names_of_layers_and_reasons_stay_words() -> None:
    evil = MADE.HOSTILE[0]
    steps = (Step(evil, evil, f"short: {evil}", True, 312, 2.0, 0.0, 0, 0.1, 0.01),)
    report = msgspec.structs.replace(
        MADE.binary(), steps=steps, overflows=(LayerOverflow(f"{evil}|{MADE.HOSTILE[1]}", 9, 3, 0.1),)
    )
    assert "<script" not in render_html(report)
    assert "<script" not in render_markdown(report)


def test_the_card_tells_how_the_chosen_form_was_found() -> None:
    text = render_card(MADE.laddered(), {})
    assert "INT8 form: goal reached with: mean errors out of the biases (4 steps, 184 s), on validation images" in text
    assert "on a CPU without VNNI: Pairs were too large in 14 of 21 layers" in text
    assert "INT8 form" not in render_card(MADE.binary(), {})


@pytest.mark.parametrize("make", [MADE.laddered, MADE.multiclass, MADE.findings, MADE.pruned])
def test_every_table_of_figures_names_cpu_and_threads(make) -> None:
    """And the precision executed: beside the form's name, or in a column of its own."""
    report = make()
    for text in (render_markdown(report), render_card(report, {})):
        for caption, head in re.findall(r"^(.*):\n\n(\|.*)\n\| ?-", text, re.MULTILINE):
            if caption.startswith(NO_MACHINE):
                continue  # of no machine
            assert "x86-vnni, 1 thread" in caption, caption
            assert "runs as" in head or re.search(r"\((int8|fp32|bf16), ", caption), caption
    page = render_html(report)
    for caption in re.findall(r"<caption><span>(.*?)</span>", page):
        assert caption.startswith(NO_MACHINE) or "x86-vnni, 1 thread" in caption, caption
