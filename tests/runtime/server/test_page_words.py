"""The words of the page: two languages with the same keys, each used, each there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

from medcompress.runtime.guard import CODES as GUARD
from medcompress.runtime.server.answers import Kind

# Made of what a file, or the model, says: not written out in the sources.
CODES = {f"{what}{how}" for what in ("modality", "body-part") for how in ("", "-unknown", "-absent")}
CODES |= {
    "verdict-fail",
    "verdict-inconclusive",
    "for-processing",
    "secondary-capture",
    "burned-in",
    "lossy",
    "no-window",
}


def _codes_of_sources() -> set[str]:
    """Every code that is written out where an image is refused or cautioned against."""
    codes = set()
    for path in (Path(__file__).parents[3] / "runtime").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                where = {"ImageError": 1, "ImageRefused": 1, "Reason": 0}.get(call.func.id, 9)
                codes |= {each.value for each in call.args[where : where + 1] if isinstance(each, ast.Constant)}
    return codes


def test_both_languages_have_all_words_and_the_page_uses_each() -> None:
    page = Path(__file__).parents[3] / "runtime" / "server" / "page"
    english, german = (json.loads((page / f"words.{code}.json").read_text(encoding="utf-8")) for code in ("en", "de"))
    assert list(english) == list(german)
    assert all(set(re.findall(r"{\w+}", english[key])) == set(re.findall(r"{\w+}", german[key])) for key in english)
    html = (page / "index.html").read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in page.glob("*.js"))
    named = set(re.findall(r'data-word(?:-label)?="([^"]+)"', html))
    said = set(re.findall(r'"([a-z]+\.[a-z-]+)"', scripts)) | {
        f"{state}.title" for state in re.findall(r'end\(mine, "(\w+)"', scripts)
    }
    assert not (named | said) - set(english)
    ends = {f"{state}.title" for state in ("refused", "unreadable", "large", "slow", "failed")}
    ends |= {f"failed.{kind}" for kind in ("audit", "engine", "ambiguous") if kind in get_args(Kind)}
    whys = {key for key in english if key.startswith("why.")}
    assert not set(english) - named - said - ends - whys
    assert {key.removeprefix("why.") for key in whys} == CODES | set(GUARD) | _codes_of_sources()
    # What is there before the words are loaded is what they say.
    for key, text in re.findall(r'data-word="([^"]+)"[^>]*>([^<]+)<', html):
        assert text == english[key]
