"""Which files are refused, which answered with a caution, and that no message names the patient."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medcompress.cli.predict import command
from medcompress.runtime.dicom.choices import chosen_rendering
from medcompress.runtime.dicom.policy import DicomPolicy
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import ImageError, InputError
from medcompress.runtime.images import cautions_of, read_image
from medcompress.runtime.predictor import load

Made = Callable[..., bytes]
CHEST = {"modalities": ("CR", "DX"), "body_parts": ("CHEST",)}
CASES = {
    "wrong_modality": ({"Modality": "US"}, "modality is US, the model was made for CR or DX", "refuse"),
    "no modality": ({"Modality": None}, "modality is not given", "refuse"),
    "wrong_body_part": ({"BodyPartExamined": "FOOT"}, "shows FOOT, the model was made for CHEST", "refuse"),
    "no body part": ({"BodyPartExamined": None}, "does not say which body part", "flag"),
    "for_processing": ({"PresentationIntentType": "FOR PROCESSING"}, "raw data", "refuse"),
    "secondary_capture": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture", "refuse"),
    "secondary_capture, multi-frame": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "secondary capture", "refuse"),
    "burned_in": ({"BurnedInAnnotation": "YES"}, "burned into its pixels", "flag"),
    "lossy": ({"LossyImageCompression": "01"}, "compressed with loss", "flag"),
}
FIELDS = {"no modality": "wrong_modality", "no body part": "wrong_body_part"}


def read(data: bytes, **policy: Any) -> tuple[str, ...]:
    return cautions_of(read_image(data, dicom=DicomRendering(policy=DicomPolicy(**CHEST, **policy))))


@pytest.mark.parametrize("case", CASES)
def test_each_is_refused_flagged_or_ignored_as_the_policy_says(made: Made, case: str) -> None:
    attributes, words, usual = CASES[case]
    field = FIELDS.get(case, case.partition(",")[0])
    assert getattr(DicomPolicy(), field) == usual or case == "no body part"
    data = made(**attributes)
    assert read(made()) == ()
    if case == "no body part":  # many files name none: never refused for that
        assert words in read(data)[0]
    else:
        with pytest.raises(ImageError, match=words):
            read(data, **{field: "refuse"})
        (caution,) = read(data, **{field: "flag"})
        assert words in caution
    assert read(data, **{field: "ignore"}) == ()
    if usual == "flag":
        assert words in read(data)[0]


def test_no_window_is_flagged_where_it_makes_a_difference(made: Made) -> None:
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert "no window" in read(made(deep))[0]
    assert read(made(deep, WindowCenter=100, WindowWidth=200)) == ()
    assert cautions_of(read_image(made(deep), dicom=DicomRendering(window=(100, 200)))) == ()
    with pytest.raises(ImageError, match="no window"):
        read(made(deep), no_window="refuse")


@pytest.mark.parametrize(
    ("scheme", "code", "meaning", "part"),
    [
        ("SCT", "816094009", "Thorax", "CHEST"),
        ("SCT", "51185008", "Brustkorb", "CHEST"),
        ("SRT", "T-D3000", "胸部", "CHEST"),
        ("SCT", "56459004", "Chest", "FOOT"),
        ("99WARD", "816094009", "Chest", "another"),
        ("SCT", "39607008", "Lung", "another"),
    ],
)
def test_a_region_is_known_by_its_code_whatever_it_is_called(
    made: Made, scheme: str, code: str, meaning: str, part: str
) -> None:
    """PS3.3 8.3: the meaning is for people to read."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    region = Dataset()
    region.CodingSchemeDesignator, region.CodeValue, region.CodeMeaning = scheme, code, meaning
    data = made(BodyPartExamined=None, AnatomicRegionSequence=Sequence([region]), SpecificCharacterSet="ISO_IR 192")
    if part == "CHEST":
        assert read(data) == ()
        return
    with pytest.raises(ImageError, match=f"shows {part}"):
        read(data)


