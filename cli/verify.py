"""``medcompress verify``: is this bundle whole, and does it run faithfully here?"""

from __future__ import annotations

from pathlib import Path

import click

from .documents import as_json_option, print_json, signature_words


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, it must be signed with.")
@as_json_option
def command(bundle: Path, threads: int | None, trust: Path | None, as_json: bool) -> int:
    """Check every file of BUNDLE, its signature where a key is trusted, and every variant on this machine.

    Each variant is held against its golden vectors, and its heat maps against the golden ones, in a process of its own.

    Exit codes: 0 some variant runs faithfully here, 2 the bundle is damaged, 3 no variant does. Of a damaged bundle
    it says which variants still run: these answer in place of the damaged ones.
    """
    from ..runtime.bundle import open_bundle
    from ..runtime.selftest import self_test

    found = self_test(open_bundle(bundle, trust=trust), threads)
    if as_json:
        print_json(found)
    else:
        whole = found.files - len(found.damaged)
        click.echo(f"{bundle}: {whole} of {found.files} files as they were written, identity {found.identity[:16]}")
        for damage in found.damaged:
            click.echo(f"damaged: {damage}")
        click.echo(signature_words(found.signer, found.signatures))
        click.echo(f"this machine: {found.cpu.model}, {found.cpu.kind} ({', '.join(found.cpu.features)})")
        click.echo(f"preprocessing: off by {found.pixel_error} grey levels at most")
        for check in found.variants:
            ran = check.executed
            how = f", {ran.engine} on {ran.device} in {ran.precision}, {ran.threads} thread(s)" if ran else ""
            error = "" if check.golden_error is None else f", golden error {check.golden_error:.5f}"
            click.echo(f"{'*' if check.name == found.runs else ' '} {check.name}: {check.status}{error}{how}")
            if check.heat:
                off = "" if check.heat_error is None else f", off by {check.heat_error:.5f}"
                click.echo(f"    heat maps: {check.heat}{off}")
        click.echo(f"runs here: {found.runs or 'none'}")
    if found.damaged:
        return 2
    return 0 if found.runs else 3
