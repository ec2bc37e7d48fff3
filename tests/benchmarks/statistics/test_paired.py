from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar

from medcompress.benchmarks.statistics.paired import PairedProportion, most_lost, paired_proportion, score

RNG = np.random.default_rng(0)


def compared(lost: int, gained: int, images: int, several: int = 1, confidence: float = 0.95) -> PairedProportion:
    """Half of the unchanged ones right; patients of ``several`` images in a row."""
    kinds = [(True, False)] * lost + [(False, True)] * gained
    kinds += [(place % 2 == 0, place % 2 == 0) for place in range(images - len(kinds))]
    right = np.array(kinds, bool).reshape(-1, 2)
    return paired_proportion(right[:, 0], right[:, 1], [str(n // several) for n in range(images)], confidence)


@pytest.mark.parametrize(
    ("lost", "gained", "images", "confidence", "low", "high", "digits"),
    [
        # Cavo et al. 2012 and Bentur et al. 2009, as worked in Fagerland, Lydersen and Laake, Statistical Analysis of
        # Contingency Tables (2017), chapter 8, with Tango's interval; printed by their R package contingencytables.
        (6, 16, 161, 0.95, -0.1240, -0.0054, 4),
        (1, 7, 21, 0.95, -0.517, -0.026, 3),
        # R's PropCIs::scoreci.mp(25, 28, 618, 0.90), whose difference is the second less the first.
        (28, 25, 618, 0.90, -0.0148, 0.0247, 4),
    ],
)
def test_published_intervals(
    lost: int, gained: int, images: int, confidence: float, low: float, high: float, digits: int
) -> None:
    found = compared(lost, gained, images, confidence=confidence)
    assert found.low is not None
    assert found.high is not None
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)


@pytest.mark.parametrize(("lost", "gained"), [(6, 16), (0, 5), (9, 9), (1, 0), (40, 12)])
def test_the_test_is_mcnemars(lost: int, gained: int) -> None:
    found = compared(lost, gained, 161)
    table = [[60, lost], [gained, 161 - 60 - lost - gained]]
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_mcnemars_published_exact_value() -> None:
    # Fagerland, Lydersen and Laake (2017), chapter 8, the data of Cavo et al.: P = 0.052479.
    assert compared(6, 16, 161).p_value == pytest.approx(0.052479, abs=5e-7)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 3000))
@settings(max_examples=100, deadline=None)
def test_the_limits_are_where_the_statistic_says(lost: int, gained: int, images: int) -> None:
    found = compared(lost, gained, images)
    assert found.loss is not None
    assert found.low is not None
    assert found.high is not None
    assert found.bound is not None
    assert -1 <= found.low <= found.loss <= found.bound <= found.high <= 1
    if gained:
        assert score(lost, gained, images, found.bound) == pytest.approx(-norm.ppf(0.95), abs=1e-6)
    else:
        assert found.bound == pytest.approx(beta.ppf(0.95, lost + 1, images - lost), abs=1e-9)
    mirrored = compared(gained, lost, images)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert mirrored.p_value == found.p_value


def test_every_count_has_an_answer() -> None:
    for images in (1, 2, 3, 7):
        for lost in range(images + 1):
            for gained in range(images + 1 - lost):
                found = compared(lost, gained, images)
                assert found.low is not None
                assert found.high is not None
                assert -1 <= found.low <= (lost - gained) / images <= found.high <= 1


def test_no_change_is_no_proof() -> None:
    found = compared(0, 0, 99)
    assert (found.loss, found.p_value, found.lost, found.gained) == (0, 1, 0, 0)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 99))
    # Of two and a half in a hundred Tango's limit, which is Wilson's here, is the wider one.
    z = norm.ppf(0.975)
    assert found.low == pytest.approx(-(z**2) / (99 + z**2))


def test_without_images_nothing_is_said() -> None:
    nothing = np.zeros(0, bool)
    found = paired_proportion(nothing, nothing, [])
    assert found == PairedProportion(0, 0, None, None, 0, 0, None, None, None, None, None, None, 1.0)


def passes(images: int, lost: float, gained: float, margin: float) -> float:
    """The exact probability that the bound is within the margin."""
    most = binom.ppf(1 - 1e-9, images, max(lost, gained))
    counts = np.arange(int(most) + 1)
    weight = binom.pmf(counts, images, lost)[:, None] * np.array(
        [binom.pmf(counts, images - count, gained / (1 - lost)) for count in counts]
    )
    within = np.array([[most_lost(b, c, images, 0.05) <= margin for c in counts] for b in counts])
    return float((weight * within).sum())


@pytest.mark.parametrize(
    ("images", "margin", "gained"),
    [(300, 0.02, 0.0), (200, 0.03, 0.0), (100, 0.01, 0.02), (123, 0.015, 0.01), (390, 0.03, 0.005), (234, 0.05, 0.01)],
)
def test_at_the_margin_it_passes_in_one_of_twenty(images: int, margin: float, gained: float) -> None:
    """The worst of a wide enumeration, and what Tango's alone passes too often (the first two)."""
    assert passes(images, margin + gained, gained, margin) <= 0.055


def test_tango_alone_would_pass_too_many_where_nothing_is_gained() -> None:
    counts = np.arange(30)
    alone = np.array([score(count, 0, 300, 0.02) <= -norm.ppf(0.95) for count in counts])
    assert (binom.pmf(counts, 300, 0.02) * alone).sum() > 0.055


def test_images_of_one_patient_count_together() -> None:
    alone = compared(12, 4, 400)
    copied = compared(36, 12, 1200, several=3)
    assert alone.design_effect == 1
    assert copied.loss == pytest.approx(alone.loss)
    assert 2.8 < copied.design_effect < 3.01
    assert copied.bound == pytest.approx(alone.bound, abs=0.001)
    assert copied.p_value == pytest.approx(alone.p_value, abs=0.02)
    assert copied.patients == 400


def test_where_patients_do_not_matter_the_effect_is_small() -> None:
    change = RNG.permutation(np.repeat([1, -1, 0], [300, 200, 3500]))
    found = paired_proportion(change >= 0, change <= 0, [str(number // 4) for number in range(4000)])
    assert 1 <= found.design_effect < 1.15


def test_without_a_change_patients_are_the_images() -> None:
    found = compared(0, 0, 300, several=3)
    assert found.design_effect == pytest.approx(3)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 100))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_at_the_margin_patients_with_several_images_pass_no_oftener(share: float) -> None:
    """600 studies of 100 patients with 1 to 4 images; ``share`` of them have all their images changed alike."""
    rng, margin, gained = np.random.default_rng(1), 0.03, 0.0025
    passed = naive = 0
    for _ in range(600):
        whose = np.repeat(np.arange(100), rng.integers(1, 5, 100))
        kinds = rng.choice([1, -1, 0], (2, len(whose)), p=[margin + gained, gained, 1 - margin - 2 * gained])
        change = np.where((rng.random(100) < share)[whose], kinds[0][whose], kinds[1])
        found = paired_proportion(change >= 0, change <= 0, whose.astype(str).tolist())
        assert found.bound is not None
        passed += found.bound <= margin
        naive += most_lost(found.lost, found.gained, found.images, 0.05) <= margin
    # Not surely above 5.5 % of the studies.
    assert binomtest(passed, 600, 0.055, alternative="greater").pvalue > 0.01
    assert naive > 0.08 * 600
