"""A Triton repository is what Triton takes, and its files answer as the bundle does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from medcompress.runtime import BundleError, InputError, Preprocessing, load, plans
from medcompress.runtime.bundle import Bundle, Variant, open_bundle
from medcompress.runtime.decision import Decision
from medcompress.runtime.engines import load_engine
from medcompress.runtime.golden import TOLERANCE, read_golden
from medcompress.runtime.gpu import Gpu
from medcompress.runtime.sealing import seal
from medcompress.runtime.triton.config import BACKENDS, backend_of, config_text
from medcompress.runtime.triton.graph import DYNAMIC, read_graph
from medcompress.runtime.triton.repository import Repository, Served, export
from medcompress.runtime.triton.text import mapped, to_text

schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="pip install 'tritonclient[grpc]'")
text_format = pytest.importorskip("google.protobuf.text_format")


@pytest.fixture(scope="module")
def exported(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Every variant of the bundle."""
    bundle = open_bundle(pristine_bundle)
    names = [variant.name for variant in bundle.manifest.variants]
    return export(bundle, tmp_path_factory.mktemp("triton") / "models", names, name="chest")


def config_of(folder: Path) -> Any:
    """Parsed by protobuf against Triton's own schema: an unknown field or a wrong type raises."""
    return text_format.Parse((folder / "config.pbtxt").read_text("ascii"), schema.ModelConfig())


def engine_of(folder: Path, variant: Variant) -> Any:
    config = config_of(folder)
    files = [folder / "1" / config.default_model_filename]
    return load_engine(variant.engine, files, variant.precision, threads=1)


def assert_triton_takes(config: Any, folder: Path, model: Path | None = None) -> None:
    """What Triton checks beyond the schema, by its documentation and its source.

    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
    https://github.com/triton-inference-server/core/blob/main/src/model_config_utils.cc (ValidateModelConfig)
    https://github.com/triton-inference-server/core/blob/main/src/backend_model_instance.cc (GenerateWarmupData)
    """
    # "The name of the model must match the name of the model repository directory containing the model."
    assert config.name == folder.name
    # Core knows these by their platform too; OpenVINO's by its backend alone.
    platforms = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "openvino": ""}
    assert config.platform == platforms[config.backend]
    # https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
    # versions are folders with numbers for names; those that start with 0 are ignored
    assert [path.name for path in folder.iterdir() if path.is_dir() and path.name != "warmup"] == ["1"]
    assert (folder / "1" / config.default_model_filename).is_file()
    assert config.HasField("version_policy") and config.version_policy.latest.num_versions == 1
    assert config.max_batch_size >= 0
    if config.HasField("dynamic_batching"):
        assert config.max_batch_size > 1
    graph = read_graph(model or folder / "1" / config.default_model_filename)
    for tensors, found in ((config.input, graph.image), (config.output, graph.logits)):
        (tensor,) = tensors
        assert tensor.name == found.name
        assert schema.DataType.Name(tensor.data_type) == f"TYPE_{found.kind}"
        # "each dimension must be an integer >= 1, or -1"; with max_batch_size the batch is not among them
        assert tensor.dims and all(side >= 1 or side == -1 for side in tensor.dims)
        whole = (DYNAMIC, *tensor.dims) if config.max_batch_size else tuple(tensor.dims)
        assert whole == found.shape
    (output,) = config.output
    assert (folder / output.label_filename).is_file()
    (group,) = config.instance_group
    assert group.count == 1 and group.kind in (group.KIND_CPU, group.KIND_GPU)
    assert list(group.gpus) == ([0] if group.profile else [])
    assert config.model_warmup
    for warmup in config.model_warmup:
        assert 1 <= warmup.batch_size <= max(1, config.max_batch_size)
        assert set(warmup.inputs) == {graph.image.name}
        sample = warmup.inputs[graph.image.name]
        # "warmup setting expects all variable-size dimensions are specified"
        assert all(side >= 1 for side in sample.dims)
        assert len(sample.dims) == len(config.input[0].dims)
        size = np.prod(sample.dims) * {schema.TYPE_FP32: 4, schema.TYPE_FP16: 2}[sample.data_type]
        assert (folder / "warmup" / sample.input_data_file).stat().st_size == size


