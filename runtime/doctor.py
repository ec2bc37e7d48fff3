"""What is wrong on this machine, or with a bundle on it, and how to mend it: one page for whoever stands before it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .bundle import GOLDEN_FILE, Bundle, Variant, open_bundle
from .engines import Executed
from .errors import BundleError
from .golden import PIXEL_TOLERANCE, pixel_error, read_golden
from .machine import Machine, this_machine
from .placement import in_order, remember, remembered
from .remedies import Problem, of_bundle, of_damage, of_machine
from .selftest import damaged_files
from .signing import signatures_of
from .trial import Trial, measure


class Form(msgspec.Struct, frozen=True):
    """A variant on this machine.

    Attributes:
        status: ``ok``, or why it does not run here.
        golden_error: largest logit difference over all golden vectors, as a share of the largest logit.
        here_ms, made_ms: median of one inference, batch 1, here and where the bundle was made.
        damaged: one of its files is missing or was changed.
        heat, heat_error: of its heat maps, see :class:`medcompress.runtime.checks.VariantCheck`.
    """

    name: str
    ok: bool
    status: str
    golden_error: float | None
    here_ms: float | None
    made_ms: float | None
    executed: Executed | None
    damaged: bool
    heat: str = ""
    heat_error: float | None = None


class Examined(msgspec.Struct, frozen=True):
    """A bundle on this machine.

    Attributes:
        error: why it cannot be opened at all; what follows is then empty.
        made_on: the CPU it was measured on when it was made, and its class.
        pixel_error: of the preprocessing, in grey levels.
        damaged: what is wrong with files that are not as they were written.
        used: the variant that answers here, or None.
        remembered: the order found was kept for the next start.
        signer: name of the trusted key it is signed with; empty where no key is trusted here.
        signatures: names of the keys it claims to be signed with.
    """

    bundle: str
    error: str = ""
    identity: str = ""
    verdict: str = ""
    created: str = ""
    made_on: str = ""
    chosen: str = ""
    threads: int = 0
    files: int = 0
    pixel_error: int | None = None
    damaged: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ()
    used: str | None = None
    remembered: bool = False
    signer: str = ""
    signatures: tuple[str, ...] = ()


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine, the bundles on it, and everything that is wrong."""

    machine: Machine
    bundles: tuple[Examined, ...]
    problems: tuple[Problem, ...]

    @property
    def exit_code(self) -> int:
        """0: all that was asked about answers; 2: a bundle is damaged; 3: something does not run here."""
        if any(bundle.error or bundle.damaged for bundle in self.bundles):
            return 2
        runs = all(bundle.used for bundle in self.bundles) and any(self.machine.engines.values())
        return 0 if runs else 3


def diagnose(folders: tuple[Path, ...], threads: int | None = None, trust: str | Path | None = None) -> Diagnosis:
    """Look at this machine, and at each bundle: every file, and every variant tried and timed in its own process.

    What is found to be the fastest is remembered for this machine, and is what answers from now on. ``trust``: see
    :func:`medcompress.runtime.bundle.open_bundle`.
    """
    machine = this_machine()
    problems = of_machine(machine)
    examined = []
    for folder in folders:
        try:
            bundle = open_bundle(folder, trust=trust)
            found, wrong = _examine(bundle, threads or bundle.manifest.threads, machine)
        except BundleError as error:
            found, wrong = Examined(str(folder), error=str(error)), [of_damage(str(error))]
        examined.append(found)
        problems += wrong
    return Diagnosis(machine, tuple(examined), tuple(sorted(problems, key=lambda problem: not problem.serious)))


def _examine(bundle: Bundle, threads: int, machine: Machine) -> tuple[Examined, list[Problem]]:
    manifest = bundle.manifest
    damaged = damaged_files(bundle)
    if GOLDEN_FILE in damaged:
        raise BundleError(damaged[GOLDEN_FILE])
    off = pixel_error(read_golden(bundle), manifest.preprocessing)
    trials = {trial.check.name: trial for trial in measure(bundle, threads, heat=True)}
    order = in_order(bundle, remember(bundle, threads, tuple(trials.values())))
    forms = tuple(_form(variant, trials[variant.name]) for variant in order)
    found = Examined(
        bundle=str(bundle.folder),
        identity=bundle.identity,
        verdict=manifest.verdict,
        created=manifest.created,
        made_on=manifest.made_on,
        chosen=manifest.chosen,
        threads=threads,
        files=len(manifest.files),
        pixel_error=off,
        damaged=tuple(damaged.values()),
        forms=forms,
        used=next((form.name for form in forms if form.ok), None) if off <= PIXEL_TOLERANCE else None,
        remembered=remembered(bundle, threads) is not None and not any(form.damaged for form in forms),
        signer=bundle.signer,
        signatures=signatures_of(bundle.folder),
    )
    return found, of_bundle(bundle, found, machine)


def _form(variant: Variant, trial: Trial) -> Form:
    check = trial.check
    made = variant.figures.get("p50_ms")
    return Form(
        name=check.name,
        ok=check.ok,
        status=check.status,
        golden_error=check.golden_error,
        here_ms=trial.p50_ms,
        made_ms=made,
        executed=check.executed,
        damaged=check.damaged,
        heat=check.heat,
        heat_error=check.heat_error,
    )
