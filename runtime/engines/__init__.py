"""The inference engines behind one small interface, a module each."""

from .base import ENGINES, Engine, Executed, load_engine, package_of

__all__ = ["ENGINES", "Engine", "Executed", "load_engine", "package_of"]
