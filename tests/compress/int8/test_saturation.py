from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from medcompress.compress.int8.saturation import POSITIONS, Pairs, count_overflows, cut_off, risky_pairs
from medcompress.runtime.errors import DataError


def vpmaddubsw(a0: int, b0: int, a1: int, b1: int) -> int:
    """The instruction's definition, of one 16-bit lane."""
    return max(-32768, min(32767, a0 * b0 + a1 * b1))


ALL_PAIRS = [(b0, b1) for b0 in range(-128, 128) for b1 in range(-128, 128)]
EXTREMES = (0, 1, 2, 127, 128, 254, 255)


def test_every_pair_of_weights_is_as_the_instruction_defines() -> None:
    activations = [(a0, a1) for a0 in EXTREMES for a1 in EXTREMES]
    weight = np.array(ALL_PAIRS, np.int8)
    count, cut = cut_off(np.array(activations, np.uint8).T.copy(), risky_pairs(weight), len(weight))
    defined = np.array(
        [[a0 * b0 + a1 * b1 - vpmaddubsw(a0, b0, a1, b1) for b0, b1 in ALL_PAIRS] for a0, a1 in activations]
    )
    assert (cut == defined).all()
    assert count == np.count_nonzero(defined)


def test_a_pair_is_risky_exactly_when_some_activations_overflow_it() -> None:
    risky = set(risky_pairs(np.array(ALL_PAIRS, np.int8)).outputs.tolist())
    corners = [(0, 255), (255, 0), (255, 255)]
    for i, (b0, b1) in enumerate(ALL_PAIRS):
        assert (i in risky) == any(not -32768 <= a0 * b0 + a1 * b1 <= 32767 for a0, a1 in corners)


def test_seven_bit_weights_never_overflow() -> None:
    weights = [(b0, b1) for b0 in range(-64, 65) for b1 in range(-64, 65)]
    assert not len(risky_pairs(np.array(weights, np.int8)).rows)


def test_an_odd_last_weight_has_no_partner() -> None:
    pairs = risky_pairs(np.full((1, 3), 127, np.int8))
    assert pairs.rows.tolist() == [0]
    assert cut_off(np.full((3, 1), 255, np.uint8), pairs, 1)[0] == 1


def graph_of(
    node: onnx.NodeProto,
    weight: npt.NDArray[np.int8],
    size: tuple[Any, ...],
    zero_point: int = 0,
    signed: bool = False,
    axis: int = 0,
) -> onnx.ModelProto:
    """One layer with Q/DQ before it; an activation of 1/16 is one step, every weight's step is 1/8."""
    kind = np.int8 if signed else np.uint8
    constants = {
        "step": np.float32(1 / 16),
        "zero": kind(zero_point),
        "w": weight,
        "w_step": np.full(weight.shape[axis], 1 / 8, np.float32),
        "w_zero": np.zeros(weight.shape[axis], np.int8),
        "b": np.arange(weight.shape[axis], dtype=np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["activation"]),
        helper.make_node("DequantizeLinear", ["w", "w_step", "w_zero"], ["weight"], axis=axis),
        node,
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *size])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [logits], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolution(weight: npt.NDArray[np.int8], **settings: Any) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", ["activation", "weight", "b"], ["y"], kernel_shape=list(weight.shape[2:]), **settings
    )


def slowly(
    codes: npt.NDArray[np.uint8], weight: npt.NDArray[np.int8], zero: int, group: int, pad: int, stride: int, dil: int
) -> tuple[int, int, float]:
    """Pairs, overflows and error of a convolution (C, H, W), by loops over its definition."""
    outputs, channels, high, wide = weight.shape
    pairs = overflows = 0
    lost, power = [], []
    rows, columns = (
        (n + 2 * pad - dil * (k - 1) - 1) // stride + 1 for n, k in zip(codes.shape[1:], (high, wide), strict=True)
    )
    for o in range(outputs):
        first = o // (outputs // group) * channels
        for row in range(rows):
            for column in range(columns):
                line = []
                for i in range(high):
                    for j in range(wide):
                        for c in range(channels):
                            y, x = row * stride + i * dil - pad, column * stride + j * dil - pad
                            inside = 0 <= y < codes.shape[1] and 0 <= x < codes.shape[2]
                            a = int(codes[first + c, y, x]) if inside else zero
                            line.append((a, int(weight[o, c, i, j])))
                cut = 0
                for (a0, b0), (a1, b1) in zip(line[::2], line[1::2], strict=False):
                    over = a0 * b0 + a1 * b1 - vpmaddubsw(a0, b0, a1, b1)
                    pairs, overflows, cut = pairs + 1, overflows + bool(over), cut + over
                lost.append(cut)
                power.append(sum((a - zero) * b for a, b in line))
    return pairs, overflows, float(np.sqrt(np.mean(np.square(lost)) / np.mean(np.square(power))))


