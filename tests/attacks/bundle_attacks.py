"""Attacks on a bundle, each a function that damages a copy of one. None may be answered from.

Run one by hand: ``python tests/attacks/bundle_attacks.py NAME BUNDLE`` changes BUNDLE, a copy; then
``medcompress verify BUNDLE`` must refuse it. An attacker has no signing key, and may write all hashes anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Attack = Callable[[Path], "str | None"]
# Name -> the attack. It returns the variant it is aimed at, or None where the whole bundle must be refused.
ATTACKS: dict[str, Attack] = {}
SECRET = "secret.bin"  # beside the bundle, not in it


def attack(function: Attack) -> Attack:
    """Add a function to the list."""
    ATTACKS[function.__name__] = function
    return function


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def put(bundle: Path, name: str, data: bytes) -> None:
    """Write a file and its hash: whole, as far as the manifest can tell."""
    (bundle / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(bundle, lambda manifest: manifest["files"].update({name: entry}))


# What the manifest says


@attack
def path_that_climbs_out(bundle: Path) -> None:
    entry = {"size": 9, "sha256": "0" * 64}
    edit(bundle, lambda m: m["files"].update({"../../../../etc/passwd": entry}))


@attack
def path_from_the_root(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"].update({"/etc/passwd": m["files"].pop("model.onnx")}))


@attack
def path_of_another_system(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"].update({"..\\..\\boot.ini": m["files"].pop("model.onnx")}))


@attack
def path_with_a_null_byte(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"].update({"model.onnx\0.txt": m["files"].pop("model.onnx")}))


@attack
def names_that_differ_by_capitals(bundle: Path) -> None:
    shutil.copy(bundle / "model.onnx", bundle / "Model.onnx")
    edit(bundle, lambda m: m["files"].update({"Model.onnx": m["files"]["model.onnx"]}))


@attack
def key_given_twice(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"verdict"', '"verdict": "fail", "verdict"', 1))


@attack
def key_given_twice_deep_inside(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"sha256"', f'"sha256": "{"0" * 64}", "sha256"', 1))


@attack
def not_utf8(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"reason": "', b'"reason": "\xff\xfe', 1))


@attack
def utf16(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(path.read_text().encode("utf-16"))


@attack
def nested_without_end(bundle: Path) -> None:
    edit(bundle, lambda m: m.update(spec="HERE"))
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"HERE"', '{"a":' * 500_000 + "1" + "}" * 500_000))


@attack
def oversized_manifest(bundle: Path) -> None:
    with (bundle / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)  # a hole: it costs the attacker nothing


@attack
def endless_names(bundle: Path) -> None:
    entry = {"size": 1, "sha256": "0" * 64}
    edit(bundle, lambda m: m["files"].update({f"f{i}": entry for i in range(100_000)}))


@attack
def endless_variants(bundle: Path) -> None:
    edit(bundle, lambda m: m["variants"].extend({**m["variants"][0], "name": f"v{i}"} for i in range(50_000)))


@attack
def negative_size(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"]["model.onnx"].update(size=-1))


@attack
def huge_size(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"]["model.onnx"].update(size=1 << 70))


@attack
def huge_sparse_file(bundle: Path) -> None:
    with (bundle / "golden.npz").open("ab") as file:
        file.truncate(1 << 40)
    edit(bundle, lambda m: m["files"]["golden.npz"].update(size=1 << 40))


@attack
def hash_that_is_none(bundle: Path) -> None:
    edit(bundle, lambda m: m["files"]["model.onnx"].update(sha256=""))


@attack
def number_beyond_all_numbers(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 1e999', 1))


@attack
def escape_sequence_as_a_name(bundle: Path) -> None:
    edit(bundle, lambda m: m["variants"][1].update(name="\x1b]0;owned\x07\nruns here: evil"))


@attack
def escape_sequence_as_a_class(bundle: Path) -> None:
    edit(bundle, lambda m: m["decision"].update(classes=["\x1b[2J", "SYNTHETIC-OPACITY"]))


@attack
def escape_sequence_as_a_cpu(bundle: Path) -> None:
    """``doctor`` prints where a bundle was made."""
    edit(bundle, lambda m: m["lineage"].update(cpu={"model": "\x1b[2J"}))


@attack
def line_of_its_own_as_a_reason(bundle: Path) -> None:
    edit(bundle, lambda m: m.update(reason="fast\nruns here: evil"))


# What stands in a file's place


@attack
def link_to_a_file(bundle: Path) -> str:
    shutil.move(bundle / "model.onnx", bundle.parent / SECRET)
    (bundle / "model.onnx").symlink_to(bundle.parent / SECRET)
    return "onnxruntime-fp32"


@attack
def linked_folder(bundle: Path) -> str:
    shutil.move(bundle / "variants", bundle.parent / "elsewhere")
    (bundle / "variants").symlink_to(bundle.parent / "elsewhere", target_is_directory=True)
    return "onnxruntime-int8-avx2"


@attack
def linked_manifest(bundle: Path) -> None:
    shutil.move(bundle / "manifest.json", bundle.parent / SECRET)
    (bundle / "manifest.json").symlink_to(bundle.parent / SECRET)


@attack
def link_to_a_device(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    (bundle / "golden.npz").symlink_to("/dev/zero")


@attack
def hard_link_to_another_file(bundle: Path) -> str:
    (bundle / "model.onnx").unlink()
    os.link(bundle / "variants" / "onnxruntime-int8-avx2.onnx", bundle / "model.onnx")
    return "onnxruntime-fp32"


@attack
def pipe_as_model(bundle: Path) -> str:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")
    edit(bundle, lambda m: m["files"]["model.onnx"].update(size=0, sha256=hashlib.sha256().hexdigest()))
    return "onnxruntime-fp32"


@attack
def pipe_as_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


@attack
def pipe_as_golden_vectors(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    os.mkfifo(bundle / "golden.npz")
    edit(bundle, lambda m: m["files"]["golden.npz"].update(size=0, sha256=hashlib.sha256().hexdigest()))


@attack
def socket_as_golden_vectors(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    here = Path.cwd()
    os.chdir(bundle)  # a socket's path has at most 108 bytes
    try:
        socket.socket(socket.AF_UNIX).bind("golden.npz")
    finally:
        os.chdir(here)


@attack
def device_as_golden_vectors(bundle: Path) -> None:
    """Needs root."""
    (bundle / "golden.npz").unlink()
    os.mknod(bundle / "golden.npz", 0o020666, os.makedev(1, 5))  # /dev/zero
    edit(bundle, lambda m: m["files"]["golden.npz"].update(size=0, sha256=hashlib.sha256().hexdigest()))


@attack
def folder_as_model(bundle: Path) -> str:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").mkdir()
    return "onnxruntime-fp32"


# What the files hold


@attack
def swapped_weights(bundle: Path) -> str:
    a, b = bundle / "model.onnx", bundle / "variants" / "onnxruntime-int8-avx2.onnx"
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)
    return "onnxruntime-int8-avx2"


@attack
def swapped_golden_vectors(bundle: Path) -> None:
    with np.load(bundle / "golden.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    for name in arrays:
        if name.startswith("logits-"):
            arrays[name] = arrays[name][::-1]
    np.savez_compressed(bundle / "golden.npz", allow_pickle=False, **arrays)


@attack
def golden_vectors_of_no_variant(bundle: Path) -> str:
    """Hashes and shapes fit; there is nothing to hold this variant against."""
    buffer = io.BytesIO()
    with np.load(bundle / "golden.npz") as stored:
        np.savez(buffer, **{name: stored[name] for name in stored if name != "logits-onnxruntime-fp32"})
    put(bundle, "golden.npz", buffer.getvalue())
    return "onnxruntime-fp32"


@attack
def zip_bomb(bundle: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("inputs.npy", bytes(40 << 20))
    put(bundle, "golden.npz", buffer.getvalue())


@attack
def zip_bomb_that_lies_about_its_size(bundle: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (40 << 20,)})
        archive.writestr("inputs.npy", head.getvalue() + bytes(40 << 20))
    size = (len(head.getvalue()) + (40 << 20)).to_bytes(4, "little")
    put(bundle, "golden.npz", buffer.getvalue().replace(size, (1000).to_bytes(4, "little")))


@attack
def array_larger_than_any_memory(bundle: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 46,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inputs.npy", head.getvalue() + bytes(100))
    put(bundle, "golden.npz", buffer.getvalue())


@attack
def endless_arrays(bundle: Path) -> None:
    one = io.BytesIO()
    np.save(one, np.zeros((4, 2), np.float32))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(5000):
            archive.writestr(f"logits-{i}.npy", one.getvalue())
    put(bundle, "golden.npz", buffer.getvalue())


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["MEDCOMPRESS_SPRUNG"],))


@attack
def pickle_among_the_golden_vectors(bundle: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.array([_Code()], dtype=object))
    put(bundle, "golden.npz", buffer.getvalue())


@attack
def pickle_as_golden_vectors(bundle: Path) -> None:
    put(bundle, "golden.npz", pickle.dumps(_Code()))


def model_with_weights_at(location: bytes, length: bytes = b"\x08") -> bytes:
    """An ONNX model (x + w) whose weights w lie in another file; protobuf written by hand, as an attacker may."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    entry = b"\x0a" + length + b"location" + field(2, location)
    weights = b"\x08\x04\x10\x01" + field(8, b"w") + bytes([13 << 3 | 2, len(entry)]) + entry + b"\x70\x01"
    shape = field(1, b"\x08\x01" + field(2, field(1, b"\x08\x04")))
    node = field(1, field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"Add"))
    values = field(11, field(1, b"x") + field(2, shape)) + field(12, field(1, b"y") + field(2, shape))
    return b"\x08\x08" + field(7, node + field(2, b"g") + field(5, weights) + values) + field(8, b"\x10\x11")


