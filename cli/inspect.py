"""``medcompress inspect``: what a file is, without executing anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from ..runtime.errors import BundleError
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
        lines = [_told(each) for each in value] if name == "pruning" and value else [_line(value)]
        for number, line in enumerate(lines):
            click.echo(f"{('' if number else name).ljust(width)}  {line}")


def _line(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _told(pruned: dict[str, Any]) -> str:
    """One round of pruning."""
    figures = ", ".join(
        f"{name} {pruned[key]['before']:,} -> {pruned[key]['after']:,} ({pruned[key]['percent']} %)"
        for name, key in (("MACs", "macs"), ("parameters", "parameters"))
    )
    return f"{pruned['asked']}, by {pruned['importance']}: {figures}, layers changed: {pruned['layers']}"


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
        "pruning": _pruning(manifest.spec),
        "spec": {name: value for name, value in manifest.spec.items() if name != "pruning"},
        "lineage": manifest.lineage,
    }


def _pruning(spec: dict[str, Any]) -> list[dict[str, Any]]:
    from ..trained.pruned import in_short
    from ..trained.spec import PruningRound

    try:
        rounds = msgspec.convert(spec.get("pruning", ()), tuple[PruningRound, ...])
    except msgspec.ValidationError as error:
        raise BundleError(f"the bundle's record of its pruning is damaged ({error}); make the bundle again") from error
    return [in_short(each) for each in rounds]
