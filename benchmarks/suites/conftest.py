"""What the suites measure on: pictures and a bundle made by formula, round after round.

    pytest benchmarks/suites --benchmark-enable --benchmark-save=NAME [--rounds N] [--bundle FOLDER]

pytest-benchmark measures one benchmark after the other, so a slow minute of the machine would meet one of them alone.
Here the whole suite is repeated in rounds: each benchmark gets a time slot a round, all take turns, and each round is
kept on its own in the saved file. Compare two files with: python -m medcompress.benchmarks.timing.runs OLD NEW

The suites are tests: they import the project by its name, as its users do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medcompress.benchmarks.timing.saved_run import ROUND, SHARE
from medcompress.runtime.bundle import Bundle, open_bundle
from medcompress.runtime.errors import BundleError

ROUNDS = 10
SIDE = 2000
_LIBRARIES = ("medcompress", "numpy", "pillow", "onnxruntime", "openvino")
_BUNDLE = pytest.StashKey[Bundle]()

# In a process of its own: these floors stand above the benchmarks, and torch's threads are none of what is measured.
_MAKE_BUNDLE = """
import shutil
import sys
from pathlib import Path
import numpy as np
import torch
from medcompress.compress.export import export
from medcompress.compress.plain import make_plain
from medcompress.compress.recipes import REFERENCE, select
from medcompress.runtime.bundle import GOLDEN_FILE, REFERENCE_FILE, SCHEMA, Manifest, Variant
from medcompress.runtime.sealing import seal
from medcompress.runtime.decision import Decision
from medcompress.runtime.engines import load_engine
from medcompress.runtime.golden import Golden, make_picture
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.networks.architectures import build
from medcompress.trained.spec import ModelSpec

folder, scratch = Path(sys.argv[1]), Path(sys.argv[2])
preprocessing = Preprocessing((224, 224))
decision = Decision("binary", ("clear", "opacity"), "opacity")
torch.manual_seed(0)
network = build(ModelSpec("timm/resnet10t", preprocessing, decision)).eval()
rendered = np.random.default_rng(0).integers(0, 256, (16, 224, 224), np.uint8)
images = np.stack([preprocessing.normalize(pixels) for pixels in rendered])
export(network, images, folder / REFERENCE_FILE)
variants, logits = [], {}
for form in make_plain(folder / REFERENCE_FILE, rendered, preprocessing, select(("cpu",), int8=True), scratch):
    apart = [file for file in form.files if file.parent != folder]
    for file in apart:
        shutil.copy(file, folder)
    names = tuple(file.name for file in apart) or (REFERENCE_FILE,)
    variants.append(Variant(form.name, form.engine, form.precision, names, form.requires))
    engine = load_engine(form.engine, form.files, form.precision, 1)
    logits[form.name] = engine.run(images[:2])
    engine.close()
picture = make_picture()
golden = Golden(rendered[:2], logits, picture, preprocessing.render(picture))
(folder / GOLDEN_FILE).write_bytes(golden.to_bytes())
names = (SCHEMA, "", "pass", "random weights, for timing only", REFERENCE, REFERENCE, 1)
seal(folder, Manifest(*names, decision, preprocessing, tuple(variants), {}, {}))
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("medcompress suites")
    group.addoption("--bundle", type=Path, help="Bundle to measure; by default a small one is made, of random weights.")
    group.addoption(
        "--rounds", type=int, help=f"Turns of the whole suite (default {ROUNDS}; 1 if nothing is measured)."
    )


def pytest_configure(config: pytest.Config) -> None:
    rounds, folder = config.getoption("rounds"), config.getoption("bundle")
    if rounds is not None and rounds < 1:
        raise pytest.UsageError(f"--rounds {rounds}: at least 1 is needed")
    if folder is not None:
        try:
            config.stash[_BUNDLE] = open_bundle(folder)
        except BundleError as error:
            raise pytest.UsageError(f"--bundle {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", [variant.name for variant in _bundle(config).manifest.variants])
    if "benchmark" in metafunc.fixturenames:
        metafunc.fixturenames.append(ROUND)
        metafunc.parametrize(ROUND, range(_rounds(config)), ids=lambda number: f"round{number}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of a round before any of the next."""
    items.sort(key=_round_of)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep the versions of what the time depends on."""
    machine_info["libraries"] = {name: found for name in _LIBRARIES if (found := _version(name))}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep how much of a CPU the benchmark got: what it did not get, other work on this machine took."""
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    start, before = time.perf_counter(), os.times()
    outcome = yield
    if benchmark is not None:
        used = sum(os.times()[:4]) - sum(before[:4])  # user and system, of this process and of those it waited for
        benchmark.extra_info[SHARE] = used / (time.perf_counter() - start)
    return outcome


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A film of 2000 x 2000 pixels as ``jpeg``, ``png`` or ``png16`` (16-bit grey): smooth shadows, edges, grain."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    film = 0.5 + 0.25 * np.sin(9 * rows + 4 * np.sin(7 * columns)) + 0.1 * np.sign(np.sin(60 * columns * rows))
    film = np.clip(film + np.random.default_rng(0).normal(0, 0.01, film.shape), 0, 1)

    @cache
    def write(kind: str) -> Path:
        path = folder / {"jpeg": "film.jpg", "png": "film.png", "png16": "film16.png"}[kind]
        levels = (film * 65535).astype(np.uint16) if kind == "png16" else (film * 255).astype(np.uint8)
        Image.fromarray(levels).save(path, quality=90)
        return path

    return write


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """The bundle of ``--bundle``, or the suite's own."""
    return _bundle(request.config)


def _rounds(config: pytest.Config) -> int:
    rounds = config.getoption("rounds")
    if rounds is None:
        measured = config.getoption("benchmark_enable") or not config.getoption("benchmark_disable")
        return ROUNDS if measured else 1
    return rounds


def _round_of(item: pytest.Item) -> int:
    call = getattr(item, "callspec", None)
    return call.params.get(ROUND, 0) if call else 0


def _bundle(config: pytest.Config) -> Bundle:
    if _BUNDLE not in config.stash:
        config.stash[_BUNDLE] = open_bundle(_make_bundle(config))
    return config.stash[_BUNDLE]


def _make_bundle(config: pytest.Config) -> Path:
    """Resnet10t of random weights, every variant this machine runs."""
    scratch = tempfile.TemporaryDirectory(prefix="medcompress-suites-")
    config.add_cleanup(scratch.cleanup)
    folder, ranges = Path(scratch.name, "bundle"), Path(scratch.name, "ranges")
    folder.mkdir()
    ranges.mkdir()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        reporter.write_line("making a small bundle of random weights; --bundle FOLDER measures one of yours")
    command = [sys.executable, "-P", "-c", _MAKE_BUNDLE, str(folder), str(ranges)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        pytest.exit(f"no bundle could be made ({reason}); install medcompress[compress], or give --bundle", 4)
    return folder


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