def _keep_weights_elsewhere(bundle: Path, location: bytes, length: bytes = b"\x08") -> str:
    put(bundle, "variants/onnxruntime-int8-avx2.onnx", model_with_weights_at(location, length))
    (bundle.parent / SECRET).write_bytes(bytes(16))
    (bundle / "variants" / "unlisted.bin").write_bytes(bytes(16))
    return "onnxruntime-int8-avx2"


@attack
def weights_in_an_unlisted_file(bundle: Path) -> str:
    """ONNX Runtime and OpenVINO read it: no hash would cover the weights."""
    return _keep_weights_elsewhere(bundle, b"unlisted.bin")


@attack
def weights_in_an_unlisted_file_written_oddly(bundle: Path) -> str:
    return _keep_weights_elsewhere(bundle, b"unlisted.bin", b"\x88\x80\x00")


@attack
def weights_outside(bundle: Path) -> str:
    return _keep_weights_elsewhere(bundle, f"../../{SECRET}".encode())


@attack
def weights_in_the_list_of_users(bundle: Path) -> str:
    return _keep_weights_elsewhere(bundle, b"/etc/passwd")


@attack
def weights_in_the_process_itself(bundle: Path) -> str:
    """ONNX Runtime's own mark for an address in memory."""
    return _keep_weights_elsewhere(bundle, b"*/_ORT_MEM_ADDR_/*")


