"""The page holds together whatever the report: nothing outside, nothing broken, the no as plain as the yes."""

from __future__ import annotations

import base64
import html
import re
import runpy
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.report import evidence_tables, words
from medcompress.benchmarks.report.headline import key_figures, reasons, settling, subject
from medcompress.benchmarks.report.html import render_html
from medcompress.benchmarks.report.limits import limits
from medcompress.benchmarks.report.picture import Picture
from medcompress.benchmarks.report.record import Report
from medcompress.benchmarks.verdict import Verdict

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
KINDS: dict[str, Callable[[], Report]] = {
    "pass": MADE.binary,
    "inconclusive": lambda: MADE.binary("inconclusive"),
    "fail": lambda: MADE.binary("fail"),
    "accepted": MADE.accepted,
    "seven classes": MADE.multiclass,
    "fourteen findings": MADE.findings,
    "hostile names": MADE.hostile,
    "bare": MADE.bare,
    "laddered": MADE.laddered,
    "pruned": MADE.pruned,
}
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
STYLE = Path(__file__).parents[3] / "benchmarks" / "report" / "report_style.html"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_html(make()) for name, make in KINDS.items()}


class _Seen(HTMLParser):
    """Tags in their order, with attributes, and the words of headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("name", KINDS)
def test_asks_for_nothing_outside_and_runs_nothing(pages: dict[str, str], name: str) -> None:
    seen = _Seen(pages[name])
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in seen.tags}
    for _, attributes in seen.tags:
        assert not [each for each in attributes if each.startswith("on")]
        for key in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))
    assert not re.search(r"url\((?!#)|@import", pages[name])
    policy = next(each["content"] for each in seen.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


@pytest.mark.parametrize("name", KINDS)
def test_can_be_read_without_seeing_it(pages: dict[str, str], name: str) -> None:
    seen = _Seen(pages[name])
    assert seen.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(seen.all("caption")) == len(seen.all("table")) > 3
    assert all(each.get("scope") in {"col", "row"} for each in seen.all("th"))
    for each in seen.all("svg"):
        named = each.get("aria-label") or each.get("aria-labelledby") or each.get("aria-hidden") == "true"
        assert named and (each.get("role") == "img" or each.get("aria-hidden") == "true")
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {(each.get("href") or "#")[1:] for each in (*seen.all("a"), *seen.all("use"))}
    wanted |= {name for each in seen.all("svg") for name in (each.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_is_small(pages: dict[str, str]) -> None:
    assert max(len(page.encode()) for page in pages.values()) < 1_500_000


@pytest.mark.usefixtures("drawn_anew")
@pytest.mark.parametrize("name", ["pass", "seven classes"])
def test_is_the_same_each_time(pages: dict[str, str], name: str) -> None:
    assert render_html(KINDS[name]()) == pages[name]


@pytest.mark.parametrize(
    ("name", "word"),
    [("pass", "PASS"), ("inconclusive", "INCONCLUSIVE"), ("fail", "FAIL"), ("accepted", "INCONCLUSIVE, accepted by")],
)
def test_says_the_verdict_first_and_as_a_word(pages: dict[str, str], name: str, word: str) -> None:
    text = " ".join(_Seen(pages[name].partition("<body>")[2]).text.split())
    report = KINDS[name]()
    (why,) = reasons(report, subject(report))
    assert 0 <= text.index(word) < text.index(why) < text.index("Decision of the reviewer")
    others = {"PASS", "INCONCLUSIVE", "FAIL"} - {word.partition(",")[0]}
    assert not [other for other in others if other in text[: text.index(why)]]


def test_cautions_stand_before_the_verdict(pages: dict[str, str]) -> None:
    text = _Seen(pages["hostile names"].partition("<body>")[2]).text
    assert text.index("leaks were accepted") < text.index("PASS")


def test_a_refusal_shows_what_it_rests_on() -> None:
    report = KINDS["fail"]()
    found = subject(report)
    assert found is not None and found.variant not in {report.chosen, report.reference}
    assert found.verdict.outcome == "fail"
    page = render_html(report)
    assert f"{MADE.REFERENCE} (uncompressed) → {found.variant} (refused, the one that came nearest)" in page
    assert f"Kept is {report.chosen}, which is not compressed." in page
    assert "Do not use one." in page


def test_of_several_refused_the_nearest_is_shown() -> None:
    report = KINDS["inconclusive"]()
    found = subject(report)
    assert found is not None and found.verdict.outcome == "inconclusive"
    refused = [each for each in report.evidence if each.verdict.outcome == "inconclusive"]
    assert len(refused) > 1


def test_a_criterion_that_failed_stands_above_those_that_passed(pages: dict[str, str]) -> None:
    table = pages["fail"].partition('id="criteria"')[2].partition("</table>")[0]
    outcomes = re.findall(r'<b class="tone (\w+)">', table)
    assert outcomes == sorted(outcomes, key=["fail", "inconclusive", "pass"].index)
    assert "fail" in outcomes and "pass" in outcomes


def test_says_how_many_more_patients_would_settle_it(pages: dict[str, str]) -> None:
    first, _, rest = pages["inconclusive"].partition('id="criteria"')
    for part in (first, rest.partition("</table>")[0]):
        assert "about 460 with PNEUMONIA" in part
    assert "can show a margin of 0.048, 0.03 was asked for" in first


def test_what_no_study_can_settle_is_not_given_as_a_number_of_patients() -> None:
    found = subject(KINDS["inconclusive"]())
    assert found is not None
    criteria = tuple(
        msgspec.structs.replace(each, more_patients=523_501 if each.more_patients else None)
        for each in found.verdict.criteria
    )
    verdict = msgspec.structs.replace(found.verdict, criteria=criteria)
    (said,) = settling(msgspec.structs.replace(found, verdict=verdict))
    assert "out of reach" in said and "523" not in said


def test_the_form_a_kiosk_refuses_is_the_one_shown() -> None:
    """There the bundle's own form is judged, whatever became of the others."""
    report = KINDS["fail"]()
    report = msgspec.structs.replace(report, chosen="openvino-int8-avx2", reason="it failed here")
    found = subject(report)
    assert found is not None and found.variant == report.chosen
    assert "openvino-int8-avx2 is not within the margins. Do not use it." in render_html(report)


