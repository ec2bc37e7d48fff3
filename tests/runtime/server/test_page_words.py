"""The words of the page: two languages with the same keys, each used, each there."""

from __future__ import annotations

import json
import re
from pathlib import Path


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
    assert not set(english) - named - said - ends
    # What is there before the words are loaded is what they say.
    for key, text in re.findall(r'data-word="([^"]+)"[^>]*>([^<]+)<', html):
        assert text == english[key]
