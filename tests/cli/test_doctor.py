"""``medcompress doctor``: one page, one document, one exit code."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.main import run
from medcompress.runtime.bundle import MANIFEST, open_bundle
from medcompress.runtime.doctor import Diagnosis
from medcompress.runtime.hardware import this_cpu
from medcompress.runtime.machine import this_machine
from medcompress.runtime.remedies import of_machine
from medcompress.runtime.selftest import SelfTest
from medcompress.runtime.variants import by_preference


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(folder))
    return folder


def keep(bundle: Path, *engines: str) -> None:
    """Leave the variants of these engines alone to run here: the others need a CPU there is none of."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    for variant in manifest["variants"]:
        if variant["engine"] not in engines:
            variant["requires"] = ["amx", "i8mm"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_the_page_of_a_machine_alone_fits_a_terminal(capsys) -> None:
    assert run(["doctor"]) == 0
    page = capsys.readouterr().out
    assert this_machine().cpu.model in page
    assert "onnxruntime" in page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_a_damaged_variant_is_told_with_what_answers_in_its_place(bundle: Path, state: Path, capsys) -> None:
    keep(bundle, "onnxruntime")
    opened = open_bundle(bundle)
    first, second, *_ = (variant for variant in by_preference(opened) if not this_cpu().lacks(variant.requires))
    path = bundle / first.files[0]
    path.write_bytes(path.read_bytes() + b"x")
    assert run(["doctor", str(bundle)]) == 2
    page = capsys.readouterr().out
    assert f"* {second.name}" in page
    assert "What is wrong" in page
    assert "copy the bundle again" in page
    assert not state.exists(), "what is measured of a damaged bundle is not kept"
    assert run(["verify", str(bundle), "--json"]) == 2
    found = msgspec.json.decode(capsys.readouterr().out, type=SelfTest)
    assert found.runs == second.name
    assert first.files[0] in found.damaged[0]
    assert [check.damaged for check in found.variants if check.name == first.name] == [True]
    assert run(["verify", str(bundle)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("damaged: ") and path.name in line for line in lines)
    assert f"runs here: {second.name}" in lines


def test_of_a_sound_bundle_every_variant_is_timed_and_the_fastest_remembered(
    pristine_bundle: Path, bundle: Path, state: Path, capsys
) -> None:
    keep(bundle, "onnxruntime")
    assert run(["doctor", str(bundle), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Diagnosis)
    (examined,) = found.bundles
    assert examined.identity == open_bundle(bundle).identity != open_bundle(pristine_bundle).identity
    assert examined.remembered
    assert len(list(state.iterdir())) == 1
    ran = [form for form in examined.forms if form.ok]
    assert ran[0].name == examined.used
    assert all(form.here_ms and form.golden_error is not None and form.executed for form in ran)
    assert not [problem for problem in found.problems if problem.serious]


def test_what_cannot_run_here_says_so_with_the_command_that_mends_it(bundle: Path, capsys) -> None:
    keep(bundle)
    assert run(["doctor", str(bundle), "--json"]) == 3
    found = msgspec.json.decode(capsys.readouterr().out, type=Diagnosis)
    assert found.bundles[0].used is None
    assert all("needs a CPU with" in form.status for form in found.bundles[0].forms)
    assert any("none of its forms runs" in problem.what and problem.serious for problem in found.problems)


def test_nothing_a_bundle_says_is_part_of_a_command(bundle: Path, capsys) -> None:
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text())
    engine = manifest["variants"][0]["engine"]
    for lineage in (
        {"cpu": [], "versions": 7},
        {"cpu": {"model": 3}, "versions": {engine: "1; rm -rf /", "pillow": []}},
    ):
        path.write_text(json.dumps({**manifest, "lineage": lineage}))
        keep(bundle, engine)
        golden = bundle / manifest["variants"][0]["files"][0]
        golden.write_bytes(golden.read_bytes() + b"x")  # something to mend
        assert run(["doctor", str(bundle)]) in {2, 3}
        assert "rm -rf" not in capsys.readouterr().out


def test_no_bundle_at_all_is_damage(tmp_path: Path, capsys) -> None:
    assert run(["doctor", str(tmp_path / "missing")]) == 2
    assert "is not a bundle" in " ".join(capsys.readouterr().out.split())


def test_each_want_of_a_machine_has_its_remedy() -> None:
    sound = this_machine()
    state = sound.state
    assert state is not None
    wanting = msgspec.structs.replace(
        sound,
        engines={"onnxruntime": ""},
        state=msgspec.structs.replace(state, writable=False),
        available_mib=100.0,
        throttled=3,
        quota=0.5,
    )
    found = of_machine(wanting)
    assert [problem.serious for problem in found][:1] == [True]
    for words in ("no inference engine", "cannot be written to", "100 MiB of memory", "heat 3 times", "0.5 of a CPU"):
        assert any(words in problem.what and problem.mend for problem in found), words
    full = msgspec.structs.replace(sound, state=msgspec.structs.replace(state, free_mib=5.0))
    assert any("5 MiB are left" in problem.what for problem in of_machine(full))
