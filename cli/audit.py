"""``medcompress audit``: check an audit log, note its head, find an image in it."""

from __future__ import annotations

import re
from pathlib import Path

import click

from .documents import as_json_option, print_json

_logs = click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group("audit")
def command() -> None:
    """Check an audit log, note its head, find an image in it.

    A log is the folder `serve --audit` writes. Files of it may be named instead, oldest first.
    """


def _digest(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise click.BadParameter("give the 64 hexadecimal digits that medcompress audit head prints")
    return value


@command.command("verify")
@_logs
@click.option("--head", callback=_digest, help="A head noted earlier: shows whether the end was cut off or rewritten.")
@click.option("--after", callback=_digest, help="Head of the older files, where they were put away.")
@as_json_option
def verify(logs: tuple[Path, ...], head: str | None, after: str | None, as_json: bool) -> int:
    """Find lines that were changed, removed, put in, moved or doubled.

    Exit codes: 0 the chain is whole, 2 it is not. Lines cut off at the end, or a whole end written anew, show only
    against a head that was noted elsewhere (--head).
    """
    from ..runtime.audit_chain import FIRST
    from ..runtime.audit_check import check_log

    found = check_log(logs, head=head or "", after=after or FIRST)
    if as_json:
        print_json(found)
        return 0 if found.whole else 2
    for problem in found.problems:
        click.echo(f"{problem.file}, line {problem.line}: {problem.kind}: {problem.message}")
    if found.problem_count > len(found.problems):
        click.echo(f"... and {found.problem_count - len(found.problems)} more")
    counts = ", ".join(f"{count} {event}" for event, count in sorted(found.events.items()))
    click.echo(f"{found.lines} lines in {len(found.files)} file(s): {counts or 'nothing'}")
    if found.unfinished:
        click.echo("the last line is not finished: a writer is at work, or was killed; the next one marks it")
    click.echo(f"head: number {found.head}, {found.head_sha256}")
    if not head:
        click.echo("whether lines are missing at the end shows only against a head noted elsewhere: --head")
    click.echo("whole" if found.whole else f"not whole: {found.problem_count} problem(s)")
    return 0 if found.whole else 2


@command.command("head")
@click.argument("folder", type=click.Path(path_type=Path))
def head(folder: Path) -> None:
    """Print the number and the sha256 of the last line, to be kept where the writer of the log cannot change it."""
    from ..runtime.audit_chain import read_end
    from ..runtime.audit_check import audit_paths
    from ..runtime.errors import InputError

    audit_paths([folder])
    if not folder.is_dir():
        raise InputError(f"{folder}: is one file of a log, and its head is the last file's; name the folder")
    last = read_end(folder).head
    click.echo(f"{last.number} {last.sha256}")


@command.command("show")
@_logs
@click.option("--image", type=click.Path(path_type=Path), help="Only the lines about this file, known by its bytes.")
def show(logs: tuple[Path, ...], image: Path | None) -> None:
    """Print the lines as they stand. The log holds no names: --image finds what was answered for a file.

    On a terminal, what is no text is shown as ?: a line that was tampered with is not to draw on it.
    """
    import hashlib
    import sys

    from ..runtime.audit_check import audit_paths
    from ..runtime.errors import InputError

    wanted = b""
    if image:
        try:
            with image.open("rb") as file:
                wanted = f'"input_sha256":"{hashlib.file_digest(file, "sha256").hexdigest()}"'.encode()
        except OSError as error:
            raise InputError(f"{image}: cannot be opened ({error.strerror}); check the path") from error
    for path in audit_paths(logs):
        with path.open("rb") as lines:
            for line in lines:
                if wanted not in line:
                    continue
                if sys.stdout.isatty():
                    text = line.decode(errors="replace").removesuffix("\n")
                    click.echo("".join(each if each.isprintable() else "?" for each in text))
                else:
                    click.echo(line, nl=not line.endswith(b"\n"))
