"""The registry of tasks: what each public set holds, and the decision a network is trained for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..benchmarks.data.csv_files import plain
from ..runtime.decision import Decision, Kind
from ..runtime.errors import InputError
from .medmnist_sets import MEDMNIST_SETS, MedmnistSet

Flips = Literal["none", "horizontal", "both"]

# Names of the class without a finding, in lower case and without punctuation.
HEALTHY = frozenset(
    {"normal", "healthy", "negative", "neg", "nofinding", "nofindings", "benign", "control", "clear"}
    | {"notumor", "notumour", "none", "absent", "nodisease", "nopneumonia", "notuberculosis", "normalbenign"}
)
USUAL_SIZE = 224
# What many sets call their class without a finding.
_NORMAL = ("healthy", "negative", "no finding", "control", "clear")


@dataclass(frozen=True)
class Task:
    """One kind of classification, as its public sets are laid out.

    Attributes:
        name: in the registry.
        title, modality, layout: words for people; the layout is the usual folder or CSV.
        classes: names in the order of the outputs.
        kind: of the decision.
        positive: of two classes, the finding.
        aliases: other names of a class; case, spaces and punctuation never matter.
        size: default side of the square input, pixels.
        colour: of the images.
        flips: the mirrorings that leave the anatomy possible: none of a chest (the heart is left), left to right of
            an axial slice of the head, both of skin and of cells.
        metric: the headline figure, one of :meth:`medcompress.benchmarks.statistics.metrics.Scores.figures`.
        columns: of a CSV of labels, by role: ``image``, ``label``, ``patient``.
        tables: usual names of that CSV.
        patient_pattern: regular expression whose first group is the patient, searched in a file's path.
    """

    name: str
    title: str
    modality: str
    classes: tuple[str, ...]
    kind: Kind
    layout: str
    positive: str = ""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    size: int = USUAL_SIZE
    colour: Literal["grey", "rgb"] = "grey"
    flips: Flips = "none"
    metric: Literal["auroc", "accuracy"] = "auroc"
    columns: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    patient_pattern: str | None = None

    def class_of(self, name: str) -> str | None:
        """The class a folder, label or column of that name means; None for none of them."""
        wanted = plain(name)
        for known in self.classes:
            if wanted in {plain(known), *map(plain, self.aliases.get(known, ()))}:
                return known
        return None

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the names mean all of its classes, each once."""
        return len(names) == len(self.classes) and {self.class_of(name) for name in names} == set(self.classes)


_FOLDERS = "train|val|test/CLASS/*.jpeg, or CLASS/*.jpeg alone"
_TUMOURS = {
    "glioma": ("glioma tumor", "glioma tumour"),
    "meningioma": ("meningioma tumor", "meningioma tumour"),
    "pituitary": ("pituitary tumor", "pituitary tumour", "pituitary adenoma"),
    "notumor": ("no tumour", "no", "none", "normal", "healthy"),
}
_SKIN = {
    "akiec": ("actinic keratoses", "actinic keratosis", "Bowen's disease"),
    "bcc": ("basal cell carcinoma",),
    "bkl": ("benign keratosis", "benign keratosis-like lesions", "pigmented benign keratosis"),
    "df": ("dermatofibroma",),
    "mel": ("melanoma",),
    "nv": ("melanocytic nevi", "melanocytic nevus", "nevus"),
    "vasc": ("vascular lesions", "vascular lesion"),
}
_LUNG = {
    "viral pneumonia": ("pneumonia viral", "virus", "viral"),
    "bacterial pneumonia": ("pneumonia bacterial", "bacteria", "bacterial"),
    "covid": ("covid-19", "corona virus disease", "coronavirus"),
    "tuberculosis": ("tb",),
    "normal": _NORMAL,
}
# Irvin et al. 2019, https://arxiv.org/abs/1901.07031, in the order of its table.
_CHEXPERT = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

