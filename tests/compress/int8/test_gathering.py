from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from medcompress.compress.int8.gathering import CONVERGED, ENOUGH, SAMPLE, gather
from medcompress.compress.int8.ranges import BINS, Ranges, TensorRange, read_ranges, write_ranges
from medcompress.runtime.errors import DataError, InputError

Image = npt.NDArray[np.float32]


def network(path: Path, *, weight: float = 1.0, size: int = 24) -> Path:
    """Convolution, Relu, mean over pixels, a product: channels of very different range."""
    random = np.random.default_rng(0)
    kernel = random.standard_normal((8, 3, 3, 3)).astype(np.float32) * np.arange(1, 9)[:, None, None, None]
    kernel[0, 0, 0, 0] *= weight
    constants = {
        "kernel": kernel.astype(np.float32),
        "axes": np.array([2, 3]),
        "product": random.standard_normal((8, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Shape", ["relu"], ["shape"]),
        helper.make_node("Sqrt", ["conv"], ["root"]) if weight == -1 else helper.make_node("Abs", ["conv"], ["root"]),
        helper.make_node("Add", ["relu", "root"], ["add"]),
        helper.make_node("ReduceMean", ["add", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "product"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def pictures(count: int, size: int = 24, seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((3, size, size)).astype(np.float32) for _ in range(count)]


def activations(path: Path, names: list[str], images: list[Image]) -> dict[str, Image]:
    """(images, ...) of each, by a session of its own."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "logits")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {name: np.asarray(session.run([name], {"image": np.stack(images)})[0]) for name in names}


def test_ranges_and_channel_ranges_are_exact(tmp_path: Path) -> None:
    path, images = network(tmp_path / "net.onnx"), pictures(20)
    ranges = gather(path, images, threads=1)
    assert ranges.images == 20
    assert set(ranges.tensors) == {"image", "conv", "relu", "root", "add", "mean", "logits"}  # and no integers
    values = activations(path, ["conv", "relu", "mean", "logits"], images) | {"image": np.stack(images)}
    for name, seen in values.items():
        tensor = ranges.tensors[name]
        assert (tensor.low, tensor.high) == pytest.approx((seen.min(), seen.max()), rel=1e-5)
        others = (0, 2, 3) if seen.ndim == 4 else 0
        np.testing.assert_allclose(tensor.channel_low, seen.min(axis=others), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(tensor.channel_high, seen.max(axis=others), rtol=1e-4, atol=1e-6)
    image = ranges.tensors["image"]
    assert (image.low, image.high) == (values["image"].min(), values["image"].max())


def test_the_histogram_is_numpys_also_after_it_grew(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx")
    images = [image * 4.0**i for i, image in enumerate(pictures(16))]
    image = gather(path, images, threads=1).tensors["image"]
    expected, _ = np.histogram(np.stack(images).astype(np.float64), bins=image.edges)
    assert image.limit / 2 <= max(-image.low, image.high) < image.limit
    np.testing.assert_array_equal(image.counts, expected)
    backwards = gather(path, images[::-1], threads=1).tensors["image"]
    assert backwards == image


def test_of_a_large_tensor_a_sample_from_all_columns_is_counted(tmp_path: Path) -> None:
    size = 128
    path = network(tmp_path / "net.onnx", size=size)
    images = pictures(16, size)
    for image in images:
        image[:, :, : size // 2] = 0.1  # half of every row is one value
    counted = gather(path, images, threads=1).tensors["image"]
    total, dots = sum(counted.counts), np.histogram([0.1], bins=counted.edges)[0].argmax()
    assert 0.5 * SAMPLE * 16 < total <= SAMPLE * 16
    assert counted.counts[dots] / total == pytest.approx(0.5, abs=0.01)


def test_images_alike_in_kind_end_the_pass_early(tmp_path: Path) -> None:
    images = pictures(20) * 12  # twenty pictures, and then no other
    ranges = gather(network(tmp_path / "net.onnx"), images, threads=1)
    assert ranges.images == ENOUGH
    assert 0 <= ranges.growth < CONVERGED


def test_ranges_that_still_grow_take_all_images(tmp_path: Path) -> None:
    images = pictures(160)
    for place, image in enumerate(images):
        image *= 1 + place / 10
    ranges = gather(network(tmp_path / "net.onnx"), images, threads=1)
    assert ranges.images == 160
    assert 0.2 < ranges.growth < 0.5  # the last 50 of 160: from 1 + 11 to 1 + 16


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, bad: float) -> None:
    with pytest.raises(InputError, match=r"weights kernel \(of conv\) hold NaN or Inf"):
        gather(network(tmp_path / "net.onnx", weight=bad), pictures(16), threads=1)


def test_an_activation_that_is_not_finite_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"activation root \(Sqrt\) is NaN or Inf .* weights and the image are finite"):
        gather(network(tmp_path / "net.onnx", weight=-1), pictures(16), threads=1)


def test_one_nan_in_one_image_is_found(tmp_path: Path) -> None:
    images = pictures(16)
    images[11][1, 7, 5] = np.nan
    with pytest.raises(DataError, match=r"image 11 .* NaN or Inf after preprocessing"):
        gather(network(tmp_path / "net.onnx"), images, threads=1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pictures(15), "15 images are too few"),
        ([np.full((3, 24, 24), i, np.float32) for i in range(20)], "all 20 calibration images are blank"),
        ([np.ones((3, 24, 24), np.float32) * np.arange(3, dtype=np.float32)[:, None, None]] * 16, "blank"),
        (pictures(1) * 30, "only 1 differ"),
        ([*pictures(15), np.zeros((3, 24, 24), np.float32)], "only 15 differ"),
    ],
    ids=["few", "blank", "blank, normalized", "one picture", "a blank one among too few"],
)
def test_images_that_say_nothing_are_refused(tmp_path: Path, images: list[Image], message: str) -> None:
    with pytest.raises(DataError, match=message):
        gather(network(tmp_path / "net.onnx"), images, threads=1)


def stored(tmp_path: Path) -> tuple[Path, Ranges]:
    random = np.random.default_rng(0)
    counts = tuple(random.integers(0, 100_000, BINS).tolist())
    tensor = TensorRange(-0.1, 1 / 3, 0.5, counts, (-0.1, 0.0), (0.2, 1 / 3))
    ranges = Ranges(300, 0.0123, {"conv": tensor, "pool": TensorRange(0.0, 0.0, 1.0, (0,) * BINS, (0.0,), (0.0,))})
    write_ranges(tmp_path / "ranges.json", ranges)
    return tmp_path / "ranges.json", ranges


def test_the_file_gives_back_exactly_what_was_written(tmp_path: Path) -> None:
    path, ranges = stored(tmp_path)
    assert read_ranges(path) == ranges
    assert path.stat().st_size < 8 * BINS
    assert msgspec.json.decode(path.read_bytes())["tensors"]["conv"]["low"] == -0.1  # JSON that others read


def test_a_gathered_range_survives_the_file(tmp_path: Path) -> None:
    ranges = gather(network(tmp_path / "net.onnx"), pictures(16), threads=1)
    write_ranges(tmp_path / "ranges.json", ranges)
    assert read_ranges(tmp_path / "ranges.json") == ranges


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensor: tensor.update(counts=tensor["counts"][:40]),
        lambda tensor: tensor.update(counts=tensor["channel_low"]),
        lambda tensor: tensor.update(channel_low="AAAA"),
        lambda tensor: tensor.update(channel_low="not base64!"),
        lambda tensor: tensor.update(low=5.0),
        lambda tensor: tensor.update(limit=0.2),
        lambda tensor: tensor.pop("high"),
        lambda tensor: tensor.update(channel_high=tensor["counts"]),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    path, _ = stored(tmp_path)
    document = msgspec.json.decode(path.read_bytes())
    damage(document["tensors"]["conv"])
    path.write_bytes(msgspec.json.encode(document))
    with pytest.raises(InputError, match=r"ranges\.json"):
        read_ranges(path)


def test_a_cut_or_missing_file_is_refused(tmp_path: Path) -> None:
    path, _ = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="not a valid"):
        read_ranges(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_ranges(tmp_path / "other.json")
