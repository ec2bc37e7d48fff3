"""A radiograph as a scanner would send it, a bundle's record, and the tools of others that judge what we write."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'medcompress[dicom-out]'")
pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcompress[dicom-out]'")

from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from medcompress.runtime.bundle import Bundle, Manifest, Variant
from medcompress.runtime.decision import Decision
from medcompress.runtime.dicom.tls import Tls
from medcompress.runtime.preprocessing import Preprocessing

NAME, NUMBER = "MÜLLER^ANNA", "4711-SECRET"


def radiograph(pixels: np.ndarray, **changes: Any) -> FileDataset:
    """A computed radiograph of those grey levels (H, W), uint8, stored in 12 bits; a change to None leaves one out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "PatientName": NAME,
        "PatientID": NUMBER,
        "PatientBirthDate": "19520229",
        "PatientSex": "F",
        "StudyDate": "20260102",
        "StudyTime": "030405",
        "StudyID": "S1",
        "AccessionNumber": "A99",
        "ReferringPhysicianName": "WARD^B",
        "StudyDescription": "Chest",
        "SeriesNumber": 1,
        "InstanceNumber": 7,
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "PatientOrientation": ["L", "F"],
        "BurnedInAnnotation": "NO",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": 2040.5,
        "WindowWidth": 4081,
    }
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = (pixels.astype("<u2") * 16).tobytes()
    return dataset


@pytest.fixture(autouse=True)
def loud_again() -> Iterator[None]:
    """A node silences the DICOM packages for its process; here that is the process of all tests."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom", "pynetdicom")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def source(image: Path) -> FileDataset:
    """One phantom radiograph in DICOM."""
    return radiograph(np.asarray(Image.open(image).convert("L")))


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Decision], Bundle]:
    """A bundle's record, for reports: which classes it answers, and its identity."""

    def made(decision: Decision) -> Bundle:
        variant = Variant("onnxruntime-fp32", "onnxruntime", "fp32", ("model.onnx",))
        manifest = Manifest(
            3, "", "pass", "", variant.name, variant.name, 1, decision, Preprocessing((48, 48)), (variant,), {}, {}
        )
        return Bundle(Path(), manifest, "ab" * 32)

    return made


@pytest.fixture(autouse=True)
def _dcmtks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom's commands have the names of dcmtk's, and come first where the environment is activated."""
    own = str(Path(sys.executable).parent)
    path = [place for place in os.environ["PATH"].split(os.pathsep) if place != own]
    monkeypatch.setenv("PATH", os.pathsep.join(path))


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """Run a command-line tool of Debian's dcmtk or dicom3tools; its stdout and stderr. Skips where it is absent."""

    def run(*command: str | Path) -> str:
        if shutil.which(str(command[0])) is None:
            pytest.skip(f"{command[0]} is not installed (Debian: apt-get install dcmtk dicom3tools)")
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", timeout=60)
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tls]:
    """Files of TLS by name, for "localhost", of one authority; a name with a comma has an authority of its own."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.now(UTC)

    def sign(name: str, issuer: str, by: Any, *, authority: bool) -> tuple[bytes, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common)]) for common in (name, issuer)]
        made = x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(authority, None), critical=True)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        certificate = made.sign(by or key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key

    authorities: dict[str, tuple[bytes, Any]] = {}

    def files(name: str) -> Tls:
        issuer = "another authority" if "," in name else "authority"
        if issuer not in authorities:
            authorities[issuer] = sign(issuer, issuer, None, authority=True)
        authority, by = authorities[issuer]
        certificate, key = sign(name, issuer, by, authority=False)
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        paths = [folder / f"{name}.{ending}" for ending in ("pem", "key", "ca.pem")]
        contents = (certificate, key.private_bytes(serialization.Encoding.PEM, *plain), authority)
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return Tls(*paths)

    return files
