"""Small real things made once a session: phantom images, a checkpoint, a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medcompress.benchmarks.tolerance import Tolerance


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
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic radiographs: train, val and test, SYNTHETIC-CLEAR and SYNTHETIC-OPACITY."""
    from medcompress.trained.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, patients=20, size=64)
    return folder


@pytest.fixture(scope="session")
def checkpoint(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights, as ``medcompress train`` would leave it."""
    import torch

    from medcompress.runtime.decision import Decision
    from medcompress.runtime.preprocessing import Preprocessing
    from medcompress.trained.checkpoint import Checkpoint, save_checkpoint
    from medcompress.trained.data.splits import DataSource, split_of
    from medcompress.trained.networks.architectures import build
    from medcompress.trained.spec import ModelSpec

    source = DataSource(str(phantoms))
    split = split_of(source)
    spec = ModelSpec("timm/resnet10t", Preprocessing((48, 48)), Decision("binary", split.classes, "SYNTHETIC-OPACITY"))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "best.pth"
    save_checkpoint(path, Checkpoint(spec, build(spec).state_dict(), source, split.fingerprint))
    return path


@pytest.fixture(scope="session")
def pristine_bundle(checkpoint: Path, wide: Tolerance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every variant this machine runs; not to be changed."""
    from medcompress.compress.optimize import optimize
    from medcompress.compress.options import Options

    out = tmp_path_factory.mktemp("bundles") / "bundle"
    optimize(Options(checkpoint, out=out, int8=True, tolerance=wide))
    return out


@pytest.fixture
def bundle(pristine_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(pristine_bundle, tmp_path / "bundle"))


@pytest.fixture
def image(phantoms: Path) -> Path:
    """One phantom radiograph."""
    return next(iter(sorted((phantoms / "test" / "SYNTHETIC-CLEAR").glob("*.png"))))
