"""How fast training runs beside a bare PyTorch loop of the same network, and whether the loader keeps up.

    python -m medcompress.trained.learning.throughput --data DIR [--arch resnet18] [--size 128]

Rounds of both loops alternate, so that other load on the machine meets both. The bare loop holds all images as
normalized tensors in memory and does the least that trains: forward, loss, backward, clip, step.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import lightning.pytorch as pl
import torch
from torch.nn import functional

from ...benchmarks.progress import stage
from ...runtime.preprocessing import Preprocessing
from ..data.datasets import EpochBatches, ImageDataset, loader, normalize
from ..data.splits import DataSource, split_of
from ..data.statistics import find_colour
from ..networks.architectures import build, resolve
from ..spec import ModelSpec
from ..tasks import decision_for
from .augmentation import augment
from .classifier import Classifier
from .fitting import quiet
from .options import TrainOptions

ROUNDS = 5
STEPS = 12


class _Stopwatch(pl.Callback):
    """Seconds from the first batch to the end of the last one, the first left out as a warm-up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.begun = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.begun = time.perf_counter()
        self.seconds = time.perf_counter() - self.begun


def measure(options: TrainOptions, images: int = 512) -> dict[str, float]:
    """Images a second of the loader, of the bare loop and of ours, and ours as a share of the bare loop.

    The loader is timed without any training. ``ratio`` is of loops that augment alike; ``ratio_unaugmented``
    compares with a bare loop that does not augment.
    """
    split = split_of(options.source)
    samples = split.train[:: max(1, len(split.train) // images)][:images]
    preprocessing = Preprocessing((options.size, options.size), find_colour(samples), dicom=options.rendering)
    dataset = ImageDataset(samples, preprocessing)
    spec = ModelSpec(options.architecture, preprocessing, decision_for(split.classes, "", split.multilabel))
    torch.manual_seed(0)
    classifier = Classifier(build(spec), spec, options, dataset.targets)
    targets = dataset.targets.argmax(dim=1)
    inputs = normalize(dataset[range(len(dataset))][0], classifier.table)

    def bare(augmented: bool) -> float:
        return _bare(classifier, dataset, inputs, targets, options, augmented)

    loops: dict[str, Callable[[], float]] = {
        "ours": lambda: _ours(classifier, dataset, options),
        "bare": lambda: bare(True),
        "bare_unaugmented": lambda: bare(False),
    }
    found: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(ROUNDS):
        stage(f"round {number + 1}/{ROUNDS}")
        for name, loop in loops.items():
            found[name].append(options.batch_size * STEPS / loop())
    rates = {name: statistics.median(values) for name, values in found.items()}
    return {
        "loader_images_per_s": _loader(dataset, options),
        **{f"{name}_images_per_s": value for name, value in rates.items()},
        "ratio": statistics.median(a / b for a, b in zip(found["ours"], found["bare"], strict=True)),
        "ratio_unaugmented": statistics.median(
            a / b for a, b in zip(found["ours"], found["bare_unaugmented"], strict=True)
        ),
    }


def _ours(classifier: Classifier, dataset: ImageDataset, options: TrainOptions) -> float:
    watch = _Stopwatch()
    with quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            precision="bf16-mixed" if options.precision == "bf16" else "32-true",
            max_epochs=1,
            limit_train_batches=STEPS + 1,
            gradient_clip_val=options.clip,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, loader(dataset, EpochBatches(len(dataset), options.batch_size, 0)))
    return watch.seconds


def _bare(
    classifier: Classifier,
    dataset: ImageDataset,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    options: TrainOptions,
    augmented: bool,
) -> float:
    network = classifier.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batches = list(EpochBatches(len(dataset), options.batch_size, 0))[: STEPS + 1]
    begun = 0.0
    for number, batch in enumerate(batches):
        images = inputs[batch]
        if augmented:
            images = augment(dataset[batch][0], classifier.augmentation).expand(-1, 3, -1, -1)
        images = images.contiguous(memory_format=classifier.layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = functional.cross_entropy(network(images), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if number == 0:
            begun = time.perf_counter()
    return time.perf_counter() - begun


def _loader(dataset: ImageDataset, options: TrainOptions) -> float:
    batches = EpochBatches(len(dataset), options.batch_size, 0)
    begun, seen = time.perf_counter(), 0
    while time.perf_counter() - begun < 1:
        seen += sum(len(targets) for _, targets in loader(dataset, batches))
    return seen / (time.perf_counter() - begun)


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--arch", default="resnet18", show_default=True)
@click.option("--size", default=128, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--augmentation", type=click.Choice(["none", "light", "strong"]), default="light", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
def main(data: Path, arch: str, size: int, batch_size: int, augmentation: Any, precision: Any) -> None:
    """Print one JSON document of rates on this machine's CPU."""
    options = TrainOptions(
        DataSource(str(data.resolve())),
        resolve(arch),
        size=size,
        flips="none",
        batch_size=batch_size,
        augmentation=augmentation,
        precision=precision,
    )
    click.echo(json.dumps({name: round(value, 3) for name, value in measure(options).items()}, indent=2))


if __name__ == "__main__":
    main()
