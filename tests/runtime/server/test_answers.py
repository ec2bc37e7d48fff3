"""What a server answers, with real bundles: each answer is that of the predictor, and what is wrong is said."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from medcompress.runtime import load

from .conftest import Server

BOUNDARY = "a-boundary"


@pytest.fixture(scope="module")
def bundles(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two bundles of the same classes that answer differently."""
    cooler = Path(shutil.copytree(pristine_bundle, tmp_path_factory.mktemp("cooler") / "bundle"))
    manifest = json.loads((cooler / "manifest.json").read_text())
    manifest["decision"] |= {"temperature": 0.02, "threshold": 0.25}
    (cooler / "manifest.json").write_text(json.dumps(manifest))
    return {"warm": pristine_bundle, "cool": cooler}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], start: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """With an ensemble of both, a megabyte a request, and an audit log."""
    named = [f"{name}={folder}" for name, folder in bundles.items()]
    audit = tmp_path_factory.mktemp("audit") / "log"
    return start(*named, "--ensemble", "both=warm,cool", "--max-body", "1", "--audit", audit).until_ready()


def form(*files: bytes, field: str = "file", name: str = "x.png") -> tuple[bytes, dict[str, str]]:
    """A multipart/form-data body and its headers."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def test_the_answer_is_that_of_the_predictor(server: Server, bundles: dict[str, Path], image: Path) -> None:
    data = image.read_bytes()
    predictor = load(bundles["warm"])
    expected = predictor.predict(data)
    found = server.json("POST", "/predict?model=warm&preview=true", data)
    assert found["probabilities"] == expected.probabilities
    assert (found["label"], tuple(found["labels"])) == (expected.label, expected.labels)
    assert (found["model"], found["variant"], found["bundle"]) == ("warm", expected.variant, predictor.bundle.identity)
    assert found["positive"] == "SYNTHETIC-OPACITY" and found["thresholds"] == {"SYNTHETIC-OPACITY": 0.5}
    assert {"queue", "preprocess", "engine", "total"} <= set(found["time_ms"])
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["preview"]))))
    assert np.array_equal(seen, np.asarray(predictor.bundle.manifest.preprocessing.decode(data)))
    body, headers = form(data)
    same = server.json("POST", "/predict?model=warm", body, headers)
    assert same["probabilities"] == expected.probabilities and same["preview"] is None


def test_the_explanation_is_that_of_the_predictor(server: Server, bundles: dict[str, Path], image: Path) -> None:
    data = image.read_bytes()
    predictor = load(bundles["warm"])
    found = server.json("POST", "/predict?model=warm&explain=true", data)
    assert predictor.variant.explanation is not None
    expected = predictor.predict(data, explain=True)
    heat = Image.open(io.BytesIO(base64.b64decode(found["heat"])))
    assert expected.heat is not None and heat.mode == "L" and heat.size == expected.heat.shape[::-1]
    assert np.abs(np.asarray(heat) / 255 - expected.heat).max() <= 0.5 / 255 + 1e-6
    assert (found["explained"], found["probabilities"]) == (expected.explained, expected.probabilities)
    assert found["time_ms"]["explain"] > 0
    both = server.json("POST", "/predict?model=both&explain=true", data)
    assert both["heat"] and both["explained"] == both["label"]


def test_an_ensemble_answers_with_the_mean(server: Server, bundles: dict[str, Path], image: Path) -> None:
    data = image.read_bytes()
    alone = [load(folder).predict(data).probabilities for folder in bundles.values()]
    assert alone[0] != alone[1]
    for path in ("/predict?model=both", "/predict"):  # not asked for any, the one that holds the others is meant
        found = server.json("POST", path, data)
        for name, probability in found["probabilities"].items():
            assert probability == pytest.approx((alone[0][name] + alone[1][name]) / 2, abs=1e-12)
        assert found["thresholds"] == {"SYNTHETIC-OPACITY": pytest.approx(0.375)}
        assert (found["label"] == "SYNTHETIC-OPACITY") == (found["probabilities"]["SYNTHETIC-OPACITY"] >= 0.375)
        assert any("mean of several" in caution for caution in found["cautions"])
        assert [why["code"] for why in found["whys"]][-1] == "ensemble" and len(found["whys"]) == len(found["cautions"])


def test_a_batch_has_each_answer_or_failure_in_its_place(server: Server, bundles: dict[str, Path], image: Path) -> None:
    data = image.read_bytes()
    body, headers = form(data, b"no picture", b"", data, field="files")
    found = server.json("POST", "/predict/batch?model=cool", body, headers)
    expected = load(bundles["cool"]).predict(data).probabilities
    assert [each.get("probabilities") for each in found] == [expected, None, None, expected]
    assert [each["error"]["kind"] for each in found[1:3]] == ["unreadable", "unreadable"]
    body, headers = form(*[b"x"] * 65, field="files")
    assert server.kind("POST", "/predict/batch", body, headers) == (422, "usage")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"a report, not a radiograph\n" * 100, "no-image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "no-image"),
        (b"\xff\xd8\xff\xe0" + bytes(1000), "no-image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(server: Server, body: bytes, why: str) -> None:
    status, _, text = server.ask("POST", "/predict?model=warm", body)
    error = json.loads(text)["error"]
    assert (status, error["kind"], error["code"]) == (422, "unreadable", 2)
    assert error["message"].startswith("the image is ") and "\n" not in error["message"]
    assert error["why"] == {"code": why, "values": {}}


HOSTILE = {
    "no boundary": (b"--x\r\n\r\nx", "multipart/form-data"),
    "another boundary": (form(b"x")[0], "multipart/form-data; boundary=other"),
    "another field": (form(b"x", field="name")[0], f"multipart/form-data; boundary={BOUNDARY}"),
    "cut off": (form(b"x" * 1000)[0][:500], f"multipart/form-data; boundary={BOUNDARY}"),
    "two files": (form(b"x", b"y")[0], f"multipart/form-data; boundary={BOUNDARY}"),
    "a long header": (b"--b\r\nX: " + b"y" * 100_000, "multipart/form-data; boundary=b"),
    "many headers": (b"--b\r\n" + b"X: y\r\n" * 10_000, "multipart/form-data; boundary=b"),
    "many parts": (b"--b\r\n\r\n\r\n" * 50_000 + b"--b--", "multipart/form-data; boundary=b"),
    "a long boundary": (b"x" * 1000, "multipart/form-data; boundary=" + "b" * 5000),
    "zeros": (bytes(100_000), "multipart/form-data; boundary=b"),
    "mixed": (form(b"x")[0], f"multipart/mixed; boundary={BOUNDARY}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_forms_are_refused(server: Server, name: str) -> None:
    body, content_type = HOSTILE[name]
    assert server.kind("POST", "/predict", body, {"Content-Type": content_type}) == (422, "usage")


def test_a_body_that_is_too_large_is_not_kept(server: Server) -> None:
    large = bytes(3 << 20)
    assert server.kind("POST", "/predict", large) == (413, "too_large")

    def chunks() -> Any:
        yield from (bytes(64 << 10) for _ in range(48))

    assert server.kind("POST", "/predict", chunks()) == (413, "too_large"), "it announces no length"
    connection = server.open()
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(1 << 60))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413, "and is told so before it is sent"
    connection.close()


def test_wrong_routes_and_words(server: Server) -> None:
    assert server.kind("GET", "/nothing") == (404, "no_route")
    assert server.kind("POST", "/nothing", b"x") == (404, "no_route")
    assert server.kind("GET", "/predict") == (404, "no_route")
    assert server.kind("GET", "/page/../../settings.py") == (404, "no_route")
    assert server.kind("GET", "/page/%2e%2e/settings.py") == (404, "no_route")
    assert server.kind("GET", "/docs") == (404, "no_route"), "its scripts are on another host"
    assert server.kind("POST", "/predict?model=warmer", b"x") == (404, "no_model")
    assert server.kind("POST", "/predict?task=weather", b"x") == (404, "no_model")
    assert server.kind("POST", "/predict?explain=perhaps", b"x") == (422, "usage")


def test_another_name_or_another_site_is_turned_away(server: Server, image: Path) -> None:
    data = image.read_bytes()
    assert server.kind("GET", "/model/info", headers={"Host": "evil.example"}) == (421, "host")
    assert server.kind("POST", "/predict", data, {"Host": "evil.example:80"}) == (421, "host")
    assert server.kind("POST", "/predict", data, {"Origin": "http://evil.example"}) == (403, "origin")
    assert server.kind("POST", "/predict", data, {"Origin": "null"}) == (403, "origin")
    assert server.kind("POST", "/predict", data, {"Sec-Fetch-Site": "cross-site"}) == (403, "origin")
    own = f"localhost:{server.port}"
    assert server.ask("POST", "/predict", data, {"Host": own, "Origin": f"http://{own}"})[0] == 200


def test_the_page_is_served_and_nothing_is_kept_by_a_browser(server: Server) -> None:
    status, headers, text = server.ask("GET", "/")
    assert status == 200 and b"<html" in text
    for _, found, _ in (server.ask("GET", "/"), server.ask("GET", "/model/info"), server.ask("GET", "/nothing")):
        assert "default-src 'none'" in found["Content-Security-Policy"] and "unsafe" not in str(found)
        assert found["X-Content-Type-Options"] == "nosniff" and found["Referrer-Policy"] == "no-referrer"
        assert found["Cache-Control"] == "no-store"
    assert headers["Content-Type"].startswith("text/html")


def test_the_answers_have_the_form_that_openapi_tells(server: Server, image: Path) -> None:
    document = server.json("GET", "/openapi.json")

    def check(path: str, method: str, status: int, answer: Any) -> None:
        schema = document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer)

    check("/predict", "post", 200, server.json("POST", "/predict", image.read_bytes()))
    check("/predict", "post", 422, server.json("POST", "/predict", b"x"))
    body, headers = form(image.read_bytes(), b"x", field="files")
    check("/predict/batch", "post", 200, server.json("POST", "/predict/batch", body, headers))
    check("/model/info", "get", 200, server.json("GET", "/model/info"))
    check("/ready", "get", 200, server.json("GET", "/ready"))
    with pytest.raises(jsonschema.ValidationError):
        check("/predict", "post", 200, server.json("GET", "/model/info"))


def test_what_is_served_is_told(server: Server, bundles: dict[str, Path]) -> None:
    info = server.json("GET", "/model/info")
    models = {model["name"]: model for model in info["models"]}
    assert set(models) == {"warm", "cool", "both"} and "research use only" in info["notice"]
    assert models["both"]["members"] == ["warm", "cool"] and len(models["both"]["bundles"]) == 2
    assert models["warm"]["variant"] == [load(bundles["warm"]).variant.name]
    assert models["warm"]["classes"] == ["SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY"] and models["warm"]["size"] == [48, 48]
    assert models["warm"]["figures"]["auroc"] is not None


def test_figures_and_log_name_no_file(server: Server, image: Path) -> None:
    before = _figures(server)
    body, headers = form(image.read_bytes(), name="DOE^JOHN.png")
    assert server.ask("POST", "/predict?model=warm&note=DOE", body, headers)[0] == 200
    assert server.ask("GET", "/DOE-JOHN.png")[0] == 404
    after = _figures(server)
    key = ("medcompress_requests_total", (("outcome", "answered"), ("route", "/predict")))
    assert after[key] == before.get(key, 0) + 1
    decoded = ("medcompress_stage_seconds_count", (("stage", "decode"),))
    assert after[decoded] == before[decoded] + 1
    names = {name for name, _ in after}
    assert {"medcompress_queue_depth", "medcompress_variant_in_use", "process_resident_memory_bytes"} <= names
    log = server.log.read_text()
    assert "POST /predict 200 answered" in log and "GET other 404 no_route" in log
    assert "DOE" not in log and "png" not in log and "DOE" not in server.ask("GET", "/metrics")[2].decode()


def _figures(server: Server) -> dict[Any, float]:
    status, headers, text = server.ask("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def test_every_answer_has_its_line_in_the_audit_log(server: Server, image: Path) -> None:
    from hashlib import sha256

    (folder,) = [Path(each) for each in server.process.args if "audit" in str(each) and str(each).startswith("/")]
    count = len(_lines(folder))
    data = image.read_bytes()
    answer = server.json("POST", "/predict?model=cool", data)
    server.ask("POST", "/predict?model=cool", b"no picture")
    answered, refused = _lines(folder)[count:]
    assert answered["event"] == "answered" and answered["input_sha256"] == sha256(data).hexdigest()
    assert (answered["who"], answered["model"], answered["bundle"]) == ("loopback", "cool", answer["bundle"])
    assert answered["answer"]["labels"] == answer["labels"]
    assert (refused["event"], refused["reason"], "answer" in refused) == ("refused", "unreadable", False)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
