"""Every real and every odd file of the shared data: read, and as DCMTK reads it, or refused with the right reason."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.dicom.rendering import LENIENT, DicomRendering
from medcompress.runtime.errors import ImageError
from medcompress.runtime.images import cautions_of, read_image

SECONDARY, FRAMES = "secondary capture", "frames, and the model takes single images"
LOSSY, NO_WINDOW = "compressed with loss", "no window"
# By the policy a model has by default: the reason, a caution after a "!", or nothing.
OUTCOMES = {
    "real_scanner/693_J2KR": "",
    "real_scanner/CT_small": f"!{NO_WINDOW}",
    "real_scanner/JPEG-lossy": SECONDARY,
    "real_scanner/JPGExtended": SECONDARY,
    "real_scanner/MR-SIEMENS-DICOM-WithOverlays": "",
    "real_scanner/MR2_J2KR": "",
    "real_scanner/MR_small": "",
    "real_scanner/OBXXXX1A": "",
    "real_scanner/RG1_J2KI": f"!{LOSSY}",
    "real_scanner/RG3_J2KI": f"!{LOSSY}",
    "real_scanner/US1_J2KR": "",
    "real_scanner/emri_small_jpeg_ls_lossless": FRAMES,
    "real_scanner/gdcm-US-ALOKA-16": "",
    "edge_cases/693_UNCR": "",
    "edge_cases/HTJ2K_08_RGB": SECONDARY,
    "edge_cases/JLSL_16_15_1_1F": SECONDARY,
    "edge_cases/JLSL_RGB_ILV1": SECONDARY,
    "edge_cases/JLSN_RGB_ILV0": SECONDARY,
    "edge_cases/MR2_UNCR": "",
    "edge_cases/OBXXXX1A_2frame": FRAMES,
    "edge_cases/OBXXXX1A_expb_2frame": FRAMES,
    "edge_cases/OBXXXX1A_rle_2frame": FRAMES,
    "edge_cases/SC_rgb": SECONDARY,
    "edge_cases/SC_rgb_16bit_2frame": FRAMES,
    "edge_cases/SC_rgb_32bit": "32 bits a sample",
    "edge_cases/SC_rgb_dcmtk_ebcr_dcmd": SECONDARY,
    "edge_cases/SC_rgb_dcmtk_ebcyn2_dcmd": SECONDARY,
    "edge_cases/SC_rgb_dcmtk_ebcys2_dcmd": SECONDARY,
    "edge_cases/SC_rgb_expb": SECONDARY,
    "edge_cases/SC_rgb_expb_16bit_2frame": FRAMES,
    "edge_cases/SC_rgb_expb_32bit": "32 bits a sample",
    "edge_cases/SC_rgb_gdcm2k_uncompressed": SECONDARY,
    "edge_cases/US1_J2KI": f"!{LOSSY}",
    "edge_cases/bad_sequence": "",
    "edge_cases/color-px": "",
    "edge_cases/emri_small": FRAMES,
    "edge_cases/emri_small_big_endian": FRAMES,
    "edge_cases/emri_small_jpeg_2k_lossless_too_short": FRAMES,
    "edge_cases/liver": "is a segmentation",
    "edge_cases/liver_expb": "is a segmentation",
    "edge_cases/liver_nonbyte_aligned": "is a segmentation",
    "edge_cases/liver_nonbyte_aligned_j2k": "is a segmentation",
    "edge_cases/liver_rle": "is a segmentation",
    "edge_cases/parametric_map_double_float": "is a parametric map",
    "edge_cases/vlut_04": SECONDARY,
}
# Of files in encodings that DCMTK's dcm2pnm reads itself: its options.
DCMTK = {
    "edge_cases/693_UNCR": ("+Wi", "1"),
    "edge_cases/MR2_UNCR": ("+Wi", "1"),
    "edge_cases/OBXXXX1A_expb_2frame": ("+F", "2"),
    "edge_cases/OBXXXX1A_rle_2frame": ("+F", "2"),
    "edge_cases/SC_rgb_expb_16bit_2frame": ("+F", "2"),
    "edge_cases/emri_small": ("+Wm", "+F", "6"),
    "edge_cases/emri_small_big_endian": ("+Wm", "+F", "6"),
    "edge_cases/vlut_04": ("+Wl", "1"),
    "real_scanner/CT_small": ("+Wm",),
    "real_scanner/MR-SIEMENS-DICOM-WithOverlays": ("-O", "+Wi", "1"),
    "real_scanner/MR_small": ("+Wi", "1"),
    "real_scanner/OBXXXX1A": (),
}


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    pytest.importorskip("pydicom")
    pytest.importorskip("imagecodecs")
    return shared_data / "dicom"


def test_every_file_is_read_or_refused_with_the_right_reason(folder: Path) -> None:
    assert {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.dcm")} == set(OUTCOMES)
    for name, outcome in OUTCOMES.items():
        path = folder / f"{name}.dcm"
        if outcome and outcome[0] != "!":
            with pytest.raises(ImageError, match=outcome):
                read_image(path, dicom=DicomRendering())
            continue
        cautions = " ".join(cautions_of(read_image(path, dicom=DicomRendering())))
        assert outcome[1:] in cautions if outcome else not cautions, name


def test_the_same_picture_in_two_encodings_is_the_same(folder: Path) -> None:
    """Lossless ones, to the bit: J2K beside native, JPEG-LS and J2K beside native, big beside little endian."""
    for one, *others in (
        ("edge_cases/693_UNCR", "real_scanner/693_J2KR"),
        ("edge_cases/MR2_UNCR", "real_scanner/MR2_J2KR"),
        ("edge_cases/OBXXXX1A_2frame", "edge_cases/OBXXXX1A_expb_2frame", "edge_cases/OBXXXX1A_rle_2frame"),
        ("edge_cases/SC_rgb", "edge_cases/SC_rgb_expb"),
        ("edge_cases/SC_rgb_16bit_2frame", "edge_cases/SC_rgb_expb_16bit_2frame"),
        (
            "edge_cases/emri_small",
            "edge_cases/emri_small_big_endian",
            "edge_cases/emri_small_jpeg_2k_lossless_too_short",
            "real_scanner/emri_small_jpeg_ls_lossless",
        ),
    ):
        reference = np.asarray(read_image(folder / f"{one}.dcm"))
        for other in others:
            assert np.array_equal(np.asarray(read_image(folder / f"{other}.dcm")), reference), other


def test_a_palette_in_segments_as_pydicom_expands_it(folder: Path) -> None:
    from pydicom import dcmread
    from pydicom.pixels import apply_color_lut

    path = folder / "real_scanner" / "gdcm-US-ALOKA-16.dcm"
    header = dcmread(path)
    theirs = np.floor(apply_color_lut(header.pixel_array, header) / 65535 * 255 + 0.5)
    assert np.array_equal(np.asarray(read_image(path)), theirs)


@pytest.mark.parametrize("name", DCMTK)
def test_dcmtk_sees_the_same_grey_levels(folder: Path, name: str, tmp_path: Path) -> None:
    if shutil.which("dcm2pnm") is None:
        pytest.skip("dcmtk's dcm2pnm is not installed")
    path, shown = folder / f"{name}.dcm", tmp_path / "shown.pnm"
    subprocess.run(["dcm2pnm", *DCMTK[name], path, shown], check=True, capture_output=True)
    ours = np.asarray(read_image(path, dicom=LENIENT)).astype(int)
    assert np.abs(ours - np.asarray(Image.open(shown))).max() <= 1
