"""What was taken out and what a search tried: on the page, in the text, on the card; and many forms in one report."""

from __future__ import annotations

import html
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.report.card import render_card
from medcompress.benchmarks.report.headline import standing, subject
from medcompress.benchmarks.report.html import render_html
from medcompress.benchmarks.report.limits import limits
from medcompress.benchmarks.report.markdown import render_markdown
from medcompress.benchmarks.report.network_tables import TAKEN_OUT, network_table, pruning_words, round_table
from medcompress.benchmarks.report.pareto import search_figure, trade_figure
from medcompress.benchmarks.report.search_tables import chosen_trial, trial_table
from medcompress.benchmarks.report.tables import text_of

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
TITLES = ("What was taken out", "What the search tried")
CHOSEN = f"macs10-96px-{MADE.CHOSEN}"
ROUNDS = [
    {
        "asked": f"macs 0.{share}",
        "importance": "magnitude",
        "macs": [before, after],
        "parameters": [before, after],
        "layers": {"layer1.0.conv1": {"out_channels": 8}},
    }
    for share, before, after in ((5, 1000, 500), (25, 500, 248))
]


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    report = MADE.pruned()
    return {
        "html": html.unescape(render_html(report)),
        "md": render_markdown(report),
        "card": render_card(report, {"pruning": ROUNDS}),
    }


@pytest.mark.parametrize("form", ["html", "md"])
def test_says_what_was_taken_out_and_what_was_tried(shown: dict[str, str], form: str) -> None:
    text = " ".join((shown[form].partition("<nav")[2] or shown[form]).replace("\N{NO-BREAK SPACE}", " ").split())
    places = [text.index(title) for title in TITLES]
    assert places == sorted(places)
    for said in (
        TAKEN_OUT,
        "44.9 (2.5 %)",
        "round 2",
        "13 networks tried, 3 of them went on to the gate",
        "14 of 652 answers change, 13 are allowed",
        "layer1.0.conv1 would vanish",
        "multiplications with an addition",
    ):
        assert said in text, said


def test_without_networks_and_trials_there_is_no_such_section() -> None:
    for text in (render_html(MADE.binary()), render_markdown(MADE.binary()), render_card(MADE.binary(), {})):
        assert not any(title in text for title in TITLES)
        assert "dense network" not in text


def test_a_network_that_was_given_has_no_search() -> None:
    report = msgspec.structs.replace(MADE.pruned(), trials=())
    text = render_markdown(report)
    assert TITLES[0] in text and TITLES[1] not in text


def test_the_chosen_network_is_marked_though_another_begins_its_name() -> None:
    report = MADE.pruned()
    assert report.network_of(CHOSEN) is report.networks[1]
    assert report.network_of("macs10-openvino-int8-vnni") is report.network_of(MADE.CHOSEN) is None
    assert network_table(report).marked == (1,)
    found = chosen_trial(report)
    assert found is not None and found.name == "macs10-96px"
    table = trial_table(report)
    assert [text_of(table.rows[place][0]) for place in table.marked] == ["macs10-96px (chosen)"]


def test_where_a_form_of_the_dense_one_is_kept_no_network_is_marked() -> None:
    report = MADE.pruned("fail")
    assert network_table(report).marked == ()
    found = chosen_trial(report)
    assert found is not None and found.name == "dense"
    assert any("dense (kept)" in text_of(row[0]) for row in trial_table(report).rows)
    assert chosen_trial(msgspec.structs.replace(report, trials=report.trials[1:])) is None


def test_the_rounds_of_one_that_took_several() -> None:
    table = round_table(MADE.pruned())
    assert [text_of(row[0]) for row in table.rows] == ["macs10-96px, round 1", "macs10-96px, round 2"]
    assert text_of(table.rows[1][3]) == "451 → 44.9" and text_of(table.rows[1][6]) == "0.642 → 0.990"
    last = network_table(MADE.pruned()).rows[1]
    assert [text_of(cell) for cell in last[4:8]] == ["2", "18", "0.642", "0.990"]


