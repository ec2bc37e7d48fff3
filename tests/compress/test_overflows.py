"""A count that fails takes nothing with it but itself."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from medcompress.benchmarks.candidate import Candidate
from medcompress.compress import overflows
from medcompress.compress.workspace import Workspace
from medcompress.runtime.preprocessing import Preprocessing


def counted(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(overflows, "count_overflows", fails)
    form = Candidate("openvino-int8-vnni", "openvino", "int8", (tmp_path / "form.xml",), ("vnni",))
    forms = cast("Any", SimpleNamespace(candidates=(form,), digest="0"))
    workspace = Workspace(tmp_path / "bundle", {}, replace=False)
    try:
        images = np.zeros((2, 8, 8), np.uint8)
        return overflows.overflows_of(workspace, forms, form.name, Preprocessing((8, 8)), images)
    finally:
        workspace.close()


def test_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert counted(RuntimeError("no such operator\nin two lines"), tmp_path, monkeypatch) == ()
    assert "could not be counted (no such operator), so the report does not tell" in capfd.readouterr().err


def test_a_full_disk_is_another_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space"):
        counted(OSError(errno.ENOSPC, "No space left on device"), tmp_path, monkeypatch)