def test_every_configuration_is_one_triton_takes(exported: Repository, pristine_bundle: Path) -> None:
    manifest = open_bundle(pristine_bundle).manifest
    assert [model.variant for model in exported.models] == [variant.name for variant in manifest.variants]
    for model in exported.models:
        folder = Path(exported.repository) / model.name
        config = config_of(folder)
        assert_triton_takes(config, folder)
        assert config.max_batch_size == model.max_batch_size == (0 if model.backend == "openvino" else 32)
        assert config.HasField("dynamic_batching") == (model.max_batch_size > 0)
        assert (folder / "labels.txt").read_text("utf-8").splitlines() == list(manifest.decision.classes)
        assert model.checked == "ok"


def test_the_files_answer_as_the_bundle_does(exported: Repository, pristine_bundle: Path) -> None:
    bundle = open_bundle(pristine_bundle)
    golden = read_golden(bundle)
    guide = (Path(exported.repository) / "README.md").read_text("utf-8")
    for model in exported.models:
        folder, variant = Path(exported.repository) / model.name, bundle.manifest.variant(model.variant)
        sample = config_of(folder).model_warmup[0].inputs[model.input]
        data = (folder / "warmup" / sample.input_data_file).read_bytes()
        one = np.frombuffer(data, "<f4").reshape(1, *bundle.manifest.preprocessing.shape)
        engine = engine_of(folder, variant)
        expected = golden.logits[variant.name][0]
        np.testing.assert_allclose(engine.run(one)[0], expected, atol=1e-5)
        # What the server puts together, or a client sends, is answered image by image.
        three = engine.run(np.repeat(one, 3, axis=0))
        np.testing.assert_allclose(three, np.tile(expected, (3, 1)), atol=TOLERANCE[variant.precision])
        engine.close()
        assert ", ".join(f"{value:.6g}" for value in expected) in guide


def test_a_client_finds_in_the_configuration_what_it_needs(
    exported: Repository, pristine_bundle: Path, image: Path
) -> None:
    bundle = open_bundle(pristine_bundle)
    for model in exported.models:
        folder, variant = Path(exported.repository) / model.name, bundle.manifest.variant(model.variant)
        meaning = {key: parameter.string_value for key, parameter in config_of(folder).parameters.items()}
        assert meaning["medcompress.bundle"] == bundle.identity
        preprocessing = msgspec.json.decode(meaning["medcompress.preprocessing"], type=Preprocessing)
        decision = msgspec.json.decode(meaning["medcompress.decision"], type=Decision)
        engine = engine_of(folder, variant)
        probabilities = decision.probabilities(engine.run(preprocessing(image)[None]))[0]
        engine.close()
        expected = load(pristine_bundle, variant=variant.name).predict(image)
        assert dict(zip(decision.classes, probabilities, strict=True)) == pytest.approx(expected.probabilities)
        (answer,) = np.flatnonzero(decision.answers(probabilities[None])[0])
        assert decision.classes[answer] == expected.label


def test_the_best_variant_of_each_engine_is_taken(pristine_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(pristine_bundle)
    found = export(bundle, tmp_path / "models", max_batch=4)
    engines = [bundle.manifest.variant(model.variant).engine for model in found.models]
    assert len(set(engines)) == len(engines) and set(engines) == {v.engine for v in bundle.manifest.variants}
    assert bundle.manifest.chosen in {model.variant for model in found.models}
    config = config_of(Path(found.repository) / next(m.name for m in found.models if m.max_batch_size))
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 4] and config.max_batch_size == 4


