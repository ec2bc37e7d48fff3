from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medcompress.benchmarks.data.samples import Sample
from medcompress.benchmarks.data.subgroups import Grouping, group_samples
from medcompress.benchmarks.tolerance import Subgroups
from medcompress.runtime.errors import DataError

FILES = ("test/A/1.png", "test/A/2.png", "test/B/3.png", "test/B/4.png")
TABLE = "file,age,sex\n1.png,17,f\n2.png,18,m\n3.png,64.5,f\n4.png,65,m\n"
AGE, SEX = Subgroups(column="age", bands=(18, 65)), Subgroups(column="sex")


def images(folder: Path, files: tuple[str, ...] = FILES) -> list[Sample]:
    """Empty files: what is in them plays no part."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return [Sample(folder / file, (1, 0), file) for file in files if file.startswith("test")]


def group(folder: Path, text: str | bytes, *subgroups: Subgroups, image_column: str = "") -> tuple[Grouping, ...]:
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return group_samples(images(folder), folder, subgroups, folder / "metadata.csv", image_column)


def test_bands_have_their_lower_limit_in_them(tmp_path: Path) -> None:
    age, sex = group(tmp_path, TABLE, AGE, SEX)
    assert age == Grouping(
        "age", ("below 18", "18 to <65", "18 to <65", "65 and above"), ("below 18", "18 to <65", "65 and above")
    )
    assert sex == Grouping("sex", ("f", "m", "f", "m"), ("f", "m"))


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + TABLE.encode(),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").encode(),
        TABLE.replace("file", "Image Path").encode(),
        TABLE.replace(".png", "").encode(),
        TABLE.replace(".png", ".dcm").encode(),
        TABLE.replace("1.png", "test/A/1.png").replace("2.png", "elsewhere/test/A/2.png").encode(),
        (TABLE + "another.png,99,m\n").encode(),
    ],
    ids=["BOM", "semicolons", "tabs", "another name", "stems", "another suffix", "paths", "rows of other images"],
)
def test_forms_of_a_table(tmp_path: Path, text: bytes) -> None:
    assert group(tmp_path, text, SEX)[0] == Grouping("sex", ("f", "m", "f", "m"), ("f", "m"))


def test_an_image_column_of_any_name(tmp_path: Path) -> None:
    text = TABLE.replace("file", "Study file")
    assert group(tmp_path, text, SEX, image_column="study_file")[0].values == ("f", "m", "f", "m")
    with pytest.raises(DataError, match=r"no column of images by a usual name.*Study file, age, sex; rename"):
        group(tmp_path, text, SEX)
    with pytest.raises(DataError, match="no column 'picture'"):
        group(tmp_path, text, SEX, image_column="picture")


def test_what_is_not_known_is_no_group_and_is_counted(tmp_path: Path) -> None:
    text = "file,sex,age\n1.png,f,1\n2.png,Unknown,NA\n3.png, ,nan\n"
    sex, age = group(tmp_path, text, SEX, AGE)
    assert sex.values == ("f", "", "", "")
    assert sex.order == ("f",)
    assert sex.notes == (
        "metadata.csv has no row of 1 of 4 images, which are in no group",
        "the column 'sex' says nothing of 2 of 4 images, which are in no group",
    )
    assert age.values == ("below 18", "", "", "")
    with pytest.raises(DataError, match="'sex' says nothing of any of the 4 images"):
        group(tmp_path, "file,sex\n1.png,unknown\n", SEX)


def test_numbers_are_ordered_by_size_and_need_bands_where_there_are_many(tmp_path: Path) -> None:
    text = "file,scanner\n1.png,10.0\n2.png,9.0\n3.png,10.0\n4.png,2.0\n"
    assert group(tmp_path, text, Subgroups(column="scanner"))[0].order == ("2", "9", "10")
    files = tuple(f"test/{number}.png" for number in range(14))
    rows = "".join(f"{number}.png,{20 + number}\n" for number in range(13))
    (tmp_path / "ages.csv").write_text(f"file,age\n{rows}13.png,?\n")
    samples = images(tmp_path / "many", files)
    with pytest.raises(
        DataError, match=r"'age' holds 13 different numbers, such as 20 and 32.*e\.g\. bands: \[18, 65\]"
    ):
        group_samples(samples, tmp_path / "many", [Subgroups(column="age")], tmp_path / "ages.csv")
    with pytest.raises(DataError, match=r"'age' has '\?' in row 15, which is no number"):
        group_samples(samples, tmp_path / "many", [AGE], tmp_path / "ages.csv")


def test_a_column_of_names_is_no_subgroup(tmp_path: Path) -> None:
    files = tuple(f"test/{number}.png" for number in range(31))
    samples = images(tmp_path, files)
    (tmp_path / "t.csv").write_text("file,lesion\n" + "".join(f"{n}.png,L{n}\n" for n in range(31)))
    with pytest.raises(DataError, match="'lesion' gives 31 different values, such as 'L0' and 'L1', too many"):
        group_samples(samples, tmp_path, [Subgroups(column="lesion")], tmp_path / "t.csv")
    with pytest.raises(DataError, match="gives 31 different values"):
        group_samples(samples, tmp_path, [Subgroups(pattern=r"(\d+)", name="number")], None)


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        (
            TABLE,
            Subgroups(column="Sexe"),
            r"no column 'Sexe'; did you mean 'sex'\? Its columns are file, age, sex; name",
        ),
        (
            TABLE,
            Subgroups(column="site"),
            "no column 'site'; its columns are file, age, sex; name one in the tolerance",
        ),
        (TABLE, Subgroups(column="sex", bands=(1,)), "'sex' has 'f' in row 2, which is no number"),
        (TABLE.replace("17", "inf"), AGE, "'age' has 'inf' in row 2"),
        (
            TABLE + "test/A/1.png,17,m\n",
            SEX,
            r"1 of 5 rows contradict .*test/A/1\.png \(rows 2 and 6\); keep the right",
        ),
        (TABLE + "1,17,f\n", SEX, r"1 of 5 rows name an image that another row names, .*\(rows 2 and 6\); remove"),
        ("file,sex\nx.png,f\n", SEX, "none of its 1 rows names one of the 4 images: 'file' holds such as 'x.png', the"),
        ("file,sex\n", SEX, "has no rows below its header"),
        ("", SEX, "has nothing in it"),
        ("file,sex\n1.png\n", SEX, "1 of 1 rows have not the 2 fields of the header"),
        (TABLE.encode("utf-16"), SEX, "save as UTF-8"),
    ],
)
def test_a_table_that_will_not_do_is_refused(tmp_path: Path, text: str, entry: Subgroups, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        group(tmp_path, text, entry)
    assert "\n" not in str(error.value)


def test_repeated_rows_of_other_images_do_no_harm(tmp_path: Path) -> None:
    images(tmp_path, ("train/9.png",))
    assert group(tmp_path, TABLE + "9.png,1,f\n9.png,2,m\n", SEX)[0].values == ("f", "m", "f", "m")


def test_a_name_that_several_images_have_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    images(tmp_path, ("train/A/1.png",))
    with pytest.raises(DataError, match=r"1 of 4 rows name more than one image, first '1\.png'.*write the path"):
        group(tmp_path, TABLE, SEX)
    assert group(tmp_path, TABLE.replace("1.png", "test/A/1.png"), SEX)[0].values == ("f", "m", "f", "m")


def test_no_table_though_a_column_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'age' need a table .*; give it with --metadata"):
        group_samples(images(tmp_path), tmp_path, [AGE], None)
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read"):
        group_samples(images(tmp_path), tmp_path, [AGE], tmp_path / "absent.csv")


def test_a_pattern_is_searched_in_the_path_within_the_folder(tmp_path: Path) -> None:
    (found,) = group_samples(
        images(tmp_path), tmp_path, [Subgroups(pattern=r"/A/(\d)|/B/(3)", name="number in A")], None
    )
    assert found.values == ("1", "2", "", "")
    assert found.order == ("1", "2")
    assert found.notes == ("the pattern does not fit 2 of 4 images, which are in no group",)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a regular expression"),
        ("A", "has no group"),
        ("(Z)", "fits none of the 4 images, such as 'test/A"),
    ],
)
def test_a_pattern_that_will_not_do_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=f"subgroups 'p': .*{message}"):
        group_samples(images(tmp_path), tmp_path, [Subgroups(pattern=pattern, name="p")], None)


def test_pneumonia_by_pathogen(shared_data: Path) -> None:
    folder = shared_data / "pneumonia_xray"
    samples = [Sample(path, (0, 1), path.stem) for path in sorted((folder / "test").glob("*/*.jpeg"))]
    (found,) = group_samples(samples, folder, [Subgroups(pattern="(bacteria|virus)", name="pathogen")], None)
    assert Counter(found.values) == {"bacteria": 121, "virus": 74, "": 117}
    assert {path.path.parent.name for path, value in zip(samples, found.values, strict=True) if not value} == {"NORMAL"}


def test_skin_lesions_by_age_and_sex(shared_data: Path) -> None:
    folder = shared_data / "skin_lesions"
    samples = [Sample(path, (0, 1), path.stem) for path in sorted(folder.rglob("*.jpg"))]
    age, sex = group_samples(
        samples, folder, [Subgroups(column="age", bands=(30, 50, 70)), SEX], folder / "metadata.csv"
    )
    assert Counter(sex.values) == {"male": 1231, "female": 933, "": 8}
    assert age.order == ("below 30", "30 to <50", "50 to <70", "70 and above")
    assert Counter(age.values) == {"below 30": 97, "30 to <50": 610, "50 to <70": 822, "70 and above": 636, "": 7}
    with pytest.raises(DataError, match="give it bands"):
        group_samples(samples, folder, [Subgroups(column="age")], folder / "metadata.csv")
