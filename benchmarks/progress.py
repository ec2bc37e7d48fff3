"""Progress of long work, on stderr: stdout is for results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


def rank() -> int:
    """Number of this process among those that train together (torchrun's and Lightning's variables); 0 alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def leads() -> bool:
    """Whether this process speaks for all that work together."""
    return rank() == 0


console = Console(stderr=True, highlight=False, emoji=False, quiet=not leads())


def stage(text: str) -> None:
    """Say what begins, or what came of it, on a line of its own."""
    console.print(text, markup=False, soft_wrap=True)


def track(items: Iterable[T], title: str, total: float | None = None) -> Iterator[T]:
    """Pass ``items`` through under a progress bar; without a terminal there is no bar."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, description=title, total=total)
