"""What an object made from a DICOM image takes from it: the patient, the study, the reference; and what is its own."""

from __future__ import annotations

import hashlib
import io
import logging
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle
from ..errors import ImageError, MedcompressError, missing_package
from .attributes import pixels_of
from .reading import chosen_frame, quietly

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOT_FOR_CLINICAL_USE = "NOT FOR CLINICAL USE"
MAKER = "medcompress"
# A private coding scheme starts with 99 (PS3.3 section 8.2).
SCHEME = "99MEDCOMPRESS"

_NAMESPACE = uuid.UUID("6a1f8a0e-6c1b-5d0f-9d0e-5f7c3f1f7a55")
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Type 2 of the Patient and General Study modules (PS3.3 sections C.7.1.1 and C.7.2.1): there, and perhaps empty.
_EXPECTED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
# What files a result with the right patient, study and order, and names the device that took the image. Histories,
# comments, other names, addresses and photographs stay with the image.
_KEPT = (
    *_IDENTITY,
    *_EXPECTED,
    *("SpecificCharacterSet", "InstanceNumber", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("IssuerOfAccessionNumberSequence", "StudyDescription", "ProcedureCodeSequence", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "DeidentificationMethodCodeSequence", "Manufacturer", "ManufacturerModelName"),
    *("DeviceSerialNumber", "SoftwareVersions", "InstitutionName", "StationName", "AcquisitionDateTime"),
    *("AcquisitionDate", "AcquisitionTime"),
)
# Bytes of one of them: a sequence takes a second for every 20 KB, and is nowhere near that long where it is meant.
_MAX_BYTES = 4096


def keep_names_out_of_logs() -> None:
    """Silence the DICOM packages' loggers for this process, for good: they quote values, patients' names among them.

    For a node, in whose threads they run all the time; what must be known is said by the node, without the values.
    """
    for name in ("pydicom", "highdicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom|pynetdicom)\b")


def require_highdicom() -> Any:
    """The package that encodes results.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import highdicom
    except ModuleNotFoundError as error:
        raise missing_package("highdicom", "dicom-out") from error
    return highdicom


def uid(*parts: str) -> str:
    """A UID that is the same for the same parts: ``2.25`` and a UUID as a number (PS3.5 annex B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def header_of(source: Dataset) -> Dataset:
    """What of an image's header a result takes over: what cannot be encoded again is left out, what must be there is.

    A copy. An image with a malformed birth date still gets its report, without the date.

    Raises:
        ImageError: it has no instance, series or study UID, so nothing can be filed beside it.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

    header = Dataset()
    with quietly():
        for keyword in _KEPT:
            try:
                element = _small(source, keyword)
                if element is not None and _encodes(element):
                    header.add(element)
            except Exception:  # a malformed value makes pydicom raise whatever its parsers meet first
                continue
        for keyword in _IDENTITY:
            if not UID(str(header.get(keyword) or "")).is_valid:
                raise ImageError(f"has no valid {keyword}; no result can be filed beside it")
        for keyword in _EXPECTED:
            if keyword not in header:
                setattr(header, keyword, None)
        _mend(header)
    return header


def frames_of(source: Dataset, bundle: Bundle) -> list[int] | None:
    """Number of the frame the answer is of, from 1, where the image has several; None for the image as a whole."""
    try:
        frames = pixels_of(source).frames
        return [chosen_frame(frames, bundle.manifest.preprocessing.dicom) + 1] if frames > 1 else None
    except ImageError:  # a refused one
        return None


def series_parts(header: Dataset, bundle: Bundle, kind: str, clinical: bool) -> dict[str, Any]:
    """Keyword arguments of highdicom's constructors that say which series and which maker.

    One series for all results of one kind by one bundle in one study, whatever number of images it has: its UID is made
    from those three.

    Args:
        header: of :func:`header_of`.
        kind: ``report`` or ``picture``.
        clinical: the bundle was approved for use on patients, by whoever runs it.
    """
    number = header.get("InstanceNumber")
    title = f"medcompress {kind}"
    return {
        "series_instance_uid": uid("series", str(header.StudyInstanceUID), bundle.identity, kind, str(clinical)),
        "series_number": {"report": 9001, "picture": 9002}[kind],
        "series_description": title if clinical else f"{NOT_FOR_CLINICAL_USE}: {title}",
        "instance_number": int(number) if number and int(number) > 0 else 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": version("medcompress"),
        "device_serial_number": bundle.identity[:64],
    }


def instance_uid(header: Dataset, bundle: Bundle, kind: str, receipt: str) -> str:
    """UID of one result: another for each ``receipt``, so that an image sent again gets a result of its own."""
    return uid("instance", str(header.SOPInstanceUID), bundle.identity, kind, receipt or uuid.uuid4().hex)


def charset(header: Dataset, texts: tuple[str, ...]) -> str | list[str]:
    """The source's character set, which its PACS is known to read; UTF-8 where our own texts do not fit into ASCII."""
    stored = header.get("SpecificCharacterSet") or "ISO_IR 100"
    if not all(text.isascii() for text in texts):
        return "ISO_IR 192"
    # An empty first value stands for the default repertoire, by its code extension's name (PS3.3 section C.12.1.1.2).
    return stored if isinstance(stored, str) else [value or "ISO 2022 IR 6" for value in stored]


def plain(text: str, most: int = 64) -> str:
    """A text fit for a DICOM string: no backslash (it separates values), no control characters, at most so long."""
    cleaned = "".join(letter if letter.isprintable() else " " for letter in text.replace("\\", "/"))
    return cleaned.strip()[:most].strip()


def code_value(text: str) -> str:
    """A code for a name in our own scheme: the name itself, or where it is not fit for one a part of it and a hash.

    A Code Value has at most 16 characters (SH); its longer sibling is unknown to many readers.
    """
    if text == plain(text, 16) and text.isascii():
        return text
    return f"{plain(text, 7).encode('ascii', 'replace').decode()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@contextmanager
def encoding(kind: str) -> Iterator[None]:
    """What highdicom refuses of a header is the image's fault; its own words would quote the header, and are not kept.

    Raises:
        ImageError: instead of any other error within.
    """
    try:
        with quietly():
            yield
    except MedcompressError:
        raise
    except Exception as error:
        reason = f"has a header no {kind} can be made of ({type(error).__name__}); have its source corrected"
        raise ImageError(reason) from error


def to_bytes(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    buffer = io.BytesIO()
    with quietly():
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _small(source: Dataset, keyword: str) -> Any:
    """An element, parsed; None where there is none, or one larger than any that is meant seriously."""
    raw = source.get_item(keyword) if keyword in source else None
    return None if raw is None or _weight(raw.value) > _MAX_BYTES else source[keyword]


def _weight(value: Any) -> int:
    """Bytes a value takes, about; the items of a sequence that is parsed already are counted, not parsed further."""
    from pydicom.sequence import Sequence

    if isinstance(value, Sequence):
        return sum(8 + sum(8 + _weight(raw.value) for raw in item.values()) for item in value)
    return len(value if isinstance(value, bytes) else str(value))


def _encodes(element: Any) -> bool:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    try:
        write_data_element(stream, deepcopy(element), ["utf-8"])  # a copy: a person's name keeps how it was written
    except Exception:  # likewise
        return False
    return True


def _mend(header: Dataset) -> None:
    """Empty what highdicom refuses to copy: a date or time that is none, a sex or a character set it does not know."""
    from highdicom import SpecificCharacterSetValues
    from pydicom.valuerep import DA, TM

    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(header[keyword].value or "")
        except Exception:
            header[keyword].value = ""
    if header.PatientSex not in {"M", "F", "O", "", None}:
        header.PatientSex = ""
    stored = header.get("SpecificCharacterSet") or "ISO_IR 100"
    known = {"", *(kind.value for kind in SpecificCharacterSetValues)}
    if not known.issuperset([stored] if isinstance(stored, str) else stored):
        header.SpecificCharacterSet = "ISO_IR 192"
