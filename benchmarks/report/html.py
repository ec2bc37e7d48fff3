"""The report as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...runtime.errors import missing_package
from ..evidence import Evidence, Flip
from . import device_tables, evidence_tables, figures, int8_tables, network_tables, pareto, search_tables, words
from .headline import changed_answers, key_figures, marked_name, reasons, settling, standing, subject
from .limits import limits
from .loss_tables import class_tables, group_table
from .picture import Picture
from .record import Report
from .report_tables import (
    age,
    check_facts,
    latency_note,
    latency_table,
    margin_table,
    operating_variants,
    provenance_facts,
    registration_facts,
    ungrouped,
    variant_table,
)
from .strip import Strip, draw, draw_axis, margin_scale

Pictures = Mapping[tuple[str, int], Picture]
FLIPS_OF_OTHERS = 20
LEGEND = Strip(0.2, 0.2, 0.7, margin_scale(1.0), "an example of a loss within its margin")
SECTIONS = (
    ("criteria", "Criteria"),
    ("variants", "All variants"),
    ("accuracy", "Accuracy"),
    ("threshold", "Calibration and threshold"),
    ("speed", "Speed and size"),
    ("taken", "What was taken out"),
    ("tried", "What the search tried"),
    ("found", "How the INT8 form was found"),
    ("cpus", "On other CPUs"),
    ("subgroups", "Subgroups"),
    ("changed", "Agreement and changed answers"),
    ("data", "Data and leaks"),
    ("margins", "Margins"),
    ("limits", "What this does not show"),
    ("provenance", "Provenance"),
    ("others", "The other variants"),
    ("words", "Words"),
)


def render_html(report: Report, pictures: Pictures | None = None) -> str:
    """One self-contained page: no script, no request to anywhere.

    Args:
        pictures: of flipped cases, by variant and case. With them the page shows patients' images.

    Raises:
        MachineError: jinja2 or matplotlib is not installed.
        ValueError: a picture that is no ``data:image/`` URI.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise missing_package("jinja2", "report") from error
    from markupsafe import Markup

    shown = _checked(pictures or {})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals.update(
        strip=lambda strip: Markup(draw(strip)),
        axis=lambda scale: Markup(draw_axis(scale)),
        count=words.count,
        number=words.number,
        signed=words.signed,
        moment=words.moment,
        changed_answers=changed_answers,
        kind_cell=evidence_tables.kind_cell,
        sentence=words.sentence,
        pictures=shown,
        pictured_flips=lambda evidence: _pictured(evidence, shown),
    )
    return environment.get_template("report.html").render(_context(report))


def _context(report: Report) -> dict[str, Any]:
    evidence = subject(report)
    context: dict[str, Any] = {
        "report": report,
        "evidence": evidence,
        "word": words.verdict_word(report.verdict, report.accepted),
        "meaning": words.meaning(report),
        "reasons": reasons(report, evidence),
        "settling": settling(evidence),
        "outcomes": words.OUTCOMES,
        "shapes": words.SHAPES,
        "research_use": words.RESEARCH_USE,
        "question": words.QUESTION,
        "settled": words.SETTLED,
        "losses": words.LOSSES,
        "descriptive": "" if evidence is None else words.descriptive(report, evidence),
        "glossary": (*words.GLOSSARY, *network_tables.network_glossary(report)),
        "rule": words.locked_rule(report.rule, report.decision),
        "nouns": words.plural(words.noun(report.decision)),
        "sections": _sections(report),
        "intervals": latency_note(report),
        "device_said": device_tables.device_note(report),
        "taken_out": network_tables.TAKEN_OUT,
        "tried": search_tables.TRIED,
        "search": search_tables.search_words(report),
        "steps_said": int8_tables.steps_words(report),
        "steps_figures": int8_tables.FIGURES,
        "trails": int8_tables.trails(report),
        "fallback": int8_tables.fallback(report),
        "overflow_said": int8_tables.OVERFLOW,
        "overflow_found": int8_tables.overflow_words(report),
        "age": age(report),
        "checks": check_facts(report),
        "registration": registration_facts(report),
        "provenance": provenance_facts(report),
        "ungrouped": ungrouped(report),
        "limits": limits(report),
        "shown": evidence_tables.FLIPS_SHOWN,
        "shown_of_others": FLIPS_OF_OTHERS,
        "others": [
            _other(report, each)
            for each in report.evidence
            if each is not evidence and each.variant != report.reference
        ],
    }
    tables: dict[str, Any] = {
        "variants": variant_table(report),
        "latency": latency_table(report),
        "devices": device_tables.device_table(report),
        "networks": network_tables.network_table(report),
        "rounds": network_tables.round_table(report),
        "trials": search_tables.trial_table(report),
        "overflow": int8_tables.overflow_table(report),
        "margins": margin_table(report),
        "several": len(report.decision.classes) > 2,
        "operating_variants": operating_variants(report),
    }
    shown = report.chosen if evidence is None else evidence.variant
    pictured = {
        "latency": figures.latency_figure("latency", report, shown),
        "size": figures.size_figure("size", report, shown),
        "trade": pareto.trade_figure("trade", report),
        "tried_latency": pareto.search_figure("tried-latency", report, "latency"),
        "tried_size": pareto.search_figure("tried-size", report, "size"),
    }
    if evidence is not None:
        reference = next((each for each in report.evidence if each.variant == report.reference), None)
        tables |= _tables(report, evidence)
        tables["changes"] = evidence_tables.other_table(report, evidence)
        tables["operating"] = evidence_tables.operating_table(report, evidence)
        pictured["roc"] = figures.roc_figure("roc", reference, evidence)
        pictured["reliability"] = figures.reliability_figure("reliability", reference, evidence)
        context |= {
            "figures": key_figures(report, evidence),
            "standing": standing(report, evidence),
            "legend": LEGEND,
            "several": len(evidence.roc) > 1,
        }
    return context | {"tables": tables, "pictured": pictured}


def _sections(report: Report) -> list[tuple[str, str]]:
    """Without those that are not in this report."""
    parts = {"taken": report.networks, "tried": report.trials, "found": report.steps, "cpus": report.overflows}
    absent = {anchor for anchor, part in parts.items() if not part}
    return [each for each in SECTIONS if each[0] not in absent]


def _tables(report: Report, evidence: Evidence, flips: int = evidence_tables.FLIPS_SHOWN) -> dict[str, Any]:
    return {
        "criteria": evidence_tables.criteria_table(report, evidence),
        "classes": class_tables(report, evidence),
        "groups": group_table(report, evidence),
        "agreement": evidence_tables.agreement_table(report, evidence),
        "flips": evidence_tables.flip_table(report, evidence, flips),
    }


def _other(report: Report, evidence: Evidence) -> dict[str, Any]:
    name = marked_name(report, evidence.variant)
    return {"evidence": evidence, "name": name, **_tables(report, evidence, FLIPS_OF_OTHERS)}


def _checked(pictures: Pictures) -> Pictures:
    for (variant, case), picture in pictures.items():
        for uri in (picture.image, picture.reference_map, picture.variant_map):
            if not uri.startswith("data:image/"):
                raise ValueError(f"the picture of case {case} of {variant} is no data:image/ URI")
    return pictures


def _pictured(evidence: Evidence, pictures: Pictures) -> list[Flip]:
    return [flip for flip in evidence.flips if (evidence.variant, flip.case) in pictures]
