"""Which network is looked at next: what Optuna is asked, its state in one file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec
import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from .known import Looked, Told, told_of
from .points import LEAST, MOST, Point, Size, first_points

# Proposals in a row of which everything is known already: then there is nothing left to look at.
_PROPOSALS = 40
# So many are looked at before the sampler says what is next.
_STARTUP = 4
_SHARE, _SIZE, _LOOKED, _SHORTFALL = "share", "size", "looked", "shortfall"


class Journal:
    """The tree-structured Parzen estimator over share and size, minimizing milliseconds among what is good enough.

    Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011. Proposals depend on the seed and on what
    was told alone, so that a search that was stopped goes on as it would have.

    Args:
        path: of the journal; a line that a killed process left unfinished is cut off.
        sizes: that the network takes, with the largest share each.
    """

    def __init__(self, path: Path, sizes: dict[Size, float], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sizes = sizes
        self._seed = seed
        _mend(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)
        every = list(sizes)
        for point in first_points(every):
            self._study.enqueue_trial({_SHARE: point.share, _SIZE: every.index(point.size)}, skip_if_exists=True)

    @property
    def looked(self) -> list[Looked]:
        """The finished ones, in their order."""
        return [
            msgspec.convert(trial.user_attrs[_LOOKED], Looked)
            for trial in self._trials()
            if _LOOKED in trial.user_attrs and trial.state.is_finished()
        ]

    def next(self) -> tuple[optuna.Trial, Point] | None:
        """The one a stopped search was at, or the next that something is to be learned of; None where there is none."""
        for _ in range(_PROPOSALS):
            trial, point = self._ask()
            told = told_of(point, self.looked, self._sizes)
            if told is None:
                return trial, point
            self._tell(trial, told)
        return None

    def tell(self, trial: optuna.Trial, found: Looked) -> None:
        """What came of it."""
        trial.set_user_attr(_LOOKED, msgspec.to_builtins(found))
        if found.trial.p50_ms is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._tell(trial, Told(found.trial.p50_ms, found.shortfall))

    def _ask(self) -> tuple[optuna.Trial, Point]:
        trials = self._trials()
        running = [each for each in trials if each.state == TrialState.RUNNING]
        number = running[0].number if running else sum(each.state.is_finished() for each in trials)
        self._study.sampler = TPESampler(n_startup_trials=_STARTUP, seed=1000 * self._seed + number)
        trial = optuna.Trial(self._study, running[0]._trial_id) if running else self._study.ask()
        share = trial.suggest_float(_SHARE, LEAST, MOST, log=True)
        size = trial.suggest_int(_SIZE, 0, len(self._sizes) - 1)
        return trial, Point.near(share, list(self._sizes)[size])

    def _tell(self, trial: optuna.Trial, told: Told) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was set before where a search was killed between the two
            trial.set_constraint(_SHORTFALL, told.shortfall - 1)
        self._study.tell(trial, told.p50_ms)

    def _trials(self) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _mend(path: Path) -> None:
    """Cut an unfinished last line off, and take away the lock of a process that is no more: ours is the only one."""
    lock = Path(f"{path}.lock")
    lock.unlink(missing_ok=True)
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
