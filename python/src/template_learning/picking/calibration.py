"""Thresholds of size and score, and the chance that a score is right, chosen where the truth is known."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from template_learning.common.geometry import Grid
from template_learning.common.tables import ParticleRow, PickRow, positions
from template_learning.picking.assignment import matched_after
from template_learning.picking.evaluation import Tomogram, classes_of, curve_of
from template_learning.picking.selection import Selection, confidence
from template_learning.settings import EvaluateSettings

NEARLY_BEST = 0.005
"""Thresholds whose F1 is this near to the best are as good; the middle of their range is chosen."""


def choose_minimum_size(
    picks: Mapping[str, Sequence[PickRow]],
    truth: Mapping[str, Sequence[ParticleRow]],
    grids: Mapping[str, Grid],
    settings: EvaluateSettings,
) -> dict[int, int]:
    """For each class the segment size in voxels from which on picks should be selected; see ``choose_threshold``."""
    # A size just above the next smaller one's, and no less than a voxel.
    chosen = choose_threshold(picks, truth, grids, settings, "size")
    return {class_id: max(1, round(size + 0.5)) for class_id, size in chosen.items()}


def choose_threshold(
    picks: Mapping[str, Sequence[PickRow]],
    truth: Mapping[str, Sequence[ParticleRow]],
    grids: Mapping[str, Grid],
    settings: EvaluateSettings,
    rank: Literal["size", "score"],
) -> dict[int, float]:
    """For each class the size or score from which on picks should be selected: the best F1 over tomograms.

    ``picks``, ``truth`` (class 0 does not count) and ``grids`` are by tomogram.  The middle of the range of thresholds
    that are within 0.005 of the best F1 about the best one.  A class of which nothing was found is left out.
    """
    tomograms = _of_known_truth(picks, truth, grids, settings)
    chosen = {}
    for class_id in classes_of(tomograms):
        curve = curve_of([t.of_class(class_id) for t in tomograms], settings, rank)
        best = curve.best
        if best is None or curve.matched[best] == 0:
            continue
        first = last = best
        while first > 0 and curve.f1[first - 1] >= curve.f1[best] - NEARLY_BEST:
            first -= 1
        while last + 1 < len(curve.f1) and curve.f1[last + 1] >= curve.f1[best] - NEARLY_BEST:
            last += 1
        # The last one's picks are kept by any threshold above the next smaller one.
        lowest = curve.threshold[last] - 1 if rank == "size" else min(0.0, curve.threshold[last])
        below = curve.threshold[last + 1] if last + 1 < len(curve.threshold) else lowest
        chosen[class_id] = float(curve.threshold[first] + below) / 2
    return chosen


def _of_known_truth(
    picks: Mapping[str, Sequence[PickRow]],
    truth: Mapping[str, Sequence[ParticleRow]],
    grids: Mapping[str, Grid],
    settings: EvaluateSettings,
) -> list[Tomogram]:
    """The tomograms with what counts: targets, and what lies away from the border."""
    tomograms = [
        Tomogram(name, grids[name], picks[name], [row for row in truth[name] if row.class_id > 0]) for name in sorted(picks)
    ]
    return [tomogram.within(settings.border_voxels, False) for tomogram in tomograms]


def choose_selection(
    classes: Iterable[int],
    picks: Mapping[str, Sequence[PickRow]],
    truth: Mapping[str, Sequence[ParticleRow]],
    grids: Mapping[str, Grid],
    settings: EvaluateSettings,
    also: Mapping[str, Sequence[PickRow]] | None = None,
) -> Selection:
    """Thresholds of size or score, as ``settings.rank`` says, and how often segments of a score are right.

    ``also`` are picks that the thresholds do not depend on but those frequencies do, with ``truth`` and ``grids`` of the
    same names.  They are counted by confidence, which takes a segment's size into account (``confidence``).  A class of
    which nothing was found keeps a size of 1 and any score.
    """
    minimum, minimum_score = dict.fromkeys(classes, 1), {}
    if settings.rank == "size":
        minimum |= choose_minimum_size(picks, truth, grids, settings)
    else:
        minimum_score = choose_threshold(picks, truth, grids, settings, "score")
    whole = _whole_size(_of_known_truth(picks, truth, grids, settings), settings)
    ranked = {
        name: [pick.model_copy(update={"score": confidence(pick, whole)}) for pick in found]
        for name, found in {**picks, **(also or {})}.items()
    }
    quartiles, recall = _scores_and_recall(_of_known_truth({**picks, **(also or {})}, truth, grids, settings), settings)
    return Selection(
        minimum_size_voxels=minimum,
        minimum_score=minimum_score,
        score_probability=score_probability(ranked, truth, grids, settings),
        whole_size_voxels=whole,
        score_quartiles=quartiles,
        segment_recall=recall,
    )


def _scores_and_recall(
    tomograms: Sequence[Tomogram], settings: EvaluateSettings
) -> tuple[dict[int, tuple[float, float, float]], dict[int, float]]:
    """For each class the quartiles of the scores of segments that are right, and the share of the particles that have one."""
    quartiles, recall = {}, {}
    for class_id in classes_of(tomograms):
        ranked = _outcomes(tomograms, class_id, settings)
        right = [pick.score for found, outcomes in ranked for pick, matched in zip(found, outcomes, strict=True) if matched]
        there = sum(len(tomogram.of_class(class_id).truth) for tomogram in tomograms)
        if right and there:
            low, middle, high = np.percentile(right, [25, 50, 75])
            quartiles[class_id] = (float(low), float(middle), float(high))
            recall[class_id] = len(right) / there
    return quartiles, recall


def _whole_size(tomograms: Sequence[Tomogram], settings: EvaluateSettings) -> dict[int, float]:
    """For each class the median size, in voxels, of the surer half of the segments that are right."""
    sizes = {}
    for class_id in classes_of(tomograms):
        ranked = _outcomes(tomograms, class_id, settings)
        right = [pick for found, outcomes in ranked for pick, matched in zip(found, outcomes, strict=True) if matched]
        right.sort(key=lambda pick: -pick.score)
        if right:
            sizes[class_id] = float(np.median([pick.size_voxels for pick in right[: (len(right) + 1) // 2]]))
    return sizes


def _outcomes(
    tomograms: Sequence[Tomogram], class_id: int, settings: EvaluateSettings
) -> Iterator[tuple[list[PickRow], NDArray[np.int64]]]:
    """Of each tomogram the picks of a class, surest first, and which of them (1 or 0) are right."""
    for tomogram in tomograms:
        of_class = tomogram.of_class(class_id)
        found = sorted(of_class.picks, key=lambda pick: -pick.score)
        radius = settings.match_radius_voxels * tomogram.grid.voxel_size_angstrom
        yield found, np.diff(matched_after(positions(found), positions(of_class.truth), radius))


def score_probability(
    picks: Mapping[str, Sequence[PickRow]],
    truth: Mapping[str, Sequence[ParticleRow]],
    grids: Mapping[str, Grid],
    settings: EvaluateSettings,
) -> dict[int, list[tuple[float, float]]]:
    """For each class how likely a segment of a score is right: steps (least score, probability), both rising.

    The monotone fit of least squares to which segments were right (isotonic regression) over all tomograms.
    """
    tomograms = _of_known_truth(picks, truth, grids, settings)
    steps = {}
    for class_id in classes_of(tomograms):
        ranked = list(_outcomes(tomograms, class_id, settings))
        values = np.array([pick.score for found, _ in ranked for pick in found])
        outcomes = np.concatenate([right for _, right in ranked])
        if not len(values):
            continue
        values, inverse = np.unique(values, return_inverse=True)
        weights = np.bincount(inverse)
        fit = isotonic_regression(np.bincount(inverse, outcomes) / weights, weights=weights)
        steps[class_id] = [(float(values[start]), float(fit.x[start])) for start in fit.blocks[:-1]]
    return steps