@attack
def openvino_weights_that_are_not_listed(bundle: Path) -> None:
    """OpenVINO takes the .bin beside the .xml, listed or not."""

    def unlist(manifest: dict[str, Any]) -> None:
        for variant in manifest["variants"]:
            variant["files"] = [name for name in variant["files"] if not name.endswith(".bin")]

    edit(bundle, unlist)


@attack
def openvino_weights_of_another_name(bundle: Path) -> None:
    """The listed file is hashed, and the one beside the .xml is read."""
    shutil.copy(bundle / "variants" / "openvino-int8-avx2.bin", bundle / "variants" / "other.bin")

    def rename(manifest: dict[str, Any]) -> None:
        manifest["files"]["variants/other.bin"] = manifest["files"].pop("variants/openvino-int8-avx2.bin")
        for variant in manifest["variants"]:
            variant["files"] = [name.replace("openvino-int8-avx2.bin", "other.bin") for name in variant["files"]]

    edit(bundle, rename)


@attack
def model_of_another_kind(bundle: Path) -> None:
    """Engines choose their reader by the name's end: a library, a pickle, a graph of another framework."""
    put(bundle, "variants/model.pdmodel", b"\x7fELF")
    edit(bundle, lambda m: m["variants"][1].update(engine="openvino", files=["variants/model.pdmodel"]))


# Refused by the engine (exit code 3), as a model of a newer engine is


@attack
def openvino_operation_of_an_extension(bundle: Path) -> str:
    name = "variants/openvino-int8-avx2.xml"
    text = (bundle / name).read_text()
    put(
        bundle, name, text.replace('type="Convolution" version="opset1"', 'type="Evil" version="extension"', 1).encode()
    )
    return "openvino-int8-avx2"


@attack
def model_that_is_noise(bundle: Path) -> str:
    put(bundle, "variants/onnxruntime-int8-avx2.onnx", np.random.default_rng(0).bytes(100_000))
    return "onnxruntime-int8-avx2"


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ATTACKS:
        sys.exit(f"usage: {sys.argv[0]} NAME BUNDLE\nnames: {', '.join(ATTACKS)}")
    ATTACKS[sys.argv[1]](Path(sys.argv[2]))
