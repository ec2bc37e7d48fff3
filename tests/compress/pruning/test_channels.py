"""What is taken is taken everywhere: the network answers as if the weights that read it were zero."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
import timm.layers.grn
import torch
from torch import nn
from torch.nn import functional

from medcompress.compress.pruning import channels as module
from medcompress.compress.pruning.channels import Channels
from medcompress.compress.pruning.importance import scores_of
from medcompress.compress.pruning.selection import select
from medcompress.runtime.errors import InputError, MedcompressError
from medcompress.trained.checkpoint import Checkpoint, rebuild
from medcompress.trained.networks.architectures import build
from medcompress.trained.networks.heads import last_layer
from medcompress.trained.spec import HeadKind

Made = Callable[..., Checkpoint]


def chosen(network: nn.Module, shape: tuple[int, ...], share: float) -> dict[str, list[int]]:
    found = Channels(copy.deepcopy(network), shape)
    return select(found.groups, scores_of(found.groups, "magnitude", network), share)


def positions(network: nn.Module) -> nn.Module:
    """The network with every weight's value its place in the tensor: what is left of it tells what went."""
    marked = copy.deepcopy(network).double()
    for parameter in marked.parameters():
        parameter.data = torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape)
    return marked


def deaf(network: nn.Module, left: nn.Module) -> nn.Module:
    """The network in which the weights that read what is not left are zero; found without the tool that pruned."""
    zeroed = copy.deepcopy(network)
    for layer, marked in zip(zeroed.modules(), left.modules(), strict=True):
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        if isinstance(layer, nn.Conv2d | nn.Linear) and not depthwise:
            weight, places = layer.weight.data, marked.weight.detach().long()
            stays = torch.zeros(weight.numel(), dtype=torch.bool)
            stays[places.flatten()] = True
            rows = places.flatten(1)[:, 0] // (weight.numel() // len(weight))
            taken = torch.ones(len(weight), dtype=torch.bool)
            taken[rows] = False
            weight[~stays.view(weight.shape) & ~taken.view(-1, *[1] * (weight.ndim - 1))] = 0
    return zeroed


@pytest.fixture
def channelwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms over channels only scale and shift: their statistics are of the channels that are there, rightly."""

    def layer_norm(x: torch.Tensor, _: object, weight: torch.Tensor, bias: torch.Tensor, __: float) -> torch.Tensor:
        return x * weight + bias

    def response_norm(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x + x * self.weight.view(self.wb_shape) + self.bias.view(self.wb_shape)  # type: ignore[operator]

    monkeypatch.setattr(functional, "layer_norm", layer_norm)
    monkeypatch.setattr(timm.layers.grn.GlobalResponseNorm, "forward", response_norm)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("architecture", "size", "head"),
    [
        ("timm/test_resnet", 64, "linear"),
        ("timm/test_resnet", 64, "mlp-bn"),
        ("timm/test_efficientnet", 64, "mlp"),  # depthwise, squeeze and excite
        ("timm/test_vit", 160, "linear"),
        ("timm/test_convnext2", 64, "linear"),  # global response normalization
        ("timm/regnety_002", 64, "linear"),  # grouped convolutions
        ("torchvision/squeezenet1_1", 64, "linear"),  # ends in a convolution
        ("timm/resnetv2_50", 64, "linear"),  # norms before convolutions
    ],
)
def test_the_network_answers_as_if_nothing_read_what_went(
    made: Made, channelwise: None, architecture: str, size: int, head: HeadKind, share: float
):
    network = rebuild(made(architecture, size, head)).double()
    shape = (3, size, size)
    gone = chosen(copy.deepcopy(network).float(), shape, share)
    pruned, marked = copy.deepcopy(network).float(), positions(network)
    knife = Channels(pruned, shape)
    pruned.double()
    knife.take(gone)
    knife = Channels(marked.float(), shape)
    marked.load_state_dict(positions(network).state_dict())
    knife.take(gone)
    images = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        found, expected, dense = pruned(images), deaf(network, marked)(images), network(images)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    assert (found - dense).abs().max() > 1e-3 * dense.abs().max(), "what went was heard"
    assert found.shape == (2, 3)


class _Concatenating(nn.Module):
    """Dense blocks and branches of unlike widths, pooled among them, in few weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.dense = nn.ModuleList(nn.Conv2d(16 + 8 * number, 8, 3, padding=1) for number in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16 + 8 * number) for number in range(3))
        self.left, self.middle = nn.Conv2d(40, 12, 1), nn.Conv2d(40, 16, 1)
        self.right = nn.Conv2d(40, 20, 3, padding=1)
        self.reduced = nn.Conv2d(12 + 16 + 20, 24, 1)
        self.last = nn.Linear(24 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for convolution, norm in zip(self.dense, self.norms, strict=True):
            x = torch.cat([x, convolution(norm(x).relu())], 1)
        pooled = functional.avg_pool2d(x, 3, 1, 1)
        x = torch.cat([self.left(x).relu(), self.middle(pooled), self.right(x).sigmoid()], 1)
        return self.last(functional.adaptive_avg_pool2d(self.reduced(x), 3).flatten(1))


def test_concatenations_branches_and_a_flattened_map(channelwise: None):
    torch.manual_seed(0)
    network, shape = _Concatenating().eval(), (3, 12, 12)
    gone = chosen(network, shape, 0.5)
    assert {"first", "left", "middle", "right", "dense.0", "reduced"} <= gone.keys()
    pruned, marked = copy.deepcopy(network), copy.deepcopy(network)
    knives = Channels(pruned, shape), Channels(marked, shape)
    marked.load_state_dict(positions(network).state_dict())
    for knife in knives:
        knife.take(gone)
    images = torch.randn(2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), deaf(network, marked)(images))
    assert pruned.last.in_features < network.last.in_features