def test_a_round_that_taught_nothing_and_was_not_measured() -> None:
    report = MADE.pruned()
    (only,) = report.networks[0].rounds
    untaught = msgspec.structs.replace(only, epochs=0, auroc=(None, None))
    networks = tuple(
        msgspec.structs.replace(report.networks[0], rounds=rounds, macs=(0, 0)) for rounds in ((), (untaught,))
    )
    rows = network_table(msgspec.structs.replace(report, networks=networks)).rows
    assert [text_of(cell) for cell in rows[0][4:10]] == ["0", "0", "–", "–", "–", "–"]
    assert [text_of(cell) for cell in rows[1][4:8]] == ["1", "0", "–", "–"]
    assert "– of the MACs" in render_card(msgspec.structs.replace(report, networks=networks), {})


def test_trials_stand_by_latency_and_what_was_not_timed_last() -> None:
    table = trial_table(MADE.pruned())
    titles = [column.title for column in table.columns]
    times = [text_of(row[titles.index("median ms")]) for row in table.rows]
    assert times[-1] == "–" and list(map(float, times[:-1])) == sorted(map(float, times[:-1]))
    assert "x86-vnni, 1 thread" in table.caption


def test_what_became_of_a_trial_is_what_the_gate_said() -> None:
    def became(report) -> dict[str, str]:
        return {text_of(row[0]): text_of(row[-1]) for row in trial_table(report).rows}

    found = became(MADE.pruned())
    assert found["macs10-96px (chosen)"] == "✓ PASS: at the gate"
    assert found["macs4"] == "fell short: 14 of 652 answers change, 13 are allowed"
    assert found["macs10"] == "slower: macs10-96px takes 0.16 ms"
    assert found["macs1-64px"] == "! error: layer1.0.conv1 would vanish"
    assert became(MADE.pruned("fail"))["macs25"] == "✗ FAIL: at the gate"
    report = MADE.pruned()
    rest = tuple(row for row in report.rows if row.name != f"macs25-{MADE.CHOSEN}")
    assert became(msgspec.structs.replace(report, rows=rest))["macs25"].startswith("✓ PASS: macs25-")
    rest = tuple(row for row in report.rows if not row.name.startswith("macs25-"))
    assert became(msgspec.structs.replace(report, rows=rest))["macs25"] == "→ went on to the gate"


