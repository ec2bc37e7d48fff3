"""How the maker of a model says which DICOM files it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from medcompress.cli.optimize import command as optimize_command
from medcompress.cli.train import command as train_command
from medcompress.compress.optimize import _for_dicom
from medcompress.compress.options import Options
from medcompress.compress.options import command_of as optimize_again
from medcompress.runtime.dicom.policy import DicomPolicy
from medcompress.runtime.dicom.rendering import DicomRendering
from medcompress.runtime.errors import InputError
from medcompress.trained.checkpoint import load_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.learning.options import TrainOptions
from medcompress.trained.learning.options import command_of as train_again

GIVEN = ["--modality", "cr,DX", "--body-part=chest", "--dicom", "secondary-capture=flag", "--dicom", "window=40/400"]
MEANT = DicomRendering(window=(40, 400), policy=DicomPolicy(("CR", "DX"), ("CHEST",), secondary_capture="flag"))


def test_training_takes_them_and_its_command_repeats_them(tmp_path: Path) -> None:
    printed = CliRunner().invoke(train_command, [f"--data={tmp_path}", *GIVEN, "--print-config"], standalone_mode=False)
    found = yaml.safe_load(printed.stdout)
    assert (found["modality"], found["body-part"]) == (["CR", "DX"], ["CHEST"])
    named = {name.replace("-", "_"): tuple(found[name]) for name in ("modality", "body-part", "dicom")}
    options = TrainOptions(DataSource(str(tmp_path)), **named)
    assert options.rendering == MEANT
    assert "--modality=CR --modality=DX --body-part=CHEST --dicom=secondary-capture=flag" in train_again(
        options, tmp_path
    )
    assert TrainOptions(DataSource(str(tmp_path))).rendering == DicomRendering()
    with pytest.raises(InputError, match="--dicom"):
        TrainOptions(DataSource(str(tmp_path)), dicom=("lossy=perhaps",))


def test_a_bundle_may_be_made_to_take_others_than_its_checkpoint(checkpoint: Path) -> None:
    trained = load_checkpoint(checkpoint)
    assert _for_dicom(trained, Options(checkpoint)).spec == trained.spec
    options = Options(checkpoint, modality=("CR", "DX"), body_part=("CHEST",), dicom=("secondary-capture=flag",))
    policy = _for_dicom(trained, options).spec.preprocessing.dicom.policy
    assert policy == MEANT.policy
    assert optimize_again(options).endswith("--modality CR,DX --body-part CHEST --dicom secondary-capture=flag")
    with pytest.raises(InputError, match="the names are"):
        CliRunner().invoke(
            optimize_command, [str(checkpoint), "--dicom", "colour=red"], standalone_mode=False, catch_exceptions=False
        )
