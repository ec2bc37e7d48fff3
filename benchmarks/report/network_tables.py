"""What was taken out of a network, and what was learned back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..networks import Network, Round
from .record import Report
from .tables import Column, Table
from .words import NONE, count, number, percent

TAKEN_OUT = (
    "A pruned network is another network than the uncompressed (dense) one: parts of it were taken out, and what is "
    "left then learned from the dense one's answers to the training images, for as many epochs as the table says. "
    "Single answers may therefore differ. That is why the gate judges each of its forms on the held-out images "
    "against the dense network, by the same margins as every other form. The figures below are of validation images, "
    "and no verdict rests on them."
)
NETWORK_WORDS = (
    ("dense network", "the uncompressed one, as it was given; the reference is its 32-bit form"),
    ("pruned network", "one with fewer channels in its layers, so that there is less to compute and to store"),
    ("MACs", "multiplications with an addition that the answer to one image takes; most of the time goes into them"),
    ("parameters", "the numbers that were learned; most of the size on disk"),
    (
        "recovery, distillation",
        "training after pruning, in which the dense network's answers are what is to be learned",
    ),
)


class _SpecRound(msgspec.Struct):
    """Of a round as a checkpoint keeps it, what can be said in a line; never the sizes of its layers."""

    macs: tuple[int, int]
    parameters: tuple[int, int]


def network_table(report: Report) -> Table:
    """Every pruned network, in the order they were made; the chosen form's is marked."""
    titles = (
        "million MACs left",
        "million parameters left",
        "input it looks at",
        "rounds",
        "epochs of recovery",
        "AUROC before the last recovery",
        "AUROC after it",
        "probabilities off by, before it",
        "after it",
        "minutes",
    )
    columns = (Column("network", words=True), *map(Column, titles))
    rows = tuple(_network(each) for each in report.networks)
    chosen = report.network_of(report.chosen)
    marked = tuple(place for place, each in enumerate(report.networks) if each is chosen)
    caption = "What was taken out, with figures on validation images before and after recovery"
    return Table(caption, columns, rows, marked)


def round_table(report: Report) -> Table:
    """Every round of the networks that took several; without rows where none did."""
    titles = ("million MACs", "million parameters", "epochs", "AUROC", "probabilities off by")
    columns = (
        Column("network and round", words=True),
        Column("asked", words=True),
        Column("chosen by", words=True),
        *map(Column, titles),
    )
    rows = tuple(
        (f"{network.name}, round {place}", *_round(each))
        for network in report.networks
        if len(network.rounds) > 1
        for place, each in enumerate(network.rounds, start=1)
    )
    return Table("What was taken out round by round, and recovery: before → after", columns, rows)


def network_glossary(report: Report) -> tuple[tuple[str, str], ...]:
    """The words of pruning, where there was some."""
    return NETWORK_WORDS if report.networks or report.trials else ()


def network_words(network: Network) -> str:
    """In a line: what is left of it."""
    looks = "" if network.looks_at is None else f", looks at {pixels(network.looks_at)}"
    return f"{network.name}: {_left(network.macs, network.parameters, len(network.rounds))}{looks}"


def pruning_words(report: Report, spec: Mapping[str, Any]) -> str:
    """In a line, whatever there is to tell; the rounds of a bundle's or checkpoint's spec where the report has none."""
    if report.networks:
        chosen = report.network_of(report.chosen)
        others = [network_words(each) for each in report.networks if each is not chosen]
        first = "none of the form that runs" if chosen is None else network_words(chosen)
        return "; ".join([first, *([f"judged too: {'; '.join(others)}"] if others else [])])
    if spec.get("pruning") is None:
        return "not known"
    try:
        rounds = msgspec.convert(spec["pruning"], tuple[_SpecRound, ...], from_attributes=True)
    except msgspec.ValidationError:
        return "pruned, in rounds that this version cannot read"
    if not rounds:
        return "none"
    macs, parameters = ((getattr(rounds[0], of)[0], getattr(rounds[-1], of)[1]) for of in ("macs", "parameters"))
    return _left(macs, parameters, len(rounds))


def pixels(size: tuple[int, int]) -> str:
    """Height by width."""
    return f"{size[0]} × {size[1]}\N{NO-BREAK SPACE}px"


def _network(network: Network) -> tuple[str, ...]:
    last = network.rounds[-1] if network.rounds else None
    auroc, distance = (None, None) if last is None else (last.auroc, last.distance)
    return (
        network.name,
        _with_share(network.macs),
        _with_share(network.parameters),
        "all of it" if network.looks_at is None else pixels(network.looks_at),
        str(len(network.rounds)),
        str(sum(each.epochs for each in network.rounds)),
        *((NONE, NONE) if auroc is None else map(number, auroc)),
        *((NONE, NONE) if distance is None else map(number, distance)),
        number(network.seconds / 60, 1),
    )


def _round(found: Round) -> tuple[str, ...]:
    return (
        found.asked,
        found.importance,
        " → ".join(map(_millions, found.macs)),
        " → ".join(map(_millions, found.parameters)),
        str(found.epochs),
        " → ".join(map(number, found.auroc)),
        " → ".join(map(number, found.distance)),
    )


def _left(macs: tuple[int, int], parameters: tuple[int, int], rounds: int) -> str:
    shares = f"{_share(macs)} of the MACs, {_share(parameters)} of the parameters are left"
    return f"{shares}, {count(rounds, 'round')}"


def _with_share(sizes: tuple[int, int]) -> str:
    return f"{_millions(sizes[1])} ({_share(sizes)})"


def _share(sizes: tuple[int, int]) -> str:
    return percent(sizes[1] / sizes[0]) if sizes[0] else NONE


def _millions(size: int) -> str:
    """Three digits at least, however small it has become."""
    value = size / 1e6
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"