@pytest.fixture
def with_gpu(bundle: Path) -> Bundle:
    """The same ONNX files as variants for a GPU."""
    manifest = open_bundle(bundle).manifest
    int8 = next(v for v in manifest.variants if v.engine == "onnxruntime" and v.precision == "int8")
    reference = manifest.variant(manifest.reference)
    gpu = [
        msgspec.structs.replace(each, name=f"{engine}-{each.precision}", engine=engine, requires=("nvidia",))
        for engine, each in (("onnxruntime-cuda", reference), ("onnxruntime-tensorrt", int8), ("tensorrt", int8))
    ]
    golden = read_golden(open_bundle(bundle))
    logits = {**golden.logits, **{new.name: golden.logits[reference.name] for new in gpu}}
    (bundle / "golden.npz").write_bytes(msgspec.structs.replace(golden, logits=logits).to_bytes())
    seal(bundle, msgspec.structs.replace(manifest, variants=(*manifest.variants, *gpu)))
    return open_bundle(bundle)


def test_variants_for_a_gpu(with_gpu: Bundle, tmp_path: Path) -> None:
    names = [variant.name for variant in with_gpu.manifest.variants if "nvidia" in variant.requires]
    found = export(with_gpu, tmp_path / "models", names)
    options = {}
    for model in found.models:
        folder = tmp_path / "models" / model.name
        config = config_of(folder)
        assert_triton_takes(config, folder)
        assert (model.device, config.instance_group[0].kind) == ("GPU", schema.ModelInstanceGroup.KIND_GPU)
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        options[model.variant] = accelerator.name, dict(accelerator.parameters)
        assert model.checked == "ok" or model.checked.startswith("not run here: ")
    assert options["onnxruntime-cuda-fp32"] == ("cuda", {"use_tf32": "0"})
    for name in ("onnxruntime-tensorrt-int8", "tensorrt-int8"):
        accelerator, parameters = options[name]
        assert accelerator == "tensorrt" and parameters["precision_mode"] == "INT8"
        assert parameters["trt_profile_max_shapes"] == "image:32x3x48x48"
    assert "runs only on the GPU" in found.models[-1].note and not found.models[0].note


def test_a_graph_of_two_precisions_without_a_plan_is_told() -> None:
    notes = [
        backend_of(Variant(f"tensorrt-{precision}", "tensorrt", precision, ("model.onnx",))).note
        for precision in ("int8", "int8-fp16")
    ]
    assert ["build its plan first" in note for note in notes] == [False, True]


