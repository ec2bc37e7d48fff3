"""The command line: parse, one call, render, exit code.

Exit codes: 0 done, 1 the gate said no, 2 wrong usage or input, 3 this machine lacks something, 70 a fault of
medcompress itself, 130 stopped by Ctrl-C, 141 the reader of its output went away.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

import click

# Command -> its one-line help: the modules are imported only when their command is called.
COMMANDS = {
    "demo": "See the whole job on synthetic radiographs.",
    "tasks": "List the tasks that are known by name.",
    "data": "Say what a data set holds, and organise it.",
    "train": "Train a classifier and leave best.pth.",
    "evaluate": "Judge a checkpoint or bundle on labelled images, with intervals.",
    "compare": "Put finished trainings side by side.",
    "explain": "Draw where a checkpoint looked, image by image.",
    "sensitivity": "Show what each layer group of a checkpoint loses when pruned alone.",
    "optimize": "Turn best.pth into a proven, smaller, faster bundle.",
    "predict": "Answer for images with a bundle.",
    "serve": "Serve bundles: a page, and answers over HTTP.",
    "node": "Answer what is sent by DICOM, with a structured report.",
    "benchmark": "Measure every variant of a bundle on this machine.",
    "report": "Write a bundle's report again: page, text, model card.",
    "results": "Print the published table from stored reports.",
    "build": "Build a bundle's TensorRT plans on the machine that is to run them.",
    "verify": "Check a bundle's files, and every variant on this machine.",
    "doctor": "Say what this machine runs, how fast, what is wrong and how to mend it.",
    "keys": "Make a key pair for signing bundles.",
    "sign": "Sign a bundle, for kiosks that open no other.",
    "export": "Write a bundle's forms for another server: Triton.",
    "audit": "Check an audit log, note its head, find an image in it.",
    "inspect": "Say what a checkpoint, ONNX file or bundle is.",
}

# EX_SOFTWARE of sysexits.h: never 1, which says that the gate said no.
UNEXPECTED = 70
# 128 + SIGPIPE, as shells count it.
CLOSED_PIPE = 141
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


class LazyGroup(click.Group):
    """Imports a command's module when it is called, so that ``--help`` needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f".{cmd_name}", __package__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("medcompress"), prog_name="medcompress")
def group() -> None:
    """Compress a medical image classifier, and prove on your own patients that it is not worse."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns its exit code. Every error a user can mend is one line on stderr."""
    try:
        code = group.main(list(arguments), prog_name="medcompress", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        code, message = error.exit_code, error.format_message()
    except SystemExit:  # what click makes of a reader that closed the pipe; its code, 1, is the gate's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except (KeyboardInterrupt, click.Abort) as stop:
        code = 130
        message = str(stop) or "stopped; what optimize or train had finished is kept: it goes on from there"
        click.echo(message, err=True)
    except Exception as error:
        code, message = _explain(error)
        if code == UNEXPECTED:
            traceback.print_exc()
        click.echo(f"error: {message}", err=True)
    if "--json" in arguments:
        click.echo(json.dumps({"error": {"code": code, "message": message}}))
    return code


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and one line for an error; the last kind is a fault of ours, not of the user."""
    from ..runtime.errors import MedcompressError

    if isinstance(error, MedcompressError):
        return error.exit_code, " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return 3, f"the disk is full ({error.filename or 'while writing'}); free some space and run it again"
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return 3, f"{error.filename}: cannot be used ({error.strerror}); mend its permissions, or give another"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("medcompress"):
        return 3, f"{error.name} is not installed, and this needs it; install it with: pip install 'medcompress[all]'"
    return UNEXPECTED, f"{type(error).__name__}: {error}; this is a fault in medcompress, please report it"


def main() -> None:
    """Entry point of the ``medcompress`` script.

    A request to end (systemd, ``timeout``) is taken like Ctrl-C: what was rendered of patients' images is removed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