_TASKS = (
    Task(
        "pneumonia",
        "Pneumonia",
        "chest X-ray",
        ("normal", "pneumonia"),
        "binary",
        _FOLDERS,
        "pneumonia",
        {"normal": (*_NORMAL, "no pneumonia")},
        patient_pattern=r"(person\d+(?=_)|(?:NORMAL2-)?IM-\d+(?=-))",
    ),
    Task(
        "tuberculosis",
        "Tuberculosis",
        "chest X-ray",
        ("normal", "tuberculosis"),
        "binary",
        _FOLDERS,
        "tuberculosis",
        {"normal": (*_NORMAL, "no tuberculosis"), "tuberculosis": ("tb", "positive")},
        # Shenzhen and Montgomery (Jaeger et al. 2014): one image a patient, the last digit is the label.
        patient_pattern=r"((?:CHNCXR|MCUCXR)_\d+)_[01]",
    ),
    Task(
        "brain-tumour-3",
        "Brain tumour, three kinds (figshare, Cheng 2017)",
        "brain MRI",
        ("glioma", "meningioma", "pituitary"),
        "multiclass",
        "CLASS/*.jpg, the figshare .mat slices saved as images",
        aliases=_TUMOURS,
        flips="horizontal",
        metric="accuracy",
    ),
    Task(
        "brain-tumour-4",
        "Brain tumour, three kinds or none",
        "brain MRI",
        ("glioma", "meningioma", "notumor", "pituitary"),
        "multiclass",
        "Training|Testing/CLASS/*.jpg",
        aliases=_TUMOURS,
        flips="horizontal",
        metric="accuracy",
    ),
    Task(
        "lung-disease-5",
        "Lung disease, four kinds or none",
        "chest X-ray",
        ("viral pneumonia", "bacterial pneumonia", "covid", "tuberculosis", "normal"),
        "multiclass",
        _FOLDERS,
        aliases=_LUNG,
        metric="accuracy",
    ),
    Task(
        "skin-lesions",
        "Skin lesions (HAM10000)",
        "dermatoscopy",
        ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
        "multiclass",
        "images in any folder, and metadata.csv with image_id, dx and lesion_id; split by lesion",
        aliases=_SKIN,
        colour="rgb",
        flips="both",
        columns={"image": "image_id", "label": "dx", "patient": "lesion_id"},
        tables=("HAM10000_metadata.csv", "metadata.csv"),
    ),
    Task(
        "chexpert",
        "Chest findings (CheXpert)",
        "chest X-ray, frontal and lateral",
        _CHEXPERT,
        "multilabel",
        "train.csv and valid.csv with Path and 14 columns: 1, 0, -1 uncertain, blank not mentioned",
        aliases={"Lung Opacity": ("Airspace Opacity",), "Pleural Effusion": ("Effusion",)},
        size=320,
        columns={"image": "Path"},
        tables=("train.csv",),
        patient_pattern=r"(patient\d+)",
    ),
)


def _of_medmnist(flag: str, known: MedmnistSet) -> Task:
    return Task(
        flag,
        f"MedMNIST {flag}",
        known.modality,
        known.classes,
        known.kind,
        f"{flag}.npz, with train, val and test of its own",
        known.positive,
        size=28,
        colour=known.colour,
        flips=known.flips,
    )


MEDMNIST: dict[str, Task] = {flag: _of_medmnist(flag, known) for flag, known in MEDMNIST_SETS.items()}
TASKS: dict[str, Task] = {task.name: task for task in _TASKS} | MEDMNIST


def task(name: str) -> Task:
    """Look a task up by its name; case, spaces and punctuation do not matter.

    Raises:
        InputError: there is none of that name.
    """
    by_name = {plain(known): known for known in TASKS}
    wanted = plain(name).replace("tumor", "tumour")
    if wanted in by_name:
        return TASKS[by_name[wanted]]
    close = difflib.get_close_matches(wanted, by_name, n=1)
    hint = f"did you mean {by_name[close[0]]}?" if close else f"the tasks are {', '.join(TASKS)}."
    raise InputError(f"task {name!r} is not known; {hint} Data of your own need none: leave it out")


def task_for(classes: Sequence[str]) -> Task | None:
    """The task whose classes these are, by their names or aliases; None for data of the user's own.

    MedMNIST sets are known by their file, not so: their names are too plain (``0`` to ``4``).
    """
    return next((known for known in _TASKS if known.matches(classes)), None)


def decision_for(classes: Sequence[str], positive: str = "", multilabel: bool = False) -> Decision:
    """The decision over classes: binary for two, else multiclass; or one of several findings at once.

    Args:
        classes: names in the order of the outputs.
        positive: the finding, of two classes; empty takes the one that does not look healthy by its name, and
            where that is not clear the second.
        multilabel: the classes are findings, of which an image may have any number.

    Raises:
        InputError: ``positive`` is no class, or was given for other than two classes.
    """
    names = tuple(classes)
    if multilabel or len(names) != 2:
        if positive:
            what = "findings of which an image may have several" if multilabel else f"{len(names)} classes"
            raise InputError(f"--positive goes with two classes, and these are {what}; leave it out")
        return Decision("multilabel" if multilabel else "multiclass", names)
    if positive and positive not in names:
        raise InputError(f"--positive {positive!r} is no class of the data; it is one of {', '.join(names)}")
    healthy = [name for name in names if re.sub(r"[^a-z]", "", name.lower()) in HEALTHY]
    if not positive:
        positive = next(name for name in names if name not in healthy) if len(healthy) == 1 else names[1]
    return Decision("binary", names, positive)
