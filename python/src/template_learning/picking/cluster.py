"""CLUSTER: a segmentation turned into picks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from template_learning.errors import BadInput
from template_learning.files import checked_id, read_mrc, write_table
from template_learning.picking.matching import expected_f1_count
from template_learning.picking.meanshift import assign_to_nearest, mean_shift
from template_learning.provenance import read_sidecar, write_sidecar
from template_learning.settings import ClusterSettings
from template_learning.tables import PickRow

STAGE = "cluster"
TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels are joined over faces, edges and corners."""
NECK = 0.8
"""Two basins of the distance transform are one object when the neck between them is wider than this share of the narrower."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What decides which segments are picks, by class; see the fields of those names in a model's card."""

    minimum_size_voxels: dict[int, int]
    minimum_score: dict[int, float]
    score_probability: dict[int, list[tuple[float, float]]] | None
    whole_size_voxels: dict[int, float] = field(default_factory=dict)


def cluster_segmentation(
    segmentation: Path, probability: Path, identifier: str, settings: ClusterSettings, output: Path
) -> None:
    """Write ``<id>.picks.csv``: every segment of a segmentation [z, y, x] with its size, score and whether it is selected.

    Positions are in ångström from the tomogram's voxel (0, 0, 0).  A segment is selected from the settings'
    ``minimum_size_voxels`` on, or from the thresholds of its class in the segmentation's sidecar (size 1, score 0 where
    there are none), or, where the settings say so, by the expected F1.

    Raises BadInput for files that do not fit together, where the model's thresholds were chosen for segments found
    otherwise, and where the expected F1 is asked for and the model behind the segmentation carries nothing for it.
    """
    checked_id(identifier)
    classes, voxel_size = read_mrc(segmentation)
    likelihood, _ = read_mrc(probability, need_voxel_size=False)
    if classes.shape != likelihood.shape:
        raise BadInput(
            f"{probability}: shape {likelihood.shape} (z, y, x), that of {segmentation} {classes.shape} was expected"
        )
    facts = read_sidecar(segmentation)
    minimum, origin = _minimum_sizes(classes, settings, facts)
    if origin == "model":
        now = segments_by(facts.get("settings", {}).get("target_probability"), settings)
        check_segments(facts.get("segments_by"), now, f"{segmentation}: the model's threshold")
    carried = facts.get("minimum_score") if origin == "model" else None
    least_score = {int(number): float(score) for number, score in (carried or {}).items()}
    program: dict[str, str] = {}
    if settings.engine == "deepfinder":
        from template_learning.learning import deepfinder_program

        program = deepfinder_program.program("cluster")
    steps = None
    if settings.select == "expected_f1" and origin != "settings":
        check_expected_f1(facts.get("score_probability"), f"{segmentation}: parameter")
        steps = {int(number): one for number, one in facts["score_probability"].items()}
        origin = "model's expected F1 in each tomogram"
    whole = {int(number): float(size) for number, size in (facts.get("whole_size_voxels") or {}).items()}
    selection = Selection(
        minimum_size_voxels=minimum, minimum_score=least_score, score_probability=steps, whole_size_voxels=whole
    )
    picks, least_score = select_picks(classes, likelihood, voxel_size, settings, selection)
    path = output / f"{identifier}.picks.csv"
    write_table(path, PickRow, picks)
    write_sidecar(
        path,
        stage=STAGE,
        item=identifier,
        seed=None,
        settings=settings,
        shape_voxels=list(classes.shape),
        voxel_size_angstrom=voxel_size,
        minimum_size_voxels={str(number): size for number, size in minimum.items()},
        minimum_size_from=origin,
        minimum_score={str(number): score for number, score in least_score.items()},
        whole_size_voxels={str(number): size for number, size in whole.items()},
        segments=len(picks),
        selected=sum(pick.selected for pick in picks),
        **program,
    )


def segments_by(target_probability: float | None, cluster: ClusterSettings) -> dict[str, Any]:
    """The parameters that say where a segment ends, and so what its size and score mean; the first is SEGMENT's."""
    return {
        "segment.target_probability": target_probability,
        "cluster.method": cluster.method,
        "cluster.probability": cluster.probability,
    }


def check_segments(carried: Mapping[str, Any] | None, now: Mapping[str, Any], what: str) -> None:
    """BadInput where the thresholds, ``what``, were chosen for segments found by other settings; older models do not say."""
    other = [name for name, value in (carried or {}).items() if name in now and now[name] != value]
    if carried and other:
        theirs, ours = (", ".join(f"{name} = {_or_none(of[name])}" for name in other) for of in (carried, now))
        raise BadInput(
            f"{what} was chosen with {theirs}, and here is {ours}; the former, or cluster.minimum_size_voxels, was expected"
        )


def check_expected_f1(carried: Mapping[Any, Any] | None, what: str) -> None:
    """BadInput where a model that carries no probabilities of scores is asked for picks by the expected F1."""
    if not carried:
        raise BadInput(
            f"{what} cluster.select = 'expected_f1', but the model carries no probabilities of scores;"
            " a model calibrated with evaluate.rank = score was expected"
        )


def _or_none(value: Any) -> Any:
    return "none" if value is None else value