def test_what_is_taken_is_what_was_named_and_the_rest_is_left_as_it_was(made: Made):
    network = rebuild(made("timm/test_resnet"))
    before = copy.deepcopy(network)
    knife = Channels(network, (3, 64, 64))
    knife.take({"layer1.0.conv1": [0, 5, 3]})
    width = before.get_submodule("layer1.0.conv1").out_channels
    left = [number for number in range(width) if number not in (0, 3, 5)]
    kept, changed = before.state_dict(), network.state_dict()
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        assert torch.equal(changed[f"layer1.0.{name}"], kept[f"layer1.0.{name}"][left])
    assert torch.equal(changed["layer1.0.conv2.weight"], kept["layer1.0.conv2.weight"][:, left])
    same = {name for name, tensor in changed.items() if tensor.shape == kept[name].shape}
    assert all(torch.equal(changed[name], kept[name]) for name in same) and len(kept) - len(same) == 6


def test_heads_of_an_attention_go_whole(made: Made):
    checkpoint = made("timm/test_vit", 160)
    network = rebuild(checkpoint)
    before = copy.deepcopy(network)
    knife = Channels(network, (3, 160, 160))
    heads = [group for group in knife.groups if group.heads]
    attention = before.get_submodule("blocks.0.attn")
    assert [group.name for group in heads] == [f"blocks.{number}.attn.qkv" for number in reversed(range(len(heads)))]
    assert {len(group.units) for group in heads} == {attention.num_heads}
    knife.take({"blocks.0.attn.qkv": [0]})
    cut = network.get_submodule("blocks.0.attn")
    assert (cut.num_heads, cut.head_dim) == (attention.num_heads - 1, attention.head_dim)
    width = attention.num_heads * attention.head_dim
    left = torch.arange(width)[attention.head_dim :]
    assert torch.equal(cut.proj.weight, attention.proj.weight[:, left])
    assert torch.equal(cut.qkv.weight, attention.qkv.weight[torch.cat([left, left + width, left + 2 * width])])


@pytest.mark.parametrize("head", ["linear", "mlp", "mlp-bn"])
def test_the_outputs_stay_and_the_hidden_layers_of_a_head_do_not(made: Made, head: HeadKind):
    network = rebuild(made("timm/test_resnet", 64, head))
    knife = Channels(network, (3, 64, 64))
    name, layer = last_layer(network)
    assert name not in {group.name for group in knife.groups}
    hidden = {group.name for group in knife.groups if "hidden" in group.name}
    assert len(hidden) == {"linear": 0, "mlp": 1, "mlp-bn": 2}[head]
    scores = scores_of(knife.groups, "magnitude", network)
    knife.take(select(knife.groups, scores, 1.0))
    assert isinstance(layer, nn.Linear) and layer.out_features == 3 and layer.in_features < 96


