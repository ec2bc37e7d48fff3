"""From an ONNX model to a plan, on the GPU that will run it.

Networks are strongly typed, the only kind TensorRT 11 has: the graph's own types, and its Q/DQ nodes, say what is
computed in which precision. https://docs.nvidia.com/deeplearning/tensorrt/latest/architecture/how-trt-works.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from ..errors import EngineError, InputError, MachineError
from ..plans import SCHEMA, Key, Record, drop_timing_cache, keep, keep_timing_cache, key_of, timing_cache
from .cuda_memory import cuda
from .tensorrt_layers import layers_of, precision_of
from .tensorrt_library import created, failure, library, logger, usable_gpu


class Watch(Protocol):
    """Who is told how far a build is. Called from TensorRT's threads."""

    def started(self, phase: str, parent: str, steps: int) -> None:
        """A phase began, within another one or none."""
        ...

    def stepped(self, phase: str, step: int) -> None:
        """One of its steps, from 0, is done."""
        ...

    def finished(self, phase: str) -> None:
        """It ended, with or without all its steps."""
        ...

    def noted(self, what: str) -> None:
        """Something happened that a person should know."""
        ...


def key_here(model: Path, precision: str, outputs: tuple[str, ...] = ()) -> Key:
    """What a plan of an ONNX file depends on here.

    Raises:
        EngineAbsent: there is no GPU, or no TensorRT.
        EngineError: they do not go together.
    """
    gpu, trt = usable_gpu(), library()
    return key_of(gpu, trt.__version__, model.read_bytes(), precision, outputs)


def build(model: Path, key: Key, watch: Watch, *, version_compatible: bool = False) -> Record:
    """Build a plan, and keep it for this machine; some minutes.

    Args:
        model: ONNX, float or Q/DQ.
        key: of :func:`key_here`.
        watch: told how far it is.
        version_compatible: it is to run on later versions of TensorRT too; it is slower for it, and larger.

    Raises:
        EngineError: TensorRT does not take the model (the message names the operator and the layer), or there is not
            enough memory.
        MachineError: there is no folder to keep it in.
        KeyboardInterrupt: it was stopped, as soon as TensorRT could.
    """
    data = model.read_bytes()
    if sha256(data).hexdigest() != key.model:
        raise EngineError(f"{model}: was changed while its plan was built; build it again")
    trt, start = library(), time.monotonic()
    gpu = cuda()
    with gpu.current():
        memory = gpu.memory()
        builder = created(trt.Builder, logger())
        network = _network(trt, builder)
        parser = created(trt.OnnxParser, network, logger())
        if not parser.parse(data):
            raise _refused(parser)
        _mark(network, key.outputs)
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or it does not tell what it built
        if key.precision != "tf32":
            config.clear_flag(trt.BuilderFlag.TF32)  # on by default: FP32 would not be
        if version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        _add_profiles(builder, network, config, key)
        cache = _timing(config, key, watch)
        monitor = _monitor(trt, watch)
        config.progress_monitor = monitor
        logger().said.clear()
        made = builder.build_serialized_network(network, config)
        if monitor.stopped is not None:
            raise monitor.stopped
        if made is None:
            raise failure(f"build a plan from {model.name}", memory)
        if cache is not None:
            keep_timing_cache(key, bytes(memoryview(cache.serialize())))
        plan = bytes(memoryview(made))
        seconds = time.monotonic() - start
        layers, activations = _look(trt, plan, version_compatible, memory)
    record = Record(
        SCHEMA,
        key,
        version_compatible,
        sha256(plan).hexdigest(),
        len(plan),
        datetime.now(UTC).isoformat(timespec="seconds"),
        round(seconds, 1),
        precision_of(layers, key.precision, key.capability),
        layers,
        activations,
    )
    keep(record, plan)
    return record


def deserialized(plan: bytes, *, version_compatible: bool, memory: tuple[int, int] | None = None) -> Any:
    """The engine of a plan that :func:`medcompress.runtime.plans.find` gave, or that was just built.

    Raises:
        EngineError: TensorRT does not take it.
    """
    runtime = created(library().Runtime, logger())
    # A version-compatible plan brings the code that runs it along: ours alone may.
    runtime.engine_host_code_allowed = version_compatible
    logger().said.clear()
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise failure("load its plan", memory)
    return engine


def _network(trt: Any, builder: Any) -> Any:
    """An empty one, strongly typed: before TensorRT 11 that is to be asked for."""
    if int(trt.__version__.partition(".")[0]) >= 11:
        return created(builder.create_network, 0)
    return created(builder.create_network, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def _refused(parser: Any) -> EngineError:
    """Why the parser does not take a model: the first operator, and its layer."""
    if not parser.num_errors:
        return failure("read the model")
    error = parser.get_error(0)
    why = " ".join(str(error.desc()).split())[:200]
    operator, layer = error.node_operator(), error.node_name()
    if operator:
        return EngineError(f"TensorRT does not take the operator {operator} of the layer {layer or '(unnamed)'}: {why}")
    return EngineError(f"TensorRT cannot read the model: {why}")


def _mark(network: Any, names: tuple[str, ...]) -> None:
    """Make tensors within the network outputs of it too."""
    left = set(names)
    for place in range(network.num_layers if left else 0):
        layer = network.get_layer(place)
        for index in range(layer.num_outputs):
            tensor = layer.get_output(index)
            if tensor is not None and tensor.name in left:
                network.mark_output(tensor)
                left.discard(tensor.name)
    if left:
        raise EngineError(f"the model has no tensor {sorted(left)[0]}")


def _add_profiles(builder: Any, network: Any, config: Any, key: Key) -> None:
    image = network.get_input(0)
    batch, *rest = tuple(image.shape)
    if network.num_inputs != 1 or batch != -1 or any(size < 1 for size in rest):
        raise EngineError(f"the model takes {image.name} of {tuple(image.shape)}; one input of any batch is needed")
    for batches in key.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(image.name, *((count, *rest) for count in batches))
        config.add_optimization_profile(profile)


def _timing(config: Any, key: Key, watch: Watch) -> Any:
    """The timing cache the build uses: an earlier one, or a new one where that is damaged; None where TensorRT has
    none at all. It lives as long as the build."""
    try:
        kept = timing_cache(key)
    except (InputError, MachineError) as error:
        watch.noted(f"the timing cache was thrown away ({error})")
        kept = b""
    for data in dict.fromkeys((kept, b"")):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        if data:
            watch.noted("TensorRT does not take its timing cache: it was thrown away")
            drop_timing_cache(key)
    return None


def _monitor(trt: Any, watch: Watch) -> Any:
    """TensorRT's progress, told on. What is raised meanwhile (Ctrl-C) must not reach TensorRT: it ends the build."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None

        def _told(self, tell: Callable[..., None], *what: Any) -> bool:
            try:
                tell(*what)
            except BaseException as error:  # raised again when the build has ended
                self.stopped = self.stopped or error
            return self.stopped is None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._told(watch.started, phase_name, parent_phase or "", num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._told(watch.stepped, phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            self._told(watch.finished, phase_name)

    return Monitor()


def _look(trt: Any, plan: bytes, version_compatible: bool, memory: tuple[int, int]) -> tuple[dict[str, int], int]:
    """How many layers of a plan work in each precision, and the memory one inference needs."""
    engine = deserialized(plan, version_compatible=version_compatible, memory=memory)
    inspector = engine.create_engine_inspector()
    told = inspector.get_engine_information(trt.LayerInformationFormat.JSON) if inspector is not None else ""
    return layers_of(told or ""), int(engine.device_memory_size_v2)
