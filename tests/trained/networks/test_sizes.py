"""What pruning changed comes back to the last bit; a record that does not fit is refused in one line, at no cost."""

from __future__ import annotations

import copy
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from medcompress.runtime.decision import Decision
from medcompress.runtime.errors import CheckpointError
from medcompress.runtime.preprocessing import Preprocessing
from medcompress.trained.checkpoint import Checkpoint, load_checkpoint, rebuild, save_checkpoint
from medcompress.trained.data.splits import DataSource
from medcompress.trained.inspection import describe
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.sizes import changed_sizes, resize
from medcompress.trained.spec import LayerSizes, ModelSpec, PruningRound

SPEC = ModelSpec("timm/test_resnet", Preprocessing((32, 32)), Decision("multiclass", ("a", "b", "c")))


def cut(network: nn.Module) -> nn.Module:
    """The second channel between the two convolutions of the first block is taken, by hand."""
    pruned = copy.deepcopy(network)
    block: Any = pruned.get_submodule("layer1.0")
    left = [number for number in range(block.conv1.out_channels) if number != 1]
    block.conv1.out_channels = block.bn1.num_features = block.conv2.in_channels = len(left)
    block.conv1.weight = nn.Parameter(block.conv1.weight[left].detach())
    block.conv2.weight = nn.Parameter(block.conv2.weight[:, left].detach())
    for name in ("weight", "bias"):
        setattr(block.bn1, name, nn.Parameter(getattr(block.bn1, name)[left].detach()))
    for name in ("running_mean", "running_var"):
        setattr(block.bn1, name, getattr(block.bn1, name)[left])
    return pruned


@pytest.fixture
def dense() -> nn.Module:
    torch.manual_seed(0)
    network = build(SPEC).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # timm begins with some that are zero
            parameter.normal_(0, (len(parameter) / parameter.numel()) ** 0.5 if parameter.ndim > 1 else 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def pruned(dense: nn.Module) -> Checkpoint:
    network = cut(dense)
    done = PruningRound("macs 0.9", "magnitude", (100, 90), (10, 9), changed_sizes(dense, network))
    spec = msgspec.structs.replace(SPEC, pruning=(done,))
    return Checkpoint(spec, network.state_dict(), DataSource("/data"), "0" * 64)


def with_layers(checkpoint: Checkpoint, layers: dict[str, LayerSizes]) -> Checkpoint:
    done = msgspec.structs.replace(checkpoint.spec.pruning[0], layers=layers)
    return replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, pruning=(done,)))


def test_only_what_changed_is_told_by_name(dense: nn.Module):
    width = dense.get_submodule("layer1.0.conv1").out_channels
    inputs, outputs = dense.get_submodule("layer1.0.conv1").in_channels, dense.get_submodule("layer1.0.conv2")
    left = width - 1
    assert changed_sizes(dense, dense) == {}
    assert changed_sizes(dense, cut(dense)) == {
        "layer1.0.conv1": {"weight": (left, inputs, 3, 3), "out_channels": left},
        "layer1.0.bn1": {
            "weight": (left,),
            "bias": (left,),
            "running_mean": (left,),
            "running_var": (left,),
            "num_features": left,
        },
        "layer1.0.conv2": {"weight": (outputs.out_channels, left, 3, 3), "in_channels": left},
    }


def test_a_network_made_that_size_takes_the_weights_and_answers_the_same(dense: nn.Module):
    network, again = cut(dense), copy.deepcopy(dense)
    sizes = changed_sizes(dense, network)
    resize(again, sizes)
    assert changed_sizes(dense, again) == sizes
    again.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.eval()(images), network(images))
        assert not torch.equal(again(images), dense(images))
    assert all(each.requires_grad for each in again.parameters())


