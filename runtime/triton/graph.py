"""The inputs and outputs of a model file, as its engine tells them: what a server's configuration must repeat."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..errors import BundleError, EngineAbsent, first_line

DYNAMIC = -1

# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html#datatypes
_KINDS = {"tensor(float)": "FP32", "f32": "FP32", "tensor(float16)": "FP16", "f16": "FP16"}


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a model.

    Attributes:
        shape: the batch first; :data:`DYNAMIC` where a dimension may be any.
        kind: ``FP32`` or ``FP16``, as the KServe protocol writes it.
    """

    name: str
    shape: tuple[int, ...]
    kind: str


class Graph(msgspec.Struct, frozen=True):
    """A classifier's one input and one output."""

    image: Tensor
    logits: Tensor

    @property
    def any_batch(self) -> bool:
        """Whether any number of images may be given at once."""
        return self.image.shape[0] == self.logits.shape[0] == DYNAMIC


def read_graph(path: Path) -> Graph:
    """Of an ONNX file, or of OpenVINO's own format.

    Raises:
        BundleError: not a model of one image batch and its logits, in floats.
        EngineAbsent: OpenVINO's format, and OpenVINO is not installed.
    """
    inputs, outputs = _openvino(path) if path.suffix == ".xml" else _onnx(path)
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 2:
        raise BundleError(f"{path}: takes {inputs} and gives {outputs}, not images and logits; make the bundle again")
    return Graph(inputs[0], outputs[0])


def _onnx(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # It is only looked at: nothing is fused, and no second copy of its weights is made.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise BundleError(f"{path}: ONNX Runtime cannot read it ({first_line(error)})") from error
    inputs, outputs = (
        [Tensor(value.name, tuple(map(_side, value.shape)), _kind(value.type)) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def _side(side: int | str | None) -> int:
    """A dimension that may be any has a name, or nothing."""
    return side if isinstance(side, int) else DYNAMIC


def _kind(name: str) -> str:
    """As the protocol writes it; another one as the engine does."""
    return _KINDS.get(name, name)


def _openvino(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    try:
        import openvino as ov
    except ImportError as error:
        raise EngineAbsent(
            f"openvino is not installed ({error}), and only it reads {path.name}; "
            "install it with: pip install 'medcompress[openvino]'"
        ) from error
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        raise BundleError(f"{path}: OpenVINO cannot read it ({first_line(error)})") from error
    inputs, outputs = (
        [
            Tensor(
                port.get_any_name(),
                tuple(DYNAMIC if side.is_dynamic else side.get_length() for side in port.partial_shape),
                _kind(port.element_type.get_type_name()),
            )
            for port in ports
        ]
        for ports in (model.inputs, model.outputs)
    )
    return inputs, outputs
