"""``medcompress export``: a bundle's forms for another server."""

from __future__ import annotations

from pathlib import Path

import click

from .documents import as_json_option, print_json


@click.command("export")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["triton"]), required=True, help="What reads it.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to make.")
@click.option("--variant", "variants", multiple=True, help="Export this one; by default the best of each engine.")
@click.option("--name", default="", help="First part of the models' names.  [default: the bundle's folder]")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 4096),
    default=32,
    show_default=True,
    help="Images of several requests that a server may put together.",
)
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, it must be signed with.")
@as_json_option
def command(
    bundle: Path,
    kind: str,
    out: Path,
    variants: tuple[str, ...],
    name: str,
    max_batch: int,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Check every file of BUNDLE and write a model repository for Triton Inference Server.

    One model for each engine the bundle has variants of, with its configuration, labels, a warm-up sample, and a README
    that says how to ask and what to expect. Tensors go in, prepared by medcompress.runtime. A TensorRT variant goes as
    the plan that medcompress build made on this machine, for a server on it; without one as ONNX, for ONNX Runtime's
    TensorRT accelerator.
    """
    from ..runtime.bundle import open_bundle
    from ..runtime.triton.repository import export

    found = export(open_bundle(bundle, trust=trust), out, variants, name, max_batch)
    if as_json:
        print_json(found)
        return
    click.echo(f"{out}: a model repository for Triton, of bundle {found.identity[:16]}")
    for model in found.models:
        batch = f"batches of up to {model.max_batch_size}" if model.max_batch_size else "batches as they are sent"
        click.echo(f"  {model.name}: {model.backend} on {model.device}, {batch}; golden answers: {model.checked}")
        if model.note:
            click.echo(f"    {model.note}")
    click.echo(f"how to ask, and what to expect: {out / 'README.md'}")
