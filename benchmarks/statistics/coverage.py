"""How often the bounds hold, by simulation: ``python -m medcompress.benchmarks.statistics.coverage``.

Every study is drawn with the true loss at the margin, so that one figure tells both: the share of studies in which a
95 % bound holds, and that in which it falls below the margin and the variant would wrongly pass. The scores are
binormal: of the reference 0 for healthy and d for diseased, plus standard normal noise; the variant's are the
reference's plus noise of its own and less a shift of the diseased, of the size that makes the true loss what it is to
be. Of several images a patient (1 to 4) half of either variance is shared by them, and seven of ten have their
patient's truth, the others one of their own. The areas of the reference lie between 0.85 and 0.95, the share of the
diseased between 0.3 and 0.6, drawn anew for every study.

Of the calibration, probabilities that are right are raised, by so much on the mean that the calibration error is the
margin; of the flips, so many answers change. Neither has a two-sided interval.

Whether a variant passes is asked of the gate itself, with the other margins wide. With several margins it passes less
often still, for every one must be kept (Berger 1982, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 24:295-300).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ..progress import track
from ..tolerance import Tolerance
from ..verdict import Criterion, judge, of_auroc, of_calibration, of_flips, of_share
from .agreement import agreement
from .bootstrap import Floats
from .delong import AurocLoss, auroc_loss
from .judged import judged
from .paired import PairedProportion, paired_proportion
from .shift import shift

IMAGES = (100, 600, 5000)
NOISES = (0.1, 0.3, 0.6)
STUDIES = 2000
CONFIDENCE = 0.95
# Of the losses: those of the default tolerance.
AUROC_MARGIN, SENSITIVITY_MARGIN, ECE_MARGIN, FLIPS_MARGIN = 0.01, 0.03, 0.03, 0.03
_SHARED = 0.5
_AS_PATIENT = 0.7
_MOST_IMAGES = 4
_CLASSES = 3
# Studies a process is given at once.
_AT_ONCE = 100

# Every loss but the one in question is allowed, and nothing is too few.
GATE = Tolerance(AUROC_MARGIN, SENSITIVITY_MARGIN, 1, ECE_MARGIN, FLIPS_MARGIN, 1, confidence=CONFIDENCE, minimum=1)
DECISION = Decision("binary", ("healthy", "diseased"), "diseased")
# Whether the one-sided bound held, and the two-sided interval, and whether the gate let the variant pass.
Held: TypeAlias = tuple[bool, bool, bool]
Counts: TypeAlias = npt.NDArray[np.int64]


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to draw studies.

    Attributes:
        figure: ``auroc`` of two classes, ``macro`` AUROC of three, ``sensitivity``, ``ece`` or ``flips``.
        images: in a study; of sensitivity the diseased.
        loss: true, and the margin.
        noise: standard deviation of what the variant adds to the reference's scores; 0 where there are none.
        several: images a patient.
    """

    figure: Literal["auroc", "macro", "sensitivity", "ece", "flips"]
    images: int
    loss: float
    noise: float
    several: bool


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of one scenario.

    Attributes:
        one_sided, two_sided: share of the studies in which bound or interval holds; to be 0.95.
        false_pass: share of the studies that the gate lets pass, the other margins being wide; to be at most 0.05.
        low, high: of ``false_pass``, the exact 95 % interval that so many studies give.
    """

    scenario: Scenario
    studies: int
    one_sided: float
    two_sided: float
    false_pass: float
    low: float
    high: float


def scenarios(images: Sequence[int] = IMAGES) -> list[Scenario]:
    """All that the command shows."""
    found: list[Scenario] = []
    for several in (False, True):
        for count in images:
            found += [Scenario("auroc", count, AUROC_MARGIN, noise, several) for noise in NOISES]
    for several in (False, True):
        found += [Scenario("macro", count, AUROC_MARGIN, 0.3, several) for count in images]
    for several in (False, True):
        found += [Scenario("sensitivity", count, SENSITIVITY_MARGIN, 0.0, several) for count in images]
    for several in (False, True):
        found += [Scenario("ece", count, ECE_MARGIN, 0.0, several) for count in images]
    for several in (False, True):
        found += [Scenario("flips", count, FLIPS_MARGIN, 0.0, several) for count in images]
    return found


def cover(scenario: Scenario, studies: int, seed: int = 0, run: Callable[..., Iterable[Counts]] = map) -> Coverage:
    """Draw so many studies and count.

    Args:
        seed: the same gives the same, whoever runs them.
        run: ``map``, or that of a pool of processes.
    """
    from scipy.stats import binomtest

    sizes = [min(_AT_ONCE, studies - start) for start in range(0, studies, _AT_ONCE)]
    parts = run(_some, [scenario] * len(sizes), sizes, [(seed, place) for place in range(len(sizes))])
    one, two, passed = (int(count) for count in np.sum(list(parts), axis=0))
    interval = binomtest(passed, studies).proportion_ci(0.95, method="exact")
    return Coverage(
        scenario, studies, one / studies, two / studies, passed / studies, float(interval.low), float(interval.high)
    )


def _some(scenario: Scenario, studies: int, seed: tuple[int, int]) -> Counts:
    rng = np.random.default_rng(seed)
    study = {
        "auroc": auroc_study,
        "macro": macro_study,
        "sensitivity": sensitivity_study,
        "ece": calibration_study,
        "flips": flips_study,
    }[scenario.figure]
    return np.sum([study(rng, scenario) for _ in range(studies)], axis=0)


def auroc_study(rng: np.random.Generator, scenario: Scenario) -> Held:
    """Two classes."""
    patient = _patients(rng, scenario)
    share = rng.uniform(0.3, 0.6)
    present = _of_patient_or_own(rng, patient, lambda size: (rng.random(size) < share).astype(np.intp))
    return _auroc_held(rng, scenario, present[:, None].astype(np.int8), patient)


def macro_study(rng: np.random.Generator, scenario: Scenario) -> Held:
    """Three classes, each against the rest; half of every score's variance is the image's in all of them."""
    patient = _patients(rng, scenario)
    share = rng.uniform(0.3, 0.6)
    shares = [share, (1 - share) / 2, (1 - share) / 2]
    label = _of_patient_or_own(rng, patient, lambda size: rng.choice(_CLASSES, size, p=shares))
    return _auroc_held(rng, scenario, np.eye(_CLASSES, dtype=np.int8)[label], patient)


def sensitivity_study(rng: np.random.Generator, scenario: Scenario) -> Held:
    """Diseased images: the variant mends a share of them, and loses as many and the margin's."""
    patient = _patients(rng, scenario)
    gained = rng.uniform(0.0, 0.02)
    kinds = np.array([[True, False], [False, True], [True, True], [False, False]])
    shares = [scenario.loss + gained, gained, 0.85, 0.15 - scenario.loss - 2 * gained]
    kind = _of_patient_or_own(rng, patient, lambda size: rng.choice(4, size, p=shares))
    right = kinds[kind]
    found = paired_proportion(right[:, 0], right[:, 1], _names(patient), CONFIDENCE)
    return _held(scenario.loss, found, of_share("sensitivity", "", found, GATE))


