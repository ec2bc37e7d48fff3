"""``config.pbtxt`` of one variant, by Triton's schema and what each backend reads of it.

The schema: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
The words of it: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

import msgspec

from ..bundle import Bundle, Variant
from .graph import Graph, Tensor
from .text import Message, Name, mapped, to_text

LABELS, SAMPLE = "labels.txt", "image.bin"
# What Triton takes for warm-up files lies in a folder of this name.
WARMUP = "warmup"
MAX_BATCH = 32
# A parameter of ours, in whose string the client finds what the answer means.
PREFIX = "medcompress."
_PRECISION_MODES = {"fp16": "FP16", "int8": "INT8", "int8-fp16": "INT8"}


class Backend(msgspec.Struct, frozen=True):
    """What of Triton runs a variant.

    Attributes:
        name: of the backend.
        platform: for those Triton's core knows by one; empty for others.
        accelerator: of ONNX Runtime's backend: ``tensorrt`` or ``cuda``; empty for the CPU.
        profiles: of a TensorRT plan: their numbers, of which the server takes the one a batch fits.
        note: what the variant's engine does and this does not, a sentence; or empty.
    """

    name: str
    platform: str = ""
    accelerator: str = ""
    profiles: tuple[str, ...] = ()
    note: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether it needs an NVIDIA GPU."""
        return bool(self.accelerator) or self.name == "tensorrt"


_BFLOAT = (
    "Triton's OpenVINO backend has no way to pin f32: a CPU with bf16 computes its float layers in bf16, which is not "
    "what was judged"
)
_TWO_FLOATS = "the accelerator is told one precision alone, and may not take this graph of two: build its plan first"
_ONNX = "onnxruntime_onnx"
# Of ONNX Runtime's backend: https://github.com/triton-inference-server/onnxruntime_backend#readme
BACKENDS = {
    "onnxruntime": Backend("onnxruntime", _ONNX),
    "onnxruntime-cuda": Backend("onnxruntime", _ONNX, "cuda"),
    "onnxruntime-tensorrt": Backend("onnxruntime", _ONNX, "tensorrt"),
    "openvino": Backend("openvino"),
    "tensorrt": Backend(
        "onnxruntime",
        _ONNX,
        "tensorrt",
        note="a TensorRT plan runs only on the GPU and the TensorRT it was built with, and none was built here: this "
        "is its ONNX model, for which ONNX Runtime's TensorRT accelerator builds one when the server loads it",
    ),
}


def backend_of(variant: Variant) -> Backend:
    """What runs it, and what has to be said of that."""
    backend = BACKENDS[variant.engine]
    if backend.name == "openvino" and "bf16" not in variant.precision:
        return msgspec.structs.replace(backend, note=_BFLOAT)
    if backend.accelerator == "tensorrt" and variant.precision == "int8-fp16":
        return msgspec.structs.replace(backend, note=f"{backend.note}; {_TWO_FLOATS}")
    return backend


def batched(backend: Backend, graph: Graph) -> bool:
    """Whether the server may put images of several requests together.

    Not with OpenVINO: its backend runs batches of ``max_batch_size`` and no others, and the padding it offers instead
    gives answers of a wrong shape (https://github.com/triton-inference-server/server/issues/7363 and
    https://github.com/triton-inference-server/openvino_backend/pull/115). There a client sends the batch it likes.
    """
    return graph.any_batch and backend.name != "openvino"


def config_text(
    name: str, bundle: Bundle, variant: Variant, backend: Backend, graph: Graph, file: str, max_batch: int
) -> str:
    """The text of ``config.pbtxt``.

    Args:
        name: of the Triton model, and of its folder.
        file: the model's, in the folder of its version.
        max_batch: of one run, where :func:`batched`.
    """
    together = batched(backend, graph)
    most = max_batch if together else 0
    image = graph.image.shape[1:]
    config: Message = {"name": name, "backend": backend.name}
    if backend.platform:
        config["platform"] = backend.platform
    config |= {
        "max_batch_size": most,
        "default_model_filename": file,
        "input": _tensor(graph.image, together),
        "output": {**_tensor(graph.logits, together), "label_filename": LABELS},
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": {
            "count": 1,
            "kind": Name("KIND_GPU" if backend.on_gpu else "KIND_CPU"),
            # A plan runs on the GPU it was built on, which is the first; else the server loads it on every one.
            **({"gpus": (0,), "profile": backend.profiles} if backend.profiles else {}),
        },
    }
    if most > 1:
        config["dynamic_batching"] = {}
    if backend.accelerator:
        options = _accelerator(backend, variant, graph, most)
        accelerator: Message = {"name": backend.accelerator, "parameters": mapped(options)}
        config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": accelerator}}
    config["model_warmup"] = [
        {
            "name": label,
            "batch_size": size,
            "inputs": mapped(
                {
                    graph.image.name: {
                        "data_type": Name(f"TYPE_{graph.image.kind}"),
                        "dims": image if together else (1, *image),
                        "input_data_file": SAMPLE,
                    }
                }
            ),
        }
        for label, size in {"one image": 1, **({"a full batch": most} if most > 1 else {})}.items()
    ]
    parameters = {**_engine_parameters(backend, variant, bundle), **_meaning(bundle, variant)}
    config["parameters"] = mapped({key: {"string_value": value} for key, value in parameters.items()})
    return to_text(config)


def _tensor(tensor: Tensor, together: bool) -> Message:
    """With ``max_batch_size`` above 0 the batch is not among the dimensions."""
    shape = tensor.shape[1:] if together else tensor.shape
    return {"name": tensor.name, "data_type": Name(f"TYPE_{tensor.kind}"), "dims": shape}


def _accelerator(backend: Backend, variant: Variant, graph: Graph, most: int) -> dict[str, str]:
    if backend.accelerator == "cuda":
        # On by default, where the GPU has it: it is another arithmetic than the one that was judged.
        return {"use_tf32": str(int(variant.precision == "tf32"))}
    mode = _PRECISION_MODES.get(variant.precision)
    options = {"precision_mode": mode} if mode else {}
    if most:
        # One plan for every batch: without a profile it is built again at each size that was not seen before.
        one, full = (
            f"{graph.image.name}:{'x'.join(str(side) for side in (size, *graph.image.shape[1:]))}" for size in (1, most)
        )
        options |= {"trt_profile_min_shapes": one, "trt_profile_opt_shapes": one, "trt_profile_max_shapes": full}
    return options


def _engine_parameters(backend: Backend, variant: Variant, bundle: Bundle) -> dict[str, str]:
    """As the runtime sets its engines: https://github.com/triton-inference-server/openvino_backend#parameters"""
    threads = str(bundle.manifest.threads)
    if backend.on_gpu:
        return {}
    if backend.name == "onnxruntime":
        return {"intra_op_thread_count": threads, "inter_op_thread_count": "1"}
    bfloat = {"HINT_BF16": "YES"} if "bf16" in variant.precision else {}
    return {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads, **bfloat}


def _meaning(bundle: Bundle, variant: Variant) -> dict[str, str]:
    """What a client must know: ``GET /v2/models/NAME/config`` gives it."""
    manifest = bundle.manifest
    return {
        f"{PREFIX}bundle": bundle.identity,
        f"{PREFIX}verdict": manifest.verdict,
        f"{PREFIX}variant": variant.name,
        f"{PREFIX}precision": variant.precision,
        f"{PREFIX}requires": ",".join(variant.requires),
        f"{PREFIX}decision": msgspec.json.encode(manifest.decision).decode(),
        f"{PREFIX}preprocessing": msgspec.json.encode(manifest.preprocessing).decode(),
    }
