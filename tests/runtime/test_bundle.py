"""The bundle's format, and runnable attacks on it: each must be refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from medcompress.runtime import load
from medcompress.runtime.bundle import MANIFEST, SCHEMA, open_bundle
from medcompress.runtime.errors import BundleError, InputError
from medcompress.runtime.golden import Golden, read_golden
from medcompress.runtime.sealing import publish, seal
from medcompress.runtime.selftest import damaged_files, verify


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_every_file_is_listed_and_hashed(bundle: Path) -> None:
    listed = open_bundle(bundle).manifest.files
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert there == {*listed, MANIFEST}
    for name, entry in listed.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == entry.sha256


def test_a_changed_byte_in_any_file_is_found(bundle: Path) -> None:
    for name in open_bundle(bundle).manifest.files:
        path = bundle / name
        original = path.read_bytes()
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :])
        with pytest.raises(BundleError, match=path.name):
            verify(bundle)
        (damage,) = damaged_files(open_bundle(bundle)).items()
        assert damage[0] == name
        path.write_bytes(original)
    assert verify(bundle).runs


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        verify(bundle)


def test_what_load_opens_is_checked_too(bundle: Path) -> None:
    chosen = open_bundle(bundle).manifest.variant(open_bundle(bundle).manifest.chosen)
    path = bundle / chosen.files[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match=path.name):
        load(bundle, variant=chosen.name)
    with pytest.warns(RuntimeWarning, match=path.name):
        assert load(bundle).variant.name != chosen.name


def test_swapped_weights_are_found(bundle: Path) -> None:
    a, b = bundle / "model.onnx", bundle / "variants/onnxruntime-int8-avx2.onnx"
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    with pytest.raises(BundleError):
        verify(bundle)


def test_a_link_is_refused_even_to_the_right_bytes(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (bundle / "model.onnx").rename(outside)
    (bundle / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="is a link"):
        verify(bundle)


def test_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "variants").rename(tmp_path / "elsewhere")
    (bundle / "variants").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(BundleError, match="is a link"):
        verify(bundle)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "variants/../../secret", "a\\..\\b", ".hidden", "a//b", ""]
)
def test_a_path_that_may_climb_out_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda manifest: manifest["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="may lead outside"):
        open_bundle(bundle)


def test_a_newer_schema_is_refused_whatever_else_it_holds(bundle: Path) -> None:
    (bundle / MANIFEST).write_text(json.dumps({"schema": SCHEMA + 1, "new": True}))
    with pytest.raises(BundleError, match="update medcompress"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": "1"}',
        '{"schema": 1}',
        '{"schema": 1}' + " " * 17_000_000,
        "[" * 100_000,
        "\xff",
    ],
    ids=["empty", "cut", "list", "null", "text", "bare", "huge", "deep", "latin"],
)
def test_a_manifest_that_is_none_is_refused(bundle: Path, content: str) -> None:
    (bundle / MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(BundleError):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(files={}),
        lambda m: m["files"]["model.onnx"].update(size=-1),
        lambda m: m.update(chosen="another"),
        lambda m: m["variants"].append(m["variants"][0]),
        lambda m: m["variants"][0].update(files=["unlisted.onnx"]),
        lambda m: m["variants"][0].update(files=[]),
        lambda m: m["decision"].update(threshold=2),
        lambda m: m.update(threads=0),
        lambda m: m.update(threads=100_000),
        lambda m: m.update(verdict="banana"),
        lambda m: m["preprocessing"].update(version=9),
        lambda m: m.update(unknown=1),
        lambda m: m.pop("spec"),
    ],
)
def test_an_inconsistent_manifest_is_refused(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: {"inputs": g.inputs[:0]},
        lambda g: {"inputs": g.inputs.astype(np.float32)},
        lambda g: {"inputs": g.inputs[:, :8]},
        lambda g: {"logits": {name: values[:, :1] for name, values in g.logits.items()}},
        lambda g: {"rendered": g.rendered[:8]},
        lambda g: {"inputs": np.uint8(7)},
        lambda g: {"logits": {name: values.astype(str) for name, values in g.logits.items()}},
        lambda g: {"picture": b"no picture"},
    ],
)
def test_golden_vectors_of_other_shapes_are_refused(bundle: Path, change: Callable[[Golden], dict[str, Any]]) -> None:
    golden = read_golden(open_bundle(bundle))
    changed = msgspec.structs.replace(golden, **change(golden))
    (bundle / "golden.npz").write_bytes(changed.to_bytes())
    manifest = open_bundle(bundle).manifest
    (bundle / MANIFEST).unlink()
    seal(bundle, manifest)
    for use in (verify, load):
        with pytest.raises(BundleError, match="golden"):
            use(bundle)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="is not a bundle"):
            open_bundle(folder)


def test_an_unknown_variant_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(InputError, match="onnxruntime-fp32"):
        load(bundle, variant="onnxruntime-int4")


def test_publishing_replaces_a_bundle_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / MANIFEST).write_text("new")
    publish(sealed, bundle)
    assert [path.name for path in bundle.iterdir()] == [MANIFEST]
    assert not list(tmp_path.glob(".*"))
    other = tmp_path / "holiday-photos"
    other.mkdir()
    with pytest.raises(BundleError, match="not a bundle"):
        publish(bundle, other)
