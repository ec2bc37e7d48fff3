"""Plans are kept for the machine they were built on, and found there again only."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from medcompress.runtime import plans
from medcompress.runtime.errors import EngineError, InputError
from medcompress.runtime.gpu import Gpu
from medcompress.runtime.plans import Key, Record, find, keep, keep_timing_cache, key_of, timing_cache

GPU = Gpu("FAKE RTX", "8.9", "580.65.06", "13.0", 8 * 2**30)
PLAN = b"a plan that no TensorRT made"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "plans"


def key(**changes: object) -> Key:
    return msgspec.structs.replace(key_of(GPU, "11.4.0.106", b"a model", "int8"), **changes)


def kept(of: Key, plan: bytes = PLAN, *, compatible: bool = False) -> Path:
    record = Record(
        plans.SCHEMA, of, compatible, sha256(plan).hexdigest(), len(plan), "2026-01-01", 1.0, "int8", {"int8": 3}, 1024
    )
    return keep(record, plan)


def test_a_plan_is_found_again_by_all_it_was_built_from() -> None:
    with pytest.raises(EngineError, match=r"no plan was built.*medcompress build BUNDLE"):
        find(key())
    path = kept(key())
    record, plan = find(key())
    assert (record.key, plan) == (key(), PLAN)
    assert path.stat().st_mode & 0o022 == 0


@pytest.mark.parametrize(
    ("field", "now", "told"),
    [
        ("gpu", "FAKE A100", r"another GPU \(FAKE RTX; here: FAKE A100\)"),
        ("capability", "9.0", "another compute capability"),
        ("driver", "590.10", r"another driver \(580.65.06; here: 590.10\)"),
        ("cuda", "13.2", "another driver"),
        ("tensorrt", "11.5.0", r"another TensorRT \(11.4.0.106; here: 11.5.0\)"),
        ("machine", "ab" * 16, "another machine"),
        ("profiles", ((1, 1, 8),), "another set of batch sizes"),
        ("model", "0" * 64, "no plan was built"),
        ("precision", "fp16", "no plan was built"),
        ("outputs", ("maps",), "no plan was built"),
    ],
)
def test_a_plan_built_from_anything_else_is_not_taken(field: str, now: object, told: str) -> None:
    kept(key())
    with pytest.raises(EngineError, match=told):
        find(key(**{field: now}))


def test_a_version_compatible_plan_is_for_later_versions_of_tensorrt_and_the_same_driver() -> None:
    kept(key(), compatible=True)
    assert find(key(tensorrt="11.10.0.1"))[1] == PLAN
    for change in ({"tensorrt": "11.3.9"}, {"tensorrt": "11.10.0.1", "driver": "590.10"}):
        with pytest.raises(EngineError, match="another"):
            find(key(**change))


def test_a_newer_plan_takes_the_place_of_the_older_and_of_no_other(state: Path) -> None:
    for other in (key(driver="570.1"), key(gpu="FAKE A100"), key(outputs=("maps",)), key(model="0" * 64)):
        kept(other)
    kept(key())
    assert len(list(state.glob("*.plan"))) == len(list(state.glob("*.json"))) == 4
    assert find(key(gpu="FAKE A100"))[1] == PLAN
    with pytest.raises(EngineError, match="another driver"):
        find(key(driver="570.1"))


def test_so_many_plans_are_kept_and_those_not_loaded_for_longest_go(state: Path, monkeypatch) -> None:
    monkeypatch.setattr(plans, "_MOST_PLANS", 2)
    models = [str(digit) * 64 for digit in range(3)]
    for age, model in zip((3, 2), models, strict=False):
        path = kept(key(model=model)).with_suffix(".json")
        os.utime(path, (path.stat().st_mtime - 3600 * age,) * 2)
    find(key(model=models[0]))
    kept(key(model=models[2]))
    assert find(key(model=models[0]))[1] == find(key(model=models[2]))[1] == PLAN
    with pytest.raises(EngineError, match="no plan"):
        find(key(model=models[1]))
    assert len(list(state.iterdir())) == 4


def test_damage_links_and_what_others_may_write_are_refused(state: Path) -> None:
    path = kept(key())
    path.write_bytes(PLAN[:-1])
    with pytest.raises(EngineError, match=r"not as it was written.*medcompress build"):
        find(key())
    path.write_bytes(PLAN)
    for place, mode in ((path, 0o664), (path, 0o602), (state, 0o777)):
        place.chmod(mode)
        with pytest.raises(EngineError, match="other users"):
            find(key())
        place.chmod(0o755)
    assert find(key())[1] == PLAN
    path.rename(state / "elsewhere")
    path.symlink_to(state / "elsewhere")
    with pytest.raises(EngineError, match="is a link"):
        find(key())
    path.unlink()
    with pytest.raises(EngineError, match="cannot be used"):
        find(key())
    path.with_suffix(".json").write_text("{")
    with pytest.raises(EngineError, match="no plan was built"):
        find(key())


def test_timings_are_kept_for_a_gpu_driver_and_tensorrt_and_corrupt_ones_thrown_away(state: Path) -> None:
    assert timing_cache(key()) == b""
    keep_timing_cache(key(), b"timings")
    assert timing_cache(key(model="0" * 64, precision="fp16")) == b"timings"
    assert timing_cache(key(driver="590.10")) == timing_cache(key(tensorrt="11.5")) == b""
    (path,) = state.glob("*.cache")
    path.write_bytes(b"timing!")
    with pytest.raises(InputError, match="not as it was written"):
        timing_cache(key())
    assert timing_cache(key()) == b""
    assert not list(state.glob("timing-*"))
