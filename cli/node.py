"""``medcompress node``: a DICOM node that answers what is sent to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..runtime.guard import Policy


@click.command("node")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("--send", metavar="HOST:PORT:AE", help="Send the results there instead, by C-STORE.")
@click.option(
    "--spool",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for what is not finished yet; with --out, .spool in it by default.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="To listen on; 0: any.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--ae-title", default="MEDCOMPRESS", show_default=True, help="That senders must call.")
@click.option(
    "--allow", "callers", metavar="AE", multiple=True, help="AE title that may call; repeat it. Default: any."
)
@click.option("--waiting", type=click.IntRange(1), default=100, show_default=True, help="Images that may wait.")
@click.option("--largest-mb", type=click.IntRange(1, 512), default=64, show_default=True, help="An image may have.")
@click.option("--clinical", is_flag=True, help='Leave "NOT FOR CLINICAL USE" out: you answer for that.')
@click.option("--audit", type=click.Path(path_type=Path), help="Folder of the audit log; without a line no answer.")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, it must be signed with.")
@click.option("--measure/--no-measure", default=True, help="At the first start here, which variant is the fastest.")
@click.option(
    "--guard",
    type=click.Choice(("refuse", "flag", "off")),
    default="refuse",
    show_default=True,
    help="Of images unlike those the model was made for: refuse them, answer with a caution, or do not look.",
)
@click.option("--variant", help="Run this variant or none; by default the best this machine runs.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
def command(
    bundle: Path,
    out: Path | None,
    send: str | None,
    spool: Path | None,
    port: int,
    bind: str,
    ae_title: str,
    callers: tuple[str, ...],
    waiting: int,
    largest_mb: int,
    clinical: bool,
    audit: Path | None,
    trust: Path | None,
    measure: bool,
    guard: Policy,
    variant: str | None,
    threads: int | None,
) -> int:
    """Take images by DICOM C-STORE, answer each with BUNDLE, and leave a structured report, and a picture of the heat
    map where there is one, in a folder or with another node.

    Ends with exit code 0 when it is asked to (Ctrl-C, SIGTERM); what waits then is answered at the next start.
    """
    import ipaddress
    import signal
    import threading
    import warnings

    from ..runtime.dicom.derived import require_highdicom
    from ..runtime.dicom.node import Node, NodeSettings
    from ..runtime.dicom.sending import parse_destination, require_pynetdicom
    from ..runtime.errors import InputError
    from ..runtime.predictor import load

    require_pynetdicom()
    require_highdicom()
    if spool is None:
        if out is None:
            raise InputError(
                "give --out FOLDER, or --send HOST:PORT:AE and --spool FOLDER to keep what is not sent yet"
            )
        spool = out / ".spool"
    destination = parse_destination(send) if send else None
    settings = NodeSettings(
        spool, out, destination, port, bind, ae_title, callers, waiting, largest_mb, clinical, audit
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, in our own form
        predictor = load(bundle, variant=variant, threads=threads, measure=measure, trust=trust, guard=guard)
    for setback in predictor.setbacks:
        click.echo(f"warning: variant passed over: {setback}", err=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    node = Node(predictor, settings, lambda line: click.echo(line, err=True))
    node.start()
    try:
        loopback = ipaddress.ip_address(bind).is_loopback
    except ValueError:
        loopback = bind == "localhost"
    if not loopback:
        click.echo(
            "warning: DICOM has no password, and nothing is encrypted; let a firewall admit only those who may send",
            err=True,
        )
    click.echo(f"{predictor.variant.name} answers as {ae_title} on {bind} port {node.port}", err=True)
    stopped.wait()
    click.echo("stopping", err=True)
    node.stop()
    predictor.close()
    return 0
