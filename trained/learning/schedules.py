"""How the learning rate moves within a stage."""

from __future__ import annotations

import math

from .options import Schedule

# Share of a stage in which the rate rises to its highest.
WARM_UP = {"one-cycle": 0.3, "cosine": 0.05, "plateau": 0.0, "constant": 0.0}
# Where one-cycle and cosine begin, as a share of the highest rate.
START = 0.04
# Of the plateau schedule: epochs without a lower validation loss, then the rate falls to this share.
PLATEAU_EPOCHS, PLATEAU_FACTOR = 2, 0.3


def rate(schedule: Schedule, progress: float) -> float:
    """The learning rate as a share of its highest.

    ``one-cycle`` rises for 30 % of the stage and falls along a cosine to nearly nothing (Smith and Topin,
    Super-Convergence, 2018); ``cosine`` rises for 5 % (Loshchilov and Hutter, SGDR, ICLR 2017). ``plateau`` is
    constant here: what it lowers depends on the validation loss.

    Args:
        progress: within the stage, 0..1.
    """
    if schedule in ("plateau", "constant"):
        return 1.0
    warm_up = WARM_UP[schedule]
    if progress < warm_up:
        return START + (1 - START) * (1 - math.cos(math.pi * progress / warm_up)) / 2
    return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


def lowered(losses: list[float]) -> float:
    """What the plateau schedule multiplies the rate with after these epochs' validation losses."""
    factor, best, waited = 1.0, math.inf, 0
    for value in losses:
        if value < best:
            best, waited = value, 0
            continue
        waited += 1
        if waited >= PLATEAU_EPOCHS:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor
