"""The light runtime: a bundle in, answers out. Imports no torch, and opens no socket."""

from . import silence  # noqa: F401  # before any engine
from .errors import BundleError, EngineError, ImageError, InputError, MachineError, MedcompressError
from .prediction import Prediction
from .predictor import Predictor, load
from .preprocessing import Preprocessing

__all__ = [
    "BundleError",
    "EngineError",
    "ImageError",
    "InputError",
    "MachineError",
    "MedcompressError",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "load",
]