def test_marks_that_are_missing_are_known_by_what_cannot_be_without_them(made: Made) -> None:
    import imagecodecs

    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for syntax, bits in (("50", 8), ("51", 8)):
        frame = imagecodecs.jpeg8_encode(grey, level=90, bitspersample=bits)
        (caution,) = read(made(grey, frames=[frame], syntax=f"1.2.840.10008.1.2.4.{syntax}"))
        assert "compressed with loss" in caution
    for kind in ("1.1.1", "1.2.1"):
        with pytest.raises(ImageError, match="raw data"):
            read(made(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}", PresentationIntentType=None))


def test_any_file_may_be_looked_at_where_no_model_asks(made: Made) -> None:
    attributes = {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": "YES"}
    assert cautions_of(read_image(made(**attributes))) == ()


def test_no_message_caution_warning_or_log_names_the_patient(
    made: Made, patient: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    header = made()
    files = [made(**attributes) for attributes, _, _ in CASES.values()]
    files += [
        made(Modality=patient[0].upper(), BodyPartExamined=patient[0].upper()),
        header.replace(b"CHEST", b"CH\nST"),
    ]
    # Values that pydicom itself warns of, or stumbles over, and quotes.
    files += [
        header.replace(b"19610203", b"Testname"),
        made(WindowCenter=1, WindowWidth=2).replace(b"DS\x02\0", b"DS\x03\0"),
    ]
    files += [header[:cut] for cut in range(140, len(header), 41)]
    caplog.clear()  # of what was said while the files were made
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        for data in files:
            try:
                said += read(data)
            except ImageError as error:
                said.append(str(error))
    text = "\n".join([*said, *(str(entry.message) for entry in warned), caplog.text])
    assert len(said) > 25
    assert not [name for name in patient if name.lower() in text.lower()]
    assert not any("\n" in line for line in said)


def test_predictions_carry_the_cautions_and_the_command_prints_them(
    made: Made, patient: tuple[str, ...], pristine_bundle: Path, tmp_path: Path
) -> None:
    lossy, screenshot = tmp_path / "a.dcm", tmp_path / "b.dcm"
    lossy.write_bytes(made(LossyImageCompression="01"))
    screenshot.write_bytes(made(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    predictor = load(pristine_bundle, guard="off")
    assert predictor.predict(lossy).cautions == ("it was compressed with loss, and fine detail may be missing",)
    assert predictor.predict_batch([lossy, np.zeros((40, 40), np.uint8)])[1].cautions == ()
    predictor.close()
    arguments = [str(pristine_bundle), str(lossy), str(screenshot), "--guard=off", "--json"]
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.return_value == 2
    answered, refused = json.loads(done.stdout)["results"]
    assert answered["cautions"] == ["it was compressed with loss, and fine detail may be missing"]
    assert "secondary capture" in refused["error"]
    assert f"caution: {lossy}: it was compressed with loss" in done.stderr
    assert not [name for name in patient if name in done.output]


def test_a_model_is_told_what_it_takes_in_words() -> None:
    usual = chosen_rendering(DicomRendering(), ["cr", "DX"], ["chest"], ["secondary-capture=flag", "window=40/400"])
    assert usual.policy == DicomPolicy(**CHEST, secondary_capture="flag")
    assert usual.window == (40, 400)
    later = chosen_rendering(usual, [], [], ["frame=middle", "no-window=refuse", "unwindowed=bits", "lossy=ignore"])
    assert (later.policy.modalities, later.policy.lossy, later.frame) == (("CR", "DX"), "ignore", "middle")
    assert (later.policy.no_window, later.unwindowed) == ("refuse", "bits")
    assert not set(DicomPolicy.__struct_fields__) & set(DicomRendering.__struct_fields__)
    for settings in (["frame=0"], ["frame=x"], ["window=4"], ["window=a/b"], ["foo=1"], ["lossy=maybe"], ["lossy"]):
        with pytest.raises(InputError, match="--dicom"):
            chosen_rendering(usual, [], [], settings)
    with pytest.raises(InputError, match="no DICOM code"):
        chosen_rendering(usual, ["chest x-ray"], [], [])
