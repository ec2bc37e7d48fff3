"""Which form is chosen, and what is said of it."""

from __future__ import annotations

import pytest

from medcompress.benchmarks.evidence import Evidence
from medcompress.benchmarks.row import Row
from medcompress.benchmarks.statistics.agreement import Agreement
from medcompress.benchmarks.verdict import Criterion, Verdict
from medcompress.compress.choice import Choice, choose
from medcompress.compress.recipes import REFERENCE, select
from medcompress.runtime.errors import InputError

RECIPES = select(["cpu"], int8=True)


def row(name: str, precision: str, status: str, ms: float | None = 1.0) -> Row:
    return Row(name, name.split("-")[0], precision, 1000, status, p50_ms=ms)


def rows(**changes: tuple[str, float | None]) -> list[Row]:
    every = {recipe.name: (recipe.precision, "pass", 5.0) for recipe in RECIPES} | {
        REFERENCE: ("fp32", "reference", 10.0)
    }
    for name, (status, ms) in changes.items():
        name = name.replace("_", "-")
        every[name] = (every[name][0], status, ms)
    return [row(name, precision, status, ms) for name, (precision, status, ms) in every.items()]


def choice(found: list[Row], recipes=RECIPES, *, accept: bool = False, loss: float = 0.01) -> Choice:
    criterion = Criterion("auroc", "", loss, 0.1, 0.02, "inconclusive", "", 20, 20, None, "20 images are too few")
    verdict = Verdict("inconclusive", False, (criterion,), criterion.reason)
    agreement = Agreement(20, 0, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0, 1.0)
    evidence = [
        Evidence(each.name, verdict, 20, 20, None, (), agreement, {}, (), (), (), (), None)
        for each in found
        if each.state == "inconclusive"
    ]
    return choose(found, evidence, recipes, accept_inconclusive=accept)


def test_the_fastest_that_passed_is_chosen() -> None:
    found = choice(rows(onnxruntime_int8_vnni=("pass", 2.0), openvino_int8_vnni=("fail: x", 1.0)))
    assert (found.verdict, found.chosen) == ("pass", "onnxruntime-int8-vnni")
    assert "5.0 times" in found.reason
    assert found.reason.endswith("Refused: openvino-int8-vnni.")
    assert "openvino-int8-vnni" not in found.kept


def test_what_this_cpu_does_not_run_was_not_refused() -> None:
    found = choice(rows(openvino_bf16=("not run here: needs bf16", None), openvino_int8_vnni=("fail: x", 1.0)))
    assert found.reason.endswith("Refused: openvino-int8-vnni. Not run here: openvino-bf16.")


COMPRESSED = (
    "openvino_bf16",
    "onnxruntime_int8_vnni",
    "onnxruntime_int8_avx2",
    "openvino_int8_vnni",
    "openvino_int8_bf16",
)


def test_what_is_inconclusive_is_kept_out_unless_it_is_accepted() -> None:
    states: dict[str, tuple[str, float | None]] = dict.fromkeys(COMPRESSED, ("fail: sensitivity falls by 0.05", 1.0))
    states["openvino_int8_avx2"] = ("inconclusive: 20 images are too few", 2.0)
    found = choice(rows(**states))
    assert (found.verdict, found.accepted, found.chosen) == ("inconclusive", False, "openvino-fp32")
    assert set(found.kept) == {REFERENCE, "openvino-fp32"}
    found = choice(rows(**states), accept=True)
    assert (found.verdict, found.accepted, found.chosen) == ("inconclusive", True, "openvino-int8-avx2")
    assert set(found.kept) == {REFERENCE, "openvino-fp32", "openvino-int8-avx2"}
    assert "on the maker's word: 20 images are too few" in found.reason


def test_what_was_measured_beyond_a_margin_is_not_accepted() -> None:
    states: dict[str, tuple[str, float | None]] = dict.fromkeys(COMPRESSED, ("fail: sensitivity falls by 0.05", 1.0))
    states["openvino_int8_avx2"] = ("inconclusive: 20 images are too few", 2.0)
    found = choice(rows(**states), accept=True, loss=0.03)
    assert (found.verdict, found.accepted, found.chosen) == ("inconclusive", False, "openvino-fp32")


def test_what_is_shown_goes_before_what_is_accepted() -> None:
    states: dict[str, tuple[str, float | None]] = {"openvino_bf16": ("inconclusive: few", 1.0)}
    found = choice(rows(**states), accept=True)
    assert (found.verdict, found.accepted) == ("pass", False)
    assert "openvino-bf16" not in found.kept


def test_accepting_the_inconclusive_does_not_accept_a_failure() -> None:
    states: dict[str, tuple[str, float | None]] = dict.fromkeys((*COMPRESSED, "openvino_int8_avx2"), ("fail: x", 1.0))
    found = choice(rows(**states), accept=True)
    assert (found.verdict, found.accepted, found.chosen) == ("fail", False, "openvino-fp32")


def test_it_may_be_a_float_form() -> None:
    assert choice(rows(openvino_bf16=("pass", 1.0))).chosen == "openvino-bf16"
    assert choice(rows(openvino_fp32=("pass", 1.0))).chosen == "openvino-fp32"


def test_where_no_compressed_form_passes_the_float_model_is_kept_and_the_reason_given() -> None:
    failing: dict[str, tuple[str, float | None]] = dict.fromkeys(COMPRESSED, ("error: SIGSEGV", None))
    failing["openvino_int8_avx2"] = ("error: SIGSEGV", None)
    found = choice(rows(**failing))
    assert (found.verdict, found.chosen) == ("fail", "openvino-fp32")
    assert found.reason.startswith("No compressed form passed")
    assert "SIGSEGV" in found.reason


def test_a_cpu_that_runs_no_lower_precision_is_no_refusal_unless_int8_was_asked_for() -> None:
    floats = select(["cpu"], int8=False)
    found = [row(REFERENCE, "fp32", "reference", 2.0), row("openvino-fp32", "fp32", "pass", 1.0)]
    found.append(row("openvino-bf16", "bf16", "not run here: needs a CPU with bf16", None))
    assert choice(found, floats).chosen == "openvino-fp32"
    vnni = select(["cpu-vnni"], int8=True)
    found += [
        row(recipe.name, "int8", "not run here: needs a CPU with vnni", None) for recipe in vnni if recipe.quantized
    ]
    assert choice(found, vnni).verdict == "fail"


def test_targets_select_the_recipes() -> None:
    names = {recipe.name for recipe in select(["cpu-avx2"], int8=True)}
    assert names == {REFERENCE, "openvino-fp32", "onnxruntime-int8-avx2", "openvino-int8-avx2"}
    assert all(recipe.precision != "int8" for recipe in select(["cpu"], int8=False))
    with pytest.raises(InputError, match="known are: cpu"):
        select(["toaster"], int8=True)


def test_of_forms_as_fast_the_validation_images_decide() -> None:
    found = rows(onnxruntime_int8_vnni=("pass", 2.0), openvino_int8_vnni=("pass", 2.1))
    off = {"onnxruntime-int8-vnni": 0.02, "openvino-int8-vnni": 0.01}
    assert choose(found, [], RECIPES, off=off).chosen == "openvino-int8-vnni"
    assert choose(found, [], RECIPES, off={}).chosen == "onnxruntime-int8-vnni"
