"""What can be wrong on a kiosk, a sentence each, and what mends it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from .bundle import Bundle
from .engines import package_of
from .golden import PIXEL_TOLERANCE
from .hardware import Cpu
from .machine import Machine
from .requirements import lacking

if TYPE_CHECKING:
    from .doctor import Examined

# Below these, in MiB, an update of a bundle or the audit log may not fit, or an engine not start.
_LEAST_DISK, _LEAST_MEMORY = 200, 256
# Slower than this beside the machine it was made on, on a CPU of the same class, is worth a look.
_SLOW = 2.0


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, in a sentence, and what mends it: a command, or a sentence where there is none.

    Attributes:
        serious: False for what answers are given in spite of.
    """

    what: str
    mend: str
    serious: bool = True


def of_machine(machine: Machine) -> list[Problem]:
    """Whatever bundle it is to run."""
    found = []
    if not any(machine.engines.values()):
        found.append(Problem("no inference engine can be loaded", "pip install --force-reinstall onnxruntime"))
    state = machine.state
    if state is None or not state.writable:
        where = state.folder if state else "the state folder"
        what = f"{where} cannot be written to: which form is fastest is not remembered"
        found.append(_minor(what, "export MEDCOMPRESS_STATE=FOLDER, of a folder this user may write to"))
    elif state.free_mib < _LEAST_DISK:
        what = f"{state.free_mib:.0f} MiB are left on the disk of {state.folder}"
        found.append(_minor(what, "free some: journalctl --vacuum-size=100M"))
    if machine.available_mib is not None and machine.available_mib < _LEAST_MEMORY:
        what = f"{machine.available_mib:.0f} MiB of memory are left for new processes"
        found.append(_minor(what, "end what is not needed; the largest come first in: ps aux --sort -rss"))
    if machine.throttled:
        what = f"its cores were slowed down by heat {machine.throttled} times since it was started"
        found.append(_minor(what, "clean its fan and vents, and give it room"))
    if machine.quota is not None and machine.quota < 1:
        what = f"this process may use {machine.quota:.2g} of a CPU: a control group limits it"
        found.append(_minor(what, "raise CPUQuota= of its systemd unit, or --cpus of its container"))
    for extra in machine.extras:
        if 0 < len(extra.lacks) < extra.packages:
            what = f"for {extra.purpose} there is no {', '.join(extra.lacks)}"
            found.append(_minor(what, f"pip install 'medcompress[{extra.name}]'"))
    return found


def of_bundle(bundle: Bundle, examined: Examined, machine: Machine) -> list[Problem]:
    """Of one bundle on it."""
    folder, created = bundle.folder, bundle.manifest.created
    found = [of_damage(sentence) for sentence in examined.damaged]
    found += _of_forms(bundle, examined, machine)
    if not any(form.ok for form in examined.forms):
        what = f"{folder}: none of its forms runs on this machine"
        found.append(Problem(what, "on a machine like this one: medcompress optimize CHECKPOINT --int8"))
    off = examined.pixel_error or 0
    if off > PIXEL_TOLERANCE:
        what = f"{folder}: Pillow here decodes or resizes otherwise than where it was made, by {off} grey levels"
        found.append(Problem(what, f"pip install {_pinned(bundle, 'pillow')}"))
    if _is_before(machine.now, created):
        what = f"the clock says {machine.now:%Y-%m-%d}, and {folder} was made later, on {created[:10]}"
        found.append(_minor(what, "timedatectl set-time 'YYYY-MM-DD HH:MM:SS'"))
    return found


def of_damage(sentence: str) -> Problem:
    """Of a file that is not as it was written, whose error tells how to mend it after its last semicolon."""
    what, _, mend = sentence.rpartition("; ")
    return Problem(what or sentence, mend if what else "copy the bundle again")


def _minor(what: str, mend: str) -> Problem:
    return Problem(what, mend, serious=False)


def _of_forms(bundle: Bundle, examined: Examined, machine: Machine) -> list[Problem]:
    found = []
    for form in examined.forms:
        variant = bundle.manifest.variant(form.name)
        # What is for another machine is as it should be, and what is damaged was told with its file.
        if form.ok or form.damaged or lacking(variant.requires, machine.cpu):
            continue
        package = package_of(variant.engine)
        if variant.engine == "tensorrt":
            found.append(_of_plan(bundle, form.name, form.status))
        elif variant.engine != package:
            what = f"{form.name} does not run here: {form.status.rpartition('; ')[0] or form.status}"
            found.append(_minor(what, form.status.rpartition("; ")[2]))
        elif machine.engines.get(variant.engine):
            what = f"{form.name} does not run here: {form.status}"
            found.append(_minor(what, f"pip install {_pinned(bundle, variant.engine)}"))
        else:
            what = f"{form.name} cannot run: {variant.engine} is not installed, or cannot be loaded"
            found.append(_minor(what, f"pip install 'medcompress[{variant.engine}]'"))
    for form in examined.forms:
        if form.ok and form.heat not in ("", "ok"):
            found.append(_minor(f"{form.name} makes no heat maps here: {form.heat}", _explained_by(bundle, form.name)))
    used = next((form for form in examined.forms if form.name == examined.used), None)
    like = _kind_made_on(bundle) == machine.kind
    if used and like and used.here_ms and used.made_ms and used.here_ms > _SLOW * used.made_ms:
        what = f"{used.name} takes {used.here_ms:.2f} ms here and took {used.made_ms:.2f} where it was made"
        found.append(_minor(what, _faster(machine)))
    return found


def _of_plan(bundle: Bundle, name: str, status: str) -> Problem:
    """Of a form whose plan is built on the machine that runs it: the error tells how to mend it, or a new one may."""
    what, _, mend = status.rpartition("; ")
    mend = mend.removeprefix("run: ").replace("BUNDLE", str(bundle.folder)) if what else ""
    return _minor(f"{name} does not run here: {what or status}", mend or f"medcompress build {bundle.folder}")


def _explained_by(bundle: Bundle, name: str) -> str:
    """Its engine as it was where the golden maps were made; of a damaged graph the file is told apart."""
    return f"pip install {_pinned(bundle, package_of(bundle.manifest.variant(name).engine))}"


def _faster(machine: Machine) -> str:
    """The likeliest reason first."""
    if machine.governor in {"powersave", "conservative"}:
        return "cpupower frequency-set -g performance (the governor is " + machine.governor + ")"
    if machine.load is not None and machine.load > machine.cpu.cores:
        return f"end other work: {machine.load:.1f} processes want its {machine.cpu.cores} cores; see: top"
    return "compare in a quiet minute: medcompress benchmark BUNDLE"


def _pinned(bundle: Bundle, package: str) -> str:
    """As where the bundle was made."""
    known = bundle.manifest.made_with(package)
    return f"{package}=={known}" if known else package


def _kind_made_on(bundle: Bundle) -> str | None:
    try:
        return msgspec.convert(bundle.manifest.lineage.get("cpu"), Cpu).kind
    except msgspec.ValidationError:
        return None


def _is_before(now: datetime, created: str) -> bool:
    """By more than a day, which no time zone explains."""
    try:
        return now < datetime.fromisoformat(created) - timedelta(days=1)
    except (ValueError, TypeError):
        return False
