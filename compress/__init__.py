"""Prune, export, calibrate, quantize, judge, and put into a bundle. Needs torch."""

from ..runtime import silence  # noqa: F401  # before any engine
