"""Which model a request means: by its name, by its task, or by what a DICOM file says it shows."""

from __future__ import annotations

from collections.abc import Mapping

from ..dicom.reading import HEAD, is_dicom
from .failures import ServingError
from .models import Model


def narrow(models: Mapping[str, Model], name: str | None, task: str | None) -> list[Model]:
    """The models a request's words leave, before its body is read.

    Raises:
        ServingError: ``no_model``: there is none of that name or task.
    """
    if name:
        if name not in models:
            raise ServingError("no_model", f"no model is named {name!r}; served are: {', '.join(models)}")
        return [models[name]]
    left = [model for model in models.values() if not task or model.task.casefold() == task.casefold()]
    if not left:
        tasks = ", ".join(sorted({model.task for model in models.values()}))
        raise ServingError("no_model", f"no model is made for {task!r}; served are: {tasks}")
    # Where an ensemble is asked no less than its members, the ensemble is meant.
    inner = {member.name for model in left if len(model.members) > 1 for member in model.members}
    return [model for model in left if len(model.members) > 1 or model.name not in inner]


def pick(models: list[Model], data: bytes) -> Model:
    """The one model that is left, or that is made for such a DICOM file.

    Raises:
        ServingError: ``ambiguous``: there are several, the message names them; ``refused``: none of them is.
        ImageError: a DICOM file that cannot be read.
    """
    if len(models) > 1 and is_dicom(data[:HEAD]):
        models = _made_for(data, models)
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise ServingError("ambiguous", f"several models could be meant; add ?model= with one of: {names}")
    return models[0]


def _made_for(data: bytes, models: list[Model]) -> list[Model]:
    """Those that name the file's modality and body part; else those that name none."""
    from ..dicom.answering import read_header
    from ..dicom.attributes import origin_of

    origin = origin_of(read_header(data), 0)
    naming = [model for model in models if model.policy.modalities or model.policy.body_parts]
    fitting = [
        model
        for model in naming
        if origin.modality in (model.policy.modalities or (origin.modality,))
        and origin.body_part in (model.policy.body_parts or (origin.body_part,))
    ]
    left = fitting or [model for model in models if model not in naming]
    if not left:
        names = ", ".join(model.name for model in models)
        raise ServingError("refused", f"no model here is made for such a DICOM image (served are: {names})")
    return left
