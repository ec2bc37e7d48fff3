"""The audit log's writer: killed, out of space, twice at once, from many threads, with a clock that is set."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medcompress.runtime import audit, load
from medcompress.runtime.audit import AuditLog, answer_of, preprocessing_mark
from medcompress.runtime.audit_chain import AuditHead, AuditRecord, log_files
from medcompress.runtime.audit_check import check_log
from medcompress.runtime.errors import MachineError

LINE: dict[str, Any] = {
    "who": "kiosk-1",
    "model": "phantoms",
    "bundle": "b" * 64,
    "variant": "onnxruntime-fp32",
    "input_sha256": "a" * 64,
    "preprocessing": "1:" + "c" * 64,
    "outcome": "answered",
    "answer": {"labels": ["CLEAR"], "probabilities": {"CLEAR": 0.75, "OPACITY": 0.25}},
    "time_ms": 12.3456,
}
# Forks writers that end badly on the log of its first argument: an import of the package for all of them.
WRITERS = """
    import os, random, resource, signal, sys, time
    from medcompress.runtime.audit import AuditLog

    line = dict(who="k", model="m", bundle="b", variant="v", input_sha256="a" * 64, preprocessing="1",
                outcome="refused", reason="x" * 60, time_ms=1.0)
    folder = sys.argv[1]