def select_picks(
    segmentation: NDArray[Any],
    probability: NDArray[Any],
    voxel_size_angstrom: float,
    settings: ClusterSettings,
    selection: Selection,
) -> tuple[list[PickRow], dict[int, float]]:
    """The segments as ``find_picks`` finds them, those selected that a model's selection takes; and the least scores.

    With ``settings.select`` = expected_f1 the expected F1 decides, in the classes that the selection has probabilities for.
    """
    sizes, scores = selection.minimum_size_voxels, selection.minimum_score
    picks = find_picks(segmentation, probability, voxel_size_angstrom, settings, sizes, scores)
    if settings.select == "expected_f1" and selection.score_probability:
        picks, least_score = select_by_expected_f1(picks, selection, settings.least_chance)
        return picks, scores | least_score
    return picks, scores


def find_picks(
    segmentation: NDArray[Any],
    probability: NDArray[Any],
    voxel_size_angstrom: float,
    settings: ClusterSettings,
    minimum_size_voxels: Mapping[int, int],
    minimum_score: Mapping[int, float] | None = None,
) -> list[PickRow]:
    """The segments of a segmentation [z, y, x] (classes, 0 = background), largest first.

    ``probability`` is that of each voxel's class; voxels below ``settings.probability`` do not count.  A pick's position
    is the mean of its voxels (watershed) or the mode that MeanShift found; its score their mean probability.
    ``selected`` where size and score reach those of its class in ``minimum_size_voxels`` and ``minimum_score`` (1 and 0
    for a class that is not in them).
    """
    minimum_score = minimum_score or {}
    likely = probability >= settings.probability
    found = _modes if settings.method == "meanshift" else _segments
    if settings.engine == "deepfinder":
        from template_learning.learning import deepfinder_program

        found = deepfinder_program.clusters
    picks = []
    for class_id, centre, voxels in found(segmentation, likely, settings.radius_voxels):
        z, y, x = voxels.T
        size = len(voxels)
        score = float(probability[z, y, x].mean(dtype=np.float64))
        edge = (voxels.min(axis=0) == 0).any() or (voxels.max(axis=0) == np.array(segmentation.shape) - 1).any()
        picks.append(
            PickRow(
                pick=1,
                class_id=class_id,
                x_angstrom=float(centre[2]) * voxel_size_angstrom,
                y_angstrom=float(centre[1]) * voxel_size_angstrom,
                z_angstrom=float(centre[0]) * voxel_size_angstrom,
                score=score,
                size_voxels=size,
                touches_edge=bool(edge),
                selected=size >= minimum_size_voxels.get(class_id, 1) and score >= minimum_score.get(class_id, 0.0),
            )
        )
    picks.sort(key=lambda pick: (-pick.size_voxels, -pick.score, pick.z_angstrom, pick.y_angstrom, pick.x_angstrom))
    return [pick.model_copy(update={"pick": number}) for number, pick in enumerate(picks, start=1)]


def confidence(pick: PickRow, whole_size_voxels: Mapping[int, float]) -> float:
    """A pick's score times its share of the size of a whole segment of its class, 1 at most (or where that is not known).

    Of two segments that are equally sure the one of a molecule's size is right more often than a crumb.
    """
    return pick.score * min(1.0, pick.size_voxels / whole_size_voxels.get(pick.class_id, pick.size_voxels))


def select_by_expected_f1(
    picks: Sequence[PickRow], selection: Selection, least_chance: float
) -> tuple[list[PickRow], dict[int, float]]:
    """The picks with as many selected in each class as give the highest expected F1, and the least score of those.

    How likely a pick is right is what ``selection.score_probability`` says of its confidence; none right less often than
    ``least_chance`` is selected.  Classes that are not in it keep what is selected.
    """
    sure = {pick.pick: confidence(pick, selection.whole_size_voxels) for pick in picks}
    least = {}
    for class_id, steps in (selection.score_probability or {}).items():
        values = np.array([sure[pick.pick] for pick in picks if pick.class_id == class_id])
        start, probability = np.array(steps, dtype=float).reshape(-1, 2).T
        reached = np.searchsorted(start, values, side="right")
        count = expected_f1_count(np.concatenate([[0.0], probability])[reached], least_chance)
        least[class_id] = np.sort(values)[-count] if count else np.inf
    selected = [
        pick.model_copy(update={"selected": bool(sure[pick.pick] >= least[pick.class_id])}) if pick.class_id in least else pick
        for pick in picks
    ]
    taken = [pick for pick in selected if pick.selected]
    return selected, {number: min((pick.score for pick in taken if pick.class_id == number), default=1.0) for number in least}


Found = tuple[int, NDArray[np.float64], NDArray[np.intp]]
"""A segment: its class, its position z, y, x in voxels, and its voxels (N, 3) z, y, x."""


def _segments(segmentation: NDArray[Any], likely: NDArray[np.bool_], radius: float) -> Iterator[Found]:
    """Connected components of each class, split where they have a neck."""
    for class_id in _classes(segmentation):
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


def _classes(segmentation: NDArray[Any]) -> list[int]:
    return [int(number) for number in np.unique(segmentation[segmentation > 0])]


def _minimum_sizes(
    segmentation: NDArray[Any], settings: ClusterSettings, facts: Mapping[str, Any]
) -> tuple[dict[int, int], str]:
    """The size threshold of each class, and where it comes from."""
    if settings.minimum_size_voxels is not None:
        return dict.fromkeys(_classes(segmentation), settings.minimum_size_voxels), "settings"
    carried = facts.get("minimum_size_voxels")
    if carried:
        return {int(number): int(size) for number, size in carried.items()}, "model"
    return {}, "none: every segment is selected"
