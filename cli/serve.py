"""``medcompress serve``: the page, and answers over HTTP."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("serve")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--ensemble", "ensembles", multiple=True, metavar="NAME=A,B,...", help="The mean of served bundles.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True, help="0 takes a free one.")
@click.option("--name", "names", multiple=True, help="A host name this server is reached by.")
@click.option("--token-file", type=click.Path(path_type=Path), help="Holds the token that every request must bear.")
@click.option("--variant", help="Run this variant or none; by default the best this machine runs.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@click.option("--measure/--no-measure", default=True, help="At the first start here, which variant is the fastest.")
@click.option("--workers", type=click.IntRange(1, 256), help="Answers at once; by default as the cores allow.")
@click.option("--queue", type=click.IntRange(0, 10000), default=64, show_default=True, help="Requests that may wait.")
@click.option("--max-body", type=click.IntRange(1, 512), default=64, show_default=True, help="MiB of one request.")
@click.option("--max-memory", type=click.IntRange(1, 65536), default=256, show_default=True, help="MiB of all bodies.")
@click.option("--body-timeout", type=click.FloatRange(0.1, 3600), default=15, show_default=True, help="Seconds.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=15, show_default=True, help="Of an answer, s.")
@click.option("--grace", type=click.FloatRange(0.1, 3600), default=20, show_default=True, help="At the end, seconds.")
@click.option("--audit", type=click.Path(path_type=Path), help="Folder of the audit log; without a line no answer.")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder, they must be signed with.")
@click.option("--allow-older", is_flag=True, help="With --trust: serve bundles older than those served before.")
def command(
    bundles: tuple[str, ...],
    ensembles: tuple[str, ...],
    host: str,
    port: int,
    names: tuple[str, ...],
    token_file: Path | None,
    variant: str | None,
    threads: int | None,
    measure: bool,
    workers: int | None,
    queue: int,
    max_body: int,
    max_memory: int,
    body_timeout: float,
    timeout: float,
    grace: float,
    audit: Path | None,
    trust: Path | None,
    allow_older: bool,
) -> int:
    """Serve each BUNDLE (a folder, or NAME=FOLDER) until a signal ends it: the page at /, answers at /predict.

    Exit codes: 0 ended with every answer given, 2 wrong usage or a damaged bundle, 3 the port is taken, a package is
    missing, or answers did not end in time.
    """
    from ..runtime.errors import InputError, missing_package

    try:
        from ..runtime.server.process import serve
        from ..runtime.server.settings import Settings
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "a package", "serve") from error
    if max_memory < max_body:
        raise InputError("--max-memory: all bodies together need at least the room of one (--max-body)")
    return serve(
        Settings(
            bundles=bundles,
            ensembles=ensembles,
            host=host,
            port=port,
            names=names,
            token_file=str(token_file) if token_file else None,
            variant=variant,
            threads=threads,
            measure=measure,
            workers=workers,
            queue=queue,
            max_body_mib=max_body,
            max_memory_mib=max_memory,
            body_s=body_timeout,
            answer_s=timeout,
            grace_s=grace,
            audit=str(audit) if audit else None,
            trust=str(trust) if trust else None,
            allow_older=allow_older,
        )
    )
