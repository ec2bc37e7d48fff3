"""``medcompress sign``: vouch for a bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .keys import PASSPHRASE


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private key of medcompress keys.")
def command(bundle: Path, key: Path) -> None:
    """Check every file of BUNDLE and sign its manifest. The passphrase of KEY is asked for, or MEDCOMPRESS_PASSPHRASE.

    Signing again with the same key replaces its signature; those of other keys stay.
    """
    import os

    from ..runtime.keys import is_encrypted
    from ..runtime.signing import sign_bundle

    secret = os.environ.get(PASSPHRASE, "")
    if not secret and is_encrypted(key) and sys.stdin.isatty():
        secret = click.prompt("Passphrase", hide_input=True)
    signed, name = sign_bundle(bundle, key, secret)
    click.echo(f"{bundle}: signed with key {name}, identity {signed.identity[:16]}")
