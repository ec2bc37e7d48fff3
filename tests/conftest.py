"""Small real things made once a session, for all its processes: phantom images, a checkpoint, a bundle."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import filelock
import pytest
from PIL import Image

from medcompress.benchmarks.tolerance import MARGINS, Tolerance

# What medcompress remembers of this user is neither read nor written, by the processes that tests start either.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if not WORKER:
    OWN = tempfile.TemporaryDirectory(prefix="medcompress-tests-")
    os.environ["XDG_CACHE_HOME"] = f"{OWN.name}/cache"
    os.environ["MEDCOMPRESS_STATE"] = f"{OWN.name}/state"
os.environ["MEDCOMPRESS_STATE"] += WORKER

# The files that take longest come first, so that no process is left alone with one of them at the end.
FIRST = (
    "compress/test_optimize.py",
    "cli/test_train.py",
    "compress/test_lean.py",
    "compress/search/test_search.py",
    "test_silence.py",
    "cli/test_gate.py",
    "cli/test_contract.py",
    "trained/learning/test_training.py",
    "trained/learning/test_distillation.py",
    "trained/results/test_trackers.py",
    "compress/int8/test_ladder.py",
    "compress/pruning/test_target.py",
    "compress/pruning/test_rounds.py",
    "compress/pruning/test_prune.py",
)

# Every Python-level way out is barred; what native code queues for an upload it leaves in the home folder.
BARRED = """
import os, socket
def barred(*arguments, **options):
    with open(os.environ["BARRED"], "a") as file:
        file.write(f"{arguments}\\n")
    raise AssertionError(f"a socket is opened: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = barred
"""

# The command line of medcompress in a process that times what it times for a moment only.
QUICK = """
import sys
sys.path.pop(0)
from medcompress.benchmarks.timing import latency
latency.SECONDS = 0.02
from medcompress.cli.main import main
main()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    here = Path(__file__).parent
    place = {here / name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fill a folder once, whichever process of the session comes first; the others wait, and take it as it is."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if WORKER else own) / "shared"
    shared.mkdir(exist_ok=True)

    def fill(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with filelock.FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return fill


@pytest.fixture(scope="session")
def wide() -> Tolerance:
    """Lets everything pass: an untrained network's scores are chance, and the gate is not what most tests are about."""
    return Tolerance(auroc_drop=1, sensitivity_drop=1, specificity_drop=1, ece_rise=1, flips=1, probability_change=1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images the founders measure on; absent anywhere else."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared real data are not on this machine")
    return folder


@pytest.fixture(scope="session")
def phantoms(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Synthetic radiographs: train, val and test, SYNTHETIC-CLEAR and SYNTHETIC-OPACITY; not to be changed."""
    from medcompress.trained.phantom import write_phantoms

    return once("data", lambda folder: write_phantoms(folder / "phantoms", patients=20, size=64)) / "phantoms"


@pytest.fixture(scope="session")
def checkpoint(phantoms: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A small network with random weights, as ``medcompress train`` would leave it."""

    def make(folder: Path) -> None:
        import torch

        from medcompress.runtime.decision import Decision
        from medcompress.runtime.preprocessing import Preprocessing
        from medcompress.trained.checkpoint import Checkpoint, save_checkpoint
        from medcompress.trained.data.splits import DataSource, split_of
        from medcompress.trained.networks.architectures import build
        from medcompress.trained.spec import ModelSpec

        source = DataSource(str(phantoms))
        split = split_of(source)
        decision = Decision("binary", split.classes, "SYNTHETIC-OPACITY")
        spec = ModelSpec("timm/resnet10t", Preprocessing((48, 48)), decision)
        torch.manual_seed(0)
        made = Checkpoint(spec, build(spec).state_dict(), source, split.fingerprint)
        save_checkpoint(folder / "best.pth", made)

    return once("run", make) / "best.pth"


@pytest.fixture(scope="session")
def guarded() -> Callable[[Path], dict[str, str]]:
    """The environment of a process with an empty home folder, which writes down in ``barred`` what it connects to."""

    def make(folder: Path) -> dict[str, str]:
        (folder / "home").mkdir()
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(BARRED)
        told = ("XDG_", "ORT_", "MEDCOMPRESS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}
        own = {"HOME": folder / "home", "PYTHONPATH": folder / "hook", "BARRED": folder / "barred"}
        return environment | {name: str(path) for name, path in own.items()}

    return make


@pytest.fixture(scope="session")
def program() -> list[str]:
    """``medcompress``, to be started as a process of its own: it times what it times for a moment only."""
    return [sys.executable, "-c", QUICK]


@dataclass(frozen=True)
class Ran:
    """What one ``medcompress optimize --int8 --json`` did, in a process that is :func:`guarded` in ``folder``."""

    folder: Path
    code: int
    printed: str
    said: str


@pytest.fixture(scope="session")
def optimized(
    checkpoint: Path,
    program: list[str],
    guarded: Callable[[Path], dict[str, str]],
    once: Callable[[str, Callable[[Path], object]], Path],
) -> Ran:
    """With margins that let everything pass: its bundle has every variant this machine runs."""

    def make(folder: Path) -> None:
        margins = folder / "tolerance.yaml"
        margins.write_text("".join(f"{name}: 1\n" for name in MARGINS))
        command = [*program, "optimize", str(checkpoint), "--int8", "--out", str(folder / "bundle")]
        command += ["--tolerance", str(margins), "--json"]
        with (folder / "printed").open("w") as printed, (folder / "said").open("w") as said:
            done = subprocess.run(command, env=guarded(folder), cwd=folder, stdout=printed, stderr=said)
        (folder / "code").write_text(str(done.returncode))

    folder = once("optimized", make)
    code, printed, said = ((folder / name).read_text() for name in ("code", "printed", "said"))
    return Ran(folder, int(code), printed, said)


@pytest.fixture(scope="session")
def pristine_bundle(optimized: Ran) -> Path:
    """A bundle with every variant this machine runs; not to be changed."""
    assert optimized.code == 0, optimized.said
    return optimized.folder / "bundle"


@pytest.fixture(scope="session")
def _stopped(checkpoint: Path, wide: Tolerance, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(folder: Path) -> None:
        from medcompress.compress.int8.ladder import Ladder
        from medcompress.compress.optimize import optimize
        from medcompress.compress.options import Options

        class Stopped(BaseException):
            pass

        def stop(*_: object) -> None:
            raise Stopped

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ladder, "climb", stop)
            with pytest.raises(Stopped):
                optimize(Options(checkpoint, out=folder / "b", int8=True, targets=("cpu-avx2",), tolerance=wide))

    return once("stopped", make) / "b.partial"


@pytest.fixture
def begun(_stopped: Path) -> Callable[[Path], Path]:
    """Let ``optimize --int8 --target cpu-avx2 --out ...`` go on from a run that was stopped before its first INT8 form.

    It finds the network exported and calibrated, as after a Ctrl-C. Returns what it is given.
    """

    def give(out: Path) -> Path:
        shutil.copytree(_stopped, out.with_name(f"{out.name}.partial"))
        return out

    return give


@pytest.fixture
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's plots are empty pictures: drawn they take longer than a small training, and few tests are about them."""
    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "png")
    monkeypatch.setattr("medcompress.benchmarks.report.plots.png", lambda *_, **__: picture.getvalue())


@pytest.fixture
def one_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every INT8 form the plainest is tried alone: what the ladder does further up is not what a test is about."""
    from medcompress.compress.int8.ladder import Ladder

    every: Callable[[Ladder], Iterator[bool]] = Ladder._rungs
    monkeypatch.setattr(Ladder, "_rungs", lambda ladder: islice(every(ladder), 1))


@pytest.fixture
def bundle(pristine_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(pristine_bundle, tmp_path / "bundle"))


@pytest.fixture
def image(phantoms: Path) -> Path:
    """One phantom radiograph."""
    return next(iter(sorted((phantoms / "test" / "SYNTHETIC-CLEAR").glob("*.png"))))
