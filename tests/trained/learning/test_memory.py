"""What a teacher answered before is not asked again, and whatever ails the file is no matter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medcompress.trained.learning import memory
from medcompress.trained.learning.memory import Memory, memory_folder


class Asked:
    """Counts how often it is."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, shown: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return shown.flatten(1)[:, :3] / 3


def test_the_same_batch_is_asked_about_once_in_any_process(tmp_path: Path) -> None:
    ask, shown = Asked(), torch.rand(4, 1, 8, 8)
    first = Memory(tmp_path / "t.sqlite").recall(shown, torch.float32, ask)
    again = Memory(tmp_path / "t.sqlite").recall(shown.clone(), torch.float32, ask)
    assert ask.times == 1
    assert torch.equal(first, again)
    assert again.dtype == torch.float32


def test_another_pixel_shape_or_precision_is_another_question(tmp_path: Path) -> None:
    ask, shown = Asked(), torch.rand(4, 1, 8, 8)
    kept = Memory(tmp_path / "t.sqlite")
    kept.recall(shown, torch.float32, ask)
    changed = shown.clone()
    changed[3, 0, 7, 7] += 1e-6
    for other, precision in (
        (changed, torch.float32),
        (shown.reshape(4, 1, 4, 16), torch.float32),
        (shown, torch.bfloat16),
    ):
        before = ask.times
        kept.recall(other, precision, ask)
        assert ask.times == before + 1


def damaged(file: Path) -> None:
    file.write_bytes(b"no database at all, " * 500)


def a_folder(file: Path) -> None:
    file.mkdir()


def cut(file: Path) -> None:
    Memory(file).recall(torch.rand(4, 1, 8, 8), torch.float32, Asked())
    file.write_bytes(file.read_bytes()[:-700])


@pytest.mark.parametrize("ail", [damaged, a_folder, cut])
def test_with_a_damaged_file_the_teacher_is_asked(ail: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "t.sqlite"
    ail(file)
    ask, shown = Asked(), torch.rand(4, 1, 8, 8)
    assert torch.equal(Memory(file).recall(shown, torch.float32, ask), ask(shown))


def test_the_oldest_go_where_all_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("oldest", "older", "newest")):
        Memory(tmp_path / f"{name}.sqlite").recall(torch.rand(2, 1, 4, 4), torch.float32, Asked())
        os.utime(tmp_path / f"{name}.sqlite", (number, number))
    size = (tmp_path / "newest.sqlite").stat().st_size
    monkeypatch.setattr(memory, "MOST_BYTES", 2 * size + 1)
    Memory(tmp_path / "now.sqlite")
    assert {file.stem for file in tmp_path.glob("*.sqlite")} == {"older", "newest", "now"}


def test_the_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert memory_folder() == tmp_path / "medcompress" / "teachers"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/u")
    assert memory_folder() == Path("/home/u/.cache/medcompress/teachers")
