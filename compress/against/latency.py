"""The table of speed: nine architectures with random weights, every form of ours and the peers', in turn in one run.

    python -m medcompress.compress.against.latency [NET ...] [--threads 1] [--json]

Random weights are enough for latency. ``goal`` is what the chosen form is to reach against ONNX Runtime FP32 on a CPU
with VNNI; ``best peer`` the fastest of ONNX Runtime FP32 and INT8, OpenVINO f32 and bf16, and NNCF, each by its own
defaults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from ...benchmarks.progress import stage, track
from ...benchmarks.timing.latency import Latency
from ...runtime.decision import Decision
from ...runtime.errors import EngineError, MedcompressError
from ...runtime.hardware import this_cpu
from ...runtime.preprocessing import Preprocessing
from ..command import run
from ..plain import make_plain
from ..recipes import REFERENCE, select
from ..speed import time_forms
from .peers import make_peers

# Network -> its name in timm, its side in pixels, and the goal.
NETWORKS = {
    "resnet50": ("resnet50", 224, 3.5),
    "vgg19": ("vgg19", 224, 3.5),
    "inception_v3": ("inception_v3", 299, 3.5),
    "regnety_040": ("regnety_040", 224, 3.4),
    "vit_base": ("vit_base_patch16_224", 224, 3.5),
    "densenet121": ("densenet121", 224, 2.6),
    "convnextv2_tiny": ("convnextv2_tiny", 224, 2.5),
    "efficientnetv2_s": ("tf_efficientnetv2_s", 224, 2.2),
    "efficientnet_b4": ("efficientnet_b4", 224, 1.7),
}
_IMAGES = 16
_ROUNDS = 12
_FLOATS = ("openvino-fp32", "openvino-bf16")


class Line(msgspec.Struct, frozen=True):
    """Of one network.

    Attributes:
        ms: form -> median of one inference, milliseconds.
        failed: form -> why it did not run.
        chosen: the fastest of ours; ``peer``: the fastest of the peers.
    """

    network: str
    goal: float
    ms: dict[str, float]
    failed: dict[str, str]
    chosen: str
    peer: str

    @property
    def gain(self) -> float:
        """Times as fast as ONNX Runtime FP32."""
        return self.ms[REFERENCE] / self.ms[self.chosen]


def time_network(network: str, threads: int, folder: Path) -> Line:
    """Make every form of it and time them in turn, each in a process of its own."""
    from ..export import export

    name, side, goal = NETWORKS[network]
    preprocessing = Preprocessing((side, side))
    rendered = np.random.default_rng(0).integers(0, 256, (_IMAGES, side, side), np.uint8)
    images = [preprocessing.normalize(pixels) for pixels in rendered]
    reference = folder / "model.onnx"
    stage(f"{network}: exporting")
    batch = np.stack(images[:4])
    export(random_network(name, preprocessing, batch), batch[:2], reference)
    stage(f"{network}: making our forms")
    ours = make_plain(reference, rendered, preprocessing, select(("cpu-vnni",), int8=True), folder)
    stage(f"{network}: making the peers'")
    peers = make_peers(reference, images, folder)
    rounds = track(range(_ROUNDS), "Timing all forms in turn", _ROUNDS)
    found = time_forms([*ours, *peers], preprocessing.shape, threads, rounds)
    ms = {form: each.p50_ms for form, each in found.items() if isinstance(each, Latency)}
    failed = {form: str(each) for form, each in found.items() if isinstance(each, EngineError)}
    others = (REFERENCE, *_FLOATS, *(peer.name for peer in peers))
    chosen = min((form.name for form in ours if form.name in ms), key=lambda form: ms[form])
    peer = min((form for form in others if form in ms), key=lambda form: ms[form])
    return Line(network, goal, ms, failed, chosen, peer)


def random_network(name: str, preprocessing: Preprocessing, batch: np.ndarray) -> nn.Module:
    """A network of timm with random weights and two classes, in evaluation mode.

    Args:
        batch: (N, C, H, W) prepared images; it gets the statistics of what it sees: otherwise the values of a deep
            random network grow beyond all measure.
    """
    import torch

    from ...trained.networks.architectures import build
    from ...trained.spec import ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(f"timm/{name}", preprocessing, Decision("binary", ("clear", "opacity"), "opacity"))
    network = build(spec)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(batch))
    return network.eval()


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.against.latency")
    parser.add_argument("networks", nargs="*", metavar="NET", help=f"of {', '.join(NETWORKS)} (all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    unknown = [network for network in given.networks if network not in NETWORKS]
    if unknown:
        parser.error(f"not known: {', '.join(unknown)}")
    lines = []
    for network in given.networks or NETWORKS:
        try:
            with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
                lines.append(time_network(network, given.threads, Path(folder)))
        except MedcompressError as error:  # the other networks' figures are not to be lost
            stage(f"{network}: {error}")
            continue
        line = lines[-1]
        stage(f"{network}: {line.chosen}, {line.gain:.1f} times as fast as {REFERENCE}, goal {line.goal}")
    if not lines:
        sys.exit(3)
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(lines)).decode())
    else:
        _print(lines, given.threads)


def _print(lines: list[Line], threads: int) -> None:
    forms = list(dict.fromkeys(form for line in lines for form in (*line.ms, *line.failed)))
    cpu = this_cpu()
    print(f"{cpu.model} ({cpu.kind}), {threads} thread(s), batch 1, median ms; x: times as fast as {REFERENCE}\n")
    print(f"| network | {' | '.join(forms)} | chosen | x | goal | x best peer |")
    print(f"|---|{'---|' * (len(forms) + 4)}")
    for line in lines:
        cells = [f"{line.ms[form]:.1f}" if form in line.ms else "fails" for form in forms]
        beside = line.ms[line.peer] / line.ms[line.chosen]
        print(
            f"| {line.network} | {' | '.join(cells)} | {line.chosen} | {line.gain:.1f} | {line.goal} | "
            f"{beside:.2f} ({line.peer}) |"
        )


if __name__ == "__main__":
    run(main)