@pytest.mark.parametrize("cost", ["latency", "size"])
def test_the_picture_tells_every_network_in_words(cost) -> None:
    svg = search_figure("key", MADE.pruned(), cost)
    (told,) = re.findall(r"<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)
    assert "macs10-96px (chosen): " in told and "AUROC 0.990 (0.986 to 0.993), judged" in told
    assert "macs2-64px: 0.770" in svg, "what lies below the picture says where"
    assert "macs1-64px" not in told and "macs1-96px" not in told, "no AUROC, no place"
    assert "mathdefault" not in svg and "var(--variant)" in svg and "var(--ground)" in svg


def test_of_many_networks_those_that_matter_are_named() -> None:
    report = MADE.pruned()
    slow = next(each for each in report.trials if each.name == "macs50")
    more = [msgspec.structs.replace(slow, name=f"worse{n}", auroc=0.985, p50_ms=2.0 + n) for n in range(30)]
    svg = search_figure("key", msgspec.structs.replace(report, trials=(*report.trials, *more)), "latency")
    names = set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert {"dense", "macs10-96px (chosen)", "macs50"} <= names
    assert not [name for name in names if name.startswith("worse")]
    assert "worse29" in svg, "the words still tell it"


def test_no_picture_of_fewer_than_two_networks() -> None:
    report = MADE.pruned()
    unknown = tuple(msgspec.structs.replace(each, auroc=None) for each in report.trials[1:])
    report = msgspec.structs.replace(report, trials=(report.trials[0], *unknown))
    assert search_figure("key", report, "latency") == search_figure("key", report, "size") == ""
    assert "fewer than two networks have both" in render_html(report)


def test_the_same_networks_give_the_same_picture_with_no_intervals_and_no_dense_one() -> None:
    report = MADE.pruned()
    bare = tuple(
        msgspec.structs.replace(each, auroc_low=None, auroc_high=None, auroc=each.auroc and 0.5)
        for each in report.trials[1:]
    )
    report = msgspec.structs.replace(report, trials=bare)
    assert search_figure("key", report, "latency") == search_figure("key", report, "latency") != ""
    assert not re.search(r"\bnan\b|\binf\b", render_html(report).lower())


def test_a_speed_of_twenty_times_is_seen_on_the_axis() -> None:
    assert "log scale" in trade_figure("key", MADE.pruned())
    assert "log scale" not in trade_figure("key", MADE.binary())


def test_every_form_of_every_network_is_in_the_tables(shown: dict[str, str]) -> None:
    report = MADE.pruned()
    assert len(report.rows) > 20
    for row in report.rows:
        assert row.name in shown["html"] and row.name in shown["md"]
    # Below a millisecond and a tenth of a megabyte two digits would not tell them apart.
    assert "13.25 → 0.162 ms" in shown["html"] and "0.6\N{NO-BREAK SPACE}% of the reference" in shown["html"]


def test_the_reviewer_is_told_that_it_is_another_network() -> None:
    report = MADE.pruned()
    found = subject(report)
    assert found is not None
    said = standing(report, found).replace("\N{NO-BREAK SPACE}", " ")
    assert said.endswith(f"→ {CHOSEN} (the chosen form, of a network pruned to 2.5 % of its MACs)")
    assert "macs10-96px is a pruned network" in " ".join(limits(report))
    assert "pruned network" not in " ".join(limits(MADE.binary()))


def test_steps_of_a_pruned_network_say_what_they_are_compared_with() -> None:
    steps = MADE.laddered().steps
    said = "A form of a pruned network is compared here with that network in 32-bit floating point"
    report = msgspec.structs.replace(MADE.pruned(), steps=steps)
    assert said not in render_markdown(report)
    named = tuple(msgspec.structs.replace(step, form=f"macs10-96px-{step.form}") for step in steps)
    report = msgspec.structs.replace(report, steps=(*steps, *named))
    text = render_markdown(report)
    assert said in text and f"Steps of {CHOSEN} (int8, x86-vnni, 1 thread)" in text


def test_the_card_tells_it_in_a_line_and_never_a_layer(shown: dict[str, str]) -> None:
    card = shown["card"].replace("\N{NO-BREAK SPACE}", " ")
    first = "pruning: macs10-96px: 2.5 % of the MACs, 2.2 % of the parameters are left, 2 rounds, looks at 96 × 96 px"
    assert f"{first}; judged too: macs25: 24.8 % of the MACs, 10.1 % of the parameters are left, 1 round" in card
    assert "search: 13 networks tried" in card and TAKEN_OUT in card
    for text in (card, render_card(MADE.binary(), {"pruning": ROUNDS})):
        assert "out_channels" not in text and "layer1.0" not in text


@pytest.mark.parametrize(
    ("pruning", "said"),
    [
        (ROUNDS, "24.8 % of the MACs, 24.8 % of the parameters are left, 2 rounds"),
        ([], "none"),
        ((), "none"),
        (None, "not known"),
        ([{"layer": 1}], "pruned, in rounds that this version cannot read"),
        ("<script>", "pruned, in rounds that this version cannot read"),
    ],
)
def test_pruning_of_a_spec_alone_in_words(pruning, said: str) -> None:
    assert pruning_words(MADE.binary(), {"pruning": pruning}).replace("\N{NO-BREAK SPACE}", " ") == said
    kept = pruning_words(MADE.pruned("fail"), {"pruning": pruning})
    assert kept.startswith("none of the form that runs; judged too: macs25: ")


def test_names_and_reasons_stay_words() -> None:
    evil, odd = MADE.HOSTILE
    report = MADE.pruned(names=(evil, f"{odd}-96px"))
    trials = tuple(msgspec.structs.replace(each, outcome=f"short: {evil} {odd}") for each in report.trials)
    rounds = tuple(msgspec.structs.replace(each, asked=evil, importance=odd) for each in report.networks[1].rounds)
    networks = (report.networks[0], msgspec.structs.replace(report.networks[1], rounds=rounds))
    report = msgspec.structs.replace(report, trials=trials, networks=networks)
    page = render_html(report)
    assert "<script" not in page.lower() and html.escape(evil, quote=False) in page and "$x$" in page
    for text in (render_markdown(report), render_card(report, {})):
        assert "<script" not in text and not re.search(r"(?<!\\)\]\(http", text)
