"""The models that are served: a bundle each, or several bundles whose probabilities are averaged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..bundle import TRUST, Bundle, open_bundle
from ..decision import Decision
from ..dicom.policy import DicomPolicy
from ..errors import EngineError, InputError
from ..explanation import explained_class
from ..golden import PIXEL_TOLERANCE, Golden, pixel_error, read_golden
from ..newest import refuse_older
from ..prediction import Prediction
from ..predictor import Predictor, load
from ..reasons import Reason
from .answers import ModelInfo
from .settings import Settings


class Member:
    """One bundle. It answers after :meth:`start`.

    Attributes:
        damaged: what is wrong with its files, a sentence each; the variants these belong to do not answer.
        fault: why it does not answer, by its last test; empty where it does.
    """

    def __init__(self, name: str, bundle: Bundle) -> None:
        self.name = name
        self.bundle = bundle
        self.damaged: tuple[str, ...] = ()
        self.fault = "the self-test is under way"
        self._predictor: Predictor | None = None
        self._golden: Golden | None = None

    @property
    def predictor(self) -> Predictor:
        """What answers.

        Raises:
            EngineError: it was not started.
        """
        if self._predictor is None:
            raise EngineError(f"model {self.name} has not passed its self-test")
        return self._predictor

    @property
    def started(self) -> bool:
        """Whether it passed its self-test."""
        return self._predictor is not None

    def start(self, settings: Settings) -> None:
        """Load the fastest variant that runs here faithfully, and test every file and variant.

        Raises:
            BundleError: it is damaged beyond its variants.
            EngineError: no variant runs here.
        """
        self._golden = read_golden(self.bundle)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # told by the log, as setbacks
            predictor = load(
                self.bundle.folder,
                variant=settings.variant,
                threads=settings.threads,
                measure=settings.measure,
                trust=settings.trust,
            )
            found = predictor.self_test()
        self.damaged = found.damaged
        self._predictor = predictor
        self.check()

    def check(self) -> None:
        """Answer for the golden input once more: its file is decoded, and its tensor run by the engine.

        Raises:
            EngineError: the answer is not what it was where the bundle was made.
        """
        golden, predictor = self._golden, self.predictor
        if golden is None:
            raise EngineError(f"model {self.name} has not passed its self-test")
        off = pixel_error(golden, self.bundle.manifest.preprocessing)
        if off > PIXEL_TOLERANCE:
            raise EngineError(f"model {self.name}: its golden picture is decoded otherwise, by {off} grey levels")
        predictor.check(golden)


class Model:
    """What a request asks: a name, and the members whose probabilities are averaged (most often one).

    Attributes:
        decision: of the member; of several, with the mean of their thresholds.
        reasons: cautions that go with every answer.
    """

    def __init__(self, name: str, members: tuple[Member, ...]) -> None:
        manifests = [member.bundle.manifest for member in members]
        first = manifests[0].decision
        for manifest in manifests[1:]:
            other = manifest.decision
            if (other.kind, other.classes, other.positive) != (first.kind, first.classes, first.positive):
                raise InputError(f"ensemble {name}: its bundles answer with different classes; serve them apart")
        self.name = name
        self.members = members
        self.decision = _mean_decision([manifest.decision for manifest in manifests])
        verdicts = {manifest.verdict for manifest in manifests} - {"pass"}
        self.reasons = tuple(
            Reason(f"verdict-{verdict}", f"the verdict on this model's compression was {verdict}")
            for verdict in sorted(verdicts)
        )
        if len(members) > 1:
            why = "the mean of several models, whose threshold no images were used to confirm"
            self.reasons += (Reason("ensemble", why),)

    @property
    def task(self) -> str:
        """What it tells apart: the task's name where the bundle has it, or the names of the classes."""
        named = self.members[0].bundle.manifest.lineage.get("task")
        return named if isinstance(named, str) and named else " / ".join(self.decision.classes)

    @property
    def fault(self) -> str:
        """Why it does not answer: the first of its members' faults; empty where it does."""
        return next((member.fault for member in self.members if member.fault), "")

    @property
    def policy(self) -> DicomPolicy:
        """Which DICOM files it takes: the first member's word, as all others refuse by their own."""
        return self.members[0].bundle.manifest.preprocessing.dicom.policy

    @property
    def identity(self) -> str:
        """Of the bundles that answer."""
        return "+".join(member.bundle.identity for member in self.members)

    @property
    def variant(self) -> str:
        """Of the bundles that answer."""
        return "+".join(member.predictor.variant.name for member in self.members)

    def thresholds(self) -> dict[str, float]:
        """Of each class that has one: the positive one of two, or every finding."""
        of = {name: self.decision.threshold_of(c) for c, name in enumerate(self.decision.classes)}
        asked = {self.decision.positive} if self.decision.kind == "binary" else set(self.decision.classes)
        return {name: threshold for name, threshold in of.items() if threshold is not None and name in asked}

    def predict(self, data: bytes, explain: bool) -> list[Prediction]:
        """The members' answers for one image, with heat maps where these are asked for and the bundle has them.

        Raises:
            ImageError: the image is refused.
            EngineError: an engine fails, and no other variant could take over.
        """
        return [_predict(member.predictor, data, explain) for member in self.members]

    def combine(self, predictions: Sequence[Prediction]) -> Prediction:
        """The members' answers as one: mean probabilities (Lakshminarayanan et al. 2017, "Simple and scalable
        predictive uncertainty estimation using deep ensembles", NIPS), their times added up.

        The heat map is the mean of those of the members that explain the class the ensemble explains.
        """
        first = predictions[0]
        known = {reason.text: reason for found in predictions for reason in found.reasons}
        reasons = (*known.values(), *self.reasons)
        cautions = tuple(reason.text for reason in reasons)
        if len(predictions) == 1:
            return msgspec.structs.replace(first, cautions=cautions, reasons=reasons)
        classes = self.decision.classes
        mean = np.mean([[found.probabilities[name] for name in classes] for found in predictions], axis=0)
        answered = self.decision.answers(mean[None])[0]
        labels = tuple(classes[c] for c in np.argsort(-mean) if answered[c])
        explained = classes[explained_class(self.decision, mean)]
        heats = [found.heat for found in predictions if found.heat is not None and found.explained == explained]
        heats = [heat for heat in heats if heat.shape == heats[0].shape]
        stages = dict.fromkeys(stage for found in predictions for stage in found.time_ms)
        return Prediction(
            label=labels[0] if labels else None,
            labels=labels,
            probabilities={name: float(p) for name, p in zip(classes, mean, strict=True)},
            time_ms={stage: round(sum(found.time_ms.get(stage, 0.0) for found in predictions), 3) for stage in stages},
            variant="+".join(found.variant for found in predictions),
            cautions=cautions,
            reasons=reasons,
            heat=np.mean(heats, axis=0) if heats else None,
            explained=explained if heats else None,
        )

    def info(self) -> ModelInfo:
        """For ``GET /model/info``."""
        manifests = [member.bundle.manifest for member in self.members]
        running = [member.predictor for member in self.members if member.started]
        policy = self.policy
        return ModelInfo(
            name=self.name,
            task=self.task,
            kind=self.decision.kind,
            classes=self.decision.classes,
            positive=self.decision.positive or None,
            thresholds=self.thresholds(),
            size=manifests[0].preprocessing.size,
            fit=manifests[0].preprocessing.fit,
            shorter_side=manifests[0].preprocessing.shorter_side,
            modalities=policy.modalities,
            body_parts=policy.body_parts,
            bundles=tuple(member.bundle.identity for member in self.members),
            members=tuple(member.name for member in self.members) if len(self.members) > 1 else (),
            variant=tuple(predictor.variant.name for predictor in running),
            executed=tuple(predictor.executed for predictor in running),
            verdict=tuple(manifest.verdict for manifest in manifests),
            figures=running[0].variant.figures if len(self.members) == 1 and running else {},
        )