def calibration_study(rng: np.random.Generator, scenario: Scenario) -> Held:
    """Probabilities that are right, and the variant's, which are too high."""
    patient = _patients(rng, scenario)
    probability = rng.uniform(0.1, 0.8, len(patient))
    raised = probability + _of_patient_or_own(rng, patient, lambda size: rng.uniform(0, 2 * scenario.loss, size))
    target = (rng.random(len(patient)) < probability).astype(np.int8)
    truth, names = np.stack([1 - target, target], axis=1), _names(patient)
    reference, variant = (
        judged(DECISION, truth, np.stack([1 - each, each], axis=1), names) for each in (probability, raised)
    )
    found = shift(reference, variant, CONFIDENCE)
    criterion = of_calibration(0.0, found, len(patient), int(patient[-1]) + 1, GATE)
    held = found.bound is None or scenario.loss <= found.bound
    return held, held, judge([criterion], identical=False).outcome == "pass"


def flips_study(rng: np.random.Generator, scenario: Scenario) -> Held:
    """Answers, some of which change."""
    patient = _patients(rng, scenario)
    score = rng.standard_normal(len(patient))
    changed = _of_patient_or_own(rng, patient, lambda size: rng.random(size) < scenario.loss)
    before, after = (np.stack([-each, each], axis=1) for each in (score, np.where(changed, -score, score)))
    found = agreement(DECISION, before, after, _names(patient), CONFIDENCE)
    criterion = of_flips(found, int(patient[-1]) + 1, GATE)
    held = scenario.loss <= found.bound
    return held, held, judge([criterion], identical=False).outcome == "pass"


