"""The fastest variant here: measured in processes of their own, remembered for this machine as it is, and no other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from medcompress.runtime import load, placement
from medcompress.runtime.bundle import Bundle, open_bundle
from medcompress.runtime.placement import Placement, in_order, place, remember, remembered
from medcompress.runtime.records import to_json
from medcompress.runtime.selftest import VariantCheck
from medcompress.runtime.state import state_folder
from medcompress.runtime.trial import Trial, measure
from medcompress.runtime.variants import by_preference


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(folder))
    return folder


def trials(bundle: Bundle, fastest: str) -> list[Trial]:
    names = [variant.name for variant in bundle.manifest.variants]
    return [Trial(VariantCheck(name, True, "ok"), 1.0 if name == fastest else 5.0) for name in names]


def test_every_variant_is_tried_and_the_fastest_answers_from_then_on(pristine_bundle: Path, image: Path) -> None:
    bundle = open_bundle(pristine_bundle)
    found = place(bundle, 1)
    assert found is not None
    assert set(found.ms) >= {"onnxruntime-fp32", "onnxruntime-int8-avx2", "openvino-int8-avx2"}
    assert all(0 < ms < 10_000 for ms in found.ms.values())
    assert remembered(bundle, 1) == found
    first = in_order(bundle, found)[0].name
    assert found.ms[first] <= 1.03 * min(found.ms.values())
    assert load(pristine_bundle, threads=1, measure=True).predict(image).variant == first


def test_loading_follows_what_is_remembered_and_measures_nothing(
    pristine_bundle: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medcompress.runtime.trial.measure", None)  # any call of it fails
    bundle = open_bundle(pristine_bundle)
    assert load(pristine_bundle).variant.name == by_preference(bundle)[0].name
    assert not state.exists()
    for name in ("onnxruntime-fp32", "openvino-fp32"):
        assert remember(bundle, bundle.manifest.threads, trials(bundle, name))
        assert load(pristine_bundle).variant.name == name
    assert load(pristine_bundle, threads=bundle.manifest.threads + 1).variant.name == by_preference(bundle)[0].name
    left = [path.name for path in state.iterdir()]
    assert len(left) == 1, f"written whole: no temporary file is left ({left})"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: msgspec.structs.replace(p, bundle="0" * 64),
        lambda p: msgspec.structs.replace(p, cpu=msgspec.structs.replace(p.cpu, model="another")),
        lambda p: msgspec.structs.replace(p, cpu=msgspec.structs.replace(p.cpu, cores=p.cpu.cores + 1)),
        lambda p: msgspec.structs.replace(p, engines=("onnxruntime-0.1",)),
        lambda p: msgspec.structs.replace(p, threads=7),
        lambda p: msgspec.structs.replace(p, schema=99),
    ],
    ids=["bundle", "cpu", "cores", "engines", "threads", "schema"],
)
def test_what_was_measured_of_something_else_is_not_believed(
    pristine_bundle: Path, state: Path, change: Callable[[Placement], Placement]
) -> None:
    bundle = open_bundle(pristine_bundle)
    found = remember(bundle, 1, trials(bundle, "openvino-fp32"))
    assert found is not None
    (path,) = state.iterdir()
    path.write_bytes(to_json(change(found)))
    assert remembered(bundle, 1) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff" * 100, b" " * 2_000_000])
def test_an_unreadable_record_is_none(pristine_bundle: Path, state: Path, content: bytes) -> None:
    bundle = open_bundle(pristine_bundle)
    remember(bundle, 1, trials(bundle, "openvino-fp32"))
    (path,) = state.iterdir()
    path.write_bytes(content)
    assert remembered(bundle, 1) is None
    assert in_order(bundle, None) == by_preference(bundle)


def test_a_record_names_no_variant_the_gate_did_not_let_pass(pristine_bundle: Path) -> None:
    bundle = open_bundle(pristine_bundle)
    found = remember(bundle, 1, trials(bundle, "openvino-fp32"))
    assert found is not None
    strange = msgspec.structs.replace(found, ms={**found.ms, "tampered": 0.001})
    assert {v.name for v in in_order(bundle, strange)} == {v.name for v in bundle.manifest.variants}
    assert in_order(bundle, strange)[0].name == "openvino-fp32"


def test_as_fast_as_the_fastest_leaves_the_choice_as_it_was(pristine_bundle: Path) -> None:
    bundle = open_bundle(pristine_bundle)
    chosen, other, *_ = (variant.name for variant in by_preference(bundle))
    found = remember(bundle, 1, trials(bundle, other))
    assert found is not None
    close = msgspec.structs.replace(found, ms={**found.ms, chosen: 1.02 * found.ms[other]})
    assert in_order(bundle, close)[0].name == chosen
    assert in_order(bundle, found)[0].name == other


def test_a_disk_that_cannot_be_written_to_is_no_error(
    pristine_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "file" / "below"))
    bundle = open_bundle(pristine_bundle)
    found = remember(bundle, 1, trials(bundle, "openvino-fp32"))
    assert found is not None
    assert in_order(bundle, found)[0].name == "openvino-fp32"
    assert remembered(bundle, 1) is None


def test_a_damaged_variant_is_told_and_nothing_is_remembered_of_it(bundle: Path, state: Path) -> None:
    opened = open_bundle(bundle)
    found = remember(
        opened,
        1,
        [Trial(VariantCheck("openvino-fp32", True, "ok"), 1.0), Trial(VariantCheck("b", False, "", damaged=True))],
    )
    assert found is not None
    assert not state.exists()


def test_where_no_process_answers_the_bundles_own_order_stays(
    pristine_bundle: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    bundle = open_bundle(pristine_bundle)
    assert all("without an answer (exit code 1)" in trial.check.status for trial in measure(bundle, 1))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert all("no Python interpreter" in trial.check.status for trial in measure(bundle, 1))
    assert place(bundle, 1) is None
    assert load(pristine_bundle, measure=True).predict(image).variant == by_preference(bundle)[0].name


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch, state: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/medcompress:/var/lib/other")
    assert state_folder() == state
    monkeypatch.delenv("MEDCOMPRESS_STATE")
    assert state_folder() == Path("/var/lib/medcompress")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert state_folder() == Path("/x/medcompress")
    for relative in ("", "y/z"):
        monkeypatch.setenv("XDG_STATE_HOME", relative)
        assert state_folder() == tmp_path / ".local" / "state" / "medcompress"


def test_the_engines_that_are_installed_are_known_by_version() -> None:
    import onnxruntime

    assert f"onnxruntime-{onnxruntime.__version__}" in placement.installed_engines()
