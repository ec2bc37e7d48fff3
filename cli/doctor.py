"""``medcompress doctor``: what this machine is, what runs on it and how fast, what is wrong and how to mend it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .documents import as_json_option, print_json, signature_words

if TYPE_CHECKING:
    from ..runtime.doctor import Diagnosis, Examined, Form
    from ..runtime.machine import Machine

_WIDTH = 80
_LABEL = 13


@click.command("doctor")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@click.option(
    "--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, they must be signed with."
)
@as_json_option
def command(bundles: tuple[Path, ...], threads: int | None, trust: Path | None, as_json: bool) -> int:
    """Say what this machine is, which variants of BUNDLEs run on it and how fast, what is wrong and how to mend it.

    Each variant is tried and timed in a process of its own, some seconds a bundle; the fastest is remembered for this
    machine, and answers from now on.

    Exit codes: 0 all well, 2 a bundle is damaged, 3 nothing runs here.
    """
    from ..runtime.doctor import diagnose

    found = diagnose(bundles, threads, trust)
    if as_json:
        print_json(found)
    else:
        _print_machine(found.machine)
        for bundle in found.bundles:
            _print_bundle(bundle)
        _print_problems(found)
    return found.exit_code


def _print_machine(machine: Machine) -> None:
    cpu = machine.cpu
    click.secho("This machine", bold=True)
    _line("CPU", f"{cpu.model}: {machine.kind} ({', '.join(cpu.features) or 'no feature that matters'})")
    _line("", ", ".join(_power(machine)))
    if machine.memory_mib is not None:
        free = f", {machine.available_mib / 1024:.1f} free" if machine.available_mib is not None else ""
        _line("memory", f"{machine.memory_mib / 1024:.1f} GiB{free}")
    _line("GPU", machine.gpu)
    _line("system", machine.system)
    _line("clock", f"{machine.now:%Y-%m-%d %H:%M} UTC")
    if machine.state:
        may = "" if machine.state.writable else "cannot be written to, "
        _line("state", f"{machine.state.folder}: {may}{machine.state.free_mib / 1024:.1f} GiB free")
    click.secho("\nInstalled", bold=True)
    _line("medcompress", f"{machine.medcompress}, Python {machine.python}")
    for engine, version in machine.engines.items():
        _line(engine, version or f"no: pip install 'medcompress[{engine}]'")
    decoders: dict[str, list[str]] = {}
    for name, decoder in machine.formats.items():
        decoders.setdefault(decoder, []).append(name)
    for place, (decoder, names) in enumerate(decoders.items()):
        _line("" if place else "images", f"{', '.join(names)}: {decoder}")
    for extra in machine.extras:
        if extra.name not in machine.engines:
            mend = f"pip install 'medcompress[{extra.name}]'"
            part = "no" if len(extra.lacks) == extra.packages else "partly"
            has = f"{part}: {mend}" if extra.lacks else "yes"
            _line(extra.name, f"{extra.purpose}: {has}")


def _power(machine: Machine) -> list[str]:
    told = [f"{machine.cpu.cores} core{'' if machine.cpu.cores == 1 else 's'}"]
    if machine.quota is not None:
        told.append(f"at most {machine.quota:.2g} of them")
    if machine.load is not None:
        told.append(f"load {machine.load:.1f}")
    if machine.governor:
        told.append(f"governor {machine.governor}")
    if machine.throttled:
        told.append(f"slowed by heat {machine.throttled} times")
    return told


def _print_bundle(bundle: Examined) -> None:
    click.secho(f"\n{bundle.bundle}", bold=True)
    if bundle.error:
        _line("damaged", bundle.error)
        return
    _line("verdict", f"{bundle.verdict.upper()}, made {bundle.created[:10]} on {bundle.made_on or 'an unknown CPU'}")
    _line("identity", bundle.identity[:16])
    _line("signature", signature_words(bundle.signer, bundle.signatures))
    _line("files", f"{bundle.files - len(bundle.damaged)} of {bundle.files} as they were written")
    levels = bundle.pixel_error
    _line("pixels", "as where it was made" if not levels else f"off by {levels} grey levels at most")
    threads = "1 thread" if bundle.threads == 1 else f"{bundle.threads} threads"
    width = max(len(form.name) for form in bundle.forms)
    click.echo(f"\n    {'form':{width}}  {'ms here':>8}  {'ms made':>8}  {'error':>8}   ({threads}, batch 1)")
    for form in bundle.forms:
        _print_form(form, width, form.name == bundle.used)
    if bundle.used:
        kept = "remembered for this machine" if bundle.remembered else "not remembered: see below"
        click.echo(f"  * answers here, as the fastest ({kept})")


def _print_form(form: Form, width: int, used: bool) -> None:
    figures = [_number(form.here_ms, 2), _number(form.made_ms, 2), _number(form.golden_error, 5)]
    row = f"  {'*' if used else ' '} {form.name:{width}}  " + "  ".join(f"{figure:>8}" for figure in figures)
    ran = form.executed
    click.secho(row + (f"   {ran.precision}, {ran.device.replace('ExecutionProvider', '')}" if ran else ""), bold=used)
    if not form.ok:
        why = "damaged: see below" if form.damaged else form.status
        click.echo(textwrap.fill(why, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    elif form.heat not in ("", "ok"):
        click.echo(
            textwrap.fill(f"no heat maps: {form.heat}", _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        )


def _print_problems(found: Diagnosis) -> None:
    if not found.problems:
        click.secho("\nNothing is wrong.", bold=True)
        return
    click.secho("\nWhat is wrong, and what mends it", bold=True)
    for problem in found.problems:
        mark = "!" if problem.serious else "-"
        click.secho(
            textwrap.fill(problem.what, _WIDTH, initial_indent=f"  {mark} ", subsequent_indent=" " * 4),
            fg="red" if problem.serious else None,
        )
        click.echo(textwrap.fill(problem.mend, _WIDTH, initial_indent="    mend: ", subsequent_indent=" " * 10))


def _line(label: str, text: str) -> None:
    first = f"  {label:{_LABEL}}"
    click.echo(textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first)))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