def _auroc_held(
    rng: np.random.Generator, scenario: Scenario, target: npt.NDArray[np.int8], patient: npt.NDArray[np.intp]
) -> Held:
    from scipy.special import ndtri

    area, noise = rng.uniform(0.85, 0.95), scenario.noise
    apart = np.sqrt(2) * float(ndtri(area))
    apart_after = np.sqrt(2 + 2 * noise**2) * float(ndtri(area - scenario.loss))
    reference = _normal(rng, patient, target.shape) + apart * target
    variant = reference + noise * _normal(rng, patient, target.shape) - (apart - apart_after) * target
    found = auroc_loss(target, reference, variant, range(target.shape[1]), _names(patient), CONFIDENCE)
    fewest = int(min(target.sum(axis=0).min(), (1 - target).sum(axis=0).min()))
    return _held(scenario.loss, found, of_auroc(found, len(target), fewest, int(patient[-1]) + 1, GATE))


def _held(loss: float, found: AurocLoss | PairedProportion | None, criterion: Criterion) -> Held:
    """What cannot be said excludes nothing."""
    passed = judge([criterion], identical=False).outcome == "pass"
    if found is None:
        return True, True, passed
    two_sided = found.low is None or found.high is None or found.low <= loss <= found.high
    return found.bound is None or loss <= found.bound, two_sided, passed


def _patients(rng: np.random.Generator, scenario: Scenario) -> npt.NDArray[np.intp]:
    """(images,) whose each is."""
    if not scenario.several:
        return np.arange(scenario.images)
    sizes = rng.integers(1, _MOST_IMAGES + 1, scenario.images)
    return np.repeat(np.arange(scenario.images), sizes)[: scenario.images]


def _of_patient_or_own(
    rng: np.random.Generator, patient: npt.NDArray[np.intp], draw: Callable[[int], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    as_patient = rng.random(len(patient)) < _AS_PATIENT
    return np.where(as_patient, draw(len(patient))[patient], draw(len(patient)))


def _names(patient: npt.NDArray[np.intp]) -> list[str]:
    return [str(number) for number in patient.tolist()]


def _normal(rng: np.random.Generator, patient: npt.NDArray[np.intp], shape: tuple[int, ...]) -> Floats:
    """Standard normal, partly the patient's and partly the image's, where a patient has several."""
    images, classes = shape
    own = rng.standard_normal(shape)
    if classes > 1:
        own = np.sqrt(0.5) * own + np.sqrt(0.5) * rng.standard_normal((images, 1))
    if patient[-1] == images - 1:
        return own
    shared = rng.standard_normal((images, classes))[patient]
    return np.sqrt(1 - _SHARED) * own + np.sqrt(_SHARED) * shared


def _print(found: Sequence[Coverage]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{found[0].studies} studies each: how often a {CONFIDENCE:.0%} bound holds, and passes at the margin"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("figure")
    for name in (
        "images",
        "a patient",
        "noise",
        "true loss",
        "one-sided %",
        "two-sided %",
        "passes %",
        "95 % interval",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        scenario = each.scenario
        table.add_row(
            scenario.figure,
            str(scenario.images),
            f"1 to {_MOST_IMAGES}" if scenario.several else "1",
            f"{scenario.noise:g}" if scenario.noise else "-",
            f"{scenario.loss:g}",
            f"{each.one_sided:.1%}".rstrip("%"),
            f"{each.two_sided:.1%}".rstrip("%"),
            f"{each.false_pass:.1%}".rstrip("%"),
            f"{100 * each.low:.1f} to {100 * each.high:.1f}",
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 110)
    console.print(table)


def main() -> None:
    """Run all scenarios and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.benchmarks.statistics.coverage", description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="of each scenario (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if given.studies < 1 or given.workers < 1 or given.seed < 0:
        parser.error("--studies and --workers are at least 1, --seed at least 0")
    todo = scenarios()
    rows = track(todo, "Simulating", len(todo))
    if given.workers == 1:
        found = [cover(each, given.studies, given.seed) for each in rows]
    else:
        with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
            found = [cover(each, given.studies, given.seed, pool.map) for each in rows]
    if given.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        _print(found)


if __name__ == "__main__":
    main()
