"""What a report does not show, in plain words; as far as the data tell, about these data."""

from __future__ import annotations

from .headline import subject
from .record import Report
from .words import RESEARCH_USE, count, machine, percent


def limits(report: Report) -> tuple[str, ...]:
    """A sentence or two each, what weighs most first."""
    return tuple(said for said in (*_of_the_sample(report), *_of_the_margins(report), *_of_use(report)) if said)


def few_classes(report: Report) -> tuple[str, ...]:
    """Classes with fewer held-out images than the margins ask for."""
    return tuple(f"{name} ({number})" for name, number in report.images.items() if number < report.tolerance.minimum)


def _of_the_sample(report: Report) -> tuple[str, ...]:
    sample = (
        f"The {count(report.held_out, 'held-out image')} of {count(report.patients, 'patient')} are a sample. Other "
        "scanners, hospitals, populations and ways to take the image were not looked at, unless they are among the "
        "subgroups above. The labels were taken as they are: who read the images, and how well, is not known here."
    )
    few = few_classes(report)
    scarce = f"Few images stand behind: {', '.join(few)}. What is said of them is worth little." if few else ""
    repeated = report.held_out - report.patients
    same = (
        f"Some patients have several images ({report.held_out:,} images of {report.patients:,} patients); the "
        "bounds allow for that, as far as the patients' names are right."
        if repeated > 0
        else ""
    )
    compared = sum(each.variant != report.reference for each in report.evidence)
    reused = (
        f"The same images judged {compared} forms and chose among them. A confidence is that of one form: that some "
        "form passes by chance is likelier."
        if compared > 1
        else ""
    )
    relative = (
        "Shown is that the compressed model answers as its original does. Whether the original is good enough for "
        "anything is not shown: both can be wrong together."
    )
    found = subject(report)
    groups = (
        ""
        if found is not None and found.groups
        else "No subgroups were looked at: a loss that strikes some patients alone would not be seen."
    )
    return sample, relative, scarce, same, groups, reused, *_of_networks(report)


def _of_networks(report: Report) -> tuple[str, ...]:
    """What a pruned network and a search leave open."""
    found = subject(report)
    network = None if found is None else report.network_of(found.variant)
    learned = (
        ""
        if network is None
        else f"{network.name} is a pruned network, which is another one than the original. How it answers images "
        "unlike the held-out ones was not looked at: there it may differ from the original more than these figures say."
    )
    searched = (
        f"A search compared {count(len(report.trials), 'network')} on the same validation images: their validation "
        "figures look better than they would on others."
        if report.trials
        else ""
    )
    return learned, searched


def _of_the_margins(report: Report) -> tuple[str, ...]:
    defaults = (
        ""
        if report.registration.source
        else "The margins are the defaults of medcompress: choices of engineers, not of clinicians. Whoever signs "
        "should say whether a loss of that size would matter to a patient."
    )
    late = ""
    if not report.registration.before:
        late = (
            "The margins were changed after the images had first been answered: the verdict is not one against margins "
            "set beforehand."
            if report.registration.written
            else "Whether the margins were set before the images were answered is not known."
        )
    dated = (
        "That the margins are older than the results rests on the date of their file, which can be changed: hold its "
        "sha256 against that of the file that was agreed."
        if report.registration.source and report.registration.before
        else ""
    )
    several = (
        "p values are adjusted for the number of classes (Holm), intervals and bounds are not."
        if len(report.decision.classes) > 2
        else ""
    )
    sure = (
        f"A bound at {percent(report.tolerance.confidence, 0)} confidence is wrong in up to "
        f"{percent(1 - report.tolerance.confidence, 0)} of such studies."
    )
    return defaults, late, dated, sure, several


def _of_use(report: Report) -> tuple[str, ...]:
    locked = (
        "The likeliest class is the answer; there is no threshold."
        if report.decision.kind == "multiclass"
        else "The threshold is locked; with another one sensitivity, specificity and the changed answers are others. "
        + _mix(report)
    )
    skipped = [row.name for row in report.rows if row.status.startswith("not run here")]
    absent = f"Not run on this machine, and so not judged: {', '.join(skipped)}." if skipped else ""
    elsewhere = (
        f"Latency was measured on one machine ({report.cpu.model}, {machine(report)}). Elsewhere it "
        "differs, and on another kind of CPU the answers of a compressed form may differ too: medcompress verify "
        "checks that there."
    )
    return locked, elsewhere, absent, RESEARCH_USE


def _mix(report: Report) -> str:
    """How common the finding is here: of how much a positive answer is worth nothing else is said."""
    positive = report.decision.positive
    if not positive or not report.held_out:
        return "How much a positive answer is worth depends on how common the finding is, and is not shown."
    share = percent(report.images.get(positive, 0) / report.held_out, 0)
    return f"Here {share} of the images have {positive}; where fewer do, more of the positive answers are false."