def test_too_few_images_are_named_where_the_figures_alone_would_pass() -> None:
    report = KINDS["pass"]()
    found = report.chosen_evidence
    assert found is not None
    why = "AUROC: 12 images are too few to judge by (30 needed)"
    first, *rest = found.verdict.criteria
    few = msgspec.structs.replace(first, outcome="inconclusive", more_patients=13, reason=why)
    verdict = Verdict("inconclusive", False, (few, *rest), why)
    changed = msgspec.structs.replace(found, verdict=verdict)
    assert why in key_figures(report, changed)[0].detail
    assert settling(changed) == (f"{why}; more patients needed: about 13 of the rarest class (now {first.patients})",)


def test_a_margin_that_allows_every_loss_is_not_passed_off_as_judged() -> None:
    report = KINDS["pass"]()
    found = report.chosen_evidence
    assert found is not None
    first, *rest = found.verdict.criteria
    why = "AUROC is not judged: every loss is allowed"
    verdict = msgspec.structs.replace(
        found.verdict, criteria=(msgspec.structs.replace(first, margin=1.0, reason=why), *rest)
    )
    assert why in key_figures(report, msgspec.structs.replace(found, verdict=verdict))[0].detail


def test_one_sign_and_one_interval_for_each_loss(pages: dict[str, str]) -> None:
    report = KINDS["pass"]()
    found = report.chosen_evidence
    assert found is not None
    rows = evidence_tables.other_table(report, found).rows
    assert not {"AUROC", "sensitivity", "specificity"} & {str(row[0]) for row in rows}
    change = found.changes["accuracy"].difference
    shown = next(row for row in rows if row[0] == "accuracy")
    assert change.value is not None and shown[3] == words.number(-change.value)
    ece = found.changes["ece"].difference
    assert next(row for row in rows if row[0] == words.FIGURES["ece"])[3] == words.number(ece.value)


def test_a_digit_more_where_three_would_hide_the_side_of_the_margin() -> None:
    assert words.beside(0.0303, 0.03) == "0.0303"
    assert words.beside(0.03, 0.03) == words.number(0.03) == "0.030"
    assert words.about(523) == "about 530" and words.about(99) == "about 99"


def test_notes_on_the_data_stand_with_the_leaks(pages: dict[str, str]) -> None:
    report = KINDS["pass"]()
    assert report.checks is not None
    checks = msgspec.structs.replace(report.checks, notes=("118 patient names stand in more than one part",))
    part = render_html(msgspec.structs.replace(report, checks=checks)).partition('id="data"')[2].partition("<h2")[0]
    assert "Note: 118 patient names stand in more than one part." in part
    assert "as patients are named here" in part and "as patients are named here" not in pages["pass"]


def test_names_from_outside_stay_words(pages: dict[str, str]) -> None:
    page = pages["hostile names"]
    assert "<script" not in page.lower()
    assert html.escape(MADE.HOSTILE[0], quote=False) in page
    assert "$x$" in page  # no formula


def test_a_long_list_of_changed_answers_is_cut_and_counted(pages: dict[str, str]) -> None:
    report = KINDS["fourteen findings"]()
    found = subject(report)
    assert found is not None and len(found.flips) > 300
    part = pages["fourteen findings"].partition('id="changed"')[2].partition("<h2")[0]
    assert part.count('<th scope="row">') - 4 == 100
    assert f"{len(found.flips) - 100} more are in report.json" in part


