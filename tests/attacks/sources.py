"""Small sound files of every kind the runtime reads, for the fuzzer to damage: made on the spot, a few kB each."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageCms

from medcompress.runtime.decision import Decision
from medcompress.runtime.manifest import SCHEMA, Explanation, FileEntry, Manifest, Variant
from medcompress.runtime.preprocessing import Preprocessing

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
# Larger ones take longer to decode than to think of.
LARGEST = 160 * 1024

_waves = (np.add.outer(np.arange(40) * 5, np.arange(48) * 4) % 256).astype(np.uint8)
_grey = Image.fromarray(_waves)
_colour = Image.fromarray(np.stack([_waves, _waves[::-1], 255 - _waves], axis=2))


def images() -> dict[str, bytes]:
    """PNG, JPEG, TIFF and BMP as cameras, scanners and programs write them; GIF and WebP, which are refused."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = _colour.copy()
    alpha.putalpha(_grey)
    palette = _colour.convert("P", palette=Image.Palette.ADAPTIVE)
    sixteen = Image.fromarray(_waves.astype(np.uint16) * 257)
    found = {
        "grey.png": (_grey, "PNG", {"exif": exif}),
        "colour.png": (_colour, "PNG", {"icc_profile": profile}),
        "alpha.png": (alpha, "PNG", {}),
        "palette.png": (palette, "PNG", {"transparency": 3}),
        "sixteen.png": (sixteen, "PNG", {}),
        "bits.png": (_grey.convert("1"), "PNG", {}),
        "grey.jpeg": (_grey, "JPEG", {"exif": exif, "restart_marker_blocks": 3}),
        "colour.jpeg": (_colour, "JPEG", {"icc_profile": profile, "comment": b"hello"}),
        "progressive.jpeg": (_colour, "JPEG", {"progressive": True, "subsampling": 0}),
        "cmyk.jpeg": (_colour.convert("CMYK"), "JPEG", {}),
        "plain.tiff": (_grey, "TIFF", {"tiffinfo": {270: "words", 274: 3}}),
        "sixteen.tiff": (sixteen, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "big.tiff": (_colour, "TIFF", {"big_tiff": True, "compression": "packbits"}),
        "lzw.tiff": (_colour, "TIFF", {"compression": "tiff_lzw", "strip_size": 1000}),
        "jpeg.tiff": (_colour, "TIFF", {"compression": "jpeg"}),
        "fax.tiff": (_grey.convert("1"), "TIFF", {"compression": "group4"}),
        "alpha.tiff": (alpha, "TIFF", {}),
        "grey.bmp": (_grey, "BMP", {}),
        "colour.bmp": (_colour, "BMP", {}),
        "film.gif": (palette, "GIF", {}),
        "photo.webp": (_colour, "WEBP", {}),
    }
    made = {name: _encoded(image, kind, options) for name, (image, kind, options) in found.items()}
    made["frames.tiff"] = _encoded(_grey, "TIFF", {"save_all": True, "append_images": [_grey]})
    made["film.png"] = _encoded(_grey, "PNG", {"save_all": True, "append_images": [_grey.rotate(9)]})
    return made


def dicoms() -> dict[str, bytes]:
    """Native, deflated and compressed; windows, palettes, colours. None where the packages are not installed."""
    try:
        import imagecodecs
        import pydicom  # noqa: F401
    except ImportError:
        return {}
    path = Path(__file__).parents[1] / "runtime" / "dicom" / "conftest.py"
    spec = importlib.util.spec_from_file_location("making_dicom", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = module.make_dicom
    grey = np.add.outer(np.arange(32) * 60, np.arange(40) * 50).astype(np.uint16)
    colour = np.asarray(_colour)
    eight = (grey // 16).astype(np.uint8)
    jpeg = imagecodecs.jpeg8_encode
    return {
        "native.dcm": make(grey, WindowCenter=300, WindowWidth=700, RescaleSlope=2, RescaleIntercept=-5),
        "signed.dcm": make(grey.astype(np.int16) - 900, PixelPaddingValue=-900),
        "implicit.dcm": make(grey, syntax="1.2.840.10008.1.2"),
        "deflated.dcm": make(grey, syntax="1.2.840.10008.1.2.1.99"),
        "big-endian.dcm": make(grey, syntax="1.2.840.10008.1.2.2"),
        "colour.dcm": make(colour),
        "frames.dcm": make(np.stack([grey, grey]), NumberOfFrames=2),
        "j2k.dcm": make(
            grey,
            frames=[imagecodecs.jpeg2k_encode(grey, level=0, codecformat="j2k")],
            syntax="1.2.840.10008.1.2.4.90",
        ),
        "lossless.dcm": make(
            grey, frames=[jpeg(grey, lossless=True, bitspersample=12)], syntax="1.2.840.10008.1.2.4.70"
        ),
        "baseline.dcm": make(eight, frames=[jpeg(eight, level=90)], syntax="1.2.840.10008.1.2.4.50"),
        "jpegls.dcm": make(grey, frames=[imagecodecs.jpegls_encode(grey)], syntax="1.2.840.10008.1.2.4.80"),
    }


def manifests() -> dict[str, bytes]:
    """Of a bundle of three variants, one explained."""
    entry = FileEntry(10, "0" * 64)
    names = ("model.onnx", "variants/a.xml", "variants/a.bin", "explanations/a.onnx", "golden.npz")
    explanation = Explanation("explanations/a.onnx", ("features",), (3, 3), 0.001, 0.99)
    manifest = Manifest(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        verdict="pass",
        reason="the fastest that passed",
        chosen="openvino-int8-avx2",
        reference="onnxruntime-fp32",
        threads=1,
        decision=Decision("binary", ("CLEAR", "OPACITY"), "OPACITY", 0.4),
        preprocessing=Preprocessing((48, 48)),
        variants=(
            Variant("onnxruntime-fp32", "onnxruntime", "fp32", ("model.onnx",), explanation=explanation),
            Variant(
                "openvino-int8-avx2",
                "openvino",
                "int8",
                ("variants/a.xml", "variants/a.bin"),
                ("avx2",),
                {"p50_ms": 1.5},
            ),
        ),
        spec={"architecture": "timm/resnet10t"},
        lineage={"cpu": {"model": "x"}, "versions": {"pillow": "1"}},
        files=dict.fromkeys(names, entry),
    )
    whole = msgspec.json.encode(manifest)
    return {"manifest.json": whole, "indented.json": json.dumps(json.loads(whole), indent=2).encode()}


def found_in(places: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Files below folders, but large ones: their kind (``image``, ``dicom``, ``manifest``), name and bytes."""
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            suffix = path.suffix.lower()
            kind = "image" if suffix in SUFFIXES else {".dcm": "dicom", ".json": "manifest"}.get(suffix, "")
            if kind == "manifest" and path.name != "manifest.json":
                continue
            if kind and path.is_file() and path.stat().st_size <= LARGEST:
                yield kind, path.name, path.read_bytes()


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
