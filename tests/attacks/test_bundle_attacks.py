"""Every attack on a bundle is refused in one line, and nothing is answered, executed, or waited for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcompress.cli.main import run
from medcompress.runtime import load
from medcompress.runtime.bundle import MANIFEST, SIGNATURES, open_bundle
from medcompress.runtime.errors import BundleError, EngineError
from medcompress.runtime.keys import make_keys
from medcompress.runtime.sealing import seal
from medcompress.runtime.selftest import verify
from medcompress.runtime.signing import sign_bundle

_spec = importlib.util.spec_from_file_location("bundle_attacks", Path(__file__).with_name("bundle_attacks.py"))
assert _spec
assert _spec.loader
attacks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(attacks)

# Not damage: an engine that cannot read a model, as it would say of a newer one's.
BY_THE_ENGINE = {"openvino_operation_of_an_extension", "model_that_is_noise"}


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """A wait without end is a failure, not a hang of the tests."""

    def hung(*_: object) -> None:
        raise AssertionError("the attack keeps it waiting")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_it_is_refused(name: str, bundle: Path, image: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    sprung = tmp_path / "sprung"
    monkeypatch.setenv("MEDCOMPRESS_SPRUNG", str(sprung))
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    try:
        variant = attacks.ATTACKS[name](bundle)
    except PermissionError:
        pytest.skip("this attack needs root")
    kind, code = (EngineError, 3) if name in BY_THE_ENGINE else (BundleError, 2)
    with pytest.raises(kind) as error:
        load(bundle, variant=variant).predict(image)
    if variant is None:
        with pytest.raises(BundleError):
            verify(bundle)
    assert len(str(error.value)) < 2000
    asked = ["--variant", variant] if variant else []
    assert run(["predict", str(bundle), str(image), *asked]) == code
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert said.err.isprintable() or said.err[:-1].isprintable(), "no escape sequence reaches the terminal"
    assert not said.out
    assert not sprung.exists(), "code was executed"
    if before:
        assert len(list(descriptors.iterdir())) <= before + 2, "files stay open"


def swap_by_name(path: Path, evil: Path) -> None:
    evil.replace(path)


def write_in_place(path: Path, evil: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(evil.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def take_away(path: Path, evil: Path) -> None:
    path.unlink()


def swap_and_swap_back(path: Path, evil: Path) -> None:
    kept = path.with_name("kept")
    path.rename(kept)
    evil.rename(path)
    path.rename(evil)
    kept.rename(path)


def link(path: Path, evil: Path) -> None:
    path.unlink()
    path.symlink_to(evil)


@pytest.mark.parametrize("how", [swap_by_name, write_in_place, take_away, swap_and_swap_back, link])
def test_a_file_changed_between_its_hash_and_its_use_is_refused(how, bundle: Path, tmp_path: Path, monkeypatch) -> None:
    from medcompress.runtime import variants

    evil = Path(shutil.copy(bundle / "variants" / "onnxruntime-int8-avx2.onnx", tmp_path / "evil"))
    real, loaded = variants.load_engine, []

    def late(engine, files, *rest):
        how(files[0], evil)
        loaded.append(files)
        return real(engine, files, *rest) if files[0].exists() else None

    monkeypatch.setattr(variants, "load_engine", late)
    with pytest.raises(BundleError, match=r"was changed while|cannot be read|was taken away|is a link"):
        load(bundle, variant="onnxruntime-fp32")
    assert loaded


def test_golden_vectors_are_those_that_were_hashed(bundle: Path, monkeypatch) -> None:
    opened = open_bundle(bundle)
    data = opened.read("golden.npz", 1 << 20)
    (bundle / "golden.npz").write_bytes(b"PK")
    assert data[:2] == b"PK"
    assert len(data) > 1000
    with pytest.raises(BundleError, match=r"golden\.npz"):
        opened.read("golden.npz", 1 << 20)


def test_an_older_signed_manifest_over_newer_files_is_refused(bundle: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "keys" / "signing.key", tmp_path / "keys" / "signing.pub"
    make_keys(tmp_path / "keys")
    sign_bundle(bundle, key)
    old = shutil.copytree(bundle, tmp_path / "old")
    manifest = open_bundle(bundle).manifest
    with (bundle / "variants" / "onnxruntime-int8-avx2.onnx").open("ab") as file:
        file.write(b"\x9a\x06\x00")  # a field that is not known: the same model, other bytes
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)
    sign_bundle(bundle, key)
    load(bundle, trust=public, variant="onnxruntime-int8-avx2").close()
    shutil.copy(old / MANIFEST, bundle / MANIFEST)
    with pytest.raises(BundleError, match="is not the one that was signed"):
        load(bundle, trust=public)
    shutil.copytree(old / SIGNATURES, bundle / SIGNATURES, dirs_exist_ok=True)
    with pytest.raises(BundleError, match="has another size than was written"):
        load(bundle, trust=public, variant="onnxruntime-int8-avx2")
    with pytest.raises(BundleError):
        verify(bundle)


def png(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of one bit a pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    body = b"".join(chunk(*each) for each in (*chunks, (b"IDAT", data), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + header + body


@pytest.mark.parametrize("name", ["wide", "long text", "profile"])
def test_a_picture_that_unpacks_without_end_is_refused(
    name: str, pristine_bundle: Path, tmp_path: Path, capsys
) -> None:
    zeros = zlib.compress(bytes(20_000_000), 1)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        {
            "wide": lambda: png(65535, 65535, zeros),
            "long text": lambda: png(8, 8, zlib.compress(bytes(16)), (b"zTXt", b"a\0\0" + zeros)),
            "profile": lambda: png(8, 8, zlib.compress(bytes(16)), (b"iCCP", b"a\0\0" + zeros)),
        }[name]()
    )
    code = run(["predict", str(pristine_bundle), str(path), "--variant", "onnxruntime-fp32"])
    said = capsys.readouterr()
    assert code == 2
    assert str(path) in said.err
    assert "Traceback" not in said.err
    assert not said.out
