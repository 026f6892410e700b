"""Which segments are picks: thresholds of size and score, or the highest expected F1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE
from template_learning.common.tables import PickRow, ScoreKind
from template_learning.learning.model_card import ModelCard
from template_learning.picking.assignment import expected_f1_count
from template_learning.picking.pick_score import score_of
from template_learning.settings import ClusterSettings


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What decides which segments are picks, by class; see the fields of those names in a model's card."""

    minimum_size_voxels: dict[int, int]
    minimum_score: dict[int, float]
    score_probability: dict[int, list[tuple[float, float]]] | None
    whole_size_voxels: dict[int, float] = field(default_factory=dict)
    score_kind: ScoreKind = "log_odds"
    score_quartiles: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    segment_recall: dict[int, float] = field(default_factory=dict)


def scaled_minimum_size(card: ModelCard, voxel_size_angstrom: float) -> dict[int, int] | None:
    """The card's size thresholds in voxels of another size."""
    if card.minimum_size_voxels is None:
        return None
    scale = _volume_ratio(card, voxel_size_angstrom)
    return {number: max(1, round(size * scale)) for number, size in card.minimum_size_voxels.items()}


def scaled_whole_size(card: ModelCard, voxel_size_angstrom: float) -> dict[int, float]:
    """The card's sizes of whole segments in voxels of another size; none where it has none."""
    scale = _volume_ratio(card, voxel_size_angstrom)
    return {number: size * scale for number, size in (card.whole_size_voxels or {}).items()}


def _volume_ratio(card: ModelCard, voxel_size_angstrom: float) -> float:
    ratio = card.voxel_size_angstrom / voxel_size_angstrom
    return ratio**3 if abs(ratio - 1) > VOXEL_SIZE_TOLERANCE else 1.0


def selection_of(card: ModelCard, voxel_size_angstrom: float) -> Selection:
    """What the model takes for picks in tomograms of that voxel size."""
    return Selection(
        minimum_size_voxels=scaled_minimum_size(card, voxel_size_angstrom) or {},
        minimum_score=card.minimum_score or {},
        score_probability=card.score_probability,
        whole_size_voxels=scaled_whole_size(card, voxel_size_angstrom),
        score_kind=card.score_kind,
        score_quartiles=card.score_quartiles or {},
        segment_recall=card.segment_recall or {},
    )


def segments_by(probability_threshold: float | None, cluster: ClusterSettings) -> dict[str, Any]:
    """The parameters that say where a segment ends, and so what its size and score mean; the first is SEGMENT's."""
    return {
        "segment.probability_threshold": probability_threshold,
        "cluster.method": cluster.method,
        "cluster.probability_threshold": cluster.probability_threshold,
    }


def check_segments(carried: Mapping[str, Any] | None, now: Mapping[str, Any], what: str) -> None:
    """BadInput where the thresholds, ``what``, were chosen for segments found by other settings; older models do not say."""
    other = [name for name, value in (carried or {}).items() if name in now and now[name] != value]
    if carried and other:
        theirs, ours = (", ".join(f"{name} = {_or_none(of[name])}" for name in other) for of in (carried, now))
        raise BadInput(
            f"{what} was chosen with {theirs}, and here is {ours}; the former, or cluster.minimum_size_voxels, minimum_log_odds or minimum_mean_probability, was expected"
        )


def check_expected_f1(carried: Mapping[Any, Any] | None, what: str) -> None:
    """BadInput where a model that carries no probabilities of scores is asked for picks by the expected F1."""
    if not carried:
        raise BadInput(
            f"{what} cluster.chosen_by = 'expected_f1', but the model carries no probabilities of scores;"
            " a model calibrated with evaluate.rank = score was expected"
        )


def _or_none(value: Any) -> Any:
    return "none" if value is None else value


def confidence(pick: PickRow, whole_size_voxels: Mapping[int, float], kind: ScoreKind = "log_odds") -> float:
    """A pick's score times its share of the size of a whole segment of its class, 1 at most (or where that is not known).

    Of two segments that are equally sure the one of a molecule's size is right more often than a crumb.  Negative log-odds are
    divided by the share, so that a crumb has less there too.
    """
    score = score_of(pick, kind)
    share = min(1.0, pick.size_voxels / whole_size_voxels.get(pick.class_id, pick.size_voxels))
    return score * share if score >= 0 else score / share


def select_by_expected_f1(
    picks: Sequence[PickRow], selection: Selection, minimum_probability: float
) -> tuple[list[PickRow], dict[int, float]]:
    """The picks with as many selected in each class as give the highest expected F1, and the least score of those, if any.

    How likely a pick is right is what ``selection.score_probability`` says of its confidence; none right less often than
    ``minimum_probability`` is selected.  Classes that are not in it keep what is selected.
    """
    sure = {pick.pick: confidence(pick, selection.whole_size_voxels, selection.score_kind) for pick in picks}
    least = {}
    for class_id, steps in (selection.score_probability or {}).items():
        values = np.array([sure[pick.pick] for pick in picks if pick.class_id == class_id])
        count = expected_f1_count(_probability_of(values, steps), minimum_probability)
        least[class_id] = np.sort(values)[-count] if count else np.inf
    selected = [
        pick.model_copy(update={"selected": bool(sure[pick.pick] >= least[pick.class_id])}) if pick.class_id in least else pick
        for pick in picks
    ]
    scores: dict[int, float] = {}
    for pick in selected:
        if pick.selected and pick.class_id in least:
            score = score_of(pick, selection.score_kind)
            scores[pick.class_id] = min(score, scores.get(pick.class_id, score))
    return selected, scores


def _probability_of(confidences: NDArray[np.float64], steps: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """What a card's steps say of confidences: 0 below the first."""
    start, probability = np.array(steps, dtype=float).reshape(-1, 2).T
    return np.asarray(np.concatenate([[0.0], probability])[np.searchsorted(start, confidences, side="right")])


def expected_figures(picks: Sequence[PickRow], selection: Selection) -> dict[int, dict[str, float | None]]:
    """Expected precision, recall and F1 of the selected picks of each class that the model has probabilities for.

    The mean of what the model says of each pick.  Particles that no segment stands for are as frequent as on the tomograms that it was
    calibrated on (none where the model does not say).  None stands for a figure of no picks.
    """
    figures: dict[int, dict[str, float | None]] = {}
    for class_id, steps in (selection.score_probability or {}).items():
        rows = [pick for pick in picks if pick.class_id == class_id]
        sure = np.array([confidence(pick, selection.whole_size_voxels, selection.score_kind) for pick in rows], dtype=float)
        chance = _probability_of(sure, steps)
        taken = np.array([pick.selected for pick in rows], dtype=bool)
        right, there = float(chance[taken].sum()), float(chance.sum()) / max(selection.segment_recall.get(class_id, 1.0), 1e-6)
        figures[class_id] = {
            "precision": right / int(taken.sum()) if taken.any() else None,
            "recall": right / there if there > 0 else None,
            "f1": 2 * right / (int(taken.sum()) + there) if taken.any() else None,
        }
    return figures
