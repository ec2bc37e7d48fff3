"""``medcompress inspect``: what a file is, without executing anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from .documents import as_json_option, print_json


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@as_json_option
def command(file: Path, as_json: bool) -> None:
    """Say what FILE is: a checkpoint, an ONNX model or a bundle. Pickles are never opened."""
    found = {"file": str(file), **_inspect(file)}
    if as_json:
        print_json(found)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        click.echo(f"{name.ljust(width)}  {shown}")


def _inspect(file: Path) -> dict[str, Any]:
    if file.is_dir():
        return _bundle(file)
    if file.suffix.lower() == ".onnx":
        from ..compress.onnx_file import describe

        return describe(file)
    from ..trained.inspection import describe

    return describe(file)


def _bundle(folder: Path) -> dict[str, Any]:
    from ..runtime.bundle import open_bundle

    bundle = open_bundle(folder)
    manifest = bundle.manifest
    return {
        "kind": "medcompress bundle",
        "identity": bundle.identity,
        "schema": manifest.schema,
        "created": manifest.created,
        "verdict": manifest.verdict,
        "reason": manifest.reason,
        "classes": manifest.decision.classes,
        "decision": msgspec.to_builtins(manifest.decision),
        "preprocessing": msgspec.to_builtins(manifest.preprocessing),
        "chosen": manifest.chosen,
        "variants": {
            variant.name: {
                "precision": variant.precision,
                "requires": variant.requires,
                "size_bytes": bundle.size(variant),
                **variant.figures,
            }
            for variant in manifest.variants
        },
        "spec": manifest.spec,
        "lineage": manifest.lineage,
    }
