"""The TensorRT engine on a machine without a GPU: against a fake driver, a fake TensorRT and the names of the real one.

What only a GPU can show is in test_on_a_gpu.py.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import pytest
from small_models import write_gpu_bundle

from medcompress.runtime.bundle import Variant, open_bundle
from medcompress.runtime.engines import load_engine
from medcompress.runtime.engines.tensorrt_layers import layers_of, precision_of
from medcompress.runtime.errors import EngineAbsent
from medcompress.runtime.gpu import this_gpu, why_no_gpu

HERE = Path(__file__).parent
WHEELS = [f"tensorrt-cu{major}-bindings" for major in range(12, 20)]
# What the bindings ask of TensorRT's libraries when they are imported.
FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry"),
    *("getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins"),
)


def test_on_a_fake_gpu(tmp_path: Path) -> None:
    """By cuda-python, or PyCUDA where it is installed, for real."""
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed", exc_type=ImportError)
    _compile(HERE / "fake_libcuda.c", tmp_path / "libcuda.so.1")
    (tmp_path / "tensorrt.py").write_text(
        "import sys\nimport fake_tensorrt\nsys.modules['tensorrt'] = fake_tensorrt\nfrom fake_tensorrt import *\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", str(HERE / "on_a_fake_gpu.py")]
    done = _run(command, tmp_path, os.pathsep.join((str(tmp_path), str(HERE))))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_real_tensorrt_has_every_name_that_is_used(tmp_path: Path) -> None:
    """The fake has all that the engine asks for, or the test above fails; and the bindings have all that the fake has.

    They are imported without TensorRT's libraries, which are large and want a GPU: beside empty ones of their names.
    """
    name, major = _bindings()
    (tmp_path / "empty.c").write_text("\n".join(f"void *{function}() {{ return 0; }}" for function in FUNCTIONS))
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        _compile(tmp_path / "empty.c", tmp_path / f"lib{library}.so.{major}")
    code = (
        "import functools, sys, tensorrt_bindings\n"
        "for name in sys.argv[1:]:\n"
        "    try: functools.reduce(getattr, name.split('.'), tensorrt_bindings)\n"
        "    except AttributeError: print(name)\n"
    )
    done = _run([sys.executable, "-c", code, *_names_of_the_fake()], tmp_path, "")
    assert done.returncode == 0, f"{name}: {done.stderr}"
    assert not done.stdout.split()


def test_without_a_gpu_it_is_absent_and_says_why(tmp_path: Path) -> None:
    if this_gpu() is not None:
        pytest.skip("there is a GPU")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(EngineAbsent, match="NVIDIA GPU") as caught:
        load_engine("tensorrt", [tmp_path / "model.onnx"], "fp16", 1)
    assert why_no_gpu() in str(caught.value)


def test_a_bundle_brings_onnx_and_never_a_plan(tmp_path: Path) -> None:
    manifest = open_bundle(write_gpu_bundle(tmp_path / "bundle")).manifest
    for engine in ("tensorrt", "onnxruntime-tensorrt"):
        variant = Variant(manifest.chosen, engine, "int8", ("tensorrt-int8.plan",))
        with pytest.raises(ValueError, match=f"not of a form {engine} opens"):
            msgspec.structs.replace(manifest, files={}, variants=(variant, manifest.variants[1]))


@pytest.mark.parametrize(
    ("layers", "asked", "built"),
    [
        (
            [("CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format"), ("gemm", "Float")],
            "int8",
            "int8",
        ),
        ([("CaskConvolution", "Int8"), ("kgen", "Half"), ("gemm", "Half")], "int8-fp16", "int8-fp16"),
        ([("CaskConvolution", "Float"), ("kgen", "Int8")], "int8", "fp32"),
        ([("CaskConvolution", "Row major linear FP16 format"), ("Reformat", "Float")], "fp16", "fp16"),
        ([("kgen", "Half")], "fp16", "fp16"),
        ([("CaskConvolution", "BFloat16")], "bf16", "bf16"),
        ([("CaskConvolution", "Float")], "tf32", "tf32"),
    ],
)
def test_the_precision_is_what_the_inspector_says_was_built(layers: list, asked: str, built: str) -> None:
    told = [{"LayerType": kind, "Inputs": [{"Format/Datatype": kept}]} for kind, kept in layers]
    assert precision_of(layers_of(msgspec.json.encode({"Layers": told}).decode()), asked, "8.6") == built


def test_tf32_is_none_on_a_gpu_before_ampere_and_an_inspector_that_is_silent_leaves_what_was_asked() -> None:
    assert precision_of({"fp32": 3}, "tf32", "7.5") == "fp32"
    assert layers_of('{"Layers": ["a", "b"]}') == layers_of("") == {}
    assert precision_of({}, "int8", "9.0") == "int8"


def _compile(source: Path, library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip(f"there is no C compiler to build a fake {library.name} with")
    command = [compiler, "-shared", "-fPIC", "-w", f"-Wl,-soname,{library.name}", "-o", str(library), str(source)]
    subprocess.run(command, check=True)


def _run(command: list[str], libraries: Path, modules: str) -> subprocess.CompletedProcess[str]:
    """In a process that finds these libraries and modules first."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": modules}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    # So long where other tests take the CPU: a hang would be of the test's, not of the engine's.
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[2], timeout=600)


def _bindings() -> tuple[str, str]:
    """The wheel that is installed, and TensorRT's major version."""
    for name in WHEELS:
        with suppress(PackageNotFoundError):
            return name, version(name).partition(".")[0]
    pytest.skip("the bindings of TensorRT are not installed (tensorrt-cu13-bindings)")


def _names_of_the_fake() -> list[str]:
    """The fake's classes, their public methods and attributes, and the members of its enumerations."""
    names: list[str] = []
    for node in ast.parse((HERE / "fake_tensorrt.py").read_text()).body:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
            for each in node.body:
                if isinstance(each, ast.Assign) and getattr(each.value, "func", None) is not None:
                    names += [f"{node.name}.{name}" for name in _members(each)]
                elif isinstance(each, ast.Assign):
                    names += [f"{node.name}.{target.id}" for target in each.targets if isinstance(target, ast.Name)]
                elif isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                    names.append(f"{node.name}.{each.name}")
        elif isinstance(node, ast.Assign) and "IntEnum" in ast.unparse(node.value):
            names += _members(node)
        elif isinstance(node, ast.FunctionDef):
            names.append(node.name)
    return names


def _members(node: ast.Assign) -> list[str]:
    """``Kind.MEMBER`` of ``Kind = IntEnum("Kind", [...])``."""
    kind, *members = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
    return [f"{kind}.{member}" for member in members if isinstance(member, str)]
