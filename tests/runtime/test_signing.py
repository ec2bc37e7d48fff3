"""Signed bundles: what a kiosk that trusts a key opens, and what it does not."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from medcompress.cli.main import run
from medcompress.runtime import load
from medcompress.runtime.bundle import MANIFEST, SIGNATURES, TRUST, open_bundle
from medcompress.runtime.errors import BundleError, InputError, MachineError
from medcompress.runtime.keys import make_keys, name_of, read_public_keys
from medcompress.runtime.newest import NEWEST_FILE, refuse_older
from medcompress.runtime.sealing import seal
from medcompress.runtime.signing import sign_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key pairs in the folders ``maker`` and ``other``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("maker", "other"):
        make_keys(folder / name)
    return folder


@pytest.fixture(scope="module")
def whole(pristine_bundle: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle; not to be changed."""
    folder = Path(shutil.copytree(pristine_bundle, tmp_path_factory.mktemp("signed") / "bundle"))
    sign_bundle(folder, keys / "maker" / "signing.key")
    return folder


@pytest.fixture
def signed(whole: Path, tmp_path: Path) -> Path:
    """A signed bundle, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "signed"))


def signature(bundle: Path) -> Path:
    (found,) = (bundle / SIGNATURES).iterdir()
    return found


def test_a_signed_bundle_answers_and_another_key_does_not_open_it(whole: Path, keys: Path, image: Path) -> None:
    predictor = load(whole, trust=keys / "maker" / "signing.pub", variant="onnxruntime-fp32")
    assert predictor.predict(image).label
    predictor.close()
    with pytest.raises(BundleError, match=r"is signed with \w{16} only; trusted here"):
        load(whole, trust=keys / "other" / "signing.pub")
    assert open_bundle(whole).identity == open_bundle(whole, trust=keys / "maker").identity


def test_the_self_test_believes_the_key_the_bundle_was_opened_with(whole: Path, keys: Path, monkeypatch) -> None:
    predictor = load(whole, trust=keys / "maker" / "signing.pub", variant="onnxruntime-fp32")
    monkeypatch.setenv(TRUST, str(keys / "other"))
    found = predictor.self_test()
    assert [check.name for check in found.variants if check.ok and check.heat == "ok"]
    assert found.signatures == (found.signer,) == (signature(whole).stem,)


def edit_manifest(bundle: Path) -> None:
    path = bundle / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"threshold": 0.5', b'"threshold": 0.9', 1))


def seal_again(bundle: Path) -> None:
    """Other weights, and a manifest that lists them: whole, by its hashes."""
    manifest, kept = open_bundle(bundle).manifest, signature(bundle).read_bytes()
    name = signature(bundle)
    with (bundle / "variants" / "onnxruntime-int8-avx2.onnx").open("ab") as file:
        file.write(b"\0")
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)
    name.parent.mkdir()
    name.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: shutil.rmtree(b / SIGNATURES), "is not signed"),
        (lambda b: signature(b).unlink(), "is not signed"),
        (lambda b: signature(b).write_bytes(bytes(64)), "is not the one that was signed"),
        (lambda b: signature(b).write_bytes(b""), "is not the one that was signed"),
        (lambda b: signature(b).write_bytes(bytes(65)), "larger than 64 bytes"),
        (lambda b: (signature(b).unlink(), os.mkfifo(b / SIGNATURES / "x.ed25519")), "is signed with x only"),
        (edit_manifest, "is not the one that was signed"),
        (seal_again, "is not the one that was signed"),
        (lambda b: ((b / SIGNATURES).rename(b / "s"), (b / SIGNATURES).symlink_to(b / "s")), "is a link"),
    ],
)
def test_what_was_not_signed_is_refused_before_anything_is_opened(
    change: Callable[[Path], object], says: str, signed: Path, keys: Path, monkeypatch
) -> None:
    change(signed)
    opened: list[object] = []
    monkeypatch.setattr("medcompress.runtime.variants.load_engine", lambda *given: opened.append(given))
    monkeypatch.setattr("medcompress.runtime.predictor.read_golden", opened.append)
    with pytest.raises(BundleError, match=says) as error:
        load(signed, trust=keys / "maker" / "signing.pub")
    assert "\n" not in str(error.value)
    assert not opened


def test_a_pipe_in_place_of_a_signature_is_not_waited_for(signed: Path, keys: Path) -> None:
    path = signature(signed)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="no plain file"):
        open_bundle(signed, trust=keys / "maker")


def test_a_kiosk_is_set_once_for_all_commands(
    whole: Path, pristine_bundle: Path, keys: Path, image: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(TRUST, str(keys / "maker" / "signing.pub"))
    for command in (["predict", "{}", str(image)], ["verify", "{}"], ["inspect", "{}"]):
        assert run([word.format(whole) for word in command]) == 0, command
        capsys.readouterr()
        assert run([word.format(pristine_bundle) for word in command]) == 2, command
        assert "is not signed" in capsys.readouterr().err
    monkeypatch.setenv(TRUST, str(keys / "nothing"))
    assert run(["predict", str(whole), str(image)]) == 2, "what is asked for and cannot be checked is not passed over"
    assert "cannot be read as a key" in capsys.readouterr().err


def test_keys_are_replaced_without_a_day_on_which_nothing_runs(signed: Path, keys: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    for name in ("maker", "other"):
        shutil.copy(keys / name / "signing.pub", trusted / f"{name}.pub")
    open_bundle(signed, trust=trusted)
    sign_bundle(signed, keys / "other" / "signing.key")
    sign_bundle(signed, keys / "other" / "signing.key")
    assert len(list((signed / SIGNATURES).iterdir())) == 2
    (trusted / "maker.pub").unlink()
    open_bundle(signed, trust=trusted)
    with pytest.raises(InputError, match="holds 0 public keys"):
        open_bundle(signed, trust=tmp_path)


def test_a_damaged_bundle_is_not_signed(signed: Path, keys: Path) -> None:
    before = signature(signed).read_bytes()
    with (signed / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        sign_bundle(signed, keys / "other" / "signing.key")
    assert signature(signed).read_bytes() == before


def test_the_commands(pristine_bundle: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    bundle = Path(shutil.copytree(pristine_bundle, tmp_path / "bundle"))
    out = tmp_path / "pair"
    monkeypatch.setenv("MEDCOMPRESS_PASSPHRASE", "a long one")
    assert run(["keys", "--out", str(out), "--passphrase"]) == 0
    assert stat.S_IMODE((out / "signing.key").stat().st_mode) == 0o600
    assert b"ENCRYPTED" in (out / "signing.key").read_bytes()
    assert run(["keys", "--out", str(out)]) == 2, "keys are never replaced"
    assert run(["sign", str(bundle), "--key", str(out / "signing.key")]) == 0
    assert run(["verify", str(bundle), "--trust", str(out / "signing.pub")]) == 0
    (other,) = read_public_keys(out / "signing.pub")
    assert f"signed with key {other}, which is trusted here" in capsys.readouterr().out
    assert run(["verify", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert f"bears signatures of {other}; not checked" in said
    assert "heat maps: ok, off by" in said
    assert run(["doctor", str(bundle), "--trust", str(out / "signing.pub")]) == 0
    assert f"signed with key {other}" in capsys.readouterr().out
    for passphrase, says in (("another", "its passphrase is another"), ("", "is encrypted")):
        monkeypatch.setenv("MEDCOMPRESS_PASSPHRASE", passphrase)
        monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115
        assert run(["sign", str(bundle), "--key", str(out / "signing.key")]) == 2
        assert says in capsys.readouterr().err
    assert run(["sign", str(bundle), "--key", str(out / "signing.pub")]) == 2
    assert run(["verify", str(bundle), "--trust", str(out / "signing.key")]) == 2
    assert "is a private key" in capsys.readouterr().err
    assert signature(bundle).stem == other


def test_what_is_no_key_is_refused(keys: Path, whole: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1())
    public = curve.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    private = curve.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    path = tmp_path / "key.pub"
    for content, says in ((public, "not an Ed25519 key"), (b"", "is no public key"), (b"-" * 70_000, "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            open_bundle(whole, trust=path)
    path.write_bytes(private)
    with pytest.raises(InputError, match="not an Ed25519 key"):
        sign_bundle(whole, path)


def test_keys_that_others_may_touch_are_not_used(signed: Path, tmp_path: Path, capsys) -> None:
    make_keys(tmp_path / "pair")
    private, public = tmp_path / "pair" / "signing.key", tmp_path / "pair" / "signing.pub"
    private.chmod(0o640)
    assert run(["sign", str(signed), "--key", str(private)]) == 2
    assert "that others may read" in capsys.readouterr().err
    private.chmod(0o600)
    sign_bundle(signed, private)
    for place in (public, public.parent):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        with pytest.raises(InputError, match="written by anybody"):
            open_bundle(signed, trust=public.parent)
        place.chmod(mode)
    open_bundle(signed, trust=public.parent)


def test_half_a_pair_of_keys_is_not_left(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medcompress.runtime.keys.write_whole", full)
    with pytest.raises(OSError, match="No space"):
        make_keys(tmp_path / "pair")
    monkeypatch.undo()
    make_keys(tmp_path / "pair")


def test_a_file_in_place_of_the_signatures_is_told(signed: Path, keys: Path, capsys) -> None:
    shutil.rmtree(signed / SIGNATURES)
    (signed / SIGNATURES).write_text("x")
    assert run(["sign", str(signed), "--key", str(keys / "maker" / "signing.key")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert run(["verify", str(signed), "--trust", str(keys / "maker")]) == 2


def test_openssl_agrees(whole: Path, keys: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    public = str(keys / "maker" / "signing.pub")
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"], capture_output=True).stdout
    assert signature(whole).stem == hashlib.sha256(der).hexdigest()[:16]
    assert signature(whole).stem == name_of(next(iter(read_public_keys(Path(public)).values())))
    checked = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", str(whole / MANIFEST)]
    done = subprocess.run([*checked, "-sigfile", str(signature(whole))], capture_output=True, text=True)
    assert "Signature Verified Successfully" in done.stdout


def test_without_the_package_a_trusted_key_opens_nothing(whole: Path, keys: Path) -> None:
    code = (
        "import sys\nsys.modules['cryptography'] = None\n"
        "from medcompress.runtime.bundle import open_bundle\nopen_bundle(sys.argv[1])\n"
        "from medcompress.cli.main import run\nsys.exit(run(['verify', sys.argv[1], '--trust', sys.argv[2]]))"
    )
    command = [sys.executable, "-c", code, str(whole), str(keys / "maker")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == MachineError.exit_code
    assert "pip install 'medcompress[sign]'" in done.stderr


def test_an_older_bundle_of_the_same_name_is_refused(whole: Path, tmp_path: Path) -> None:
    new = open_bundle(whole)
    created = datetime.fromisoformat(new.manifest.created)

    def made(days: float):
        then = (created + timedelta(days=days)).isoformat()
        return msgspec.structs.replace(new, manifest=msgspec.structs.replace(new.manifest, created=then))

    state = tmp_path / "state"
    for bundle in (made(-2), new, new):
        refuse_older(bundle, "chest", state=state)
    with pytest.raises(BundleError, match="bring the newer one"):
        refuse_older(made(-1), "chest", state=state)
    refuse_older(made(-1), "skin", state=state)
    refuse_older(made(-1), "chest", allow=True, state=state)
    refuse_older(made(-1), "chest", state=state)
    with pytest.raises(BundleError, match="does not say when"):
        refuse_older(msgspec.structs.replace(new, manifest=msgspec.structs.replace(new.manifest, created="")), "x")
    (state / NEWEST_FILE).write_text('{"chest": {"created": "2020-01-01T00:00:00", "bundle": "0"}}')
    refuse_older(new, "chest", state=state)
    (state / NEWEST_FILE).write_text("{")
    with pytest.raises(MachineError, match="is damaged"):
        refuse_older(new, "chest", state=state)


def test_a_node_does_not_go_back_to_an_older_bundle(
    whole: Path, keys: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    pytest.importorskip("pynetdicom")
    pytest.importorskip("highdicom")
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    older = Path(shutil.copytree(whole, tmp_path / "older"))
    path = older / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"created": "20', b'"created": "19', 1))
    sign_bundle(older, keys / "maker" / "signing.key")
    refuse_older(open_bundle(whole, trust=keys / "maker"), "older")
    asked = ["node", str(older), "--out", str(tmp_path / "out"), "--trust", str(keys / "maker"), "--no-measure"]
    assert run(asked) == 2
    assert "bring the newer one" in capsys.readouterr().err


def test_a_server_does_not_go_back_to_an_older_bundle(whole: Path, keys: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("fastapi")
    from medcompress.runtime.server.models import open_models
    from medcompress.runtime.server.settings import Settings

    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path))
    older = Path(shutil.copytree(whole, tmp_path / "older"))
    path = older / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"created": "20', b'"created": "19', 1))
    sign_bundle(older, keys / "maker" / "signing.key")
    trust = str(keys / "maker")
    assert list(open_models(Settings((f"chest={older}",), trust=trust))) == ["chest"]
    open_models(Settings((f"chest={whole}",), trust=trust))
    with pytest.raises(BundleError, match="bring the newer one"):
        open_models(Settings((f"chest={older}",), trust=trust))
    open_models(Settings((f"chest={older}",)))  # without a key the time is worth nothing
    assert open_models(Settings((f"chest={older}",), trust=trust, allow_older=True))
