"""``medcompress keys``: a key pair for signing bundles."""

from __future__ import annotations

from pathlib import Path

import click

PASSPHRASE = "MEDCOMPRESS_PASSPHRASE"


@click.command("keys")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the two files.")
@click.option("--passphrase", is_flag=True, help=f"Encrypt the private key: asked for, or taken from {PASSPHRASE}.")
def command(out: Path, passphrase: bool) -> None:
    """Make signing.key, which only the signer may have, and signing.pub, which goes to every kiosk."""
    import os

    from ..runtime.keys import PRIVATE_FILE, PUBLIC_FILE, make_keys

    secret = ""
    if passphrase:
        secret = os.environ.get(PASSPHRASE) or click.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    name = make_keys(out, secret)
    click.echo(f"key {name}: {out / PRIVATE_FILE} signs and stays here, {out / PUBLIC_FILE} goes to every kiosk")
