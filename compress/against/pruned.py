"""The speed of pruned networks, with random weights: every form of what is left, in turn with the dense FP32 network.

    python -m medcompress.compress.against.pruned [NET ...] [--macs 0.25] [--threads 1] [--json]

Random weights are enough for latency; which channels go is of no matter either, but how many of each layer is.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from ...benchmarks.candidate import Candidate
from ...benchmarks.progress import stage, track
from ...benchmarks.timing.latency import Latency
from ...runtime.hardware import this_cpu
from ...runtime.preprocessing import Preprocessing
from ..command import run
from ..plain import make_plain
from ..recipes import REFERENCE, select
from ..speed import time_forms
from .latency import NETWORKS, random_network

_IMAGES = 16
_ROUNDS = 12


class Line(msgspec.Struct, frozen=True):
    """Of one network.

    Attributes:
        macs, parameters: of the dense network, of the pruned one.
        dense_ms: median of one inference of the dense network, ONNX Runtime FP32.
        ms: form of the pruned one -> the same.
        megabytes: the dense FP32 file; of the fastest form.
    """

    network: str
    macs: tuple[int, int]
    parameters: tuple[int, int]
    dense_ms: float
    ms: dict[str, float]
    fastest: str
    megabytes: tuple[float, float]

    @property
    def share(self) -> float:
        """Of the dense network's time that is left."""
        return self.ms[self.fastest] / self.dense_ms


def time_pruned(network: str, macs: float, threads: int, folder: Path) -> Line:
    """Prune it to this share of its MACs, make every form, and time them in turn with the dense one."""
    from ..export import export
    from ..pruning.channels import Channels
    from ..pruning.counting import count_macs, count_parameters
    from ..pruning.importance import scores_of
    from ..pruning.target import Target, solve

    name, side, _ = NETWORKS[network]
    preprocessing = Preprocessing((side, side))
    rendered = np.random.default_rng(0).integers(0, 256, (_IMAGES, side, side), np.uint8)
    batch = np.stack([preprocessing.normalize(pixels) for pixels in rendered[:4]])
    dense = random_network(name, preprocessing, batch)
    stage(f"{network}: pruning to {macs:g} of the MACs")
    shape, target = preprocessing.shape, Target("macs", macs)
    lean = copy.deepcopy(dense)
    channels = Channels(lean, shape)
    scores = scores_of(channels.groups, "magnitude", lean)
    whole = count_macs(dense, shape)
    measure = lambda each: float(count_macs(each, shape))  # noqa: E731
    channels.take(solve(dense, shape, scores, macs * whole, measure, asked=str(target), unit=whole))
    stage(f"{network}: exporting")
    export(dense, batch, folder / "dense.onnx")
    export(lean.eval(), batch, folder / "pruned.onnx")
    stage(f"{network}: making the forms")
    forms = make_plain(folder / "pruned.onnx", rendered, preprocessing, select(("cpu",), int8=True), folder)
    reference = Candidate("dense", "onnxruntime", "fp32", (folder / "dense.onnx",))
    rounds = track(range(_ROUNDS), "Timing all forms in turn", _ROUNDS)
    timed = time_forms([reference, *forms], shape, threads, rounds)
    ms = {form: each.p50_ms for form, each in timed.items() if isinstance(each, Latency)}
    dense_ms = ms.pop("dense")
    fastest = min(ms, key=lambda form: ms[form])
    size = next(form.size_bytes for form in forms if form.name == fastest)
    return Line(
        network,
        (whole, count_macs(lean, shape)),
        (count_parameters(dense), count_parameters(lean)),
        dense_ms,
        ms,
        fastest,
        (reference.size_bytes / 1e6, size / 1e6),
    )


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.against.pruned")
    parser.add_argument("networks", nargs="*", metavar="NET", help=f"of {', '.join(NETWORKS)} (all)")
    parser.add_argument("--macs", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    unknown = [network for network in given.networks if network not in NETWORKS]
    if unknown:
        parser.error(f"not known: {', '.join(unknown)}")
    lines = []
    for network in given.networks or NETWORKS:
        with tempfile.TemporaryDirectory(prefix="medcompress-") as folder:
            lines.append(time_pruned(network, given.macs, given.threads, Path(folder)))
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(lines)).decode())
        return
    cpu = this_cpu()
    print(f"{cpu.model} ({cpu.kind}), {given.threads} thread(s), batch 1, median ms; dense: {REFERENCE}\n")
    print("| network | MACs left | parameters left | dense ms, MB | fastest pruned form | ms, MB | share of dense |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        left = [f"{100 * after / before:.1f} %" for before, after in (line.macs, line.parameters)]
        print(
            f"| {line.network} | {' | '.join(left)} | {line.dense_ms:.2f}, {line.megabytes[0]:.1f} | {line.fastest} | "
            f"{line.ms[line.fastest]:.2f}, {line.megabytes[1]:.2f} | {line.share:.3f} |"
        )


if __name__ == "__main__":
    run(main)
