"""The page in a real browser: two widths, two colour schemes, on paper."""

from __future__ import annotations

import html
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from medcompress.benchmarks.report.html import render_html

MADE = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reports.py"))))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")
# Blink's numbers of prefers-color-scheme.
SCHEMES = {"light": 1, "dark": 0}
# Only in the test's copy: the page itself runs nothing, and its policy would not let it.
MEASURE = """<script>
const box = document.getElementById("verdict").getBoundingClientRect();
const wide = [...document.querySelectorAll("main *")].filter(each => !each.closest(".scroll, svg, details:not([open])")
  && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80));
parent.document.body.setAttribute("data-found", JSON.stringify({
  width: innerWidth, content: document.documentElement.scrollWidth, height: innerHeight, bottom: box.bottom,
  reviewer: document.querySelector(".signature").getBoundingClientRect().bottom, wide,
  ground: getComputedStyle(document.body).backgroundColor, text: getComputedStyle(document.body).color}));
</script>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "fail": MADE.binary("fail"),
        "findings": MADE.findings(),
        "laddered": MADE.laddered("fail"),
        "bare": MADE.bare(),
        "pruned": MADE.pruned(),
    }
    paths = {}
    for name, report in made.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(render_html(report), encoding="utf-8")
    return paths


def _chromium(page: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    profile = page.parent / f"profile-{len(list(page.parent.iterdir()))}"
    always = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
    command = [CHROMIUM, *always, *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _measured(page: Path, width: int, height: int, scheme: str = "light") -> dict:
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    inside = html.escape(text.replace("</body>", f"{MEASURE}</body>"))
    # In a frame: Chromium's own window is never narrower than 500 px.
    size = f"width: {width}px; height: {height}px; border: 0"
    frame = page.with_name(f"{page.stem}-{width}-{scheme}.html")
    frame.write_text(f'<!doctype html><body><iframe style="{size}" srcdoc="{inside}"></iframe>', encoding="utf-8")
    settings = f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    dumped = _chromium(frame, settings, "--window-size=1400,1000", "--dump-dom")
    found = re.search(r'<body data-found="([^"]*)"', dumped)
    assert found, dumped[:500]
    return json.loads(html.unescape(found[1]))


def _pages_printed(page: Path) -> int:
    paper = page.with_suffix(".pdf")
    _chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", paper.read_bytes()))


@pytest.mark.parametrize("name", ["fail", "findings", "laddered", "bare", "pruned"])
def test_on_a_phone_nothing_is_cut_off(pages: dict[str, Path], name: str) -> None:
    found = _measured(pages[name], 390, 844)
    assert found["width"] == 390
    assert found["content"] <= 390 and not found["wide"]
    assert found["bottom"] <= found["height"], "the verdict is to be on the first screen"


@pytest.mark.parametrize("name", ["fail", "findings", "pruned"])
def test_on_a_desk_verdict_figures_and_signature_are_on_the_first_screen(pages: dict[str, Path], name: str) -> None:
    found = _measured(pages[name], 1280, 900)
    assert found["content"] <= 1280 and not found["wide"]
    assert found["reviewer"] <= found["height"]


def test_follows_the_colour_scheme(pages: dict[str, Path]) -> None:
    light, dark = (_measured(pages["bare"], 1280, 900, scheme) for scheme in ("light", "dark"))
    assert light["ground"] == dark["ground"].replace("17, 22, 27", "255, 255, 255") == "rgb(255, 255, 255)"
    assert sum(map(int, re.findall(r"\d+", dark["text"]))) > 600


def test_its_own_policy_lets_it_be_drawn(pages: dict[str, Path]) -> None:
    shot = pages["fail"].with_suffix(".png")
    _chromium(pages["fail"], f"--screenshot={shot}", "--window-size=1280,900")
    with Image.open(shot) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10_000_000) or []}
    assert (0xFD, 0xEA, 0xEA) in colours, "the verdict's ground: the style sheet was refused"


def test_prints_whole_what_is_folded_away_included(pages: dict[str, Path]) -> None:
    page = pages["fail"]
    folded = page.with_name("folded.html")
    folded.write_text(page.read_text(encoding="utf-8").replace("content-visibility: visible", ""), encoding="utf-8")
    printed = _pages_printed(page)
    assert printed > 3
    assert printed > _pages_printed(folded)
