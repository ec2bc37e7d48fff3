"""The page in a real Chromium, asking a real server about a real bundle."""

from __future__ import annotations

import base64
import http.server
import io
import itertools
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime import load

from .conftest import Server, write_fake_bundle

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed to drive a browser")
expect = sync_api.expect
expect.set_options(timeout=20_000)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",  # a name of another site that now leads here
)
# What a page of another site could try: to read, to send as a form does, to load as its own.
TRIED = """async (own) => {
  const tried = (promise) => promise.then((said) => `${said.type} ${said.status}`, () => "refused");
  const loaded = (tag, property, path) => new Promise((done) => {
    const element = Object.assign(document.createElement(tag), {[property]: own + path});
    element.onload = () => done("loaded");
    element.onerror = () => done("refused");
    document.body.append(element);
  });
  return [
    await tried(fetch(`${own}/model/info`)),
    await tried(fetch(`${own}/predict`, {method: "POST", body: "x", headers: {"X-Any": "needs to be allowed"}})),
    await tried(fetch(`${own}/model/info`, {mode: "no-cors"})),
    await loaded("script", "src", "/page/dom.js"),
    await loaded("img", "src", "/metrics"),
    await tried(fetch(`${own}/predict`, {method: "POST", body: "x", mode: "no-cors"})),
  ];
}"""
# A file as a person would drop it, of base64.
DROPPED = """([name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  return transfer;
}"""
# Every text that can be seen: its contrast with what lies behind it, and what WCAG 2.2, 1.4.3 asks for its size.
CONTRAST = """() => {
  const numbers = (colour) => {
    const context = document.createElement("canvas").getContext("2d", {colorSpace: "srgb"});
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = (rgb) => rgb.slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, c) => sum + each * [0.2126, 0.7152, 0.0722][c], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() && !each.matches(":disabled")
    && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && each.clientWidth !== 1)
    .map((each) => {
      const style = getComputedStyle(each);
      const [one, other] = [light(numbers(style.color)), light(behind(each))];
      const size = parseFloat(style.fontSize);
      const asked = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
      return [each.textContent.slice(0, 40), (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), asked];
    });
}"""
# What can be touched and is smaller than 44 px, and what sticks out of the window.
SMALL = """() => [...document.querySelectorAll("button, select, summary, input:not([type=file]), .skip")]
  .filter((each) => each.checkVisibility()).map((each) => each.type === "checkbox" ? each.closest("label") : each)
  .filter((each) => each.getBoundingClientRect().height < 44 || each.getBoundingClientRect().width < 44)
  .map((each) => each.outerHTML.slice(0, 80))"""
WIDE = """() => [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility()
  && each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(pristine_bundle: Path, start: Callable[..., Server]) -> Server:
    """One bundle under two names, and room for one request at a time."""
    named = [f"{name}={pristine_bundle}" for name in ("chest", "second")]
    return start(*named, "--queue", 0, "--workers", 1).until_ready()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page of a server; nothing it does may leave that server, fail in a script, or break its policy."""
    contexts, asked, wrong = [], [], []

    def opened(server: Server, **settings: Any) -> Any:
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append((server.port, request.url)))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Security Policy" in said.text else None)
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_selector("#view h3")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
    for port, url in asked:
        assert url.startswith((f"http://127.0.0.1:{port}/", f"blob:http://127.0.0.1:{port}/", "data:")), url


def drop(page: Any, name: str, data: bytes) -> None:
    transfer = page.evaluate_handle(DROPPED, [name, base64.b64encode(data).decode()])
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})


