"""One line of the table: a form of the model, how well it answers and how fast."""

from __future__ import annotations

import msgspec

# Fields of a Row that come from the labelled images, and are stored in a bundle.
ACCURACY_FIGURES = (
    "auroc",
    "auroc_drop",
    "auroc_drop_bound",
    "accuracy",
    "sensitivity",
    "specificity",
    "probability_change",
    "flips",
)


class Row(msgspec.Struct, frozen=True):
    """One line of the table.

    Attributes:
        precision: executed, as the engine tells it; as asked for where it did not run.
        auroc_drop: reference minus this one; negative is better than the reference.
        auroc_drop_bound: it is at most this with the confidence of the tolerance, one-sided, paired.
        flips: images whose answer differs from the reference's.
        speedup_vs_reference, speedup_vs_eager: by medians; against the baseline (torch eager) where it was timed.
        quantiles_ms: of the single runs, at the percents of :data:`medcompress.benchmarks.timing.latency.QUANTILES`.
        p50_low_ms, ..., p99_high_ms: 95 % interval of that quantile over the runs; None where the runs are too few for
            that end, or were measured before it was kept.
        engine_ms, images_per_second, energy_mj, device_memory_mib: of a form on a GPU or another accelerator, see
            :class:`medcompress.benchmarks.timing.gpu.DeviceFigures`.
        status: ``reference``, ``pass``, ``inconclusive: ...``, ``fail: ...``, ``baseline`` (latency only), ``measured``
            (no labelled images were given), ``not run here: ...`` or ``error: ...``.
    """

    name: str
    engine: str
    precision: str
    size_bytes: int
    status: str
    auroc: float | None = None
    auroc_drop: float | None = None
    auroc_drop_bound: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    probability_change: float | None = None
    flips: int | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    runs: int | None = None
    speedup_vs_reference: float | None = None
    speedup_vs_eager: float | None = None
    device: str | None = None
    threads: int | None = None
    p99_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    quantiles_ms: tuple[float, ...] = ()
    p90_low_ms: float | None = None
    p90_high_ms: float | None = None
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None
    engine_ms: float | None = None
    images_per_second: dict[int, float] = {}
    energy_mj: float | None = None
    device_memory_mib: float | None = None

    @property
    def engine_share(self) -> float | None:
        """Of the median latency that is the engine's own by the device's clock; the rest is copies and launches."""
        return min(1.0, self.engine_ms / self.p50_ms) if self.engine_ms and self.p50_ms else None

    @property
    def runs_as(self) -> str:
        """The precision, and where it is not ONNX Runtime's or OpenVINO's CPU the device: ``fp16 on CUDA``."""
        device = (self.device or "CPU").partition(" on ")[0].replace("ExecutionProvider", "")
        return self.precision if device.upper() == "CPU" else f"{self.precision} on {device}"

    @property
    def state(self) -> str:
        """The status without its reason: ``pass``, ``inconclusive``, ``fail``, ``error``, ``not run here``, ..."""
        return self.status.partition(":")[0]

    @property
    def passed(self) -> bool:
        """Whether the gate lets it through; the reference always is."""
        return self.status in {"pass", "reference"}
