"""A fake TensorRT, for tests of what is asked of the real one. Its "GPU" is ONNX Runtime on this machine's CPU, on the
memory of fake_libcuda.c: it shows nothing of speed, or of what the real one computes.

``FAKE`` tells it how to fail: ``build``, ``memory`` (no room for a context), ``run``. ``DRIVER`` is the fake driver.
"""

from __future__ import annotations

import ctypes
import json
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort

__version__ = "11.4.0.106"
FAKE: set[str] = set()
DRIVER = ctypes.CDLL("libcuda.so.1")
DRIVER.fake_memory.restype = ctypes.c_void_p
DRIVER.fake_memory.argtypes = [ctypes.c_uint64]
DRIVER.fake_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_WORK = ctypes.CFUNCTYPE(None)
_TYPES = {1: np.float32, 10: np.float16}
_MAGIC = b"FAKE PLAN\n"

DESERIALIZED: list[bytes] = []
BuilderFlag = IntEnum("BuilderFlag", ["TF32", "VERSION_COMPATIBLE"])
ProfilingVerbosity = IntEnum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
LayerInformationFormat = IntEnum("LayerInformationFormat", ["ONELINE", "JSON"])
TensorIOMode = IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})


def nptype(kind):
    return kind


class ILogger:
    Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def log(self, severity, msg):
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name, parent_phase, num_steps):
        raise NotImplementedError

    def step_complete(self, phase_name, step):
        raise NotImplementedError

    def phase_finish(self, phase_name):
        raise NotImplementedError


class IHostMemory(bytes):
    pass


class Builder:
    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags=0):
        strongly = int(__version__.partition(".")[0]) >= 11 or flags == 1 << 1
        return INetworkDefinition() if strongly else None

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        assert config.profiling_verbosity == ProfilingVerbosity.DETAILED
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 3)
        for step in range(3):
            if not monitor.step_complete("Building Engine", step):
                monitor.phase_finish("Building Engine")
                return None
        monitor.phase_finish("Building Engine")
        if "build" in FAKE:
            self.logger.log(ILogger.Severity.ERROR, "Requested size was 9000000000 bytes: CUDA out of memory")
            return None
        config.cache.measured += b"+"
        header = {
            "profiles": [profile.shapes for profile in config.profiles],
            "outputs": network.marked,
            "tf32": BuilderFlag.TF32 in config.set,
            "compatible": BuilderFlag.VERSION_COMPATIBLE in config.set,
            "version": __version__,
        }
        return IHostMemory(_MAGIC + json.dumps(header).encode() + b"\n" + network.model.SerializeToString())


class INetworkDefinition:
    num_inputs = 1

    def __init__(self):
        self.model, self.marked = None, []

    def get_input(self, index):
        value = self.model.graph.input[index]
        shape = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        return SimpleNamespace(name=value.name, shape=shape)

    @property
    def num_layers(self):
        return len(self.model.graph.node)

    def get_layer(self, index):
        names = self.model.graph.node[index].output
        return SimpleNamespace(num_outputs=len(names), get_output=lambda place: SimpleNamespace(name=names[place]))

    def mark_output(self, tensor):
        self.marked.append(tensor.name)


class OnnxParser:
    def __init__(self, network, logger):
        self.network, self.errors = network, []

    def parse(self, data):
        self.network.model = onnx.load_from_string(data)
        for node in self.network.model.graph.node:
            if node.op_type == "Hardmax":
                self.errors.append(ParserError(node))
        return not self.errors

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, index):
        return self.errors[index]


class ParserError:
    def __init__(self, node):
        self.of = node

    def node_operator(self):
        return self.of.op_type

    def node_name(self):
        return self.of.name

    def desc(self):
        return "no importer\nfor it"


class ITimingCache:
    def __init__(self, measured):
        self.measured = measured

    def serialize(self):
        return IHostMemory(self.measured)


class IBuilderConfig:
    progress_monitor = None
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self):
        self.set, self.profiles, self.cache = {BuilderFlag.TF32}, [], None

    def set_flag(self, flag):
        self.set.add(flag)

    def clear_flag(self, flag):
        self.set.discard(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data):
        return ITimingCache(data or b"timings")

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return cache.measured.startswith(b"timings") and not ignore_mismatch


class IOptimizationProfile:
    def set_shape(self, name, least, usual, most):
        self.shapes = [list(least), list(usual), list(most)]


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger):
        self.logger = logger

    def deserialize_cuda_engine(self, plan):
        DESERIALIZED.append(plan)
        assert plan.startswith(_MAGIC), "a plan that TensorRT did not make reached it"
        header, _, model = plan[len(_MAGIC) :].partition(b"\n")
        known = json.loads(header)
        if known["compatible"] and not self.engine_host_code_allowed:
            self.logger.log(ILogger.Severity.ERROR, "host code is not allowed")
            return None
        return ICudaEngine(known, onnx.load_from_string(model))


class EngineInspector:
    def __init__(self, model):
        self.model = model

    def get_engine_information(self, kind):
        eight = sum(node.op_type == "QuantizeLinear" for node in self.model.graph.node)
        half = self.model.graph.input[0].type.tensor_type.elem_type == 10
        kinds = ["Int8"] * eight or ["Row major linear FP16 format" if half else "Float"]
        layers = [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": kind}]} for kind in kinds]
        return json.dumps({"Layers": [*layers, {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]}]})


class ICudaEngine:
    device_memory_size_v2 = 1 << 20

    def __init__(self, known, model):
        self.known, self.model = known, model
        for name in known["outputs"]:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
        self.session = ort.InferenceSession(model.SerializeToString())
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.names = [*self.inputs, *(value.name for value in self.session.get_outputs())]

    @property
    def num_io_tensors(self):
        return len(self.names)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        values = {value.name: value.type for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        return np.float16 if "float16" in values[name] else np.float32

    def get_tensor_profile_shape(self, name, index):
        return self.known["profiles"][index]

    def create_engine_inspector(self):
        return EngineInspector(self.model)

    def create_execution_context(self):
        return None if "memory" in FAKE else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine):
        self.engine, self.at, self.kept = engine, {}, []

    def set_optimization_profile_async(self, index, stream):
        self.profile = self.engine.known["profiles"][index]
        return True

    def set_input_shape(self, name, shape):
        least, _, most = self.profile
        self.shape = tuple(shape)
        return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name):
        if name in self.engine.inputs:
            return self.shape
        nothing = {self.engine.inputs[0]: np.zeros(self.shape, self.engine.get_tensor_dtype(self.engine.inputs[0]))}
        return self.engine.session.run([name], nothing)[0].shape

    def set_tensor_address(self, name, address):
        self.at[name] = address
        return True

    def execute_async_v3(self, stream):
        if "run" in FAKE:
            return False
        shape = self.shape

        def compute():
            image = self._on_gpu(self.engine.inputs[0], shape)
            names = self.engine.names[len(self.engine.inputs) :]
            for name, found in zip(names, self.engine.session.run(names, {self.engine.inputs[0]: image}), strict=True):
                self._on_gpu(name, found.shape)[...] = found

        work = _WORK(compute)
        self.kept.append(work)
        DRIVER.fake_enqueue(stream, ctypes.cast(work, ctypes.c_void_p))
        return True

    def _on_gpu(self, name, shape):
        kind = np.dtype(self.engine.get_tensor_dtype(name))
        size = int(np.prod(shape)) * kind.itemsize
        memory = (ctypes.c_uint8 * size).from_address(DRIVER.fake_memory(self.at[name]))
        return np.frombuffer(memory, kind).reshape(shape)
