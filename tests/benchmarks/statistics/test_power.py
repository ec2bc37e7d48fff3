from __future__ import annotations

import msgspec
import numpy as np
import pytest

from medcompress.benchmarks.statistics.delong import AurocLoss, auroc_loss
from medcompress.benchmarks.statistics.paired import PairedProportion, paired_proportion
from medcompress.benchmarks.statistics.power import more_patients_for_auroc, more_patients_for_proportion

CONFIDENCE, POWER = 0.95, 0.8


def answers(lost: int, gained: int, images: int, several: int = 1) -> PairedProportion:
    change = np.repeat([1, -1, 0], [lost, gained, images - lost - gained])
    whose = [str(number // several) for number in range(images)]
    return paired_proportion(change >= 0, change <= 0, whose, CONFIDENCE)


@pytest.mark.parametrize(
    ("lost", "gained", "images", "margin"), [(5, 3, 390, 0.01), (1, 1, 100, 0.03), (6, 2, 234, 0.03), (2, 0, 60, 0.05)]
)
def test_so_many_patients_settle_the_sensitivity_about_as_often_as_said(
    lost: int, gained: int, images: int, margin: float
) -> None:
    more = more_patients_for_proportion(answers(lost, gained, images), margin, CONFIDENCE, POWER)
    assert more
    rng, total = np.random.default_rng(0), images + more
    shares = [lost / images, gained / images, 1 - (lost + gained) / images]
    passed = 0
    for _ in range(400):
        change = rng.choice([1, -1, 0], total, p=shares)
        bound = paired_proportion(change >= 0, change <= 0, [str(n) for n in range(total)], CONFIDENCE).bound
        passed += bound is not None and bound <= margin
    assert 0.7 <= passed / 400 <= 0.92


def test_without_a_changed_answer_the_rule_of_three_is_the_least() -> None:
    more = more_patients_for_proportion(answers(0, 0, 50), 0.05, CONFIDENCE, POWER)
    assert more is not None
    assert 59 <= 50 + more <= 120
    enough = answers(0, 0, 50 + more).bound
    assert enough is not None
    assert enough <= 0.05


def test_patients_are_counted_not_images() -> None:
    alone = more_patients_for_proportion(answers(6, 2, 234), 0.03, CONFIDENCE, POWER)
    copied = more_patients_for_proportion(answers(18, 6, 702, several=3), 0.03, CONFIDENCE, POWER)
    assert alone
    assert copied == pytest.approx(alone, rel=0.05)


def test_a_loss_at_the_margin_is_settled_by_no_number() -> None:
    assert more_patients_for_proportion(answers(3, 0, 100), 0.03, CONFIDENCE, POWER) is None
    assert more_patients_for_proportion(answers(0, 0, 0), 0.03, CONFIDENCE, POWER) is None
    assert more_patients_for_proportion(answers(0, 0, 50), 0.0, CONFIDENCE, POWER) is None
    assert more_patients_for_proportion(answers(0, 0, 1000), 0.03, CONFIDENCE, POWER) == 0
    assert more_patients_for_proportion(answers(0, 3, 100), 0.03, CONFIDENCE, POWER) == 0


def study(rng: np.random.Generator, images: int) -> AurocLoss:
    """Areas of 0.914 and, 0.005 lower, 0.909; noise of 0.6."""
    positive = (np.arange(images) % 2)[:, None]
    reference = rng.standard_normal((images, 1)) + 1.9319 * positive
    variant = reference + 0.6 * rng.standard_normal((images, 1)) + (2.2016 - 1.9319) * positive
    names = [str(number) for number in range(images)]
    found = auroc_loss(positive.astype(np.int8), reference, variant, [0], names, CONFIDENCE)
    assert found is not None
    return found


def test_so_many_patients_settle_the_auroc_about_as_often_as_said() -> None:
    rng, margin = np.random.default_rng(0), 0.02
    pilots = [study(rng, 400) for _ in range(100)]
    loss, error = (float(np.mean([getattr(pilot, name) for pilot in pilots])) for name in ("loss", "standard_error"))
    assert loss == pytest.approx(0.005, abs=0.003)
    bound = loss + float(np.mean([pilot.bound - pilot.loss for pilot in pilots if pilot.bound is not None]))
    typical = msgspec.structs.replace(pilots[0], loss=0.005, standard_error=error, bound=bound)
    more = more_patients_for_auroc(typical, margin, 400, CONFIDENCE, POWER)
    assert more
    bounds = [study(rng, 400 + more).bound for _ in range(300)]
    assert 0.7 <= np.mean([bound is not None and bound <= margin for bound in bounds]) <= 0.92


def test_when_the_auroc_is_settled_or_never_will_be() -> None:
    found = AurocLoss(0.95, 0.94, 0.01, 0.004, 0.002, 0.018, 0.017, 0.02, None, "")
    assert more_patients_for_auroc(found, 0.01, 300, CONFIDENCE, POWER) is None
    assert more_patients_for_auroc(found, 0.02, 300, CONFIDENCE, POWER) == 0
    few = more_patients_for_auroc(found, 0.015, 300, CONFIDENCE, POWER)
    many = more_patients_for_auroc(found, 0.011, 300, CONFIDENCE, POWER)
    assert few
    assert many
    assert many > 10 * few
    better = msgspec.structs.replace(found, loss=-0.01, bound=0.012)
    assert more_patients_for_auroc(better, 0.01, 300, CONFIDENCE, POWER)
    alike = msgspec.structs.replace(found, loss=0.0, standard_error=0.0, bound=0.0)
    assert more_patients_for_auroc(alike, 0.0, 300, CONFIDENCE, POWER) == 0
    unknown = msgspec.structs.replace(found, loss=0.0, standard_error=None, bound=None)
    assert more_patients_for_auroc(unknown, 0.02, 300, CONFIDENCE, POWER) is None


def test_pairs_that_all_kept_their_order_need_so_many_more_of_them() -> None:
    positive = (np.arange(100) < 50)[:, None]
    first = positive + np.arange(100)[:, None] / 1000
    second = positive - np.arange(100)[:, None] / 1000

    def of(times: int) -> AurocLoss:
        arguments = (np.tile(each, (times, 1)) for each in (positive.astype(np.int8), first, second))
        found = auroc_loss(*arguments, [0], [str(number) for number in range(100 * times)], CONFIDENCE)
        assert found is not None
        return found

    more = more_patients_for_auroc(of(1), 0.02, 100, CONFIDENCE, POWER)
    assert more is not None
    assert 100 + more == pytest.approx(2 * np.log(0.05) / np.log(0.98), abs=1)
    enough = of(3).bound
    assert enough is not None
    assert (enough <= 0.02) == (100 + more <= 300)
