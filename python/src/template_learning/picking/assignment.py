"""Picks matched one to one with particles, and the figures that follow: precision, recall, F1 against a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision and recall of the picks that reach each threshold, thresholds falling (one for each value that occurs).

    ``picks`` and ``matched`` are counts; ``truth`` is the number of particles there are.
    """

    threshold: NDArray[np.float64]
    picks: NDArray[np.int64]
    matched: NDArray[np.int64]
    truth: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of the picks that are right."""
        return self.matched / np.maximum(self.picks, 1)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of the particles that were found."""
        return self.matched / max(self.truth, 1)

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall."""
        return 2 * self.matched / np.maximum(self.picks + self.truth, 1)

    @property
    def best(self) -> int | None:
        """The index of the best F1 (the highest threshold that has it), None without picks."""
        return int(self.f1.argmax()) if len(self.threshold) else None

    @property
    def crossing(self) -> tuple[float, float] | None:
        """The threshold and the value where precision and recall cross (linear in between), None where they do not."""
        lead = self.precision - self.recall
        for index in range(1, len(lead)):
            if lead[index - 1] > 0 >= lead[index]:
                share = lead[index - 1] / (lead[index - 1] - lead[index])
                pair = slice(index - 1, index + 1)
                return tuple(float(a + share * (b - a)) for a, b in (self.threshold[pair], self.precision[pair]))  # type: ignore[return-value]
        if len(lead) and lead[0] == 0 and self.matched[0] > 0:
            return float(self.threshold[0]), float(self.precision[0])
        return None

    @property
    def average_precision(self) -> float:
        """The area under precision against recall, as a sum of steps."""
        return float((self.precision * np.diff(self.recall, prepend=0.0)).sum())


def threshold_curve(tomograms: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], radius: float) -> ThresholdCurve:
    """The curve over tomograms, each (pick positions (N, 3), their values (N,), particle positions (M, 3)).

    For each threshold the largest one-to-one matching within ``radius`` counts (what the Hungarian method gives).
    """
    values = [np.asarray(value, dtype=float) for _, value, _ in tomograms]
    thresholds = np.unique(np.concatenate([*values, np.zeros(0)]))[::-1]
    picks = np.zeros(len(thresholds), dtype=np.int64)
    matched = np.zeros(len(thresholds), dtype=np.int64)
    for (position, _, truth), value in zip(tomograms, values, strict=True):
        order = np.argsort(-value, kind="stable")
        reached = np.searchsorted(-value[order], -thresholds, side="right")
        picks += reached
        matched += matched_after(np.reshape(position, (-1, 3))[order], truth, radius)[reached]
    return ThresholdCurve(thresholds, picks, matched, sum(len(truth) for _, _, truth in tomograms))


def matched_after(position: NDArray[Any], truth: NDArray[Any], radius: float) -> NDArray[np.int64]:
    """The size of the largest one-to-one matching of the first k picks, for k = 0 ... N.

    One augmenting path at most from each new pick (Kuhn 1955): a pick that finds none finds none later either.
    """
    near = cKDTree(truth).query_ball_point(position, radius) if len(truth) and len(position) else [[]] * len(position)
    holder: dict[int, int] = {}
    held: dict[int, int] = {}
    count = np.zeros(len(position) + 1, dtype=np.int64)
    for pick in range(len(position)):
        count[pick + 1] = count[pick] + _augment(pick, near, holder, held)
    return count


def _augment(pick: int, near: Sequence[Sequence[int]], holder: dict[int, int], held: dict[int, int]) -> bool:
    """Give ``pick`` a particle, other picks moving to others of theirs where they must; False where none is left.

    ``holder`` is the pick of each particle that has one, ``held`` the particle of each pick.
    """
    wanted_by: dict[int, int] = {}
    queue = [pick]
    for current in queue:
        for particle in near[current]:
            if particle in wanted_by:
                continue
            wanted_by[particle] = current
            if particle in holder:
                queue.append(holder[particle])
                continue
            free: int | None = particle
            while free is not None:
                taker = wanted_by[free]
                left = held.get(taker)
                holder[free], held[taker] = taker, free
                free = left
            return True
    return False


def expected_f1_count(probability: NDArray[Any], least: float = 0.0) -> int:
    """How many picks to take, the likeliest first, for the highest expected F1.

    F1 is taken at its expected counts, 2 P(k) / (k + P(N)) with P the sum of the first k probabilities: particles that no
    pick stands for are not among them.

    Parameters
    ----------
    probability : (N,) array
        That each pick is right.
    least : float, optional
        No pick less likely than this is taken.  That changes the choice only where the highest expected F1 is below twice
        this.

    Returns
    -------
    int
        0 to N.

    References
    ----------
    Lewis, SIGIR (1995).
    """
    likeliest_first = np.sort(np.asarray(probability, dtype=float))[::-1]
    right = np.cumsum(likeliest_first)
    if len(right) == 0 or right[-1] <= 0:
        return 0
    best = 1 + int((right / (np.arange(1, len(right) + 1) + right[-1])).argmax())
    return min(best, int((likeliest_first >= least).sum()))


def match(position: NDArray[Any], truth: NDArray[Any], radius: float) -> list[tuple[int, int, float]]:
    """The largest one-to-one matching within a radius; of those, the one of least total distance.

    Parameters
    ----------
    position : (P, 3) array
        Picks.
    truth : (T, 3) array
        Particles, in the same unit and frame.
    radius : float
        The greatest distance of a pair, in that unit.

    Returns
    -------
    list of (int, int, float)
        Pick, particle and distance of each pair.
    """
    if len(position) == 0 or len(truth) == 0:
        return []
    distance = np.linalg.norm(np.asarray(position)[:, None] - np.asarray(truth)[None], axis=2)
    # A pair too far apart costs more than all near ones together, so that none is given up for a shorter sum.
    forbidden = (min(distance.shape) + 1) * radius
    rows, columns = linear_sum_assignment(np.where(distance <= radius, distance, forbidden))
    return [
        (int(pick), int(particle), float(distance[pick, particle]))
        for pick, particle in zip(rows, columns, strict=True)
        if distance[pick, particle] <= radius
    ]


def f_beta(matched: int, picks: int, truth: int, beta: float) -> float:
    """(1 + beta^2) matched / (picks + beta^2 truth): the weighted harmonic mean of precision and recall."""
    return (1 + beta**2) * matched / max(picks + beta**2 * truth, 1)
