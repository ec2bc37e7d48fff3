"""``medcompress export``: what it prints, its exit codes, and whom it believes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from medcompress.cli.main import run
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.keys import PRIVATE_FILE, PUBLIC_FILE, make_keys
from medcompress.runtime.triton.repository import Repository


def test_it_prints_what_it_wrote(pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(pristine_bundle), "--format", "triton", "--name", "chest", "--variant", "onnxruntime-fp32"]
    assert run([*command, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "chest-onnxruntime-fp32: onnxruntime on CPU, batches of up to 32; golden answers: ok" in printed
    assert run([*command, "--out", str(tmp_path / "b"), "--max-batch", "1", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Repository, strict=True)
    assert found.repository == str(tmp_path / "b") and found.identity == open_bundle(pristine_bundle).identity
    assert [model.max_batch_size for model in found.models] == [1]
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"README.md", "chest-onnxruntime-fp32"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--variant", "tensorrt-fp16"], "has no variant 'tensorrt-fp16'; it has: onnxruntime-fp32"),
        (["--format", "coreml"], "'coreml' is not 'triton'"),
        (["--max-batch", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_2(
    pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    out = tmp_path / "models"
    assert run(["export", str(pristine_bundle), "--format", "triton", "--out", str(out), *more]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_only_a_signed_bundle_where_a_key_is_trusted(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    out, keys = tmp_path / "models", tmp_path / "keys"
    make_keys(keys)
    command = ["export", str(bundle), "--format", "triton", "--out", str(out), "--variant", "onnxruntime-fp32"]
    monkeypatch.setenv("MEDCOMPRESS_TRUST", str(keys / PUBLIC_FILE))
    assert run(command) == 2 and not out.exists()
    assert "sign" in capsys.readouterr().err
    assert run(["sign", str(bundle), "--key", str(keys / PRIVATE_FILE)]) == 0
    assert run(command) == 0
