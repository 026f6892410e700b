"""The score of a pick: how sure the network is of a segment."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from template_learning.common.tables import PickRow, ScoreKind


def pick_score(log_odds: NDArray[Any], voxels: NDArray[np.intp]) -> float:
    """The mean of a segment's log-odds: unlike a mean probability it tells apart picks that are all but certain.

    ``log_odds`` [z, y, x] are the natural ones of each voxel's class against all others; ``voxels`` (N, 3) are the segment's,
    as z, y, x.
    """
    return float(log_odds[tuple(voxels.T)].mean(dtype=np.float64))


def mean_probability(log_odds: NDArray[Any], voxels: NDArray[np.intp]) -> float:
    """The mean of a segment's probabilities, 0 to 1; arguments as for ``pick_score``."""
    return float(expit(log_odds[tuple(voxels.T)].astype(np.float64)).mean())


def score_of(pick: PickRow, kind: ScoreKind) -> float:
    """A pick's score of that kind.  Picks of 0.1.0 have one score, the mean probability."""
    if kind == "log_odds" or pick.mean_probability is None:
        return pick.score
    return pick.mean_probability
