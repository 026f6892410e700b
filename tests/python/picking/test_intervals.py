"""Intervals of F1 cover what they say, also where tomograms differ."""

import numpy as np
import pytest
from scipy import stats
from template_learning.picking.intervals import interval_of_alike, interval_of_these

RECALL, PRECISION = 0.9, 0.92
REPEATS = 1500


def drawn(generator: np.random.Generator, tomograms: int, spread: float, particles: int = 120) -> tuple[np.ndarray, ...]:
    """Counts of ``REPEATS`` sets of tomograms whose recall and precision differ: beta-binomial."""

    def beta(mean: float) -> np.ndarray:
        size = (REPEATS, tomograms)
        if spread == 0:
            return np.full(size, mean)
        strength = mean * (1 - mean) / spread**2 - 1
        return generator.beta(mean * strength, (1 - mean) * strength, size)

    truth = generator.poisson(particles, (REPEATS, tomograms)) + 1
    matched = generator.binomial(truth, beta(RECALL))
    wrong = generator.poisson(matched * (1 / beta(PRECISION) - 1))
    return matched, matched + wrong, truth


def covered(intervals: list[tuple[float, float]], value: float) -> float:
    return float(np.mean([low <= value <= high for low, high in intervals]))


def f1_of_all(spread: float) -> float:
    matched, selected, truth = drawn(np.random.default_rng(0), 500, spread)
    return float(2 * matched.sum() / (selected.sum() + truth.sum()))


@pytest.mark.parametrize("spread", [0.0, 0.04, 0.08])
@pytest.mark.parametrize("tomograms", [2, 5, 10])
def test_tomograms_like_these_are_covered_as_often_as_is_said(tomograms: int, spread: float) -> None:
    counts = drawn(np.random.default_rng(tomograms), tomograms, spread)
    intervals = [interval_of_alike(*(one.tolist() for one in rows)) for rows in zip(*counts, strict=True)]
    share = covered([one for one in intervals if one], f1_of_all(spread))
    assert share == pytest.approx(0.95, abs=0.025) or (share > 0.95 and (spread == 0 or tomograms == 2))


def test_single_outcomes_cover_too_little_where_tomograms_differ_and_enough_where_they_do_not() -> None:
    shares = {}
    for spread in (0.0, 0.08):
        counts = drawn(np.random.default_rng(3), 2, spread)
        intervals = [interval_of_these(*(int(one.sum()) for one in rows)) for rows in zip(*counts, strict=True)]
        shares[spread] = covered(intervals, f1_of_all(spread))
    assert shares[0.0] == pytest.approx(0.95, abs=0.025)
    assert shares[0.08] < 0.7


def test_intervals_by_hand() -> None:
    # 90 right of 100 outcomes: Jeffreys' interval of 0.9, then F1 of its ends.
    low, high = stats.beta.ppf([0.025, 0.975], 90.5, 10.5)
    assert interval_of_these(90, 95, 95) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert interval_of_these(0, 0, 5)[0] == 0
    assert interval_of_these(5, 5, 5)[1] == 1
    assert interval_of_alike([9], [10], [10]) is None
    assert interval_of_alike([9, 0], [10, 0], [10, 0]) is None
    # 80 and 40 right of 100 and 60 outcomes: residuals of +-5 about 0.75 each, variance 2 * 50 / 160^2 = 1 / 256.
    low, high = interval_of_alike([80, 40], [90, 50], [90, 50]) or (0, 0)
    share = 120.5 / 161
    reach = stats.t.ppf(0.975, 1) / 16 / (share * (1 - share))
    ends = [1 / (1 + np.exp(-(np.log(share / (1 - share)) + sign * reach))) for sign in (-1, 1)]
    assert (low, high) == pytest.approx([2 * end / (1 + end) for end in ends])
    assert interval_of_alike([10, 10], [10, 10], [10, 10]) != (1, 1)