def test_groups_of_a_scope_are_of_one_kind_and_a_grouped_convolution_goes_evenly(made: Made):
    network = rebuild(made("timm/regnety_002"))
    groups = Channels(network, (3, 64, 64)).groups
    assert len({group.name for group in groups}) == len(groups)
    scopes = {scope: [group.name for group in groups if group.scope == scope] for scope in {g.scope for g in groups}}
    assert 1 < len(scopes) < len(groups)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            read = next(group for group in groups if group.name == name.replace("conv2", "conv1"))
            each = layer.in_channels // layer.groups
            assert {len(unit) for unit in read.units} == {layer.groups}
            assert all(sorted(index // each for index in unit) == list(range(layer.groups)) for unit in read.units)
            assert sorted(index for unit in read.units for index in unit) == list(range(layer.in_channels))


def test_kept_layers_keep_their_channels_by_name_and_pattern(made: Made):
    network = rebuild(made("timm/test_resnet"))
    every = {group.name for group in Channels(copy.deepcopy(network), (3, 64, 64)).groups}

    def left(*keep: str) -> set[str]:
        return {group.name for group in Channels(copy.deepcopy(network), (3, 64, 64), keep).groups}

    for name in every:  # the names that are told are those that can be kept
        assert left(name) == every - {name}
    # With the stream, which layer1 adds to and another makes.
    assert left("layer1.*") == {name for name in every if not name.startswith("layer1.")} - {"conv1.6"}
    assert left("layer?.0.conv1") == every - {f"layer{number}.0.conv1" for number in range(1, 5)}
    with pytest.raises(InputError, match="no layer is called layer9"):
        left("layer9")
    with pytest.raises(MedcompressError, match="no channels that can go"):
        left("*")


def test_the_heads_of_an_attention_are_kept_by_the_name_that_is_told(made: Made):
    network = rebuild(made("timm/test_vit", 160))
    every = {group.name for group in Channels(copy.deepcopy(network), (3, 160, 160)).groups}
    kept = {group.name for group in Channels(network, (3, 160, 160), ["blocks.0.attn.qkv"]).groups}
    assert kept == every - {"blocks.0.attn.qkv"}


def test_layers_that_attention_of_another_make_reads_stay(made: Made):
    """torch's own: only what lies between the two linear layers of its blocks can go."""
    network = nn.Sequential(
        nn.Flatten(2), nn.Linear(64, 32), nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), nn.Flatten(1),
        nn.Linear(96, 2),
    )  # fmt: skip
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert [group.name for group in Channels(network, (3, 8, 8)).groups] == ["2.linear1"]
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_tables_of_heads_are_not_taken_for_channels():
    """torchvision's Swin, whose tables of relative positions torch-pruning follows for ever."""
    from torchvision.models.swin_transformer import SwinTransformer

    network = SwinTransformer([4, 4], 16, [1, 1], [2, 4], [4, 4], num_classes=3).eval()
    knife = Channels(network, (3, 32, 32))
    assert {"features.1.0.mlp.0", "features.3.0.mlp.0"} <= {group.name for group in knife.groups}
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        before = network(torch.ones(1, 3, 32, 32))
        knife.take({"features.1.0.mlp.0": [0, 1]})
        assert network(torch.ones(1, 3, 32, 32)).shape == before.shape


def test_a_narrow_layer_norm_keeps_its_values_in_order(made: Made):
    """torch-pruning mixes them up where few are left."""
    network = rebuild(made("timm/test_vit", 160))
    before = network.state_dict()
    knife = Channels(network, (3, 160, 160))
    stream = next(group for group in knife.groups if len(group.units) == len(before["norm.weight"]))
    left = [7, 21, 38, 41, 55, 62]
    knife.take({stream.name: [unit for unit in range(len(stream.units)) if unit not in left]})
    for name in ("norm.weight", "norm.bias", "blocks.0.norm1.weight", "blocks.2.norm2.bias"):
        assert torch.equal(network.state_dict()[name], before[name][left])


def test_channels_that_another_layer_has_fewer_of_are_one_unit():
    """GhostNet's stream: half of it is a depthwise convolution of the other half."""
    import timm

    network = timm.create_model("ghostnet_050", num_classes=3).eval()
    knife = Channels(network, (3, 64, 64))
    stream = next(group for group in knife.groups if group.name == "blocks.1.0.shortcut.0")
    assert stream.units == tuple((first, first + 4) for first in range(4))
    knife.take({stream.name: [1]})
    assert network.get_submodule("conv_stem").out_channels == 6
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_network_that_cannot_be_followed_says_so_in_one_line(made: Made):
    with pytest.raises(
        MedcompressError, match=r"this network cannot be pruned: .*; use another architecture"
    ) as caught:
        Channels(build(made("torchvision/shufflenet_v2_x0_5").spec), (3, 64, 64))
    assert "\n" not in str(caught.value)


def test_groups_that_are_misread_are_all_named_and_can_be_left_out():
    import timm

    network = timm.create_model("cspresnet50", num_classes=3).eval()
    with pytest.raises(MedcompressError, match=r"at stages\.\d.* --keep stages\.\d\.\S+ --keep ") as caught:
        Channels(network, (3, 64, 64))
    assert "\n" not in str(caught.value)
    assert Channels(network, (3, 64, 64), ["stages.*.conv3.conv", "stages.*conv_exp*"]).groups


def test_a_walk_in_circles_ends(monkeypatch: pytest.MonkeyPatch):
    import timm

    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    started = time.monotonic()
    with pytest.raises(MedcompressError, match=r"goes round in circles.* --keep features"):
        Channels(timm.create_model("rexnet_100", num_classes=3), (3, 64, 64))
    assert time.monotonic() - started < 15
