"""The model card, under the headings of Mitchell et al. (2019), "Model cards for model reporting", FAT* 220-229,
https://arxiv.org/abs/1810.03993.

What the report does not tell is said to be not known: a card that fills gaps with likely words is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evidence import Evidence
from . import evidence_tables
from .headline import key_figures, reasons, standing, subject
from .int8_tables import overflow_words, trails
from .limits import limits
from .loss_tables import class_tables, group_table
from .markdown import bullets, escaped, facts, text_table
from .network_tables import TAKEN_OUT, network_table, pruning_words
from .record import Report
from .report_tables import age, check_facts, margin_table, variant_table
from .search_tables import search_words
from .words import RESEARCH_USE, count, locked_rule, machine, meaning, moment, noun, plain, plural, verdict_word

_NOT_RECORDED = "Not recorded by medcompress; whoever gives the model away has to add it."
_FRONT = """---
library_name: medcompress
pipeline_tag: image-classification
tags:
- medical-imaging
- model-compression
---"""


def render_card(report: Report, spec: Mapping[str, Any]) -> str:
    """A model card as Markdown, with the front matter that model hubs read.

    Args:
        spec: of the network, as in the bundle's manifest; what it lacks is said to be not known.
    """
    evidence = subject(report)
    parts = [
        _FRONT,
        f"# Model card: {escaped(report.model)}",
        f"**{RESEARCH_USE}**",
        f"**{verdict_word(report.verdict, report.accepted)}.** {escaped(meaning(report))}",
        *map(escaped, reasons(report, evidence)),
        *(f"**Caution:** {escaped(caution)}" for caution in report.cautions),
        "## Model details",
        facts(_details(report, spec)),
        *((TAKEN_OUT, text_table(network_table(report))) if report.networks else ()),
        "## Intended use",
        bullets(map(escaped, _use(report))),
        "## Factors",
        *_factors(report, evidence),
        "## Metrics",
        bullets(map(escaped, _metrics(report))),
        text_table(margin_table(report)),
        "## Evaluation data",
        bullets(map(escaped, _evaluation_data(report))),
        "## Training data",
        bullets(map(escaped, _training_data(report))),
        "## Quantitative analyses",
        *_analyses(report, evidence),
        "## Ethical considerations",
        bullets(map(escaped, _ethics(report))),
        "## Caveats and recommendations",
        bullets(map(escaped, limits(report))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _details(report: Report, spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    preprocessing = spec.get("preprocessing")
    chosen = next((row for row in report.rows if row.name == report.chosen), None)
    runs = "not known" if chosen is None else f"{report.chosen}, {chosen.precision} on {chosen.engine}"
    found = next((each.said for each in trails(report) if each.form == report.chosen), "")
    versions = report.provenance.get("versions")
    return [
        ("network", str(spec.get("architecture", "not known"))),
        ("kind", f"{report.decision.kind} classifier of images"),
        (plural(noun(report.decision)), ", ".join(report.decision.classes)),
        ("runs as", runs),
        ("figures are of", f"{report.cpu.model} ({machine(report)})"),
        *((("INT8 form", f"{found}, on validation images"),) if found else ()),
        *((("on a CPU without VNNI", overflow_words(report)),) if report.overflows else ()),
        ("compressed from", report.reference),
        ("preprocessing", plain(preprocessing) if preprocessing else "not known"),
        ("pruning", pruning_words(report, spec)),
        *((("search", search_words(report)),) if report.trials else ()),
        ("decision", locked_rule(report.rule, report.decision)),
        ("checkpoint", plain(report.provenance.get("checkpoint", "not known"))),
        ("made", f"{moment(report.created)} with {plain(versions) if versions else 'versions that are not known'}"),
        ("who trained it, licence, contact", _NOT_RECORDED),
    ]


def _use(report: Report) -> list[str]:
    classes = ", ".join(report.decision.classes)
    return [
        f"Primary use: to answer images of the kind it was tested on with {classes}, for research, where a faster or "
        "smaller form of the original network is wanted.",
        "Primary users: engineers and researchers of the institution whose images it was tested on.",
        "Out of scope: diagnosis, triage or any other decision about a patient; images of another kind, from other "
        "scanners or of other populations than those below; CPUs on which medcompress verify does not pass.",
        f"Images of another kind: the input guard is {plain(report.provenance.get('input guard', 'none'))}.",
        f"A clinical purpose, and whether it was agreed with anyone: {_NOT_RECORDED.lower()}",
    ]


def _factors(report: Report, evidence: Evidence | None) -> list[str]:
    if evidence is None or not evidence.groups:
        said = (
            "Which patients and devices matter is not known to medcompress. No subgroups were asked for or evaluated."
        )
        return [said]
    names = ", ".join(dict.fromkeys(each.by for each in evidence.groups))
    return [
        escaped(f"Evaluated: {names}. Others (scanner, site, skin type, ...) were not looked at, unless named here."),
        text_table(group_table(report, evidence)),
    ]


def _metrics(report: Report) -> list[str]:
    return [
        "AUROC, sensitivity and specificity at the locked threshold, calibration error, changed answers and the "
        f"largest change of a probability, each as the loss from {report.reference} on the same images.",
        locked_rule(report.rule, report.decision),
        f"Bounds are one-sided at {report.tolerance.confidence:.0%} confidence. The margins came from "
        f"{report.registration.source or 'the defaults'}; older than the results: {age(report)}.",
    ]


def _evaluation_data(report: Report) -> list[str]:
    images = ", ".join(f"{number} {name}" for name, number in report.images.items())
    return [
        f"{count(report.held_out, 'held-out image')} of {count(report.patients, 'patient')}: {images}.",
        *check_facts(report),
        f"Where they come from, who labelled them and under which consent: {_NOT_RECORDED.lower()}",
    ]


def _training_data(report: Report) -> list[str]:
    known = [
        f"{name}: {plain(report.provenance[name])}" for name in ("data", "calibration") if name in report.provenance
    ]
    return [
        *(known or ["What it was trained on is not known from this report."]),
        f"Where they come from, who labelled them and under which consent: {_NOT_RECORDED.lower()}",
    ]


def _analyses(report: Report, evidence: Evidence | None) -> list[str]:
    parts = []
    if evidence is None:
        parts.append("Nothing was judged.")
    else:
        lines = (
            f"{each.title}: {each.value}; {'; '.join(filter(None, each.detail))}"
            for each in key_figures(report, evidence)
        )
        parts += [escaped(f"Unitary results: {standing(report, evidence)}."), bullets(map(escaped, lines))]
        parts.append(text_table(evidence_tables.criteria_table(report, evidence)))
        tables = class_tables(report, evidence)
        parts += map(text_table, tables)
    crossed = "Intersections of subgroups (say, sex within an age band) were not evaluated."
    return [*parts, text_table(variant_table(report)), crossed]


def _ethics(report: Report) -> list[str]:
    return [
        "The bundle and this card hold no image and no name of a patient; the mean of all calibration images is part "
        "of the golden vectors.",
        "Compression can harm some patients and not others: see the factors above, and what was not looked at.",
        "A wrong answer of the original stays wrong: agreement with it is no proof of benefit.",
        f"Risks of the use that is planned, and what was done about them: {_NOT_RECORDED.lower()}",
    ]
