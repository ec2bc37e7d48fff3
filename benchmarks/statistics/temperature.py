"""A temperature that makes probabilities mean what they say, found on the validation images.

Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", ICML,
https://arxiv.org/abs/1706.04599: raw outputs are divided by the one number that makes the truth likeliest. It moves no
answer of several classes and no rank of an image, only how sure the network is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.decision import Decision
from ...runtime.errors import DataError
from .metrics import require_scikit_learn

LEAST, MOST = 0.25, 4.0
# Of the mean negative log likelihood: what is no gain.
_NO_GAIN = 1e-9


def fit_temperature(decision: Decision, target: npt.NDArray[np.int8], logits: npt.NDArray[Any]) -> float:
    """The temperature of the lowest negative log likelihood, from :data:`LEAST` to :data:`MOST`.

    1 where none is better, where outputs are the same for all images or all classes, and where the network is right
    throughout: the surer the likelier then, without end, and nothing says how sure it may be. Where it is wrong
    throughout, near :data:`MOST`.

    Args:
        decision: its own temperature is left out of account.
        target: (N, classes) of the validation images, see :func:`medcompress.benchmarks.statistics.metrics.truth`;
            of findings all known ones count, with one temperature.
        logits: (N, classes), as the network gives them.

    Raises:
        DataError: nothing is known of the images, they do not line up, or an output is not a number.
        MachineError: scikit-learn, which brings scipy, is not installed.
    """
    require_scikit_learn()
    from scipy.optimize import minimize_scalar

    if target.shape != logits.shape or not np.isfinite(logits).all():
        raise DataError("validation labels and outputs do not line up, or an output is not a number; answer them again")
    findings = decision.kind == "multilabel"
    known = target >= 0 if findings else (target >= 0).all(axis=1) & (target.sum(axis=1) == 1)
    if not known.any():
        raise DataError("no validation image of known truth to find the temperature by; add some, or keep it")
    outputs, truth = logits.astype(np.float64), target == 1
    if np.ptp(outputs, axis=0).max() == 0:
        return 1.0
    if findings:
        # How far each output speaks for what is true.
        margins = np.where(truth, outputs, -outputs)[known][:, None]
    else:
        own = outputs[known][truth[known]][:, None]
        margins = own - outputs[known]

    def loss(log_temperature: float) -> float:
        scaled = margins / np.exp(log_temperature)
        of_image = np.logaddexp(0, -scaled[:, 0]) if findings else np.logaddexp.reduce(-scaled, axis=1)
        return float(of_image.mean())

    if (margins > 0).sum() == margins.size - (0 if findings else len(margins)):
        return 1.0
    found = minimize_scalar(loss, bounds=np.log([LEAST, MOST]), method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x)) if found.fun < loss(0.0) - _NO_GAIN else 1.0