def test_a_plan_that_was_built_here_is_served_as_one(
    with_gpu: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPU and plan are fakes: what is looked at is where the plan goes, and what is said of it."""
    monkeypatch.setenv("MEDCOMPRESS_STATE", str(tmp_path / "state"))
    variant = with_gpu.manifest.variant("tensorrt-int8")
    model = with_gpu.folder / variant.files[0]
    key = plans.key_of(Gpu("a fake GPU", "9.0", "580.1", "13.0", 2**36), "11.2", model.read_bytes(), "int8")
    data = b"no plan"
    record = plans.Record(plans.SCHEMA, key, False, sha256(data).hexdigest(), len(data), "", 1.0, "int8", {}, 0)
    plans.keep(record, data)
    monkeypatch.setattr("medcompress.runtime.engines.tensorrt_builder.key_here", lambda model, precision: key)
    (served,) = export(with_gpu, tmp_path / "models", [variant.name], max_batch=256).models
    folder = tmp_path / "models" / served.name
    config = config_of(folder)
    assert_triton_takes(config, folder, model)
    assert [path.name for path in (folder / "1").iterdir()] == ["model.plan"]
    assert (folder / "1" / "model.plan").read_bytes() == data
    assert list(config.instance_group[0].profile) == ["0", "1"] and config.max_batch_size == 64
    assert list(config.instance_group[0].gpus) == [0], "on another GPU it does not load"
    assert "a fake GPU with driver 580.1" in served.note and "TensorRT 11.2" in served.note


def test_a_graph_of_one_image_is_not_batched(pristine_bundle: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(pristine_bundle / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    folder = tmp_path / "one"
    (folder / "1").mkdir(parents=True)
    onnx.save_model(model, folder / "1" / "model.onnx")
    bundle = open_bundle(pristine_bundle)
    variant = bundle.manifest.variant(bundle.manifest.reference)
    graph = read_graph(folder / "1" / "model.onnx")
    text = config_text("one", bundle, variant, BACKENDS["onnxruntime"], graph, "model.onnx", 32)
    config = text_format.Parse(text, schema.ModelConfig())
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [1, 3, 48, 48] == list(config.model_warmup[0].inputs["image"].dims)


def test_any_name_survives_the_text() -> None:
    odd = {'"quoted"': "\\back\\slash", "Ödem, 肺": "é\u0301\U0001f600 1", "": "'\t\x7f\r\n1"}
    text = to_text({"parameters": mapped({key: {"string_value": value} for key, value in odd.items()})})
    found = text_format.Parse(text, schema.ModelConfig()).parameters
    assert {key: value.string_value for key, value in found.items()} == odd


def test_refusals_leave_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    opened, out = open_bundle(bundle), tmp_path / "out"
    with pytest.raises(InputError, match="has no variant 'x'"):
        export(opened, out, ["x"])
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="is there already"):
        export(opened, tmp_path / "there")
    reference = opened.manifest.variant(opened.manifest.reference)
    unserved = msgspec.structs.replace(reference, engine="openvino-npu")
    other = msgspec.structs.replace(opened.manifest, variants=(unserved,), chosen=unserved.name)
    with pytest.raises(InputError, match="no backend of Triton runs onnxruntime-fp32"):
        export(Bundle(bundle, other, opened.identity), out)
    # Any damage, of a file that is not exported too.
    with (bundle / "calibration.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=r"calibration\.json"):
        export(opened, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "there"]


@pytest.mark.skipif(not shutil.which("tritonserver"), reason="no tritonserver on this machine")
def test_triton_serves_it(pristine_bundle: Path, tmp_path: Path) -> None:
    """The real server, with the backends it has, or those of TRITON_BACKENDS."""
    bundle = open_bundle(pristine_bundle)
    golden = read_golden(bundle)
    found = export(bundle, tmp_path / "models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["tritonserver", f"--model-repository={found.repository}", "--http-address=127.0.0.1"]
    command += [f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    if "TRITON_BACKENDS" in os.environ:
        command.append(f"--backend-directory={os.environ['TRITON_BACKENDS']}")
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait(server, port, (tmp_path / "log"))
            for model in found.models:
                expected = golden.logits[model.variant][[0, 0, 0]]
                answer = _ask(port, model, Path(found.repository) / model.name, bundle)
                within = TOLERANCE[bundle.manifest.variant(model.variant).precision]
                np.testing.assert_allclose(answer, expected, atol=within * max(1, float(np.abs(expected).max())))
        finally:
            server.terminate()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text(errors="replace")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.25)
    raise AssertionError(log.read_text(errors="replace"))


def _ask(port: int, model: Served, folder: Path, bundle: Bundle) -> np.ndarray:
    """Three images in one request."""
    data = 3 * (folder / "warmup" / "image.bin").read_bytes()
    image = {"name": model.input, "shape": [3, *bundle.manifest.preprocessing.shape], "datatype": model.kind}
    head = json.dumps({"inputs": [{**image, "parameters": {"binary_data_size": len(data)}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    url = f"http://127.0.0.1:{port}/v2/models/{model.name}/infer"
    with urllib.request.urlopen(urllib.request.Request(url, head + data, headers), timeout=60) as answer:
        (output,) = json.load(answer)["outputs"]
    assert output["name"] == model.output
    return np.reshape(output["data"], output["shape"])