CONVOLUTIONS = {
    "plain": ((4, 6, 3, 3), 1, 0, 1, 1, 0),
    "padded with the zero point": ((4, 6, 3, 3), 1, 1, 1, 1, 130),
    "an odd number of channels": ((3, 5, 3, 3), 1, 1, 1, 1, 0),
    "an odd number of products": ((3, 5, 1, 1), 1, 0, 1, 1, 7),
    "stride": ((2, 4, 3, 3), 1, 1, 2, 1, 90),
    "dilation": ((2, 4, 3, 3), 1, 2, 1, 2, 90),
    "groups": ((6, 4, 3, 3), 2, 1, 1, 1, 255),
    "groups of an odd number of products": ((9, 6, 3, 3), 3, 1, 1, 1, 40),
    "a kernel that is not square": ((2, 4, 1, 3), 1, 1, 1, 1, 60),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_is_as_loops_over_its_definition_say(case: tuple[Any, ...]) -> None:
    (channels, outputs, high, wide), group, pad, stride, dilation, zero = case
    random = np.random.default_rng(0)
    weight = random.integers(-128, 128, (outputs, channels // group, high, wide)).astype(np.int8)
    codes = np.maximum(random.integers(0, 256, (2, channels, 6, 7)), 120).astype(np.uint8)
    node = convolution(weight, group=group, pads=[pad] * 4, strides=[stride] * 2, dilations=[dilation] * 2)
    images = (codes.astype(np.float32) - zero) / 16
    (found,) = count_overflows(graph_of(node, weight, (channels, 6, 7), zero), images)
    expected = [slowly(each, weight, zero, group, pad, stride, dilation) for each in codes]
    assert (found.layer, found.images) == ("y", 2)
    assert found.pairs == sum(pairs for pairs, _, _ in expected)
    assert found.overflows == sum(overflows for _, overflows, _ in expected) > 0
    if stride == 1 and not zero:  # of two images, their root mean square is not the mean of their errors
        (alone,) = count_overflows(graph_of(node, weight, (channels, 6, 7), zero), images[:1])
        assert alone.error == pytest.approx(expected[0][2], rel=1e-5)


def test_automatic_padding_is_told_from_the_output() -> None:
    weight = np.full((2, 2, 3, 3), 127, np.int8)
    images = np.full((1, 2, 5, 5), 255 / 16, np.float32)
    explicit = convolution(weight, strides=[2, 2], pads=[1] * 4)
    same = convolution(weight, strides=[2, 2], auto_pad="SAME_UPPER")
    found = [count_overflows(graph_of(node, weight, (2, 5, 5)), images) for node in (explicit, same)]
    assert found[0] == found[1]


def test_a_depthwise_convolution_has_no_pairs() -> None:
    weight = np.full((4, 1, 3, 3), 127, np.int8)
    model = graph_of(convolution(weight, group=4), weight, (4, 5, 5))
    (found,) = count_overflows(model, np.full((1, 4, 5, 5), 15, np.float32))
    assert (found.pairs, found.overflows, found.error) == (0, 0, 0.0)


@pytest.mark.parametrize("op", ["Gemm", "Gemm transposed", "MatMul"])
def test_fully_connected_layers(op: str) -> None:
    weight = np.random.default_rng(1).integers(-128, 128, (5, 9)).astype(np.int8)  # outputs, inputs
    codes = np.random.default_rng(2).integers(100, 256, (3, 9)).astype(np.uint8)
    transposed = op == "Gemm transposed"
    inputs = ["activation", "weight"] if op == "MatMul" else ["activation", "weight", "b"]
    settings: dict[str, Any] = {"transB": 1} if transposed else {}
    node = helper.make_node(op.split()[0], inputs, ["y"], **settings)
    stored = weight if transposed else weight.T.copy()
    model = graph_of(node, stored, (9,), axis=0 if transposed else 1)
    (found,) = count_overflows(model, codes.astype(np.float32) / 16)
    each = [slowly(row[:, None, None], weight[:, :, None, None], 0, 1, 0, 1, 1) for row in codes]
    assert found.pairs == sum(pairs for pairs, _, _ in each)
    assert found.overflows == sum(overflows for _, overflows, _ in each) > 0


def test_a_large_map_is_sampled() -> None:
    weight = np.full((1, 2, 1, 1), 127, np.int8)
    model = graph_of(convolution(weight), weight, (2, 40, 40))
    (found,) = count_overflows(model, np.full((3, 2, 40, 40), 255 / 16, np.float32))
    assert found.pairs == found.overflows == 3 * POSITIONS


def test_signed_activations_are_left_out() -> None:
    weight = np.full((1, 2, 1, 1), 127, np.int8)
    model = graph_of(convolution(weight), weight, (2, 4, 4), signed=True)
    assert count_overflows(model, np.ones((1, 2, 4, 4), np.float32)) == ()


def test_without_images_nothing_is_claimed() -> None:
    weight = np.full((1, 2, 1, 1), 127, np.int8)
    with pytest.raises(DataError, match="calibration images"):
        count_overflows(graph_of(convolution(weight), weight, (2, 4, 4)), np.ones((0, 2, 4, 4), np.float32))


@pytest.mark.parametrize("reduced", [False, True])
def test_a_graph_of_onnx_runtimes_quantization(reduced: bool, tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    random = np.random.default_rng(3)
    images = random.uniform(0, 1, (4, 4, 8, 8)).astype(np.float32)
    stored = [
        from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in {"w": (8, 4, 3, 3), "b": (8,), "v": (8, 5)}.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["logits"]),
    ]
    shapes = (("image", ["n", 4, 8, 8]), ("logits", ["n", 5]))
    image, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "g", [image], [logits], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "f.onnx")

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            following = next(self.left, None)
            return None if following is None else {"image": following[None]}

    quantize_static(
        tmp_path / "f.onnx", tmp_path / "q.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=reduced, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    found = count_overflows(tmp_path / "q.onnx", images)
    assert len(found) == 2
    assert found[0].pairs == 4 * 64 * 8 * 18
    assert (sum(layer.overflows for layer in found) == 0) == reduced


ON_A_CPU_WITHOUT_VNNI = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
for name in ("product", "convolution"):
    session = onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}.onnx", options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: np.load(f"{sys.argv[1]}/{name}.npy")}
    np.save(f"{sys.argv[1]}/{name}-ran.npy", session.run(None, given)[0])
"""


def test_onnx_runtime_without_vnni_computes_what_is_emulated(tmp_path: Path) -> None:
    """On an emulated Haswell; on a machine with VNNI nothing else can tell."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("needs qemu-x86_64 (Debian: apt-get install qemu-user)")
    random = np.random.default_rng(4)

    def save(name: str, node: onnx.NodeProto, given: npt.NDArray[np.uint8], constants: dict[str, Any]) -> None:
        x = helper.make_tensor_value_info("x", TensorProto.UINT8, given.shape)
        y = helper.make_tensor_value_info("y", TensorProto.INT32 if name == "product" else TensorProto.UINT8, None)
        graph = helper.make_graph([node], name, [x], [y], [from_array(np.asarray(v), k) for k, v in constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / f"{name}.onnx")
        np.save(tmp_path / f"{name}.npy", given)

    def sums(codes: npt.NDArray[np.uint8], weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
        pairs: Pairs = risky_pairs(weight)
        count, cut = cut_off(codes, pairs, len(weight))
        assert count > 0
        return codes.T.astype(np.int64) @ weight.T.astype(np.int64) - cut

    codes = random.integers(0, 256, (5, 129)).astype(np.uint8)
    weight = random.integers(-128, 128, (6, 129)).astype(np.int8)
    save("product", helper.make_node("MatMulInteger", ["x", "w"], ["y"]), codes, {"w": weight.T.copy()})
    product = sums(codes.T.copy(), weight)

    image = random.integers(0, 256, (1, 16, 3, 3)).astype(np.uint8)
    kernel = random.integers(-128, 128, (32, 16, 3, 3)).astype(np.int8)
    in_order = image[0].transpose(1, 2, 0).reshape(-1, 1).copy()
    emulated = sums(in_order, kernel.transpose(0, 2, 3, 1).reshape(32, -1))[0]
    # QLinearConv gives 8 bits only: with the emulated sums taken off by the bias, they are all at the zero point.
    one, none = np.float32(1), np.uint8(0)
    constants = {"one": one, "none": none, "w": kernel, "steps": np.ones(32, np.float32)}
    constants |= {"zeros": np.zeros(32, np.int8), "middle": np.uint8(128), "b": -emulated.astype(np.int32)}
    inputs = ["x", "one", "none", "w", "steps", "zeros", "one", "middle", "b"]
    save("convolution", helper.make_node("QLinearConv", inputs, ["y"]), image, constants)

    command = [emulator, "-cpu", "Haswell", sys.executable, "-c", ON_A_CPU_WITHOUT_VNNI, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (np.load(tmp_path / "product-ran.npy") == product).all()
    assert (np.load(tmp_path / "convolution-ran.npy") == 128).all()
