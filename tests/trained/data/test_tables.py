"""A CSV of labels: what is found without being named, and what is refused, with counts and the first example."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from medcompress.runtime.errors import DataError
from medcompress.trained.data.splits import DataSource, Split, split_of
from medcompress.trained.data.table_search import find_table
from medcompress.trained.tasks import TASKS

FINDINGS = TASKS["chexpert"].classes


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(path)


def _source(folder: Path, text: str, name: str = "labels.csv", **options: str) -> DataSource:
    table = folder / name
    table.write_text(text, encoding="utf-8")
    return DataSource(str(folder), table=str(table), **options)  # type: ignore[arg-type]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Forty images ``s00.png`` ... in two folders, each ``p`` of two images a patient."""
    for number in range(40):
        _image(tmp_path / ("a" if number < 20 else "b") / f"s{number:02d}.png")
    return tmp_path


def _rows(header: str, line: str, count: int = 40) -> str:
    lines = [line.format(i=i, patient=i // 2, label="xy"[i // 2 % 2], bit=i // 2 % 2) for i in range(count)]
    return "\n".join([header, *lines]) + "\n"


GOOD = _rows("image_id,dx,lesion_id", "s{i:02d},{label},L{patient}")


def _by_image(split: Split) -> dict[str, tuple[str, str]]:
    samples = split.train + split.val + split.test
    return {sample.path.name: (split.classes[sample.label], sample.patient) for sample in samples}


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("image_id,dx,lesion_id", "s{i:02d},{label},L{patient}"),
        ("Patient ID;Diagnosis;File Name", "L{patient};{label};s{i:02d}.png"),
        ("path\tclass\tsubject", "s{i:02d}.jpg\t{label}\tL{patient}"),
        ("junk,Label,Image,Patient", ",{label},C:\\scans\\s{i:02d}.dcm,L{patient}"),
    ],
)
def test_columns_and_images_are_found_by_usual_names(flat: Path, header: str, line: str):
    text = _rows(header, line)
    if "scans" in line:
        for image in [*flat.glob("a/*"), *flat.glob("b/*")]:
            image.rename(flat / image.name)
    split = split_of(_source(flat, "\ufeff" + text))
    assert split.classes == ("x", "y") and not split.multilabel and not split.notes and not split.unrecognised
    assert _by_image(split) == {f"s{i:02d}.png": ("xy"[i // 2 % 2], f"L{i // 2}") for i in range(40)}
    parts = [{sample.patient for sample in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20


def test_columns_by_option_and_paths(flat: Path):
    text = _rows("scan,who,what", "/data/{{}}/s{i:02d}.png,L{patient},{bit}").replace("{}", "a", 20).replace("{}", "b")
    options = {"image_column": "scan", "patient_column": "who", "label_column": "what"}
    split = split_of(_source(flat, text, **options))
    assert split.classes == ("0", "1")
    assert _by_image(split)["s03.png"] == ("1", "L1")


def test_the_order_of_rows_changes_nothing(flat: Path):
    header, *lines = GOOD.splitlines()
    there = split_of(_source(flat, GOOD)).fingerprint
    assert split_of(_source(flat, "\n".join([header, *reversed(lines)]))).fingerprint == there


def test_parts_are_taken_from_a_column(flat: Path):
    rows = GOOD.splitlines()
    part = ["split"] + ["Training"] * 24 + ["valid"] * 8 + ["TEST"] * 8
    split = split_of(_source(flat, "\n".join(f"{row},{p}" for row, p in zip(rows, part, strict=True))))
    assert (len(split.train), len(split.val), len(split.test)) == (24, 8, 8)
    assert [sample.path.name for sample in split.val if sample.label == 0] == [
        "s24.png",
        "s25.png",
        "s28.png",
        "s29.png",
    ]
    part[25] = "train"
    with pytest.raises(DataError, match="patient L12 stands in both train and val"):
        split_of(_source(flat, "\n".join(f"{row},{p}" for row, p in zip(rows, part, strict=True))))


def test_images_without_a_row_are_noted(flat: Path):
    _image(flat / "a" / "other.png")
    assert split_of(_source(flat, GOOD)).notes == (f"1 image(s) in {flat.name} have no row in labels.csv: left out",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing in it"),
        ("image,label\n", "no rows below its header"),
        (GOOD.replace("image_id", "scan"), "no column of images by a usual name.*scan, dx, lesion_id"),
        (GOOD.replace("dx", "what"), "no column of labels by a usual name.*image_id, what, lesion_id"),
        (GOOD.replace("lesion_id", "dx"), "1 column name.s. twice, first 'dx'"),
        (GOOD + "s00,x,L0\ns01,x,L0\n", r"2 row\(s\) repeat another.*a/s00.png \(rows 2 and 42\)"),
        (GOOD + "s00,y,L0\ns01,x,L0\n", r"1 row\(s\) contradict.*a/s00.png \(rows 2 and 42\)"),
        (GOOD + "t1,x,L0\nt2,x,L0\n", r"2 of 42 rows name an image that is not in .*'t1' \(row 42\)"),
        (GOOD.replace("s03,y", "s03,"), "1 of 40 rows have no label, first row 5"),
        (GOOD.replace(",y,", ",x,"), "one class only, 'x'"),
        (GOOD + "s00,x\n", r"1 of 41 rows have not the 3 fields.*row 42 with 2"),
        (GOOD + f"s00,{'x' * 200_000},L0\n", "cannot be read as a CSV table.*field larger"),
        (_rows("image,label,split", "s{i:02d},{label},fold{i}"), "40 of 40 rows have another part.*'fold0'"),
        (_rows("image,label,split", "s{i:02d},{label},test"), "gives no row to train"),
        (
            _rows("image,label,split", "s{i:02d},{label},train").replace("x,train", "x,test"),
            r"class x has images of 0 patient\(s\), and holding out a val part needs at least 2",
        ),
    ],
)
def test_bad_tables_are_refused(flat: Path, text: str, message: str):
    source = _source(flat, text)
    with pytest.raises(DataError, match=message) as refused:
        split_of(source)
    assert "\n" not in str(refused.value)


def test_files_that_are_no_text_are_refused(flat: Path):
    (flat / "t.csv").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(DataError, match="save as UTF-8"):
        split_of(DataSource(str(flat), table=str(flat / "t.csv")))
    with pytest.raises(DataError, match="cannot be read"):
        split_of(DataSource(str(flat), table=str(flat / "absent.csv")))
    with pytest.raises(DataError, match="has no column 'where'"):
        split_of(_source(flat, GOOD, image_column="where"))


def test_a_name_that_two_images_bear_is_refused(flat: Path):
    _image(flat / "b" / "s00.png")
    with pytest.raises(
        DataError, match=r"1 of 40 rows name more than one image, first 's00' \(row 2\): a/s00.png and b"
    ):
        split_of(_source(flat, GOOD))
    assert split_of(_source(flat, GOOD.replace("s00", "a/s00"))).notes


def test_a_class_without_images_in_a_given_part_is_named(flat: Path):
    part = ["split"] + ["train"] * 32 + ["val"] * 6 + ["test"] * 2
    lines = [f"{row},{p}" for row, p in zip(GOOD.splitlines(), part, strict=True)]
    with pytest.raises(DataError, match=r"its test part has no image of class x \(of 2 images\)"):
        split_of(_source(flat, "\n".join(lines)))


def test_labels_are_matched_with_those_of_a_task_or_a_model(flat: Path):
    text = GOOD.replace(",x,", ",Healthy,").replace(",y,", ",PNEUMONIA,")
    split = split_of(_source(flat, text, task="pneumonia"))
    assert split.classes == ("normal", "pneumonia") and split.task == "pneumonia"
    assert split_of(_source(flat, text), ("PNEUMONIA", "NORMAL")).classes == ("PNEUMONIA", "NORMAL")
    with pytest.raises(DataError, match=r"40 of 40 rows have a label that is no class of the task.*'Healthy'"):
        split_of(_source(flat, text.replace("PNEUMONIA", "normal"), task="skin-lesions"))


def test_several_findings(flat: Path):
    text = _rows("image,mass,age,nodule,patient", "s{i:02d},{bit},{i},{{}},L{patient}")
    text = "".join(line.replace("{}", "01"[n // 4 % 2]) + "\n" for n, line in enumerate(text.splitlines()))
    split = split_of(_source(flat, text))
    assert split.multilabel and split.classes == ("mass", "nodule")
    for part in (split.train, split.val, split.test):
        assert {value for sample in part for value in sample.target} == {0, 1}
    assert split_of(_source(flat, text), ("nodule", "mass")).classes == ("nodule", "mass")
    assert split_of(_source(flat, text, label_column="nodule, mass")).classes == ("nodule", "mass")
    with pytest.raises(DataError, match=r"1 value\(s\) of findings are not .*'yes' \(row 3, column 'mass'\)"):
        split_of(_source(flat, text.replace("s01,0", "s01,yes")))
    with pytest.raises(DataError, match="no column for 1 of the model's findings, first 'mass'"):
        split_of(_source(flat, text.replace("mass", "lump")), ("mass", "nodule"))
    with pytest.raises(DataError, match="finding nodule is absent in images of 0 patient"):
        split_of(_source(flat, _rows("image,mass,nodule,patient", "s{i:02d},{bit},1,L{patient}")))
    few = split_of(DataSource(str(flat), table=str(_table(flat, text)), per_class=3))
    assert 3 <= len(few.train) <= 9
    assert Counter(sample.target[0] for sample in few.train)[1] >= 3


def _table(folder: Path, text: str) -> Path:
    (folder / "again.csv").write_text(text)
    return folder / "again.csv"


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """The layout of the small set: findings drawn at random, one uncertain."""
    root = tmp_path / "CheXpert-v1.0-small"
    rng = np.random.default_rng(0)
    for name, part, first, patients in (("train.csv", "train", 1, 60), ("valid.csv", "valid", 64541, 5)):
        lines = [",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS])]
        for patient in range(first, first + patients):
            for view in ("view1_frontal", "view2_lateral"):
                path = f"{part}/patient{patient:05d}/study1/{view}.jpg"
                _image(root / path)
                values = rng.choice(["1.0", "0.0", ""], len(FINDINGS), p=[0.4, 0.2, 0.4])
                lines.append(",".join([f"CheXpert-v1.0-small/{path}", "Male", "50", "Frontal", "AP", *values]))
        (root / name).write_text("\n".join(lines) + "\n")
    text = (root / "train.csv").read_text().splitlines()
    row = text[1].split(",")
    row[5 + FINDINGS.index("Edema")] = "-1.0"
    (root / "train.csv").write_text("\n".join([text[0], ",".join(row), *text[2:]]) + "\n")
    return root


def test_chexpert(chexpert: Path):
    assert find_table(chexpert) == chexpert / "train.csv"
    source = DataSource(str(chexpert), table=str(chexpert / "train.csv"))
    with pytest.raises(DataError, match=r"1 label.s. are uncertain.*'Edema' in row 2.*ignore.*zeros.*ones"):
        split_of(source)
    for policy, value in (("ignore", -1), ("zeros", 0), ("ones", 1)):
        split = split_of(DataSource(source.folder, table=source.table, uncertain=policy))  # type: ignore[arg-type]
        assert split.task == "chexpert" and split.classes == FINDINGS and split.multilabel
        samples = split.train + split.val + split.test
        assert len(samples) == 130 and len({sample.patient for sample in samples}) == 65
        assert any("valid.csv" in note for note in split.notes)
        (first,) = [s for s in samples if s.path == chexpert / "train/patient00001/study1/view1_frontal.jpg"]
        assert first.patient == "patient00001"
        assert first.target[FINDINGS.index("Edema")] == value
        parts = [{sample.patient for sample in part} for part in (split.train, split.val, split.test)]
        assert sum(map(len, parts)) == 65
    five = DataSource(source.folder, table=source.table, label_column="Cardiomegaly,Edema", uncertain="ones")
    assert split_of(five).classes == ("Cardiomegaly", "Edema")
    with pytest.raises(DataError, match=r"lacks 1 column\(s\) of chexpert, first 'Fracture'"):
        split_of(
            _source(chexpert, (chexpert / "train.csv").read_text().replace("Fracture", "F"), "t.csv", task="chexpert")
        )


def test_one_finding_is_no_class(flat: Path):
    """A column of 1, 0, blank and -1 that is asked for alone."""
    rows = ["Path,edema,other,patient"]
    rows += [f"s{i:02d}.png,{['1.0', '0.0', '', '-1.0'][i // 2 % 4]},{i % 2},p{i // 2}" for i in range(40)]
    source = _source(flat, "\n".join(rows), label_column="edema")
    with pytest.raises(DataError, match=r"10 label\(s\) are uncertain.*--uncertain"):
        split_of(source)
    for policy, value in (("zeros", 0), ("ones", 1), ("ignore", -1)):
        split = split_of(msgspec.structs.replace(source, uncertain=policy))
        assert split.classes == ("edema",) and split.multilabel
        targets = {s.path.name: s.target for part in split.parts.values() for s in part}
        assert [targets[f"s{i:02d}.png"] for i in (0, 2, 4, 6)] == [(1,), (0,), (0,), (value,)]
    assert split_of(msgspec.structs.replace(source, label_column="other")).classes == ("0", "1")
    assert split_of(msgspec.structs.replace(source, label_column="other"), ("other",)).multilabel


def test_uncertain_is_refused_where_nothing_can_be(flat: Path):
    with pytest.raises(DataError, match=r"'dx' holds classes; leave it out"):
        split_of(_source(flat, GOOD, uncertain="zeros"))


def test_labels_of_two_spellings_are_refused(flat: Path):
    text = _rows("file,label", "s{i:02d},{label}").replace("s03,x", "s03,X").replace("s02,y", "s02,Y ")
    with pytest.raises(DataError, match=r"'Y' \(1 images\) and 'y' \(\d+ images\) differ in case or spaces"):
        split_of(_source(flat, text))
    # Of a model, or a task, both mean one class.
    assert split_of(_source(flat, text), ("x", "y")).classes == ("x", "y")


def test_a_column_that_is_not_there(flat: Path):
    with pytest.raises(DataError, match=r"no column 'dxx'; did you mean 'dx'\?.*image_id, dx.*--label-column"):
        split_of(_source(flat, GOOD, label_column="dxx"))
    with pytest.raises(DataError, match=r"no column 'who'; its columns are .*--patient-column"):
        split_of(_source(flat, GOOD, patient_column="who"))


def test_find_table(flat: Path, tmp_path: Path):
    folder = tmp_path / "ham"
    folder.mkdir()
    assert find_table(folder) is None
    (folder / "notes.csv").write_text("a\n")
    assert find_table(folder) == folder / "notes.csv"
    (folder / "more.csv").write_text("a\n")
    with pytest.raises(DataError, match="has 2 tables"):
        find_table(folder)
    (folder / "metadata.csv").write_text("a\n")
    assert find_table(folder) == folder / "metadata.csv"
    for name in ("images_1", "images_2"):
        (folder / name).mkdir()
    assert find_table(folder) is None
    (folder / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx,dx_type\n")
    assert find_table(folder) == folder / "HAM10000_metadata.csv"
    (folder / "train").mkdir()
    assert find_table(folder) is None


def test_skin_lesions(shared_data: Path):
    folder = shared_data / "skin_lesions"
    split = split_of(DataSource(str(folder), table=str(folder / "metadata.csv")))
    assert split.task == "skin-lesions"
    samples = split.train + split.val + split.test
    assert (len(samples), len({sample.patient for sample in samples})) == (2172, 1555)
    parts = [{sample.patient for sample in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == 1555
    assert 0.18 < len(split.test) / 2172 < 0.22
