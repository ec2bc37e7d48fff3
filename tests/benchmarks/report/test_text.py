"""report.md, the model card, the published table and the schema."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from medcompress.benchmarks.report.card import render_card
from medcompress.benchmarks.report.markdown import escaped, render_markdown
from medcompress.benchmarks.report.published import BEGIN, END, replaced, results_table
from medcompress.benchmarks.report.record import SCHEMA_FILE, Report, report_schema
from medcompress.runtime.records import to_json

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
ALL = (MADE.binary, MADE.accepted, MADE.multiclass, MADE.findings, MADE.hostile, MADE.bare, MADE.laddered, MADE.pruned)


def _tables(text: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)]


@pytest.mark.parametrize("make", ALL)
def test_every_table_has_its_columns_in_every_line(make) -> None:
    for text in (render_markdown(make()), render_card(make(), {})):
        assert _tables(text)
        for lines in _tables(text):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
            assert len({len(line) for line in lines}) == 1, "it is to read as a table in a terminal"


def test_the_text_says_what_the_page_says() -> None:
    report = MADE.binary("fail")
    text = render_markdown(report)
    assert text.index("## FAIL") < text.index("## Criteria") < text.index("## What this does not show")
    assert report.registration.sha256 in text
    assert "Research use only" in text


def test_names_are_no_markup() -> None:
    for text in (render_markdown(MADE.hostile()), render_card(MADE.hostile(), {})):
        assert "<script" not in text
        assert not re.search(r"(?<!\\)\]\(http", text)
    assert escaped("a\n# b | <i> `c` & &lt; < 18") == r"a # b \| &lt;i> \`c\` & &amp;lt; < 18"


def test_the_card_has_the_papers_headings_and_invents_nothing() -> None:
    text = render_card(MADE.bare(), {})
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    assert "network: not known" in text
    assert "What it was trained on is not known" in text
    assert "No subgroups were asked for" in text
    assert text.startswith("---\n")


def test_the_card_tells_what_the_bundle_knows() -> None:
    spec = {"architecture": "timm/resnet18", "preprocessing": {"size": [128, 128]}, "pruning": []}
    text = render_card(MADE.binary(), spec)
    assert "network: timm/resnet18" in text
    assert "size 128; 128" in text
    assert "pruning: none" in text


def test_the_published_table_marks_the_chosen_and_keeps_machines_apart() -> None:
    here = MADE.binary()
    there = msgspec.structs.replace(
        here, cpu=msgspec.structs.replace(here.cpu, model="Intel N100"), model="vgg16: a, b"
    )
    table = results_table([here, MADE.multiclass()])
    assert len(_tables(table)) == 1
    assert table.count(f"**{MADE.CHOSEN}**") == 2
    assert "onnxruntime-int8-amx" not in table, "what was not run has no figures"
    table = results_table([here, there])
    assert len(_tables(table)) == 2
    assert "2 machines" in table and "Intel N100" in table
    assert {line.split("|")[1].strip() for line in _tables(table)[1][2:]} == {"vgg16, PNEUMONIA"}


def test_the_published_table_says_what_was_accepted() -> None:
    assert "inconclusive, accepted by the maker" in results_table([MADE.accepted()])


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"
    assert replaced(f"{END}{BEGIN}", "new") is None
    assert replaced("nothing", "new") is None


def test_the_stored_schema_is_that_of_the_code() -> None:
    mend = "write it again with: python -m medcompress.benchmarks.report.record"
    assert SCHEMA_FILE.read_bytes() == to_json(report_schema()), mend


@pytest.mark.parametrize("make", ALL)
def test_a_report_is_valid_and_comes_back_as_it_was(make) -> None:
    data = to_json(make())
    assert msgspec.json.decode(data, type=Report) == make()
    if importlib.util.find_spec("jsonschema"):
        import jsonschema

        jsonschema.validate(json.loads(data), json.loads(SCHEMA_FILE.read_bytes()))


def test_an_unknown_field_is_refused() -> None:
    data = json.loads(to_json(MADE.bare())) | {"more": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data, type=Report)
