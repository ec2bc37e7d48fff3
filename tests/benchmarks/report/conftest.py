"""Figures take most of the time of a page: those of the same data are drawn once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from medcompress.benchmarks.report import figures, pareto

Drawn = dict[str, str]


@pytest.fixture(scope="session")
def _drawn() -> Drawn:
    return {}


@pytest.fixture(scope="session", autouse=True)
def _drawn_once(_drawn: Drawn) -> Iterator[None]:
    def remembered(draw: Callable[..., str]) -> Callable[..., str]:
        def drawn(*data: object) -> str:
            key = f"{draw.__name__} {data!r}"
            if key not in _drawn:
                _drawn[key] = draw(*data)
            return _drawn[key]

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        for module in (figures, pareto):
            for name in [each for each in vars(module) if each.endswith("_figure")]:
                patch.setattr(module, name, remembered(getattr(module, name)))
        yield


@pytest.fixture
def drawn_anew(_drawn: Drawn) -> None:
    """No figure is remembered."""
    _drawn.clear()
