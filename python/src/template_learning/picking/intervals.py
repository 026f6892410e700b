"""Intervals of F1: of the very tomograms that were scored, and of tomograms like them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = tuple[float, float]


def interval_of_these(matched: int, selected: int, truth: int) -> Interval:
    """95 % interval of F1 for single outcomes (right, wrong, missed) drawn anew in the same tomograms.

    Jeffreys' interval of the share of right outcomes, which F1 follows from: F1 = 2 p / (1 + p).  It says nothing of other
    tomograms, where recall and precision may differ.
    """
    outcomes = selected + truth - matched
    low, high = (float(stats.beta.ppf(share, matched + 0.5, outcomes - matched + 0.5)) for share in (0.025, 0.975))
    return _f1(0.0 if matched == 0 else low), _f1(1.0 if matched == outcomes else high)


def interval_of_alike(matched: Sequence[int], selected: Sequence[int], truth: Sequence[int]) -> Interval | None:
    """95 % interval of F1 for tomograms like these, of which the counts of each are given; none for fewer than two.

    The share of right outcomes over all of them is a ratio of sums over tomograms, its variance that of such a ratio
    (Cochran, Sampling Techniques, 6.3).  Student's t of one degree of freedom less than there are tomograms is taken on the
    logit, about a share drawn in by half an outcome on each side; the interval is no narrower than single outcomes make it.
    Tomograms with neither picks nor particles do not count.
    """
    right = np.asarray(matched, dtype=float)
    outcomes = np.asarray(selected, dtype=float) + np.asarray(truth, dtype=float) - right
    right, outcomes = right[outcomes > 0], outcomes[outcomes > 0]
    count, total = len(outcomes), float(outcomes.sum())
    if count < 2:
        return None
    share = (right.sum() + 0.5) / (total + 1)
    residual = right - outcomes * right.sum() / total
    between = count / (count - 1) * float((residual**2).sum()) / total**2
    within = share * (1 - share) / (total + 1)
    furthest = max(float(stats.t.ppf(0.975, count - 1)) * np.sqrt(between), float(stats.norm.ppf(0.975)) * np.sqrt(within))
    reach = furthest / (share * (1 - share))
    low, high = _logistic(np.log(share / (1 - share)) + reach * np.array([-1.0, 1.0]))
    return _f1(float(low)), _f1(float(high))


def _logistic(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -700, 700))))


def _f1(share: float) -> float:
    return 2 * share / (1 + share)
