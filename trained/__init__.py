"""Tasks, data, architectures, training and checkpoints. Needs torch."""

from ..runtime import silence  # noqa: F401  # before timm, huggingface_hub and the trackers
