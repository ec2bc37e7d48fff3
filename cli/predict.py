"""``medcompress predict``: answers for images."""

from __future__ import annotations

from pathlib import Path

import click

from .documents import as_json_option, print_json


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--variant", help="Run this variant or none; by default the best this machine runs.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@as_json_option
def command(bundle: Path, images: tuple[Path, ...], variant: str | None, threads: int | None, as_json: bool) -> int:
    """Answer for IMAGES with BUNDLE. An image that is refused does not keep the others from an answer; exit code 2."""
    import warnings

    from ..runtime.errors import ImageError
    from ..runtime.predictor import load
    from .documents import Answer, Predicted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, in our own form
        predictor = load(bundle, variant=variant, threads=threads)
    for setback in predictor.setbacks:
        click.echo(f"warning: variant passed over: {setback}", err=True)
    ran = predictor.executed
    name = predictor.variant.name
    click.echo(f"{name}: {ran.engine} on {ran.device} in {ran.precision}, {ran.threads} thread(s)", err=True)
    results = []
    for image in images:
        try:
            found = predictor.predict(image)
        except ImageError as error:
            results.append(Answer(str(image), error=str(error)))
            click.echo(f"error: {error}", err=True)
            continue
        results.append(
            Answer(str(image), found.label, found.labels, found.probabilities, found.time_ms, cautions=found.cautions)
        )
        if not as_json:
            answer = ", ".join(found.labels) or "no finding"
            listed = "  ".join(f"{name} {p:.4f}" for name, p in found.probabilities.items())
            click.echo(f"{image}: {answer}  ({listed})  {found.time_ms['total']:.1f} ms")
        for caution in found.cautions:
            click.echo(f"caution: {image}: {caution}", err=True)
    if as_json:
        print_json(Predicted(str(bundle), name, ran, predictor.setbacks, tuple(results)))
    return 2 if any(result.error for result in results) else 0