"""


def run(script: str, folder: Path) -> str:
    code = textwrap.dedent(WRITERS) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in log_files(folder) for line in path.read_bytes().splitlines()]


def test_a_line_says_what_was_answered_and_nothing_of_whose_it_is(
    pristine_bundle: Path, image: Path, tmp_path: Path
) -> None:
    predictor = load(pristine_bundle, variant="onnxruntime-fp32")
    manifest = predictor.bundle.manifest
    found = predictor.predict(image)
    with AuditLog(tmp_path / "log") as log:
        log.append(
            who="kiosk-1",
            model="phantoms",
            bundle=predictor.bundle.identity,
            variant=found.variant,
            input_sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
            preprocessing=preprocessing_mark(manifest.preprocessing),
            outcome="answered",
            answer=answer_of(found, manifest.decision),
            time_ms=found.time_ms["total"],
        )
    predictor.close()
    opened, line = records(tmp_path / "log")
    assert (opened["event"], opened["number"], opened["previous"]) == ("opened", 1, "0" * 64)
    assert (
        line["previous"]
        == hashlib.sha256(log_files(tmp_path / "log")[0].read_bytes().split(b"\n")[0] + b"\n").hexdigest()
    )
    assert line["input_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert line["bundle"] == hashlib.sha256((pristine_bundle / "manifest.json").read_bytes()).hexdigest()
    assert line["answer"]["labels"] == list(found.labels)
    assert line["answer"]["thresholds"] == {"SYNTHETIC-OPACITY": manifest.decision.threshold}
    assert line["preprocessing"].startswith(f"{manifest.preprocessing.version}:")
    assert image.name not in json.dumps(line)
    assert set(line) <= set(AuditRecord.__struct_fields__)


@pytest.mark.parametrize(
    "change", [{"reason": "smith.dcm: cannot be read"}, {"input_sha256": "smith.dcm"}, {"answer": {"a": "x" * 70_000}}]
)
def test_a_message_a_name_or_a_picture_is_not_taken(change: dict[str, Any], tmp_path: Path) -> None:
    with AuditLog(tmp_path) as log:
        before = log_files(tmp_path)[0].read_bytes()
        with pytest.raises(ValueError, match=r"reason|input_sha256|bytes"):
            log.append(**{**LINE, **change})
        assert log_files(tmp_path)[0].read_bytes() == before
        log.append(**LINE)
    assert check_log([tmp_path]).events == {"opened": 1, "answered": 1}


def test_what_a_killed_writer_promised_is_there(tmp_path: Path) -> None:
    promised = (
        run(
            """
        for _ in range(25):
            end, begin = os.pipe()
            child = os.fork()
            if not child:
                log = AuditLog(folder, rotate_bytes=3000)
                while True:
                    log.append(**line)
                    os.write(begin, f"{log.head.sha256} ".encode())
            os.read(end, 1)
            time.sleep(random.random() * 0.02)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(begin)
            sys.stdout.write(":" + open(end).read())
        """,
            tmp_path,
        )
        .replace(":", " ")
        .split()
    )
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.events["opened"] == 25
    there = {
        hashlib.sha256(line + b"\n").hexdigest() for p in log_files(tmp_path) for line in p.read_bytes().split(b"\n")
    }
    # The first byte of each writer's answers was read to know that it runs.
    assert all(any(line.endswith(digest) for line in there) for digest in promised)
    assert len(promised) >= 25


def test_a_writer_killed_in_the_middle_of_a_line_leaves_a_marked_one(tmp_path: Path) -> None:
    # The kernel writes up to the limit and kills at the next write: a real half line, of every length but the whole.
    run(
        """
        with AuditLog(folder) as log:
            log.append(**line)
            before = log._size
            log.append(**line)
            length = log._size - before
        for cut in range(1, length, 17):
            child = os.fork()
            if not child:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                log = AuditLog(folder)
                resource.setrlimit(resource.RLIMIT_FSIZE, (log._size + cut, log._size + cut))
                log.append(**line)
                os._exit(1)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGXFSZ
        """,
        tmp_path,
    )
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.unfinished
    torn = found.events.get("torn", 0)
    assert torn >= 15
    assert found.events["opened"] == torn + 2, "each but the last was marked by the next"
    AuditLog(tmp_path).close()
    found = check_log([tmp_path])
    assert (found.whole, found.unfinished, found.events["torn"]) == (True, False, torn + 1)


@pytest.mark.parametrize("cut", [1, 40, 200, "newline"])
def test_a_half_marked_line_is_marked_again(cut: int | str, tmp_path: Path) -> None:
    with AuditLog(tmp_path) as log:
        log.append(**LINE)
    (path,) = log_files(tmp_path)
    whole = path.read_bytes()
    if cut == "newline":
        path.write_bytes(whole[:-1])
    else:
        path.write_bytes(whole + b'{"number":3,"prev\n{"number":3,"previous":"'[: 20 + int(cut)] + b"\0" * int(cut))
    AuditLog(tmp_path).close()
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.events.get("torn", 0) == (cut != "newline")
    assert path.read_bytes().startswith(whole), "nothing is taken away"


def test_a_new_file_killed_before_its_first_line_goes_on_the_chain(tmp_path: Path) -> None:
    with AuditLog(tmp_path) as log:
        log.append(**LINE)
    (tmp_path / "audit-000002.jsonl").write_bytes(b'{"num')
    with AuditLog(tmp_path) as log:
        log.append(**LINE)
    found = check_log([tmp_path])
    assert (found.whole, found.events["torn"], found.head) == (True, 1, 5)


def test_an_end_no_kill_leaves_is_not_written_over(tmp_path: Path) -> None:
    AuditLog(tmp_path).close()
    with log_files(tmp_path)[0].open("ab") as file:
        file.truncate(3_000_000)
    with pytest.raises(MachineError, match="medcompress audit verify"):
        AuditLog(tmp_path)


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    with AuditLog(tmp_path) as log:
        with pytest.raises(MachineError, match="another process"):
            AuditLog(tmp_path)
        said = run(
            """
            try:
                AuditLog(folder)
            except Exception as error:
                print(type(error).__name__, error)
            """,
            tmp_path,
        )
        assert said.startswith("MachineError")
        assert said.count("\n") == 1
        log.append(**LINE)
    AuditLog(tmp_path).close()
    assert check_log([tmp_path]).events == {"opened": 2, "answered": 1}
    with pytest.raises(MachineError, match="closed"):
        log.append(**LINE)


def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path: Path) -> None:
    said = run(
        """
        log = AuditLog(folder)
        for room in (0, 1, 100, 10_000):
            size = log._size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
            try:
                log.append(**line)
                print("written")
            except Exception as error:
                assert log._size == size == os.path.getsize(folder + "/audit-000001.jsonl")
                print(type(error).__name__, error)
        """,
        tmp_path,
    ).splitlines()
    assert [line.split()[0] for line in said] == ["MachineError"] * 3 + ["written"]
    assert "free some space" in said[0]
    assert check_log([tmp_path]).events == {"opened": 1, "refused": 1}


def test_after_a_failed_fsync_nothing_is_promised_any_more(tmp_path: Path, monkeypatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    log = AuditLog(tmp_path)
    monkeypatch.setattr(audit.os, "fsync", broken)
    with pytest.raises(MachineError, match="Input/output"):
        log.append(**LINE)
    monkeypatch.undo()
    with pytest.raises(MachineError, match="start again"):
        log.append(**LINE)
    log.close()
    assert check_log([tmp_path]).whole


def test_many_threads_write_one_chain_and_share_its_fsyncs(tmp_path: Path, monkeypatch) -> None:
    log, synced, real = AuditLog(tmp_path, rotate_bytes=20_000), [0], audit.os.fsync

    def counting(file: int) -> None:
        synced[0] += 1
        real(file)

    monkeypatch.setattr(audit.os, "fsync", counting)

    def write(name: str) -> None:
        for i in range(20):
            log.append(**{**LINE, "who": f"{name}-{i}"})

    threads = [threading.Thread(target=write, args=(f"t{t}",)) for t in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.events == {"opened": 1, "answered": 200}
    assert Counter(r.get("who") for r in records(tmp_path)) == Counter(
        [None, *(f"t{t}-{i}" for t in range(10) for i in range(20))]
    )
    assert synced[0] < 200
    assert len(found.files) > 3


def test_files_follow_each_other_by_size(tmp_path: Path) -> None:
    with AuditLog(tmp_path, rotate_bytes=1000) as log:
        for _ in range(9):
            log.append(**LINE)
        head = log.head
    files = log_files(tmp_path)
    assert [path.name for path in files] == [f"audit-{i:06}.jsonl" for i in range(1, len(files) + 1)]
    assert len(files) >= 4
    for before, after in itertools.pairwise(files):
        last = before.read_bytes().splitlines(keepends=True)[-1]
        assert json.loads(after.read_bytes().splitlines()[0])["previous"] == hashlib.sha256(last).hexdigest()
        assert before.stat().st_size >= 1000
    assert check_log([tmp_path]).head_sha256 == head.sha256
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_clock_that_is_set_is_noted(tmp_path: Path, monkeypatch) -> None:
    now = [1_800_000_000.0, 50.0]
    monkeypatch.setattr(audit, "_clocks", lambda: tuple(now))

    def pass_(wall: float, steady: float) -> None:
        now[0] += wall
        now[1] += steady

    with AuditLog(tmp_path) as log:
        pass_(10, 10)
        log.append(**LINE)
        pass_(-3600, 1)
        log.append(**LINE)
        pass_(86400, 86400.5)
        log.append(**LINE)
    now[:] = [1_000_000_000.0, 3.0]
    with AuditLog(tmp_path) as log:
        log.append(**LINE)
    seconds = [record["seconds"] for record in records(tmp_path) if record["event"] == "clock"]
    assert seconds == [-3601.0, pytest.approx(-800082810.0)]
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.events["clock"] == 2


def test_a_clock_set_while_the_disk_is_full_is_noted_once_there_is_room(tmp_path: Path, monkeypatch) -> None:
    now = [1_800_000_000.0, 50.0]
    monkeypatch.setattr(audit, "_clocks", lambda: tuple(now))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with AuditLog(tmp_path) as log:
        log.append(**LINE)
        now[0] -= 3600
        real = audit.os.write
        monkeypatch.setattr(audit.os, "write", full)
        with pytest.raises(MachineError, match="No space"):
            log.append(**LINE)
        monkeypatch.setattr(audit.os, "write", real)
        log.append(**LINE)
    found = check_log([tmp_path])
    assert found.whole, found.problems
    assert found.events == {"opened": 1, "answered": 2, "clock": 1}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(MachineError, match="audit log cannot be written"):
        AuditLog(tmp_path / "log")


def test_the_head_is_the_last_line(tmp_path: Path) -> None:
    with AuditLog(tmp_path) as log:
        log.append(**LINE)
        assert isinstance(log.head, AuditHead)
        assert log.head.number == 2
        assert log.head.sha256 == check_log([tmp_path]).head_sha256
