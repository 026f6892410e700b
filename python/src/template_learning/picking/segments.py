"""CLUSTER: a segmentation turned into picks."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from template_learning.common.tables import PickRow, ScoreKind
from template_learning.deepfinder.program import cluster_centres
from template_learning.picking.meanshift import assign_to_nearest, mean_shift
from template_learning.picking.pick_score import mean_probability, pick_score, score_of
from template_learning.picking.selection import Selection, select_by_expected_f1
from template_learning.settings import ClusterSettings

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels are joined over faces, edges and corners."""
NECK = 0.8
"""Two basins of the distance transform are one object when the neck between them is wider than this share of the narrower."""


def select_picks(
    segmentation: NDArray[Any],
    log_odds: NDArray[Any],
    voxel_size_angstrom: float,
    settings: ClusterSettings,
    selection: Selection,
) -> tuple[list[PickRow], dict[int, float]]:
    """The segments as ``find_picks`` finds them, those selected that a model's selection takes; and the least scores.

    With ``settings.chosen_by`` = expected_f1 the expected F1 decides, in the classes that the selection has probabilities for.
    """
    sizes, scores = selection.minimum_size_voxels, selection.minimum_score
    picks = find_picks(segmentation, log_odds, voxel_size_angstrom, settings, sizes, scores, selection.score_kind)
    if settings.chosen_by == "expected_f1" and selection.score_probability:
        picks, least_score = select_by_expected_f1(picks, selection, settings.minimum_probability)
        others = {number: score for number, score in scores.items() if number not in selection.score_probability}
        return picks, others | least_score
    return picks, scores


def find_picks(
    segmentation: NDArray[Any],
    log_odds: NDArray[Any],
    voxel_size_angstrom: float,
    settings: ClusterSettings,
    minimum_size_voxels: Mapping[int, int],
    minimum_score: Mapping[int, float] | None = None,
    score_kind: ScoreKind = "log_odds",
) -> list[PickRow]:
    """The segments of a segmentation, largest first.

    Parameters
    ----------
    segmentation : (z, y, x) array
        Classes, 0 = background.
    log_odds : (z, y, x) array
        Those of each voxel's class; voxels below ``settings.probability_threshold`` do not count.
    voxel_size_angstrom : float
        Å.
    settings : ClusterSettings
        Watershed or MeanShift, and its radius in voxels.
    minimum_size_voxels : mapping of int to int
        By class; 1 for a class that is not in it.
    minimum_score : mapping of int to float, optional
        By class; none for a class that is not in it.
    score_kind : "log_odds" or "mean_probability", optional
        What ``minimum_score`` is on.

    Returns
    -------
    list of PickRow
        Positions (x, y, z) in Å from the centre of voxel (0, 0, 0): the mean of the voxels (watershed) or the mode that
        MeanShift found.  The score is the mean of the voxels' log-odds.  Those that reach both minima are ``selected``.
    """
    minimum_score = minimum_score or {}
    likely = log_odds >= logit(settings.probability_threshold)
    found = _modes if settings.method == "meanshift" else _segments
    if settings.engine == "deepfinder":
        found = _clusters
    picks = []
    for class_id, centre, voxels in found(segmentation, likely, settings.radius_voxels):
        size = len(voxels)
        edge = (voxels.min(axis=0) == 0).any() or (voxels.max(axis=0) == np.array(segmentation.shape) - 1).any()
        pick = PickRow(
            pick=1,
            class_id=class_id,
            x_angstrom=float(centre[2]) * voxel_size_angstrom,
            y_angstrom=float(centre[1]) * voxel_size_angstrom,
            z_angstrom=float(centre[0]) * voxel_size_angstrom,
            score=pick_score(log_odds, voxels),
            size_voxels=size,
            touches_edge=bool(edge),
            selected=size >= minimum_size_voxels.get(class_id, 1),
            mean_probability=mean_probability(log_odds, voxels),
        )
        if class_id in minimum_score and score_of(pick, score_kind) < minimum_score[class_id]:
            pick.selected = False
        picks.append(pick)
    picks.sort(key=lambda pick: (-pick.size_voxels, -pick.score, pick.z_angstrom, pick.y_angstrom, pick.x_angstrom))
    return [pick.model_copy(update={"pick": number}) for number, pick in enumerate(picks, start=1)]


Found = tuple[int, NDArray[np.float64], NDArray[np.intp]]
"""A segment: its class, its position z, y, x in voxels, and its voxels (N, 3) z, y, x."""


