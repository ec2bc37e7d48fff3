"""``medcompress predict``: answers for images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .documents import as_json_option, print_json

if TYPE_CHECKING:
    from ..runtime.guard import Policy
    from ..runtime.prediction import Prediction
    from ..runtime.predictor import Predictor


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--variant", help="Run this variant or none; by default the best this machine runs.")
@click.option("--threads", type=click.IntRange(1, 256), help="For one inference; by default what was measured.")
@click.option(
    "--guard",
    type=click.Choice(("refuse", "flag", "off")),
    default="refuse",
    show_default=True,
    help="Of images unlike those the model was made for: refuse them, answer with a caution, or do not look.",
)
@click.option(
    "--dicom-out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for each answer as DICOM: a structured report, and a picture of the heat map if the bundle has one.",
)
@click.option(
    "--heat",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for a PNG of each image under its heat map: where the network looked.",
)
@as_json_option
def command(
    bundle: Path,
    images: tuple[Path, ...],
    variant: str | None,
    threads: int | None,
    guard: Policy,
    dicom_out: Path | None,
    heat: Path | None,
    as_json: bool,
) -> int:
    """Answer for IMAGES with BUNDLE. An image that is refused does not keep the others from an answer; exit code 2.

    Where this machine makes no heat maps, --heat says why beside the answer, and ends with exit code 3.
    """
    import warnings

    from ..runtime.errors import ImageError
    from ..runtime.predictor import load
    from ..runtime.reasons import Reason
    from .documents import Answer, Predicted

    if dicom_out:
        prepare_folder(dicom_out, images)
    if heat:
        prepare_heat(heat, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, in our own form
        predictor = load(bundle, variant=variant, threads=threads, guard=guard)
    for setback in predictor.setbacks:
        click.echo(f"warning: variant passed over: {setback}", err=True)
    ran = predictor.executed
    name = predictor.variant.name
    click.echo(f"{name}: {ran.engine} on {ran.device} in {ran.precision}, {ran.threads} thread(s)", err=True)
    results, unexplained = [], False
    for image in images:
        try:
            found = write_dicom(dicom_out, image, predictor) if dicom_out else None
            if heat:
                found = write_heat(heat, image, predictor)
            found = found or predictor.predict(image)
        except ImageError as error:
            why = Reason(error.code, str(error), error.values)
            results.append(Answer(str(image), error=str(error), whys=(why,)))
            click.echo(f"error: {error}", err=True)
            continue
        if found.unexplained:
            click.echo(f"warning: {image}: no heat map: {found.unexplained}", err=True)
        unexplained |= bool(heat and found.unexplained)
        results.append(
            Answer(
                input=str(image),
                label=found.label,
                labels=found.labels,
                probabilities=found.probabilities,
                time_ms=found.time_ms,
                cautions=found.cautions,
                unexplained=found.unexplained,
                whys=found.reasons,
            )
        )
        if not as_json:
            answer = ", ".join(found.labels) or "no finding"
            listed = "  ".join(f"{name} {p:.4f}" for name, p in found.probabilities.items())
            click.echo(f"{image}: {answer}  ({listed})  {found.time_ms['total']:.1f} ms")
        for caution in found.cautions:
            click.echo(f"caution: {image}: {caution}", err=True)
    if as_json:
        print_json(Predicted(str(bundle), name, ran, predictor.setbacks, tuple(results)))
    if any(result.error for result in results):
        return 2
    return 3 if unexplained else 0


def prepare_folder(folder: Path, images: tuple[Path, ...]) -> None:
    """Make the folder of --dicom-out, and see that no two results would have one name.

    Raises:
        InputError: they would.
        MachineError: a package is missing.
    """
    from ..runtime.dicom.derived import require_highdicom
    from ..runtime.errors import InputError

    require_highdicom()
    twice = {image.stem for image in images if sum(image.stem == other.stem for other in images) > 1}
    if twice:
        raise InputError(f"several images are called {min(twice)}, and so would their reports be; give them one by one")
    folder.mkdir(parents=True, exist_ok=True)


def write_dicom(folder: Path, image: Path, predictor: Predictor) -> Prediction:
    """Answer for a DICOM file, and leave the answer as DICOM files named after it.

    Raises:
        ImageError: the image is refused, is no DICOM file, or its header is too damaged.
    """
    from ..runtime.dicom.answering import encode_answer, predict_explained
    from ..runtime.errors import ImageError
    from ..runtime.records import write_whole

    found = predict_explained(predictor, image)
    try:
        results = encode_answer(image.read_bytes(), found, predictor.bundle)
    except ImageError as error:
        raise ImageError(f"{image}: {error}") from error
    for kind, data in results.items():
        write_whole(folder / f"{image.stem}-{kind}.dcm", data)
    return found


def prepare_heat(folder: Path, images: tuple[Path, ...]) -> None:
    """Make the folder of --heat, and see that no two pictures would have one name.

    Raises:
        InputError: they would, or the folder cannot be made.
    """
    from ..runtime.errors import InputError

    names = [image.stem for image in images]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"several images are called {min(twice)}, and their pictures would be; give them one by one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--heat {folder}: cannot be made ({error.strerror}); give another folder") from error


def write_heat(folder: Path, image: Path, predictor: Predictor) -> Prediction:
    """The answer, and the image under its heat map as ``NAME-heat.png`` where one can be made.

    Raises: see :meth:`medcompress.runtime.predictor.Predictor.predict`; also:
        MachineError: the picture cannot be written.
    """
    from io import BytesIO

    from ..runtime.errors import MachineError
    from ..runtime.overlay import overlay
    from ..runtime.records import write_whole

    found = predictor.predict(image, explain=True)
    if found.heat is None:
        return found
    picture = BytesIO()
    overlay(predictor.bundle.manifest.preprocessing.render(image), found.heat).save(picture, "PNG")
    path = folder / f"{image.stem}-heat.png"
    try:
        write_whole(path, picture.getvalue())
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror}); give another --heat") from error
    return found
