"""A pruned network's forms in a bundle, beside the dense reference; and what is left when it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medcompress.benchmarks.progress import console
from medcompress.benchmarks.tolerance import Tolerance
from medcompress.cli.main import run
from medcompress.compress.optimize import optimize
from medcompress.compress.options import Options
from medcompress.compress.pruning import rounds
from medcompress.compress.pruning.options import Pruning
from medcompress.compress.pruning.target import Target
from medcompress.compress.recipes import REFERENCE
from medcompress.compress.search.journal import Journal
from medcompress.runtime.bundle import open_bundle
from medcompress.runtime.errors import InputError
from medcompress.runtime.selftest import verify
from medcompress.trained.checkpoint import load_checkpoint, rebuild

Begun = Callable[[Path], Path]
HALF = Pruning(Target("macs", 0.5), epochs=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    monkeypatch.setattr("medcompress.benchmarks.timing.latency.SECONDS", 0.02)


def options(checkpoint: Path, out: Path, tolerance: Tolerance, pruning: Pruning) -> Options:
    return Options(checkpoint, out=out, int8=True, targets=("cpu-avx2",), tolerance=tolerance, pruning=pruning)


def test_stopped_in_the_middle_of_a_recovery_it_goes_on_and_the_dense_network_stays_the_reference(
    checkpoint: Path, begun: Begun, wide: Tolerance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(tmp_path / "bundle")
    true = rounds.recover

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "recover", stopped)
    with pytest.raises(KeyboardInterrupt):
        optimize(options(checkpoint, out, wide, HALF))
    assert not out.exists()
    monkeypatch.setattr(rounds, "recover", true)

    def begun_anew(*_: object, **__: object) -> None:
        raise AssertionError("what was pruned before is pruned again")

    monkeypatch.setattr(rounds, "prune", begun_anew)
    outcome = optimize(options(checkpoint, out, wide, HALF))
    assert not list(tmp_path.glob("*.partial"))

    report, manifest = outcome.report, open_bundle(out).manifest
    assert report.reference == REFERENCE
    pruned = {row.name for row in report.rows if row.name.startswith("macs50-")}
    assert pruned == {
        f"macs50-{name}"
        for name in ("onnxruntime-fp32", "openvino-fp32", "onnxruntime-int8-avx2", "openvino-int8-avx2")
    }
    assert {row.name for row in report.rows} == pruned | {REFERENCE}
    (network,) = report.networks
    assert network.macs[1] <= 0.5 * network.macs[0]
    files = {variant.name: variant.files for variant in manifest.variants}
    assert files[REFERENCE] == ("model.onnx",)
    assert files["macs50-onnxruntime-fp32"] == files["macs50-openvino-fp32"] == ("variants/macs50.onnx",)
    assert (out / "variants" / "macs50.onnx").stat().st_size < (out / "model.onnx").stat().st_size
    assert verify(out).runs
    (file,) = outcome.networks
    again = load_checkpoint(file)
    assert again.spec.pruning[0].macs == network.macs
    rebuild(again)
    page = (out / "report.html").read_text()
    assert all(name in page for name in pruned)
    assert "What was taken out" in page


def test_a_target_out_of_reach_says_what_is_in_reach(
    checkpoint: Path, begun: Begun, wide: Tolerance, tmp_path: Path
) -> None:
    asked, out = Pruning(Target("macs", 1e-6), epochs=0), begun(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"--macs 1e-06 cannot be reached: 0\.0\d+ is the least"):
        optimize(options(checkpoint, out, wide, asked))
    assert not out.exists()


def test_milliseconds_are_measured(checkpoint: Path, begun: Begun, wide: Tolerance, tmp_path: Path) -> None:
    asked = Pruning(Target("latency-ms", 1000.0), epochs=0)
    with pytest.raises(InputError, match="1000"):  # it is faster than that already
        optimize(options(checkpoint, begun(tmp_path / "bundle"), wide, asked))


def test_pruned_checkpoints_are_not_replaced_unasked(checkpoint: Path, wide: Tolerance, tmp_path: Path) -> None:
    learned = tmp_path / "bundle-networks" / "macs50.pth"
    learned.parent.mkdir()
    learned.write_bytes(b"hours of work")
    with pytest.raises(InputError, match=r"bundle-networks: exists.*--force"):
        optimize(options(checkpoint, tmp_path / "bundle", wide, HALF))
    assert learned.read_bytes() == b"hours of work"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle-networks"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--macs", "0.5", "--params", "0.5"], "one target"),
        (["--macs", "1.5"], "between 0 and 1"),
        (["--macs", "0"], "between 0 and 1"),
        (["--macs", "nan"], "between 0 and 1"),
        (["--latency-ms", "-3"], "above 0"),
        (["--keep", "layer1.*"], "goes with a target"),
        (["--importance", "taylor"], "goes with a target"),
        (["--epochs", "3"], "goes with a target"),
        (["--macs", "0.5", "--keep", "nothing.like.it", "--epochs", "0"], "nothing.like.it"),
        (["--macs", "0.5", "--shrink-to", "20", "--epochs", "0"], "between half"),
        (["--macs", "0.5", "--auto"], "--macs"),
        (["--macs", "0.5", "--budget", "soon"], "30m"),
    ],
)
def test_what_is_asked_wrongly(
    checkpoint: Path, begun: Begun, tmp_path: Path, capsys, arguments: list[str], told: str
) -> None:
    out = begun(tmp_path / "b")
    assert run(["optimize", str(checkpoint), "--int8", "--target", "cpu-avx2", "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not out.exists()


def test_what_the_search_found_is_judged_beside_the_dense_forms(
    checkpoint: Path, begun: Begun, wide: Tolerance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(tmp_path / "bundle")
    proposed = Journal.next
    # It ends by what it has looked at, not by the clock: how fast this machine is at the moment is no matter.
    monkeypatch.setattr(Journal, "next", lambda self: None if self.looked else proposed(self))
    asked = Options(checkpoint, out=out, int8=True, targets=("cpu-avx2",), tolerance=wide, auto=True, epochs=1)
    outcome = optimize(asked)
    report = outcome.report
    names = {row.name for row in report.rows}
    assert {REFERENCE, "openvino-int8-avx2"} <= names, "the dense network's own forms"
    assert report.trials[0].name == "dense" and report.trials[0].macs_share == 1.0
    assert report.networks, "with margins this wide some network is good enough"
    for network in report.networks:
        assert f"{network.name}-onnxruntime-int8-avx2" in names
        assert load_checkpoint(out.with_name("bundle-networks") / f"{network.name}.pth").spec.pruning
    assert "What the search tried" in (out / "report.html").read_text()
    assert verify(out).runs