def test_a_fresh_process_rebuilds_it_bit_equal_without_the_pruning_library(tmp_path: Path, pruned: Checkpoint):
    save_checkpoint(tmp_path / "pruned.pth", pruned)
    assert torch.load(tmp_path / "pruned.pth", weights_only=True)["spec"]["pruning"]
    torch.manual_seed(1)
    images = torch.randn(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from medcompress.trained.checkpoint import load_checkpoint, rebuild\n"
        "torch.set_num_threads(1)\n"
        "folder = Path(sys.argv[1]); network = rebuild(load_checkpoint(folder / 'pruned.pth'))\n"
        "with torch.inference_mode(): found = network(torch.load(folder / 'images.pt', weights_only=True))\n"
        "torch.save(found.clone(), folder / 'found.pt'); assert 'torch_pruning' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    with torch.inference_mode():
        expected = rebuild(pruned)(images)
    assert torch.equal(torch.load(tmp_path / "found.pt", weights_only=True), expected)


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"no.such": {"weight": 1}}, "has no layer no.such"),
    ({"layer1.0.forward": {"weight": 1}}, "has no layer"),
    ({"__class__": {"weight": 1}}, "has no layer"),
    ({"layer1.0.__dict__": {"weight": 1}}, "has no layer"),
    ({"a\nb" * 10**6: {"weight": 1}}, "has no layer a"),
    ({"layer1.0.conv1": {"out_channels": 10**12}}, r"out_channels \d+, and pruning left 1000000000000"),
    ({"layer1.0.conv1": {"weight": (10**9, 10**9, 3, 3)}}, "pruning left"),
    ({"layer1.0.conv1": {"out_channels": -1}}, "pruning left -1"),
    ({"layer1.0.conv1": {"out_channels": 0}}, "pruning left 0"),
    ({"layer1.0.conv1": {"weight": (0, 1, 3, 3)}}, "pruning left"),
    ({"layer1.0.conv1": {"weight": 3}}, "no weight of the kind"),
    ({"layer1.0.conv1": {"weight": (3,)}}, "no weight of the kind"),
    ({"layer1.0.conv1": {"weight": (1,) * 10**6}}, "no weight of the kind"),
    ({"layer1.0.conv1": {"weight": ()}}, "no weight of the kind"),
    ({"layer1.0.conv1": {"out_channels": (3,)}}, "no out_channels of the kind"),
    ({"layer1.0.conv1": {"bias": (3,)}}, "no bias of the kind"),
    ({"layer1.0.conv1": {"training": 1}}, "no training of the kind"),
    ({"layer1.0.conv1": {"training": True}}, "no training of the kind"),
    ({"layer1.0.conv1": {"out_channels": True}}, "no out_channels of the kind"),
    ({"layer1.0.conv1": {"padding_mode": 1}}, "no padding_mode of the kind"),
    ({"layer1.0.conv1": {"forward": 1}}, "no forward of the kind"),
    ({"layer1.0.conv1": {"__class__": 1}}, "no __class__ of the kind"),
    ({"layer1.0.conv1": {"_parameters": 1}}, "no _parameters of the kind"),
    ({f"layer{number}": {"weight": 1} for number in range(10**6)}, "has no layer|no weight of the kind"),
]