def open_models(settings: Settings) -> dict[str, Model]:
    """The models of the settings, by name; none is loaded yet.

    Raises:
        BundleError: a bundle is damaged, not signed with a trusted key, or older than one that was served.
        InputError: names that repeat, or an ensemble of what is not served or does not fit.
    """
    members: dict[str, Member] = {}
    for words in settings.bundles:
        name, folder = _named(words)
        if name in members:
            raise InputError(f"two bundles are named {name}; name them: medcompress serve ONE=FOLDER OTHER=FOLDER")
        bundle = open_bundle(folder, trust=settings.trust)
        if settings.trust or os.environ.get(TRUST):
            refuse_older(bundle, name, allow=settings.allow_older)
        members[name] = Member(name, bundle)
    models = {name: Model(name, (member,)) for name, member in members.items()}
    for words in settings.ensembles:
        name, separator, rest = words.partition("=")
        names = rest.split(",")
        missing = [each for each in names if each not in members]
        if not separator or not name or len(set(names)) < 2 or len(set(names)) != len(names):
            raise InputError(f"ensemble {words!r}: write NAME=A,B,... with the names of two or more served bundles")
        if missing:
            raise InputError(f"ensemble {name}: {missing[0]} is not served; served are: {', '.join(members)}")
        if name in models:
            raise InputError(f"ensemble {name}: a model has that name already; give it another")
        models[name] = Model(name, tuple(members[each] for each in names))
    return models


def members_of(models: Mapping[str, Model]) -> list[Member]:
    """Every bundle that is served, once."""
    return list({member.name: member for model in models.values() for member in model.members}.values())


def _predict(predictor: Predictor, data: bytes, explain: bool) -> Prediction:
    """Without a heat map where the bundle has none: an answer is worth more than its explanation."""
    explain = explain and any(variant.explanation for variant in predictor.bundle.manifest.variants)
    return predictor.predict(data, explain=explain)


def _named(words: str) -> tuple[str, Path]:
    name, separator, folder = words.partition("=")
    if separator and name and "/" not in name and not Path(words).exists():
        return name, Path(folder)
    return Path(words).resolve().name, Path(words)


def _mean_decision(decisions: Sequence[Decision]) -> Decision:
    if len(decisions) == 1:
        return decisions[0]
    first = decisions[0]
    count = len(first.classes)
    if first.kind == "multilabel":
        table = [[decision.threshold_of(c) or 0.5 for c in range(count)] for decision in decisions]
        return msgspec.structs.replace(first, thresholds=tuple(float(t) for t in np.mean(table, axis=0)))
    return msgspec.structs.replace(first, threshold=float(np.mean([decision.threshold for decision in decisions])))
