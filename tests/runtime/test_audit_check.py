"""Checking the audit log: every way to tamper with it is found, at its line; what cannot be found is said."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medcompress.cli.main import run
from medcompress.runtime import audit_chain
from medcompress.runtime.audit import AuditLog
from medcompress.runtime.audit_chain import log_files
from medcompress.runtime.audit_check import AuditCheck, check_log
from medcompress.runtime.errors import InputError

LINES = 9


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, nine lines; not to be changed."""
    folder = tmp_path_factory.mktemp("log")
    with AuditLog(folder) as log:
        for i in range(LINES - 1):
            log.append(
                who=f"station-{i}",
                model="m",
                bundle="b" * 64,
                variant="v",
                input_sha256=f"{i:064x}",
                preprocessing="1",
                outcome="answered",
                answer={"labels": ["a"]},
                time_ms=1.0,
            )
    return folder


@pytest.fixture
def lines(log: Path) -> list[bytes]:
    return log_files(log)[0].read_bytes().splitlines(keepends=True)


def checked(lines: list[bytes], folder: Path, **options: str) -> AuditCheck:
    path = folder / "audit-000001.jsonl"
    path.write_bytes(b"".join(lines))
    return check_log([path], **options)


def kinds(found: AuditCheck) -> list[tuple[str, int]]:
    assert found.whole == (not found.problems)
    return [(problem.kind, problem.line) for problem in found.problems]


@pytest.mark.parametrize("i", range(LINES))
def test_each_tampering_is_found_at_its_line(i: int, lines: list[bytes], tmp_path: Path) -> None:
    last = i == LINES - 1

    def tampered(change: Callable[[list[bytes]], object]) -> list[tuple[str, int]]:
        copy = list(lines)
        change(copy)
        return kinds(checked(copy, tmp_path))

    # Line i, counted from 0, is line i + 1 of the file and has number i + 1.
    relabelled = lines[i].replace(b"station-", b"stAtion-").replace(b'"schema":1', b'"schema":2')
    assert relabelled != lines[i]
    found = tampered(lambda copy: copy.__setitem__(i, relabelled))
    assert found == ([] if last else [("changed", i + 1)]), "nothing is written after the last line yet"
    assert tampered(lambda copy: copy.pop(i)) == ([] if last else [("missing", i + 1)])
    assert tampered(lambda copy: copy.insert(i, lines[i])) == [("doubled", i + 2)]
    assert tampered(lambda copy: copy.__setitem__(i, b"{}\n")) == [("damaged", i + 1)]
    assert tampered(lambda copy: copy.insert(i, b"no record\n")) == [("damaged", i + 1)]
    if not last:
        swapped = tampered(lambda copy: copy.insert(i, copy.pop(i + 1)))
        assert swapped[:2] == [("missing", i + 1), ("order", i + 2)]
    # A line forged to fit: the right number, the right hash.
    before = json.loads(lines[i])
    forged = json.dumps({**before, "who": "nobody"}).encode() + b"\n"
    found = tampered(lambda copy: copy.insert(i, forged))
    assert found[0] == ("order", i + 2)
    # A time without its zone cannot be held against another.
    naive = json.dumps({**before, "time": "2026-01-01T00:00:00"}).encode() + b"\n"
    assert tampered(lambda copy: copy.__setitem__(i, naive)) == [("damaged", i + 1)]
    # "Nothing was torn here": a mark put in to hide a line.
    mark = json.dumps({**before, "event": "torn", "torn": "0" * 64}).encode() + b"\n"
    assert tampered(lambda copy: copy.__setitem__(slice(i, i + 1), [b"gone\n", mark]))[0][0] == "damaged"


def test_a_hidden_line_breaks_the_chain_even_with_a_fitting_mark(lines: list[bytes], tmp_path: Path) -> None:
    gone = b"gone\n"
    mark = {**json.loads(lines[4]), "event": "torn", "torn": hashlib.sha256(gone).hexdigest()}
    hidden = [*lines[:4], gone, json.dumps(mark).encode() + b"\n", *lines[5:]]
    assert kinds(checked(hidden, tmp_path)) == [("changed", 6)]


def test_what_is_cut_off_or_written_anew_shows_against_a_noted_head(
    log: Path, lines: list[bytes], tmp_path: Path
) -> None:
    head = check_log([log]).head_sha256
    assert checked(lines[:-2], tmp_path).whole, "the chain alone cannot see it"
    assert kinds(checked(lines[:-2], tmp_path, head=head)) == [("head", LINES - 2)]
    forged, previous = lines[:4], json.loads(lines[4])["previous"]
    for line in lines[4:]:
        record = {**json.loads(line), "previous": previous, "who": "nobody"}
        forged.append(json.dumps(record).encode() + b"\n")
        previous = hashlib.sha256(forged[-1]).hexdigest()
    assert checked(forged, tmp_path).whole, "nor this"
    assert kinds(checked(forged, tmp_path, head=head)) == [("head", LINES)]
    earlier = json.loads(lines[5])["previous"]
    assert check_log([log], head=earlier).whole, "a head noted long ago is still in the chain"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_bytes_leaves_the_chain_whole(data: st.DataObject, log: Path, tmp_path: Path) -> None:
    whole = log_files(log)[0].read_bytes()
    head = check_log([log]).head_sha256
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(
        st.integers(begin, min(len(whole), begin + data.draw(st.sampled_from([0, 1, 40, 700, len(whole)]))))
    )
    origin = data.draw(st.integers(0, len(whole)))
    put_in = data.draw(st.one_of(st.binary(max_size=40), st.just(whole[origin : origin + 400])))
    changed = whole[:begin] + put_in + whole[end:]
    if changed == whole:
        return
    found = checked([changed], tmp_path, head=head)
    # What follows a whole log without an end of its own is a line that is being written.
    assert not found.whole or (changed.startswith(whole) and found.unfinished)