def test_what_is_missing_is_said(pages: dict[str, str]) -> None:
    page = pages["bare"]
    for said in (
        "No subgroups were asked for",
        "No answer changed",
        "There were no validation images",
        "were not checked for leaks",
        "choices of engineers, not of clinicians",
        "the defaults, which are older than any run",
    ):
        assert said in page, said


def test_nothing_judged_is_said_and_breaks_nothing() -> None:
    report = msgspec.structs.replace(KINDS["pass"](), evidence=(), rows=KINDS["pass"]().rows[:1], chosen=MADE.REFERENCE)
    page = render_html(report)
    assert "No variant was judged" in page
    assert "fewer than two variants" in page


def test_margins_that_came_late_are_not_hidden() -> None:
    report = KINDS["pass"]()
    late = msgspec.structs.replace(report.registration, written="2026-12-01T00:00:00+00:00")
    page = render_html(msgspec.structs.replace(report, registration=late))
    assert "NO: they were changed after the images had been answered" in page.partition("<nav")[0]
    assert "not one against margins set beforehand" in page


def test_margin_of_nought_and_no_bound_are_drawn() -> None:
    report = KINDS["pass"]()
    found = report.chosen_evidence
    assert found is not None
    criteria = tuple(msgspec.structs.replace(each, margin=0.0, bound=None) for each in found.verdict.criteria)
    verdict = Verdict("fail", False, criteria, "no loss is allowed")
    evidence = tuple(
        msgspec.structs.replace(each, verdict=verdict) if each is found else each for each in report.evidence
    )
    page = render_html(msgspec.structs.replace(report, evidence=evidence))
    assert not re.search(r"\bnan\b|\binf\b", page.lower())
    assert "no bound can be given" in page


def test_with_pictures_a_case_is_a_card() -> None:
    report = KINDS["fail"]()
    found = subject(report)
    assert found is not None
    first = found.flips[0]
    pictures = {(found.variant, first.case): Picture("a/<b>.png", "patient 7", PIXEL, PIXEL, PIXEL)}
    page = render_html(report, pictures)
    seen = _Seen(page)
    assert [each["src"] for each in seen.all("img")] == [PIXEL] * 3
    assert all(each["alt"] for each in seen.all("img"))
    assert "a/&lt;b&gt;.png, patient patient 7" in page
    assert "Review copy: it holds images and file names of patients" in page
    plain = render_html(report)
    assert "They do not show" in page and "They do not show" not in plain
    assert "stand in the review copy" in plain and "stand in the review copy" not in page
    assert "file names of patients" not in plain


def test_a_picture_from_elsewhere_is_refused() -> None:
    report = KINDS["fail"]()
    found = subject(report)
    assert found is not None
    outside = Picture("a.png", "", PIXEL, "https://example.org/a.png", PIXEL)
    with pytest.raises(ValueError, match="no data:image/ URI"):
        render_html(report, {(found.variant, 1): outside})


def test_limits_depend_on_the_data() -> None:
    said = " ".join(limits(KINDS["seven classes"]()))
    assert "Few images stand behind" in said and "dermatofibroma" in said
    assert "there is no threshold" in said
    plain = " ".join(limits(KINDS["bare"]()))
    assert "No subgroups were looked at" in plain
    assert "The threshold is locked" in plain
    assert "Research use only" in said and "Research use only" in plain


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_enough_in_light_and_in_dark() -> None:
    """WCAG 2.2: 4.5 for words (1.4.3), 3 for what is drawn (1.4.11)."""
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", part))
        for part in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)
    ]
    light, dark = (scheme for scheme in schemes if scheme)
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        for name in ("text", "muted", "pass", "fail", "inconclusive", "reference"):
            for ground in ("ground", "soft"):
                assert _contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
        for outcome in ("pass", "fail", "inconclusive"):
            assert _contrast(scheme[outcome], scheme[f"{outcome}-soft"]) >= 4.5, outcome
            assert _contrast(scheme["text"], scheme[f"{outcome}-soft"]) >= 4.5, outcome
        assert _contrast(scheme["variant"], scheme["ground"]) >= 3
        assert _contrast(scheme["strong"], scheme["ground"]) >= 3
        assert _contrast(scheme["text"], scheme["beyond"]) >= 4.5


def test_the_table_of_variants_says_what_each_was_refused_for_and_what_was_not_run(pages: dict[str, str]) -> None:
    table = pages["fail"].partition('id="variants"')[2].partition("</table>")[0]
    assert re.search(r"FAIL</b>: AUROC, sensitivity", table)
    assert "this CPU has no amx" in table
    assert "ended with signal 11" in table