@pytest.mark.parametrize(("layers", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_record_is_one_short_line_and_takes_no_memory(
    pruned: Checkpoint, layers: dict[str, Any], message: str
):
    hostile = with_layers(pruned, layers)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=message) as caught:
        rebuild(hostile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert peak < 20e6


@pytest.mark.parametrize(
    "layers",
    [
        {"layer1.0.conv1": {"stride": (0, 0)}},
        {"layer2.0.conv1": {"groups": -2}},
        {"layer1.0.conv2": {"kernel_size": (1, 1), "weight": (1, 1, 1, 1)}},
        {"fc": {"weight": (2, 1)}},
        {"layer1.0.bn1": {"running_mean": (1,)}},
    ],
)
def test_a_record_that_fits_layer_by_layer_and_not_as_a_whole_is_refused(
    pruned: Checkpoint, layers: dict[str, LayerSizes]
):
    with pytest.raises(CheckpointError) as caught:
        rebuild(with_layers(pruned, {**pruned.spec.pruning[0].layers, **layers}))
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_run_as_recorded_is_refused(dense: nn.Module, pruned: Checkpoint):
    """The sizes of tensors are the library's own, and a number beside them is not."""
    torn = replace(with_layers(pruned, {"layer2.0.conv1": {"stride": (1, 1)}}), weights=dense.state_dict())
    with pytest.raises(CheckpointError, match="does not run as its spec says it was pruned"):
        rebuild(torn)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"out_channels": True}, "description is damaged"),
        ({"out_channels": 1.5}, "description is damaged"),
        ({"out_channels": None}, "description is damaged"),
        ({"weight": ["1", "2"]}, "description is damaged"),
        ({"weight": [[1]]}, "description is damaged"),
        ({"out_channels": 2**70}, "damaged|pruning left"),
    ],
)
def test_other_kinds_in_the_file_are_refused_on_reading(
    tmp_path: Path, pruned: Checkpoint, change: dict[str, Any], fragment: str
):
    save_checkpoint(tmp_path / "pruned.pth", pruned)
    payload = torch.load(tmp_path / "pruned.pth", weights_only=True)
    payload["spec"]["pruning"][0]["layers"]["layer1.0.conv1"] |= change
    torch.save(payload, tmp_path / "pruned.pth")
    with pytest.raises(CheckpointError, match=fragment) as caught:
        rebuild(load_checkpoint(tmp_path / "pruned.pth"))
    assert "\n" not in str(caught.value)


def test_another_version_of_the_library_is_refused_with_the_difference(pruned: Checkpoint):
    layers = dict(pruned.spec.pruning[0].layers)
    renamed = {name.replace("layer1.0", "stages.0.0"): sizes for name, sizes in layers.items()}
    with pytest.raises(CheckpointError, match=r"has no layer stages\.0\.0\.conv1; install the timm"):
        rebuild(with_layers(pruned, renamed))
    wider = layers | {"layer1.0.conv1": {"weight": (999, 999, 3, 3), "out_channels": 999}}
    with pytest.raises(
        CheckpointError, match=r"layer1\.0\.conv1 has weight \(\d+, \d+, 3, 3\), and pruning left \(999"
    ):
        rebuild(with_layers(pruned, wider))


def test_weights_of_another_size_are_refused_with_both_shapes(pruned: Checkpoint):
    name = "layer1.0.conv1.weight"
    kept = pruned.weights[name]
    narrower = replace(pruned, weights=pruned.weights | {name: kept[1:]})
    there, needed = ("x".join(map(str, shape)) for shape in (kept[1:].shape, kept.shape))
    with pytest.raises(CheckpointError, match=rf"in another shape {name} \({there} there, {needed} needed\)"):
        rebuild(narrower)


def test_inspection_tells_the_rounds_and_counts_what_is_left(tmp_path: Path, dense: nn.Module, pruned: Checkpoint):
    save_checkpoint(tmp_path / "pruned.pth", pruned)
    facts = describe(tmp_path / "pruned.pth")
    assert facts["pruning"] == [
        {
            "asked": "macs 0.9",
            "importance": "magnitude",
            "macs": {"before": 100, "after": 90, "percent": 90.0},
            "parameters": {"before": 10, "after": 9, "percent": 90.0},
            "layers": 3,
        }
    ]
    assert facts["shrunk"] is None
    assert facts["parameters"] == sum(each.numel() for each in cut(dense).parameters())
    nothing = msgspec.structs.replace(pruned.spec.pruning[0], macs=(0, 0))
    save_checkpoint(
        tmp_path / "pruned.pth", replace(pruned, spec=msgspec.structs.replace(pruned.spec, pruning=(nothing,)))
    )
    assert describe(tmp_path / "pruned.pth")["pruning"][0]["macs"]["percent"] is None
