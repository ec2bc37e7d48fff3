"""Networks with less in them, beside the dense one: pruned as asked for, or the best the search found."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from ..benchmarks import networks as told
from ..benchmarks.progress import stage as say
from ..trained.checkpoint import Checkpoint, save_checkpoint
from ..trained.learning.distillation import digest
from .forms import Calibrated, Forms, Trial, joined, make_forms
from .networks import Network, make_network
from .pruning.options import Pruning, usual_epochs
from .recipes import Recipe
from .speed import fastest
from .workspace import Workspace

if TYPE_CHECKING:
    from .pruning.rounds import Pruned

# Of the time that is left, pruning and recovery may take so much: the forms need the rest.
_SHARE = 0.75


@dataclass(frozen=True)
class Lean:
    """Pruned networks and their forms.

    Attributes:
        checkpoints: name of a network -> its checkpoint.
        networks: how each was made, for the report.
        trials: what the search looked at; empty where there was none.
    """

    forms: Forms
    recipes: tuple[Recipe, ...]
    checkpoints: dict[str, Checkpoint]
    networks: tuple[told.Network, ...]
    trials: tuple[told.Trial, ...] = ()

    def calibrated_for(self, form: str) -> Calibrated | None:
        """Of a form's own network, else of the first that has some; None without INT8."""
        of = next((recipe.network for recipe in self.recipes if recipe.name == form), "")
        every = self.forms.calibrated
        return every.get(of) or next(iter(every.values()), None)


def make_lean(
    workspace: Workspace, recipes: Sequence[Recipe], dense: Network, rendered: npt.NDArray[np.uint8], trial: Trial
) -> Lean:
    """The forms of the dense network, or of a pruned one as it was asked for, with the dense reference.

    Args:
        rendered: calibration images.

    Raises:
        InputError: the target cannot be reached.
        MedcompressError: the network cannot be pruned, or its recovery diverges.
        DataError: the images cannot be calibrated on.
        OSError: the disk is full.
    """
    asked = trial.options.pruning
    if trial.options.auto:
        return _search(workspace, recipes, dense, rendered, trial)
    if asked is None:
        return Lean(make_forms(workspace, recipes, dense, trial), tuple(recipes), {}, ())
    # Training's packages take seconds to load.
    from .pruning.rounds import prune_in_rounds

    say(f"Pruning to {asked.target}")
    room = workspace.room(f"{asked.name}-{asked.digest}")
    preprocessing = dense.checkpoint.spec.preprocessing

    def latency(network: nn.Module) -> float:
        return fastest(network, preprocessing, rendered, recipes, trial.options.threads)[1]

    now = time.monotonic()
    ends = now + _SHARE * (trial.deadline - now)
    found = prune_in_rounds(room, dense.checkpoint, trial.split, asked, latency=latency, deadline=ends)
    made, own = _forms(room, recipes, asked.name, found.checkpoint, rendered, trial)
    reference = make_forms(workspace, recipes[:1], dense, trial)
    told_of = (_told(asked, dense.checkpoint, found),)
    return Lean(joined([reference, made]), (recipes[0], *own), {asked.name: found.checkpoint}, told_of)


def _search(
    workspace: Workspace, recipes: Sequence[Recipe], dense: Network, rendered: npt.NDArray[np.uint8], trial: Trial
) -> Lean:
    """All forms of the dense network, and of the best that the search found."""
    from .search.search import search

    say("Searching for the fastest network that is still as good")
    now = time.monotonic()
    epochs = usual_epochs(len(trial.split.train)) if trial.options.epochs is None else trial.options.epochs
    goal = hashlib.sha256(msgspec.json.encode(trial.tolerance, order="deterministic")).hexdigest()[:8]
    best, trials = search(
        workspace.room(f"search-{epochs}-{goal}"),
        dense.checkpoint,
        trial.split,
        recipes,
        rendered,
        trial.images,
        trial.decision,
        trial.tolerance,
        threads=trial.options.threads,
        deadline=now + _SHARE * (trial.deadline - now),
        epochs=epochs,
        seed=trial.options.seed,
    )
    made, of_all = [], list(recipes)
    for place, each in enumerate(best):
        name = each.pruning.name
        room = workspace.room(f"{name}-{digest(each.checkpoint)[:8]}")
        forms, own = _forms(room, recipes, name, each.checkpoint, rendered, _shared(trial, len(best) - place + 1))
        made.append(forms)
        of_all += own
    made.insert(0, make_forms(workspace, recipes, dense, trial))
    return Lean(
        joined(made),
        tuple(of_all),
        {each.pruning.name: each.checkpoint for each in best},
        tuple(_told(each.pruning, dense.checkpoint, each.pruned) for each in best),
        trials,
    )


def networks_of(destination: Path) -> Path:
    """The folder of a bundle's pruned checkpoints, beside it."""
    return destination.with_name(f"{destination.name}-networks")


def leave_networks(destination: Path, lean: Lean) -> tuple[Path, ...]:
    """Save the pruned checkpoints beside the bundle, and say where."""
    folder = networks_of(destination)
    files = {folder / f"{name}.pth": checkpoint for name, checkpoint in lean.checkpoints.items()}
    for file, checkpoint in files.items():
        folder.mkdir(exist_ok=True)
        save_checkpoint(file, checkpoint)
    return tuple(files)


def _forms(
    room: Workspace,
    recipes: Sequence[Recipe],
    name: str,
    checkpoint: Checkpoint,
    rendered: npt.NDArray[np.uint8],
    trial: Trial,
) -> tuple[Forms, list[Recipe]]:
    network = make_network(room, checkpoint, rendered, trial.images.rendered, trial.options.threads, name)
    own = [recipe.of(name) for recipe in recipes]
    return make_forms(room, own, network, trial), own


def _shared(trial: Trial, networks: int) -> Trial:
    """With the first network's part of the time that is left for so many: one long ladder must not take all of it."""
    now = time.monotonic()
    return replace(trial, deadline=now + (trial.deadline - now) / networks)


def _told(asked: Pruning, dense: Checkpoint, found: Pruned) -> told.Network:
    """As the report tells it: the rounds that were made now, not those of a network that was pruned before."""
    rounds = found.checkpoint.spec.pruning[len(dense.spec.pruning) :]
    return told.Network(
        name=asked.name,
        macs=(rounds[0].macs[0], rounds[-1].macs[1]),
        parameters=(rounds[0].parameters[0], rounds[-1].parameters[1]),
        looks_at=asked.shrunk,
        rounds=tuple(
            told.Round(
                asked=each.asked,
                importance=each.importance,
                macs=each.macs,
                parameters=each.parameters,
                epochs=len(history) - 1,
                auroc=(history[0]["val_auroc"], _best(history)["val_auroc"]),
                distance=(history[0]["val_distance"], _best(history)["val_distance"]),
            )
            for each, history in zip(rounds, found.histories, strict=True)
        ),
        seconds=found.seconds,
    )


def _best(history: Sequence[dict[str, float]]) -> dict[str, float]:
    return min(history, key=lambda row: (row["val_distance"], row["val_loss"]))
