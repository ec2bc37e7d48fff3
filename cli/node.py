"""``medcompress node``: a DICOM node that answers what is sent to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..runtime.guard import Policy

# Seconds between two signs of life for a service manager.
_HEARTBEAT = 10


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
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate of this node: TLS, in and out.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key.")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="Authority that the others' certificates are from.")
@click.option("--waiting", type=click.IntRange(1), default=100, show_default=True, help="Images that may wait.")
@click.option("--largest-mb", type=click.IntRange(1, 512), default=64, show_default=True, help="An image may have.")
@click.option("--clinical", is_flag=True, help='Leave "NOT FOR CLINICAL USE" out: you answer for that.')
@click.option("--audit", type=click.Path(path_type=Path), help="Folder of the audit log; without a line no answer.")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, it must be signed with.")
@click.option("--allow-older", is_flag=True, help="With --trust: take a bundle older than the one served before.")
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
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    waiting: int,
    largest_mb: int,
    clinical: bool,
    audit: Path | None,
    trust: Path | None,
    allow_older: bool,
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
    from ..runtime.dicom.tls import Tls
    from ..runtime.errors import InputError
    from ..runtime.newest import refuse_older
    from ..runtime.predictor import load
    from ..runtime.server.notify import notify

    _give_memory_back()
    require_pynetdicom()
    require_highdicom()
    if spool is None:
        if out is None:
            raise InputError(
                "give --out FOLDER, or --send HOST:PORT:AE and --spool FOLDER to keep what is not sent yet"
            )
        spool = out / ".spool"
    destination = parse_destination(send) if send else None
    tls = Tls(tls_cert, tls_key, tls_ca) if tls_cert and tls_key and tls_ca else None
    if tls is None and (tls_cert or tls_key or tls_ca):
        raise InputError("TLS needs all three of --tls-cert, --tls-key and --tls-ca")
    settings = NodeSettings(
        spool, out, destination, port, bind, ae_title, callers, waiting, largest_mb, clinical, audit, tls
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, in our own form
        predictor = load(bundle, variant=variant, threads=threads, measure=measure, trust=trust, guard=guard)
    if predictor.bundle.signer:
        refuse_older(predictor.bundle, bundle.resolve().name, allow=allow_older)
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
    if not loopback and tls is None:
        click.echo(
            "warning: DICOM has no password, and nothing is encrypted; give --tls-cert, --tls-key and --tls-ca, "
            "or let a firewall admit only those who may send",
            err=True,
        )
    by_tls = " by TLS" if tls else ""
    click.echo(f"{predictor.variant.name} answers as {ae_title} on {bind}{by_tls}, port {node.port}", err=True)
    notify("READY=1")
    while not stopped.wait(_HEARTBEAT):
        if node.is_alive:
            notify("WATCHDOG=1")
    notify("STOPPING=1")
    click.echo("stopping", err=True)
    node.stop()
    predictor.close()
    return 0


def _give_memory_back() -> None:
    """Have glibc return the memory of an image when it is freed: by default it keeps what was once that large.

    mallopt(3): a fixed M_MMAP_THRESHOLD, 1 MiB, is not raised by what is freed. Other C libraries have no such thing.
    """
    import ctypes

    try:
        ctypes.CDLL(None).mallopt(-3, 1 << 20)
    except (AttributeError, OSError, TypeError):
        return
