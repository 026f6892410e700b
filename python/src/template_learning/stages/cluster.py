"""CLUSTER: a segmentation in, picks out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, write_table
from template_learning.common.log import tell
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.common.tables import PickRow, ScoreKind
from template_learning.deepfinder import program as deepfinder_program
from template_learning.learning.domain import FAR, DomainDistance
from template_learning.picking.segments import classes_in, select_picks
from template_learning.picking.selection import Selection, check_expected_f1, check_segments, expected_figures, segments_by
from template_learning.settings import RENAMED, ClusterSettings, present_section

LEAST_RANGE = 0.5
"""Interquartile range, of log-odds, that scores are taken to have at least."""


def cluster_segmentation(segmentation: Path, log_odds: Path, identifier: str, settings: ClusterSettings, output: Path) -> None:
    """CLUSTER: write ``<id>.picks.csv``, every segment with its size, score and whether it is selected.

    Positions are (x, y, z) in Å from the tomogram's voxel (0, 0, 0).  A segment is selected from the settings'
    ``minimum_size_voxels`` and ``minimum_log_odds`` or ``minimum_mean_probability`` on, or from the thresholds
    of its class in the segmentation's sidecar (the same where there are none), or, where the settings say so, by the
    expected F1.

    Parameters
    ----------
    segmentation : Path
        Classes [z, y, x], its sidecar beside it.
    log_odds : Path
        Those of the likeliest target class, [z, y, x]; its probabilities where the file is named as version 0.1.0 named them,
        ``<id>.probability.mrc``.
    identifier : str
        Start of the files' names.
    settings : ClusterSettings
        Section ``cluster``.
    output : Path
        Folder to write to.

    Raises
    ------
    BadInput
        The files do not fit together, the model's thresholds were chosen for segments found otherwise, or the expected F1
        is asked for and the model behind the segmentation carries nothing for it.
    """
    checked_id(identifier)
    classes, voxel_size = read_mrc(segmentation)
    odds, _ = read_mrc(log_odds, need_voxel_size=False)
    if classes.shape != odds.shape:
        raise BadInput(f"{log_odds}: shape {odds.shape} (z, y, x), that of {segmentation} {classes.shape} was expected")
    if log_odds.name.endswith(".probability.mrc"):
        least = np.float32(2.0**-24)  # what single precision leaves between 1 and the next number below
        odds = logit(np.clip(odds, least, 1 - least))
    metadata = read_sidecar(segmentation)
    minimum, least_score, kind, origin = _thresholds(classes, settings, metadata)
    if origin == "model":
        by = present_section("segment", metadata.get("settings", {})).get("probability_threshold")
        carried = {RENAMED.get(name, name): value for name, value in (metadata.get("segments_by") or {}).items()}
        check_segments(carried, segments_by(by, settings), f"{segmentation}: the model's threshold")
    program: dict[str, str] = {}
    if settings.engine == "deepfinder":
        program = deepfinder_program.program("cluster")
    by_expected_f1 = settings.chosen_by == "expected_f1" and origin != "settings"
    if by_expected_f1:
        check_expected_f1(metadata.get("score_probability"), f"{segmentation}: parameter")
        origin = "model's expected F1 in each tomogram"
    carried = {
        name: {int(number): one for number, one in (metadata.get(name) or {}).items()}
        for name in ("score_probability", "whole_size_voxels", "score_quartiles", "segment_recall")
    }
    whole = carried["whole_size_voxels"]
    selection = Selection(minimum_size_voxels=minimum, minimum_score=least_score, score_kind=kind, **carried)
    if by_expected_f1:
        picks, least_score = select_picks(classes, odds, voxel_size, settings, selection)
    else:
        plain = settings.model_copy(update={"chosen_by": "threshold"})
        picks, least_score = select_picks(classes, odds, voxel_size, plain, selection)
    model = replace(selection, score_kind=metadata.get("score_kind", "mean_probability"))
    distance = _domain_distance(metadata, picks, model)
    if distance.total is not None and distance.total >= FAR:
        tell(
            f"{identifier}: unlike the training tomograms (distance {distance.total:.2f}, from {FAR:g} on this is said): look at the"
            " picks, and do not trust what is expected of them"
        )
    path = output / f"{identifier}.picks.csv"
    write_table(path, PickRow, picks)
    write_sidecar(
        path,
        stage="cluster",
        item=identifier,
        seed=None,
        settings=settings,
        shape_voxels=list(classes.shape),
        voxel_size_angstrom=voxel_size,
        minimum_size_voxels={str(number): size for number, size in minimum.items()},
        minimum_size_from=origin,
        minimum_score={str(number): score for number, score in least_score.items()},
        score_kind=kind,
        whole_size_voxels={str(number): size for number, size in whole.items()},
        contrast=metadata.get("contrast"),
        object_radius_angstrom=metadata.get("object_radius_angstrom"),
        domain_distance={**asdict(distance), "total": distance.total, "far_from": FAR},
        expected={str(number): figures for number, figures in expected_figures(picks, model).items()},
        segments=len(picks),
        selected=sum(pick.selected for pick in picks),
        **program,
    )


def _domain_distance(metadata: Mapping[str, Any], picks: Sequence[PickRow], model: Selection) -> DomainDistance:
    """What SEGMENT measured, and how far the selected picks' scores are from the model's on its validation tomograms."""
    measured = metadata.get("domain_distance") or {}
    apart = []
    for class_id, (low, middle, high) in model.score_quartiles.items():
        scores = [pick.score for pick in picks if pick.selected and pick.class_id == class_id]
        if scores:
            apart.append(abs(float(np.median(scores)) - middle) / max(high - low, LEAST_RANGE))
    return DomainDistance(
        spectrum=measured.get("spectrum"), grey_values=measured.get("grey_values"), scores=max(apart, default=None)
    )


def _thresholds(
    segmentation: NDArray[Any], settings: ClusterSettings, metadata: Mapping[str, Any]
) -> tuple[dict[int, int], dict[int, float], ScoreKind, str]:
    """The least size and the least score of each class, what that score is, and where they come from."""
    kind: ScoreKind = metadata.get("score_kind", "mean_probability")  # 0.1.0 has no other
    if settings.has_thresholds:
        present = classes_in(segmentation)
        sizes = dict.fromkeys(present, settings.minimum_size_voxels or 1)
        least = settings.minimum_log_odds
        if settings.minimum_mean_probability is not None:
            return sizes, dict.fromkeys(present, settings.minimum_mean_probability), "mean_probability", "settings"
        return sizes, {} if least is None else dict.fromkeys(present, least), "log_odds", "settings"
    carried = metadata.get("minimum_size_voxels")
    if not carried:
        return {}, {}, kind, "none: every segment is selected"
    sizes = {int(number): int(size) for number, size in carried.items()}
    scores = {int(number): float(score) for number, score in (metadata.get("minimum_score") or {}).items()}
    return sizes, scores, kind, "model"
