"""What is shown and what is kept of an image that is refused. Models are fakes: they decode, and answer nothing."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.dicom.policy import DicomPolicy
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import ImageRefused
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.runtime.server.answers import Failure
from medcompress.runtime.server.service import Service

SERVICE: Any = SimpleNamespace(_audit=lambda *_: None)
SERVICE._refusal = lambda *given: Service._refusal(SERVICE, *given)


class Decoding:
    """A model whose members take DICOM files by policies of their own; ``guarded`` refuses what they take."""

    name, fault = "fake", ""

    def __init__(self, policies: Sequence[DicomPolicy], *, guarded: bool = False) -> None:
        each = [Preprocessing(size=(32, 32), dicom=DicomRendering(policy=policy)) for policy in policies]
        self.members = [
            SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(preprocessing=one))) for one in each
        ]
        self.policy, self.guarded = policies[0], guarded

    def predict(self, data: bytes, explain: bool) -> None:
        for member in self.members:
            member.bundle.manifest.preprocessing.decode(data)
        if self.guarded:
            raise ImageRefused("image: looks upside down", "unlike-upside-down")


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def refused(data: bytes, model: Any, *, preview: bool = True) -> Failure:
    found = Service._answer(SERVICE, data, [model], False, preview, "1", 0.0)
    assert isinstance(found, Failure) and found.error.kind == "refused"
    return found


def test_what_the_guard_refuses_is_shown_where_it_is_asked_for() -> None:
    model = Decoding([DicomPolicy()], guarded=True)
    assert refused(picture(), model).preview
    assert refused(picture(), model, preview=False).preview is None


@pytest.mark.parametrize("actions", [("refuse",), ("flag", "refuse"), ("refuse", "flag")])
def test_what_any_members_policy_refuses_is_not_shown(actions: tuple[Any, ...]) -> None:
    dicom = pytest.importorskip("pydicom")
    dataset = dicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = dicom.uid.ComputedRadiographyImageStorage, "1.2.3"
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.Rows = dataset.Columns = 64
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData, dataset.BurnedInAnnotation = bytes(4096), "YES"
    dataset.file_meta = dicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = dicom.uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    dicom.dcmwrite(file, dataset, enforce_file_format=True)
    found = refused(file.getvalue(), Decoding([DicomPolicy(burned_in=action) for action in actions]))
    assert "burned into" in found.error.message
    assert found.preview is None


def test_nothing_of_it_is_kept() -> None:
    """Not even until Python's collector of cycles runs: bodies that are let in are bounded."""
    data, model = picture(), Decoding([DicomPolicy()], guarded=True)
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(data)
        refused(data, model)
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()
