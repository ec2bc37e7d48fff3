"""Heat maps from the exported forms are torch's, whatever the network; what cannot be explained says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from medcompress.compress.explanation.cut import cut
from medcompress.compress.explanation.gradient import make_graph
from medcompress.compress.explanation.making import GRAPH, explained_beside, make_explanation
from medcompress.compress.explanation.tensors import restored, scales, values_of
from medcompress.compress.export import export
from medcompress.compress.int8.emission import QUANTIZED, Request, make
from medcompress.compress.int8.equalization import equalize
from medcompress.compress.int8.gathering import gather
from medcompress.compress.int8.graph import prepare
from medcompress.compress.int8.plan import Plan
from medcompress.compress.int8.ranges import write_ranges
from medcompress.runtime.decision import Decision
from medcompress.runtime.engines import load_engine
from medcompress.runtime.engines.onnxruntime_engine import load_graph
from medcompress.runtime.explanation import PARITY, heat_map
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.shrinking import shrink_input
from medcompress.trained.results.explanation import explain, target_layer
from medcompress.trained.spec import ModelSpec

SIZE = (48, 48)
SPEC = ModelSpec("test/network", Preprocessing(SIZE), Decision("multiclass", ("a", "b", "c")))
# Of a tiny network with random weights in INT8: the correlation of its heat maps with torch's.
INT8_CORRELATION = 0.95


class _SeenAfterPooling(nn.Module):
    """Depthwise convolutions, squeeze and excitation, branches joined, and a convolution behind the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.deep = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.wide = nn.Conv2d(8, 8, 5, 2, 2)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.last = nn.BatchNorm2d(16)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 24, 1), nn.Hardswish(), nn.Flatten())
        self.answer = nn.Linear(24, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = self.stem(image)
        seen = torch.cat([self.deep(seen), self.wide(seen)], 1)
        seen = self.last(seen * self.squeeze(seen).sigmoid())
        # In place: the maps are those of before.
        return self.answer(self.head(nn.functional.relu_(seen)))


def _shrunk() -> nn.Module:
    network = _SeenAfterPooling()
    shrink_input(network, (32, 32))
    return network


def _other_vit() -> nn.Module:
    """torchvision's, whose head begins with zeros."""
    network = torchvision.models.VisionTransformer(48, 12, 2, 2, 24, 48, num_classes=3)
    nn.init.normal_(network.heads.head.weight)
    return network


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "depthwise, gated, joined, shrunk": _shrunk,
    "our own, mlp head": lambda: build(ModelSpec("medcompress/small_cnn", SPEC.preprocessing, SPEC.decision, "mlp-bn")),
    "convnext": lambda: timm.create_model("test_convnext", num_classes=3),
    "torchvision's vit": _other_vit,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_weighing_graph_of_every_family_gives_torchs_heat_maps(name: str) -> None:
    network, pixels = _prepared(FAMILIES[name])
    layer = target_layer(network, SPEC)
    images = _normalized(pixels)
    parts = cut(network, layer, torch.from_numpy(images[:1]))
    graph = make_graph(parts, layer)
    expected = explain(network, SPEC, pixels[:3], [0, 1, 2], layer)
    assert expected.any()
    for index in range(3):
        given = [torch.from_numpy(each) for each in parts.values(torch.from_numpy(images[index : index + 1]))]
        weighed = graph(*given, torch.eye(3)[index : index + 1]).detach().numpy()
        np.testing.assert_allclose(heat_map(weighed, SIZE), expected[index], atol=1e-4)


def test_a_transformer_is_explained_from_float_equalized_and_int8_forms(tmp_path: Path) -> None:
    network, pixels = _prepared(
        lambda: VisionTransformer(48, 12, num_classes=3, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2)
    )
    images, reference = _normalized(pixels), tmp_path / "model.onnx"
    export(network, images, reference)
    explained = make_explanation(network, SPEC, images[0], reference)
    assert explained.why == "" and explained == explained_beside(reference)
    assert len(explained.tensors) == 3  # the maps, what attention makes of them, and what passes it by
    weigh = load_graph(reference.with_name(GRAPH))
    expected = explain(network, SPEC, pixels, [0] * len(pixels))

    def maps(values: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return heat_map(weigh([*values, np.eye(3, dtype=np.float32)[:1]]), SIZE)

    for place, image in enumerate(images[:3]):
        found = maps(values_of(reference, explained.tensors, image[None]))
        np.testing.assert_allclose(found, expected[place], atol=PARITY / 10)

    # Equalized: its channels are others, and put back the heat maps are the same.
    prepared, equalized = tmp_path / "prepared.onnx", tmp_path / "equalized.onnx"
    prepare(reference, prepared)
    ranges = gather(prepared, list(images), threads=1)
    changed = equalize(onnx.load(prepared), ranges)
    assert changed is not None
    equalized.write_bytes(changed.SerializeToString())
    factors = scales(reference, equalized, explained.tensors, images[:4])
    assert np.ptp(factors[0]) > 0.01
    scaled = [
        own * factor for own, factor in zip(values_of(equalized, explained.tensors, images[:1]), factors, strict=True)
    ]
    np.testing.assert_allclose(maps(scaled), expected[0], atol=PARITY)

    # INT8: the answer is bit for bit the one without the maps.
    np.save(tmp_path / "rendered.npy", pixels)
    write_ranges(tmp_path / "ranges.json", ranges)
    request = Request(
        "onnxruntime", "avx2", str(prepared), str(tmp_path / "ranges.json"), Plan(), str(tmp_path / "rendered.npy"),
        SPEC.preprocessing, str(tmp_path / "int8.onnx"),
    )  # fmt: skip
    files = make(request)
    tensors = restored(tmp_path / QUANTIZED, explained.tensors)
    assert tensors != explained.tensors
    plain = load_engine("onnxruntime", files, "int8", threads=1)
    explaining = load_engine("onnxruntime", files, "int8", threads=1, tensors=tensors)
    alike = []
    for place, image in enumerate(images):
        logits, *values = explaining.run_all(image[None])
        np.testing.assert_array_equal(logits, plain.run(image[None]))
        if expected[place].any():  # where nothing speaks for the class there is nothing to correlate
            alike.append(np.corrcoef(maps(values).ravel(), expected[place].ravel())[0, 1])
    assert len(alike) > len(images) // 2 and np.mean(alike) > INT8_CORRELATION


def test_a_network_without_a_grid_has_no_heat_maps_and_says_so(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 3))
    image = np.zeros((3, 48, 48), np.float32)
    explained = make_explanation(network.eval(), SPEC, image, tmp_path / "model.onnx")
    assert "no layer with a grid" in explained.why
    assert not (tmp_path / GRAPH).exists()
    assert explained_beside(tmp_path / "model.onnx") == explained


def _prepared(make_network: Callable[[], nn.Module]) -> tuple[nn.Module, npt.NDArray[np.uint8]]:
    """A network with random weights and statistics, and images."""
    torch.manual_seed(0)
    network = make_network()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:1:48j, 0:1:48j]
    spots = [
        sum(h * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.02) for x, y, h in rng.random((5, 3)))
        for _ in range(16)
    ]
    pixels = np.stack([(255 * spot / spot.max()).astype(np.uint8) for spot in spots])
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(_normalized(pixels)))  # statistics of BatchNorm that are not 0 and 1
    return network.eval(), pixels


def _normalized(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.stack([SPEC.preprocessing.normalize(each) for each in pixels])