def _segments(segmentation: NDArray[Any], likely: NDArray[np.bool_], radius: float) -> Iterator[Found]:
    """Connected components of each class, split where they have a neck."""
    for class_id in classes_in(segmentation):
        components, _ = ndimage.label(likely & (segmentation == class_id), structure=TOUCHING)
        for number, window in enumerate(ndimage.find_objects(components), start=1):
            corner = np.array([part.start for part in window])
            component = components[window] == number
            for part in _split(component, radius):
                voxels = part + corner
                yield class_id, voxels.mean(axis=0), voxels


def _split(component: NDArray[np.bool_], radius: float) -> Iterator[NDArray[np.intp]]:
    """The voxels (N, 3) of each object in one connected component.

    Watershed of the distance to the border from its maxima at least ``radius`` apart; basins that meet in a neck nearly
    as wide as the narrower of the two are one object.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    if max(component.shape) <= radius:
        yield np.argwhere(component)
        return
    distance = ndimage.distance_transform_edt(np.pad(component, 1))[1:-1, 1:-1, 1:-1]
    # Plateaus of the digital distance make spurious maxima; half a voxel of smoothing joins them.
    distance = ndimage.gaussian_filter(distance, 0.7) * component
    peaks = peak_local_max(distance, min_distance=max(1, round(radius)), exclude_border=False, p_norm=2)
    if len(peaks) < 2:
        yield np.argwhere(component)
        return
    markers = np.zeros(component.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    basins = watershed(-distance, markers, mask=component, connectivity=TOUCHING)
    owner = _joined_basins(basins, distance, distance[tuple(peaks.T)])
    objects = owner[basins]
    for number in np.unique(objects[component]):
        yield np.argwhere(objects == number)


def _joined_basins(basins: NDArray[np.int32], distance: NDArray[Any], height: NDArray[Any]) -> NDArray[np.int32]:
    """For each basin (index 0 is the outside) the number of the object it belongs to."""
    necks: dict[tuple[int, int], float] = {}
    for axis in range(3):
        low = np.moveaxis(basins, axis, 0)[:-1]
        high = np.moveaxis(basins, axis, 0)[1:]
        width = np.minimum(np.moveaxis(distance, axis, 0)[:-1], np.moveaxis(distance, axis, 0)[1:])
        meet = (low != high) & (low > 0) & (high > 0)
        for one, other, neck in zip(low[meet], high[meet], width[meet], strict=True):
            pair = (int(min(one, other)), int(max(one, other)))
            necks[pair] = max(necks.get(pair, 0.0), float(neck))
    owner = np.arange(len(height) + 1, dtype=np.int32)
    for (one, other), neck in sorted(necks.items(), key=lambda item: -item[1]):
        if owner[one] != owner[other]:
            narrower = min(float(height[owner[1:] == owner[basin]].max()) for basin in (one, other))
            if neck > NECK * narrower:
                owner[owner == owner[other]] = owner[one]
    return owner


def _modes(segmentation: NDArray[Any], likely: NDArray[np.bool_], radius: float) -> Iterator[Found]:
    """MeanShift over the voxels of all classes; a cluster is of the class that most of its voxels have (DeepFinder)."""
    mask = likely & (segmentation > 0)
    voxels = np.argwhere(mask)
    if len(voxels) == 0:
        return
    centres = mean_shift(voxels, radius)
    nearest = assign_to_nearest(voxels, centres, radius)
    order = np.argsort(nearest, kind="stable")
    ends = np.searchsorted(nearest[order], np.arange(len(centres) + 1))
    for number, centre in enumerate(centres):
        members = voxels[order[ends[number] : ends[number + 1]]]
        if len(members):
            votes = np.bincount(segmentation[tuple(members.T)].astype(np.intp))
            yield int(votes[1:].argmax()) + 1, centre, members


def _clusters(segmentation: NDArray[Any], likely: NDArray[np.bool_], radius: float) -> Iterator[Found]:
    """DeepFinder's own clusters, each with the voxels of any class that are nearest to its centre."""
    labels = np.where(likely, segmentation, 0).astype(np.int16)
    voxels = np.argwhere(labels > 0)
    if len(voxels) == 0:
        return
    classes, centres = cluster_centres(labels, radius)
    nearest = assign_to_nearest(voxels, centres, radius)
    for number, (class_id, centre) in enumerate(zip(classes, centres, strict=True)):
        members = voxels[nearest == number]
        if len(members):
            yield int(class_id), centre, members


def classes_in(segmentation: NDArray[Any]) -> list[int]:
    """The classes of a segmentation [z, y, x] that have voxels, sorted."""
    return [int(number) for number in np.unique(segmentation[segmentation > 0])]