def write_dicom(image: Path, kind: str, **named: str) -> bytes:
    """An image as a DICOM file of a storage class."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed to make a DICOM file with")
    pixels = np.asarray(Image.open(image).convert("L"))
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = getattr(pydicom.uid, kind), pydicom.uid.generate_uid()
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CR", "MONOCHROME2", 1
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = pixels.tobytes()
    for name, value in named.items():
        setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def wait_for(page: Any, state: str) -> Any:
    page.wait_for_selector(f"body[data-state={state}]")
    return page.locator("#view")


def in_percent(probability: float) -> str:
    return f"{probability:.1%}"


def test_a_dropped_radiograph_is_answered_in_words(
    visit: Callable[..., Any], server: Server, pristine_bundle: Path, image: Path
) -> None:
    expected = load(pristine_bundle).predict(image)
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    drop(page, "Müller^Eva.png", image.read_bytes())
    view = wait_for(page, "answer")
    assert view.locator("h3").inner_text() == expected.label
    positive = expected.probabilities["SYNTHETIC-OPACITY"]
    assert view.locator(".figure b").inner_text() == in_percent(positive)
    assert view.locator(".mark").evaluate("each => each.style.left") == "50%"
    assert view.locator(".fill").evaluate("each => parseFloat(each.style.width)") == pytest.approx(100 * positive)
    assert f"of 50%: the answer is {expected.label}" in view.inner_text()
    assert f"Answer: {expected.label}. Probability of SYNTHETIC-OPACITY" in page.locator("#said").text_content()
    assert page.locator("#preview").evaluate("each => each.naturalWidth") == 64
    row = page.locator("#history-rows tr")
    assert row.count() == 1
    assert {"Müller^Eva.png", "chest"} <= set(row.inner_text().split())
    # Nothing of it is anywhere but on this page.
    assert page.evaluate("Object.keys({...localStorage, ...sessionStorage})") == []
    assert page.evaluate("indexedDB.databases().then((all) => all.length)") == 0
    assert "ller" not in server.log.read_text()
    # The other model is asked about the same picture.
    page.select_option("#model", "second")
    expect(page.locator("#history-rows tr")).to_have_count(2)
    page.click("#clear")
    assert page.locator("#history-rows tr").count() == 0
    page.click("#remove")
    assert not page.locator("#preview").is_visible()
    assert wait_for(page, "idle").locator("h3").inner_text() == "No picture yet"


def test_the_heat_map_lies_where_the_server_says_and_can_be_faded(
    visit: Callable[..., Any], server: Server, image: Path
) -> None:
    answer = server.json("POST", "/predict?model=chest&explain=true", image.read_bytes())
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["heat"]))))
    page = visit(server)
    drop(page, "one.png", image.read_bytes())
    canvas = page.locator("#heat")
    expect(canvas).to_be_visible()
    assert answer["explained"] in page.locator("#heat-note").inner_text()
    seen = np.array(
        canvas.evaluate("""(each) => {
          const drawn = each.getContext("2d").getImageData(0, 0, each.width, each.height);
          return [each.height, each.width, ...drawn.data.filter((_, i) => i % 4 === 3)];
        }""")
    )
    opaque = seen[2:].reshape(seen[:2]).astype(np.uint8)
    coarse = np.asarray(Image.fromarray(opaque).resize(heat.shape[::-1], Image.Resampling.BOX))
    # Its opacity rises with the heat, and nothing is drawn where there is none.
    assert np.abs(coarse - 255 * (heat / 255) ** 1.3).max() < 26
    assert np.corrcoef(coarse.ravel(), heat.ravel())[0, 1] > 0.98
    page.locator("#opacity").fill("20")
    assert canvas.evaluate("each => getComputedStyle(each).opacity") == "0.2"
    page.get_by_label("Heat map").uncheck()
    assert not canvas.is_visible()
    page.get_by_label("Heat map").check()
    drop(page, "letter.txt", b"Dear colleague, ...")
    wait_for(page, "unreadable")
    assert not canvas.is_visible()


def test_a_picture_dropped_before_the_models_are_known_waits_for_them(
    visit: Callable[..., Any], server: Server, image: Path
) -> None:
    page = visit(server)
    held: list[Any] = []
    known = threading.Event()
    page.route("**/model/info", lambda route: route.continue_() if known.is_set() else held.append(route))
    page.reload()
    page.wait_for_selector("#server[data-state=ready]")
    drop(page, "one.png", image.read_bytes())
    wait_for(page, "waiting")
    known.set()
    for each in held:
        each.continue_()
    expect(page.locator("#heat")).to_be_visible()
    assert page.locator("#model").input_value() == "chest"


def test_what_is_no_picture_is_told_apart_from_a_fault(visit: Callable[..., Any], server: Server) -> None:
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    drop(page, "letter.txt", b"Dear colleague, ...")
    view = wait_for(page, "unreadable")
    assert view.locator("h3").inner_text() == "This file cannot be read"
    assert "not a picture of a kind that is read here" in view.locator(".why").inner_text()
    assert "the image is not a" in view.locator(".quoted p").text_content()
    assert page.locator(".unseeable").is_visible()
    drop(page, "nothing.png", b"")
    assert "empty" in wait_for(page, "empty").locator("h3").inner_text()
    sent = []
    page.on("request", lambda request: sent.append(request.url) if "predict" in request.url else None)
    page.evaluate("""() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(100e6)], "large.png"));
      document.querySelector("main").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }""")
    assert "100 MB; up to 67 MB are read. It was not sent." in wait_for(page, "large").inner_text()
    assert not sent
    assert page.locator("#history-rows .words").all_inner_texts() == [
        "This file is too large",
        "This file is empty",
        "This file cannot be read",
    ]


def test_a_dicom_file_is_shown_large_and_its_names_are_not(
    visit: Callable[..., Any], server: Server, pristine_bundle: Path, image: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.open(image).resize((1500, 1200)).save(large)
    data = write_dicom(large, "ComputedRadiographyImageStorage", PatientName="Secret^Person", PatientID="4711")
    expected = load(pristine_bundle).predict(data)
    page = visit(server)
    expect(page.locator("#server")).to_have_attribute("data-state", "ready")
    drop(page, "IM000001", data)
    view = wait_for(page, "answer")
    assert view.locator(".figure b").inner_text() == in_percent(expected.probabilities["SYNTHETIC-OPACITY"])
    assert page.locator("#preview").evaluate("each => [each.naturalWidth, each.naturalHeight]") == [1024, 819]
    assert "drawn by the server" in page.locator("#caption").inner_text()
    expect(page.locator("#heat")).to_be_visible()
    assert not re.search("Secret|4711", page.content())
    drop(page, "screenshot.dcm", write_dicom(image, "SecondaryCaptureImageStorage"))
    view = wait_for(page, "refused")
    assert "No answer for this picture" in view.inner_text()
    assert "Send the original picture" in view.locator(".why").inner_text()
    assert "secondary capture" in view.locator(".quoted p").text_content()
    assert not page.locator("#preview").is_visible()
    turned = tmp_path / "turned.png"
    Image.open(image).transpose(Image.Transpose.ROTATE_180).save(turned)
    drop(page, "IM000003", write_dicom(turned, "ComputedRadiographyImageStorage"))
    expect(page.locator("#view .why")).to_contain_text("upside down")
    expect(page.locator("#preview")).to_be_visible()
    drop(page, "screenshot.dcm", write_dicom(image, "SecondaryCaptureImageStorage"))
    page.select_option("#language", "de")
    expect(view.locator(".why")).to_contain_text("Originalaufnahme")
    assert "Bitte die Originalaufnahme senden" in view.locator(".why").inner_text()
    marked = write_dicom(image, "ComputedRadiographyImageStorage", BurnedInAnnotation="YES")
    drop(page, "IM000002", marked)
    said = wait_for(page, "answer").locator(".cautions li")
    assert said.all_inner_texts() == ["In das Bild ist Text eingebrannt; er kann das Modell irreführen."]
    assert "eingebrannt" in page.locator("#said").text_content()


def test_a_server_that_dies_and_comes_back_answers_what_waits(
    visit: Callable[..., Any], pristine_bundle: Path, start: Callable[..., Server], image: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    first = start(pristine_bundle, "--port", port).until_ready()
    page = visit(first)
    page.wait_for_selector("#server[data-state=ready]")
    first.process.kill()
    first.process.wait()
    drop(page, "waits.png", image.read_bytes())
    assert "read as soon as the server is back" in wait_for(page, "gone").inner_text()
    page.wait_for_selector("#server[data-state=gone]")
    start(pristine_bundle, "--port", port).until_ready()
    wait_for(page, "answer")
    page.wait_for_selector("#server[data-state=ready]")
    assert page.locator("#history-rows tr").count() == 1


def test_a_slow_answer_can_be_cancelled_and_a_full_server_is_asked_again_and_a_token_is_kept_nowhere(
    visit: Callable[..., Any], start: Callable[..., Server], image: Path, tmp_path: Path
) -> None:
    slow, word = tmp_path / "wait", tmp_path / "token"
    word.write_text("a-long-word-of-the-kiosk")
    bundle = write_fake_bundle(tmp_path / "bundle", slow)
    page = visit(start(bundle, "--queue", 0, "--workers", 1, "--token-file", word).until_ready())
    wait_for(page, "token")
    page.get_by_label("Token").fill("something-else-altogether")
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_contain_text("did not take")
    page.get_by_label("Token").fill(word.read_text())
    page.keyboard.press("Enter")
    wait_for(page, "idle")
    assert page.evaluate("Object.keys({...localStorage, ...sessionStorage})") == []
    page.clock.install()
    slow.touch()
    drop(page, "slow.png", image.read_bytes())
    view = wait_for(page, "waiting")
    page.clock.fast_forward(7000)
    assert "longer than usual" in view.inner_text()
    assert "longer than usual" in page.locator("#said").text_content()
    page.keyboard.press("Escape")
    assert "was not read" in wait_for(page, "cancelled").inner_text()
    # The one worker is still at it.
    page.get_by_role("button", name="Send it again").click()
    assert "sent again in" in wait_for(page, "busy").inner_text()
    slow.unlink()
    page.clock.resume()
    assert wait_for(page, "answer").locator("h3").inner_text() == "CLEAR"


def test_a_page_of_another_site_gets_nothing(browser: Any, server: Server) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        """A page, on another port."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>")

        def log_message(self, *_: object) -> None: ...

    page = browser.new_page()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        *nothing, sent = page.evaluate(TRIED, f"http://127.0.0.1:{server.port}")
        other.shutdown()
    assert nothing == ["refused"] * 5
    # Such a request cannot be kept from being sent, nor its answer be read; and the server did not answer it.
    assert sent == "opaque 0" or sent == "refused"
    assert "POST /predict 403 origin" in server.log.read_text()
    assert page.goto(f"http://rebound.example:{server.port}/").status == 421
    assert page.evaluate("fetch('/model/info').then((said) => said.status)") == 421
    page.close()


