from __future__ import annotations

import json
import subprocess
import sys

import pytest

from medcompress.benchmarks.statistics.coverage import Scenario, cover, scenarios


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("auroc", 100, 0.01, 0.3, False),
        Scenario("auroc", 600, 0.01, 0.1, False),
        Scenario("auroc", 600, 0.01, 0.3, True),
        Scenario("macro", 600, 0.01, 0.3, True),
        Scenario("sensitivity", 600, 0.03, 0.0, False),
    ],
    ids=lambda scenario: f"{scenario.figure} {scenario.images} {'several' if scenario.several else 'one'}",
)
def test_bounds_hold_about_as_often_as_they_say(scenario: Scenario) -> None:
    """300 studies, whose share has a standard error of 1.3 %: limits three of them off 95 %."""
    found = cover(scenario, 300)
    assert 0.912 <= found.one_sided <= 0.988
    assert 0.912 <= found.two_sided <= 0.988
    assert found.low <= found.false_pass <= found.high
    assert found.false_pass == pytest.approx(1 - found.one_sided)


def test_the_seed_makes_the_studies() -> None:
    scenario = Scenario("auroc", 100, 0.01, 0.3, True)
    assert cover(scenario, 30, seed=3) == cover(scenario, 30, seed=3)


def test_the_command_prints_every_scenario() -> None:
    command = [sys.executable, "-m", "medcompress.benchmarks.statistics.coverage", "--studies", "1"]
    printed = subprocess.run([*command, "--workers", "1", "--json"], capture_output=True, check=True, text=True).stdout
    assert [row["scenario"]["figure"] for row in json.loads(printed)] == [each.figure for each in scenarios()]