def test_files_of_a_log(tmp_path: Path) -> None:
    with AuditLog(tmp_path, rotate_bytes=700) as log:
        for _ in range(12):
            log.append(
                who="w", model="m", bundle="b", variant="v", input_sha256="0" * 64,
                preprocessing="1", outcome="refused", reason="black-frame", time_ms=1,
            )  # fmt: skip
    files = log_files(tmp_path)
    assert check_log([tmp_path]) == check_log(files)
    assert [p.kind for p in check_log([*files[:1], *files[2:]]).problems] == ["missing"]
    assert check_log([*files[:2], *files[3:]]).problems[0].file == str(files[3])
    (late,) = check_log(files[2:]).problems
    assert (late.kind, late.line) == ("missing", 1)
    assert "--after" in late.message
    put_away = check_log(files[:2]).head_sha256
    assert check_log(files[2:], after=put_away).whole
    assert [p.kind for p in check_log(files[3:], after=put_away).problems] == ["changed"]
    files[1].unlink()
    assert [p.kind for p in check_log([tmp_path]).problems] == ["missing"]
    with pytest.raises(InputError, match="is no audit log"):
        check_log([tmp_path / "elsewhere"])


def test_the_documented_way_to_check_finds_the_same(log: Path, lines: list[bytes], tmp_path: Path) -> None:
    text = audit_chain.__doc__ or ""
    begin = text.index("    import hashlib, json, sys")
    script = textwrap.dedent(text[begin : text.index("\n\n", begin)])
    assert script.count("\n") < 20

    def alone(lines: list[bytes]) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "copy.jsonl"
        path.write_bytes(b"".join(lines))
        return subprocess.run([sys.executable, "-I", "-c", script, str(path)], capture_output=True, text=True)

    found = check_log([log])
    assert alone(lines).stdout.split() == [str(found.head), found.head_sha256]
    for tampered in (
        [*lines[:3], *lines[4:]],
        [*lines[:3], lines[3].replace(b"station", b"STATION"), *lines[4:]],
        [*lines[:3], b"x\n", *lines[3:]],
    ):
        assert "AssertionError" in alone(tampered).stderr
    sum_ = subprocess.run(["sha256sum"], input=lines[4], capture_output=True).stdout.decode().split()[0]
    assert json.loads(lines[5])["previous"] == sum_


def test_memory_does_not_grow_with_a_line_or_a_log(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "audit-000001.jsonl"
    path.write_bytes(b"".join(lines))
    with path.open("ab") as file:
        file.truncate(50_000_000)  # no line's end in all of it
    tracemalloc.start()
    found = check_log([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kinds(found) == [("damaged", LINES + 1)]
    assert peak < 2_000_000


def test_the_command(log: Path, lines: list[bytes], tmp_path: Path, capsys) -> None:
    assert run(["audit", "head", str(log)]) == 0
    number, head = capsys.readouterr().out.split()
    assert int(number) == LINES
    assert run(["audit", "verify", str(log), "--head", head]) == 0
    assert capsys.readouterr().out.endswith("whole\n")
    path = tmp_path / "audit-000001.jsonl"
    path.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    assert run(["audit", "verify", str(path)]) == 2
    assert f"{path}, line 5: missing: number 5 is missing before number 6" in capsys.readouterr().out
    assert run(["audit", "verify", str(path), "--json"]) == 2
    assert [p["kind"] for p in json.loads(capsys.readouterr().out)["problems"]] == ["missing"]
    image = tmp_path / "image.png"
    image.write_bytes(b"an image")
    with AuditLog(tmp_path / "other") as other:
        for content in (b"another", b"an image"):
            other.append(
                who="w", model="m", bundle="b", variant="v", input_sha256=hashlib.sha256(content).hexdigest(),
                preprocessing="1", outcome="failed", reason="EngineError", time_ms=1,
            )  # fmt: skip
    assert run(["audit", "show", str(tmp_path / "other"), "--image", str(image)]) == 0
    (shown,) = capsys.readouterr().out.splitlines()
    assert json.loads(shown)["number"] == 3
    for arguments in (
        ["verify", str(tmp_path / "none")],
        ["verify", str(log), "--head", "12"],
        ["head", "x"],
        ["head", str(path)],
        ["show"],
    ):
        assert run(["audit", *arguments]) == 2, arguments