def test_everything_can_be_done_with_the_keyboard_alone(visit: Callable[..., Any], server: Server, image: Path) -> None:
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    with page.expect_file_chooser() as chooser:
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "choose":
                break
        page.keyboard.press("Enter")
    chooser.value.set_files([image, image])
    wait_for(page, "answer")
    page.focus(".skip")
    visited, unseen = [], []
    for _ in range(30):
        page.keyboard.press("Tab")
        name, outline = page.evaluate("""() => {
          const at = document.activeElement;
          return [at.id || at.tagName, getComputedStyle(at).outlineStyle + getComputedStyle(at).outlineWidth];
        }""")
        if name == "BODY":
            break
        visited.append(name)
        unseen += [name] if outline != "solid3px" else []
    assert not unseen
    assert {"model", "language", "theme", "choose", "choose-folder", "remove", "next", "print", "clear"} <= set(visited)
    page.focus("#next")
    page.keyboard.press("Enter")
    expect(page.locator("#history-rows tr")).to_have_count(2)
    assert page.locator("#entries").input_value() == "1"
    page.focus("#theme")
    page.keyboard.press("Space")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    headings = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map((each) => Number(each.tagName[1]))")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(headings))


def test_the_language_changes_everything_and_is_remembered(
    visit: Callable[..., Any], server: Server, image: Path
) -> None:
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    drop(page, "one.png", image.read_bytes())
    wait_for(page, "answer")
    page.select_option("#language", "de")
    assert page.locator("html").get_attribute("lang") == "de"
    assert (
        "Die Entscheidungsschwelle" in page.locator("#view").inner_text()
        or "Unter der" in page.locator("#view").inner_text()
    )
    assert "kein Medizinprodukt" in page.locator(".use").inner_text()
    assert page.locator("#server").inner_text() == "Bereit"
    assert re.search(r"\d,\d\s%", page.locator("#history-rows").inner_text())
    english = json.loads((Path(__file__).parents[3] / "runtime/server/page/words.en.json").read_text())
    shown = page.locator("body").inner_text()
    assert not [
        words
        for words in english.values()
        if len(words) > 12 and "{" not in words and words in shown and "DICOM" not in words
    ]
    page.reload()
    page.wait_for_selector("html[lang=de]")
    assert page.evaluate("localStorage.length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read_and_touched_on_a_phone_and_on_a_kiosk(
    visit: Callable[..., Any], server: Server, image: Path, scheme: str
) -> None:
    page = visit(server, color_scheme=scheme, locale="de-DE", reduced_motion="reduce")
    page.wait_for_selector("#server[data-state=ready]")
    for name, data, state in (("one.png", image.read_bytes(), "answer"), ("letter.txt", b"Dear", "unreadable")):
        drop(page, name, data)
        wait_for(page, state)
        for width, height in ((360, 780), (1920, 1080)):
            page.set_viewport_size({"width": width, "height": height})
            assert not page.evaluate(SMALL)
            assert not page.evaluate(WIDE)
            page.mouse.wheel(0, 2000)
            assert page.locator(".use").bounding_box()["y"] == 0, "research use only is always to be seen"
        found = page.evaluate(CONTRAST)
        assert len(found) > 15
        assert not [each for each in found if each[1] < each[2]]
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light dark"
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_folder_is_stepped_through_and_a_watched_one_read_as_it_fills(
    visit: Callable[..., Any], server: Server, image: Path, tmp_path: Path
) -> None:
    for name in ("10.png", "9.png", ".hidden.png", "notes.txt"):
        shutil.copyfile(image, tmp_path / name)
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    page.set_input_files("#folder", tmp_path)
    wait_for(page, "answer")
    assert page.locator("#entries option").all_inner_texts() == ["1 of 2 · 9.png", "2 of 2 · 10.png"]
    # The browser's own folder stands for the camera's: the same interface, without a dialogue.
    page.evaluate("window.showDirectoryPicker = () => navigator.storage.getDirectory()")
    page.click("#watch")
    page.wait_for_selector("#watching:not([hidden])")
    page.evaluate(
        """async (text) => {
          const folder = await navigator.storage.getDirectory();
          for (const name of ["new.png", "newer.png"]) {
            const file = await (await folder.getFileHandle(name, {create: true})).createWritable();
            await file.write(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
            await file.close();
          }
        }""",
        base64.b64encode(image.read_bytes()).decode(),
    )
    expect(page.locator("#history-rows tr")).to_have_count(3)
    assert page.locator("#history-rows .file:nth-child(2)").all_inner_texts() == ["newer.png", "new.png", "9.png"]
    expect(page.locator("#caption")).to_contain_text("newer.png")
    page.click("#unwatch")
    assert page.locator("#watch").is_visible()


def test_prints_the_answer_and_the_list_without_what_is_only_for_the_screen(
    visit: Callable[..., Any], server: Server, image: Path
) -> None:
    page = visit(server)
    page.wait_for_selector("#server[data-state=ready]")
    drop(page, "one.png", image.read_bytes())
    wait_for(page, "answer")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for seen in (".use", "#view h3", ".mark-word", "#history-rows", "#printed", "details dl"):
        assert page.locator(seen).is_visible(), seen
    for unseen in ("#choose", "#language", "#print", "#clear", "#server"):
        assert not page.locator(unseen).is_visible(), unseen
