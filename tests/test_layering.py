"""The floors: what may import what, and what a kiosk never loads."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each floor with the floors it may import.
FLOORS = {
    "runtime": set(),
    "benchmarks": {"runtime"},
    "trained": {"runtime", "benchmarks"},
    "compress": {"runtime", "benchmarks", "trained"},
    "cli": {"runtime", "benchmarks", "trained", "compress"},
}
# What neither the runtime nor the benchmarks may load; the second list is for the runtime's import alone.
NO_TORCH = ("torch", "torchvision", "timm", "lightning", "nncf", "torch_pruning", "onnx", "onnxscript")
HEAVY = (
    *("sklearn", "scipy", "pydicom", "imagecodecs", "fastapi", "uvicorn"),
    *("openvino", "rich", "click", "jinja2", "onnxruntime"),
)


def _imports(path: Path) -> set[tuple[int, str]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add((node.level, node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_what_stands_below_it(floor: str) -> None:
    for path in (ROOT / floor).rglob("*.py"):
        depth = len(path.relative_to(ROOT).parts)
        for level, module in _imports(path):
            # The suites are tests: they import the project by its name, as its users do.
            named = module.startswith("medcompress.") and not level
            assert not named or "suites" in path.parts, f"{path}: floors import each other by relative paths"
            if named or level == depth:  # climbs to the namespace
                other = module.removeprefix("medcompress.").split(".")[0]
                assert other in FLOORS[floor] | {floor}, f"{path} imports {other}, which does not stand below {floor}"


@pytest.mark.parametrize("floor", ["runtime", "benchmarks"])
def test_the_kiosk_floors_name_no_training_package(floor: str) -> None:
    for path in (ROOT / floor).rglob("*.py"):
        named = {module.split(".")[0] for level, module in _imports(path) if not level}
        assert not named & set(NO_TORCH), path


def _loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert not _loaded("import medcompress.runtime") & {*NO_TORCH, *HEAVY}


def test_importing_every_module_of_the_kiosk_floors_loads_no_torch() -> None:
    names = [
        "medcompress." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for floor in ("runtime", "benchmarks")
        for path in (ROOT / floor).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert not _loaded("import " + ", ".join(names)) & {"torch", "torchvision", "timm", "lightning", "nncf"}


def test_help_loads_no_numpy() -> None:
    code = (
        "import sys\nfrom medcompress.cli.main import run\nassert run(['-h']) == 0\nassert 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "optimize" in done.stdout


def test_the_wheel_holds_medcompress_only(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # a copy: what an older build left in the checkout would be packed too
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tree / floor, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--wheel-dir", str(tmp_path), str(tree)], capture_output=True, text=True)
    if "No module named 'setuptools" in done.stderr or "BackendUnavailable" in done.stderr:
        pytest.skip("setuptools is not in this environment, and building in isolation needs the network")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"medcompress", next(name for name in top if name.endswith(".dist-info"))}
    assert {name.split("/")[1] for name in names if name.startswith("medcompress/")} == set(FLOORS)
    assert "medcompress/benchmarks/report/report.html" in names
