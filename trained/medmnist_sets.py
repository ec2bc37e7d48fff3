"""The two-dimensional sets of MedMNIST: what each shows, in the order of its labels.

Yang et al. 2023, MedMNIST v2, https://doi.org/10.1038/s41597-022-01721-8; classes as in ``medmnist.INFO``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..runtime.decision import Kind

if TYPE_CHECKING:
    from .tasks import Flips


@dataclass(frozen=True)
class MedmnistSet:
    """See :class:`medcompress.trained.tasks.Task`."""

    modality: str
    classes: tuple[str, ...]
    kind: Kind = "multiclass"
    flips: Flips = "none"
    colour: Literal["grey", "rgb"] = "grey"
    positive: str = ""


_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
MEDMNIST_SETS: dict[str, MedmnistSet] = {
    "pathmnist": MedmnistSet(
        "colon pathology",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
            *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
        ),
        flips="both",
        colour="rgb",
    ),
    "chestmnist": MedmnistSet(
        "chest X-ray",
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
            *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
        ),
        "multilabel",
    ),
    "dermamnist": MedmnistSet(
        "dermatoscopy",
        (
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
        ),
        flips="both",
        colour="rgb",
    ),
    "octmnist": MedmnistSet(
        "retinal OCT",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        flips="horizontal",
    ),
    "pneumoniamnist": MedmnistSet("chest X-ray", ("normal", "pneumonia"), "binary", positive="pneumonia"),
    "retinamnist": MedmnistSet("fundus camera", ("0", "1", "2", "3", "4"), flips="horizontal", colour="rgb"),
    "breastmnist": MedmnistSet(
        "breast ultrasound", ("malignant", "normal, benign"), "binary", "horizontal", "grey", "malignant"
    ),
    "bloodmnist": MedmnistSet(
        "blood cell microscopy",
        (
            *("basophil", "eosinophil", "erythroblast"),
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            *("lymphocyte", "monocyte", "neutrophil", "platelet"),
        ),
        flips="both",
        colour="rgb",
    ),
    "tissuemnist": MedmnistSet(
        "kidney cortex microscopy",
        (
            *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
            *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
            "Thick Ascending Limb",
        ),
        flips="both",
    ),
    **{flag: MedmnistSet("abdominal CT", _ORGANS) for flag in ("organamnist", "organcmnist", "organsmnist")},
}
