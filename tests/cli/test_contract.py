"""What machines may rely on: exit codes, one JSON document on stdout, errors as one line on stderr."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from medcompress.benchmarks.tolerance import MARGINS
from medcompress.cli.documents import Benchmarked, Failed, Optimized, Predicted
from medcompress.cli.main import COMMANDS, run
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.selftest import SelfTest, verify

if TYPE_CHECKING:
    from ..conftest import Ran


def strict(kind: type) -> type:
    """The document's type with unknown fields refused: what is printed is what is documented."""
    return msgspec.defstruct(
        kind.__name__,
        [(f.name, f.type, f.default) if not f.required else (f.name, f.type) for f in msgspec.structs.fields(kind)],
        forbid_unknown_fields=True,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)


def test_optimize(optimized: Ran) -> None:
    assert optimized.code == 0, optimized.said
    found = msgspec.json.decode(optimized.printed, type=strict(Optimized))
    assert Path(found.bundle) == optimized.folder / "bundle"
    rows = {row.name: row for row in found.variants if not row.status.startswith("not run here: needs a CPU")}
    assert {found.chosen, "onnxruntime-int8-avx2", "openvino-int8-avx2"} <= set(rows)
    promised = {"name", "engine", "precision", "size_bytes", "auroc", "auroc_drop", "accuracy", "sensitivity"}
    promised |= {"specificity", "p50_ms", "p90_ms", "status"}
    assert all(promised <= set(row) for row in json.loads(optimized.printed)["variants"])
    assert all(row.auroc is not None and row.p50_ms is not None for row in rows.values())


def test_predict(pristine_bundle: Path, image: Path, tmp_path: Path, capsys) -> None:
    assert run(["predict", str(pristine_bundle), str(image), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=strict(Predicted))
    (answer,) = found.results
    assert answer.input == str(image)
    assert set(answer.probabilities) == {"SYNTHETIC-CLEAR", "SYNTHETIC-OPACITY"}
    assert set(answer.time_ms) == {"preprocess", "engine", "total"}
    bad = tmp_path / "bad.png"
    bad.touch()
    assert run(["predict", str(pristine_bundle), str(bad), str(image), "--json"]) == 2
    refused, answered = msgspec.json.decode(capsys.readouterr().out, type=Predicted).results
    assert "is empty" in refused.error
    assert [why.text for why in refused.whys] == [refused.error] and refused.whys[0].code == "empty"
    assert refused.label is None
    assert answered.label


def test_benchmark(pristine_bundle: Path, phantoms: Path, capsys) -> None:
    assert run(["benchmark", str(pristine_bundle), "--json", "--threads", "2"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=strict(Benchmarked))
    assert (found.accuracy_from, found.threads) == ("bundle", 2)
    by_name = {row.name: row for row in found.variants}
    assert by_name["torch-eager-fp32"].status == "baseline"
    assert all(row.speedup_vs_eager for row in found.variants if row.p50_ms)
    assert run(["benchmark", str(pristine_bundle), "--data", str(phantoms), "--json"]) == 0
    judged = msgspec.json.decode(capsys.readouterr().out, type=Benchmarked)
    assert judged.accuracy_from == str(phantoms)
    stored, measured = ({r.name: r.auroc for r in table.variants} for table in (found, judged))
    assert stored == pytest.approx(measured, nan_ok=True) or stored == measured


def test_verify(pristine_bundle: Path, bundle: Path, capsys) -> None:
    assert run(["verify", str(pristine_bundle), "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=strict(SelfTest)).runs
    (bundle / "golden.npz").unlink()
    assert run(["verify", str(bundle), "--json"]) == 2
    captured = capsys.readouterr()
    failed = msgspec.json.decode(captured.out, type=strict(Failed))
    assert failed.error["code"] == 2
    assert "golden.npz" in failed.error["message"]
    assert captured.err.count("\n") == 1


def test_inspect(pristine_bundle: Path, checkpoint: Path, capsys) -> None:
    kinds = []
    for path in (pristine_bundle, pristine_bundle / "model.onnx", checkpoint):
        assert run(["inspect", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["file"] == str(path)
        kinds.append(found["kind"])
        assert run(["inspect", str(path)]) == 0
        assert found["kind"] in capsys.readouterr().out
    assert len(set(kinds)) == 3


class _Trap:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("command", "code"), [("inspect", 0), ("optimize", 2)])
def test_a_pickle_is_never_executed(command: str, code: int, tmp_path: Path, capsys) -> None:
    trap, sprung = _Trap(), tmp_path / "sprung"
    trap.path = str(sprung)  # type: ignore[attr-defined]
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(trap))
    assert run([command, str(path)]) == code
    assert not sprung.exists()
    captured = capsys.readouterr()
    assert "never opened: a pickle can run any code" in captured.out + captured.err


def test_usage_errors_end_with_code_2(capsys) -> None:
    for arguments in (["optimise"], ["optimize"], ["predict", "x"], ["optimize", "x", "--threads", "0"], ["--no-such"]):
        assert run(arguments) == 2, arguments
        assert "Traceback" not in capsys.readouterr().err
    assert run(["predict", "--json"]) == 2
    assert msgspec.json.decode(capsys.readouterr().out, type=Failed).error["code"] == 2


def test_a_fault_of_our_own_is_not_taken_for_a_refusal(pristine_bundle: Path, image: Path, monkeypatch, capsys) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("medcompress.runtime.predictor.load", broken)
    assert run(["predict", str(pristine_bundle), str(image), "--json"]) == 70
    captured = capsys.readouterr()
    assert "Traceback" in captured.err, "the maintainers need it"
    assert "please report it" in msgspec.json.decode(captured.out, type=Failed).error["message"]


def test_a_reader_that_went_away_is_not_taken_for_a_refusal(pristine_bundle: Path) -> None:
    command = [sys.executable, "-m", "medcompress.cli.main", "inspect", str(pristine_bundle)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    assert child.stderr
    child.stdout.close()
    assert b"Traceback" not in child.stderr.read()
    assert child.wait() == 141


@pytest.mark.usefixtures("one_rung")
def test_the_gate_decides_the_exit_code_and_keeps_the_float_model_only(
    checkpoint: Path, begun: Callable[[Path], Path], tmp_path: Path, capsys
) -> None:
    # With no margin at all, one last bit of a probability is too much.
    none = tmp_path / "none.yaml"
    none.write_text("".join(f"{name}: 0.0\n" for name in MARGINS))
    out = begun(tmp_path / "b")
    arguments = ["optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--out", str(out), "--json"]
    assert run([*arguments, "--tolerance", str(none)]) == 1
    found = msgspec.json.decode(capsys.readouterr().out, type=Optimized)
    assert found.verdict == "fail"
    assert {row.name: row.status.split(":")[0] for row in found.variants if row.precision == "int8"} == {
        "onnxruntime-int8-avx2": "fail",
        "openvino-int8-avx2": "fail",
    }
    manifest = open_bundle(out).manifest
    assert "No compressed form passed" in manifest.reason
    assert {variant.precision for variant in manifest.variants} == {"fp32"}
    assert verify(out).runs == manifest.chosen


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out
