"""EVALUATE: picks scored against what is there."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from scipy.optimize import isotonic_regression

from template_learning.errors import BadInput
from template_learning.files import checked_id, read_mrc, read_table, write_table
from template_learning.geometry import Grid
from template_learning.picking.annotations import read_annotations
from template_learning.picking.cluster import Selection, confidence
from template_learning.picking.matching import Curve, f_beta, match, matched_after, threshold_curve
from template_learning.provenance import generator_for, grid_of, made_with, write_json
from template_learning.settings import EvaluateSettings
from template_learning.tables import CurveRow, ParticleRow, PickRow, TableRow, TomogramScoreRow

STAGE = "evaluate"
CHALLENGE_BETA = 4.0
"""F-beta of the CZII cryoET object identification challenge (2024): recall counts sixteenfold."""
DRAWS = 2000
TOMOGRAMS_TO_DRAW = 5
"""From this many tomograms on the bootstrap draws tomograms, below it single outcomes."""
NEARLY_BEST = 0.005
"""Thresholds whose F1 is this near to the best are as good; the middle of their range is chosen."""
POLAR_BINS_DEG = (0.0, 30.0, 60.0, 90.0)
SECTORS = (1, 4, 4)
"""Parts of each ring of polar angles on the half sphere: nearly equal areas.  The first of four is about the x axis."""
Region = Literal["all", "masked"]


class EvaluateRow(TableRow):
    """A tomogram to score; files are relative to the table."""

    model_config = ConfigDict(extra="forbid")

    id: str
    picks: str
    truth: str
    mask: str | None = None


@dataclass(frozen=True)
class Tomogram:
    """The picks and particles of one tomogram, and the mask [z, y, x] of what counts, if any."""

    identifier: str
    grid: Grid
    picks: Sequence[PickRow]
    truth: Sequence[ParticleRow]
    mask: NDArray[np.bool_] | None = None

    def within(self, border_voxels: int, masked: bool) -> "Tomogram":
        """The same with only those picks and particles that lie away from the border and, if asked, in the mask."""
        mask = self.mask if masked else None

        def counts(row: PickRow | ParticleRow) -> bool:
            voxel = np.array((row.z_angstrom, row.y_angstrom, row.x_angstrom)) / self.grid.voxel_size_angstrom
            edge = np.minimum(voxel, np.array(self.grid.shape) - 1 - voxel)
            if edge.min() < border_voxels and border_voxels > 0:
                return False
            index = np.clip(np.round(voxel).astype(int), 0, np.array(self.grid.shape) - 1)
            return mask is None or bool(mask[tuple(index)])

        return Tomogram(
            self.identifier,
            self.grid,
            [pick for pick in self.picks if counts(pick)],
            [particle for particle in self.truth if counts(particle)],
            self.mask,
        )

    def of_class(self, class_id: int) -> "Tomogram":
        """The same with one class only."""
        return Tomogram(
            self.identifier,
            self.grid,
            [pick for pick in self.picks if pick.class_id == class_id],
            [particle for particle in self.truth if particle.class_id == class_id],
        )


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
    for class_id in _classes(tomograms):
        curve = _curve([t.of_class(class_id) for t in tomograms], settings, rank)
        best = curve.best
        if best is None or curve.matched[best] == 0:
            continue
        first = last = best
        while first > 0 and curve.f1[first - 1] >= curve.f1[best] - NEARLY_BEST:
            first -= 1
        while last + 1 < len(curve.f1) and curve.f1[last + 1] >= curve.f1[best] - NEARLY_BEST:
            last += 1
        # The last one's picks are kept by any threshold above the next smaller one.
        lowest = curve.threshold[last] - 1 if rank == "size" else 0.0
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
    """Thresholds of size or score, as ``settings.rank`` says; with the score also how often segments of one are right.

    ``also`` are picks that the thresholds do not depend on but those frequencies do, with ``truth`` and ``grids`` of the
    same names.  They are counted by confidence, which takes a segment's size into account (``confidence``).  A class of
    which nothing was found keeps a size of 1 and a score of 0.
    """
    minimum, least_score = dict.fromkeys(classes, 1), dict.fromkeys(classes, 0.0)
    if settings.rank == "size":
        minimum |= choose_minimum_size(picks, truth, grids, settings)
        return Selection(minimum_size_voxels=minimum, minimum_score=least_score, score_probability=None)
    whole = _whole_size(_of_known_truth(picks, truth, grids, settings), settings)
    ranked = {
        name: [pick.model_copy(update={"score": confidence(pick, whole)}) for pick in found]
        for name, found in {**picks, **(also or {})}.items()
    }
    return Selection(
        minimum_size_voxels=minimum,
        minimum_score=least_score | choose_threshold(picks, truth, grids, settings, "score"),
        score_probability=score_probability(ranked, truth, grids, settings),
        whole_size_voxels=whole,
    )


def _whole_size(tomograms: Sequence[Tomogram], settings: EvaluateSettings) -> dict[int, float]:
    """For each class the median size, in voxels, of the surer half of the segments that are right."""
    sizes = {}
    for class_id in _classes(tomograms):
        ranked = _outcomes(tomograms, class_id, settings)
        right = [pick for found, outcomes in ranked for pick, one in zip(found, outcomes, strict=True) if one]
        right.sort(key=lambda pick: -pick.score)
        if right:
            sizes[class_id] = float(np.median([pick.size_voxels for pick in right[: (len(right) + 1) // 2]]))
    return sizes


def _outcomes(
    tomograms: Sequence[Tomogram], class_id: int, settings: EvaluateSettings
) -> Iterator[tuple[list[PickRow], NDArray[np.int64]]]:
    """Of each tomogram the picks of a class, surest first, and which of them (1 or 0) are right."""
    for tomogram in tomograms:
        one = tomogram.of_class(class_id)
        found = sorted(one.picks, key=lambda pick: -pick.score)
        radius = settings.match_radius_voxels * tomogram.grid.voxel_size_angstrom
        yield found, np.diff(matched_after(_positions(found), _positions(one.truth), radius))


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
    for class_id in _classes(tomograms):
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


def evaluate_picks(table: Path, identifier: str, settings: EvaluateSettings, output: Path) -> None:
    """Score the tomograms of a table (id, picks, truth, mask) together and one by one.

    Writes ``<id>.evaluation.json``, ``<id>.curve.csv`` (CurveRow) and ``<id>.per_tomogram.csv`` (TomogramScoreRow).
    A pick is right within the match radius of a particle of its class, one to one.  Everything is given over the whole
    tomograms (region ``all``) and, where there are masks, within them (``masked``).
    """
    checked_id(identifier)
    tomograms = [_read(row, table.parent) for row in read_table(table, EvaluateRow)]
    if not tomograms:
        raise BadInput(f"{table}: no tomograms to score")
    regions: list[Region] = ["all", "masked"] if any(t.mask is not None for t in tomograms) else ["all"]
    classes = _classes(tomograms)
    scores: dict[str, Any] = {}
    curves: list[CurveRow] = []
    single: list[TomogramScoreRow] = []
    for region in regions:
        inside = [t.within(settings.border_voxels, region == "masked") for t in tomograms]
        groups = {0: [inside] if len(classes) < 2 else [[t.of_class(c) for t in inside] for c in classes]}
        groups |= {c: [[t.of_class(c) for t in inside]] for c in classes}
        scores[region] = {"classes": {}}
        for class_id, parts in groups.items():
            pooled = [tomogram for part in parts for tomogram in part]
            curve = _curve(pooled, settings)
            generator = generator_for(0, STAGE, f"{identifier}/{region}/{class_id}")
            score = _score(parts, curve, settings, generator)
            if class_id == 0:
                scores[region]["joint"] = score
            else:
                scores[region]["classes"][str(class_id)] = score
            curves += _curve_rows(curve, region, class_id)
            for index in range(len(inside)):
                single.append(_single([part[index] for part in parts], region, class_id, settings))
    write_json(
        output / f"{identifier}.evaluation.json",
        {
            "id": identifier,
            "stage": STAGE,
            "settings": settings.model_dump(mode="json"),
            **made_with(),
            "tomograms": [t.identifier for t in tomograms],
            "matching": "largest one-to-one matching within the radius (Hungarian), class by class",
            **scores,
        },
    )
    write_table(output / f"{identifier}.curve.csv", CurveRow, curves)
    write_table(output / f"{identifier}.per_tomogram.csv", TomogramScoreRow, single)


def _read(row: EvaluateRow, folder: Path) -> Tomogram:
    picks = folder / row.picks
    grid = grid_of(picks)
    mask = None
    if row.mask:
        mask = read_mrc(folder / row.mask, need_voxel_size=False)[0] > 0
        if mask.shape != grid.shape:
            raise BadInput(f"{folder / row.mask}: shape {mask.shape} (z, y, x), that of the tomogram {grid.shape} was expected")
    truth = [particle for particle in read_annotations(folder / row.truth, row.id, grid) if particle.class_id > 0]
    return Tomogram(checked_id(row.id), grid, read_table(picks, PickRow), truth, mask)


def _classes(tomograms: Sequence[Tomogram]) -> list[int]:
    picked = {pick.class_id for t in tomograms for pick in t.picks}
    return sorted(picked | {particle.class_id for t in tomograms for particle in t.truth})


def _positions(rows: Sequence[PickRow] | Sequence[ParticleRow]) -> NDArray[np.float64]:
    return np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows], dtype=float).reshape(-1, 3)


def _curve(tomograms: Sequence[Tomogram], settings: EvaluateSettings, rank: str | None = None) -> Curve:
    """The curve of tomograms that hold one class each."""
    by_size = (rank or settings.rank) == "size"
    # In units of the match radius, since voxel sizes may differ between tomograms.
    return threshold_curve(
        [
            (
                _positions(t.picks) / (settings.match_radius_voxels * t.grid.voxel_size_angstrom),
                np.array([pick.size_voxels if by_size else pick.score for pick in t.picks], dtype=float),
                _positions(t.truth) / (settings.match_radius_voxels * t.grid.voxel_size_angstrom),
            )
            for t in tomograms
        ],
        1.0,
    )


@dataclass
class _Outcome:
    """What came of the selected picks of some tomograms of one class."""

    matched: int = 0
    selected: int = 0
    truth: int = 0
    distance_angstrom: float = 0.0

    @property
    def f1(self) -> float:
        return f_beta(self.matched, self.selected, self.truth, 1.0)


def _outcome(tomograms: Sequence[Tomogram], settings: EvaluateSettings) -> tuple[_Outcome, list[tuple[ParticleRow, bool]]]:
    """The counts, and each particle with whether it was found."""
    result, particles = _Outcome(), []
    for t in tomograms:
        selected = [pick for pick in t.picks if pick.selected]
        radius = settings.match_radius_voxels * t.grid.voxel_size_angstrom
        pairs = match(_positions(selected), _positions(t.truth), radius)
        result.matched += len(pairs)
        result.selected += len(selected)
        result.truth += len(t.truth)
        result.distance_angstrom += sum(distance for _, _, distance in pairs)
        found = {particle for _, particle, _ in pairs}
        particles += [(row, index in found) for index, row in enumerate(t.truth)]
    return result, particles


def _score(
    parts: Sequence[Sequence[Tomogram]], curve: Curve, settings: EvaluateSettings, generator: np.random.Generator
) -> dict[str, Any]:
    """The figures of one class, or of several taken together: ``parts`` are the tomograms, class by class."""
    total, particles = _outcome([t for part in parts for t in part], settings)
    each = [_outcome([part[index] for part in parts], settings)[0] for index in range(len(parts[0]))]
    interval, drawn = _interval(each, total, generator)
    best = curve.best
    crossing = curve.crossing
    return {
        "annotations": total.truth,
        "segments": sum(len(t.picks) for part in parts for t in part),
        "selected": {
            "picks": total.selected,
            "matched": total.matched,
            "precision": total.matched / max(total.selected, 1),
            "recall": total.matched / max(total.truth, 1),
            "f1": total.f1,
            "f1_interval_95": interval,
            "interval_draws": drawn,
            "f_beta_4": f_beta(total.matched, total.selected, total.truth, CHALLENGE_BETA),
            "mean_distance_angstrom": total.distance_angstrom / total.matched if total.matched else None,
        },
        "best": None
        if best is None
        else {
            "threshold": curve.threshold[best],
            "precision": curve.precision[best],
            "recall": curve.recall[best],
            "f1": curve.f1[best],
        },
        "crossing": None if crossing is None else {"threshold": crossing[0], "f1": crossing[1]},
        "average_precision": curve.average_precision,
        "orientation": recall_by_angle(particles),
        "orientation_sphere": recall_on_sphere(particles),
    }


def recall_by_angle(particles: Sequence[tuple[ParticleRow, bool]]) -> list[dict[str, float | int | None]] | None:
    """Recall of the particles by the angle of their axis with the beam, 0 (top views) to 90 degrees (side views).

    None where no particle's axis is known.
    """
    known = [(row.axis_z, found) for row, found in particles if row.axis_z is not None]
    if not known:
        return None
    angle = np.rad2deg(np.arccos(np.clip(np.abs([axis for axis, _ in known]), 0, 1)))
    found = np.array([hit for _, hit in known])
    bins: list[dict[str, float | int | None]] = []
    for low, high in itertools.pairwise(POLAR_BINS_DEG):
        here = found[(angle >= low) & ((angle < high) | (high == POLAR_BINS_DEG[-1]))]
        recall = float(here.mean()) if len(here) else None
        bins.append({"from_deg": low, "to_deg": high, "particles": len(here), "found": int(here.sum()), "recall": recall})
    return bins


def recall_on_sphere(particles: Sequence[tuple[ParticleRow, bool]]) -> list[dict[str, float | int | None]] | None:
    """Recall of the particles in each part of the half sphere that their axes point to, all round the beam.

    An axis has no sign: that end counts which points up.  None where no particle's axis is known.
    """
    known = [((row.axis_x, row.axis_y, row.axis_z), found) for row, found in particles if row.axis_z is not None]
    if not known:
        return None
    axis = np.array([one for one, _ in known], dtype=float)
    axis[axis[:, 2] < 0] *= -1
    found = np.array([hit for _, hit in known])
    ring = np.digitize(np.rad2deg(np.arccos(np.clip(axis[:, 2], 0, 1))), POLAR_BINS_DEG[1:-1])
    azimuth = np.rad2deg(np.arctan2(axis[:, 1], axis[:, 0]))
    cells: list[dict[str, float | int | None]] = []
    for number, ((low, high), sectors) in enumerate(zip(itertools.pairwise(POLAR_BINS_DEG), SECTORS, strict=True)):
        width = 360 / sectors
        sector = np.floor((azimuth + width / 2) / width).astype(int) % sectors
        for place in range(sectors):
            here = found[(ring == number) & (sector == place)]
            begin = (place - 0.5) * width
            cells.append(
                {
                    "polar_from_deg": low,
                    "polar_to_deg": high,
                    "azimuth_from_deg": begin,
                    "azimuth_to_deg": begin + width,
                    "particles": len(here),
                    "found": int(here.sum()),
                    "recall": float(here.mean()) if len(here) else None,
                }
            )
    return cells


def _interval(each: Sequence[_Outcome], total: _Outcome, generator: np.random.Generator) -> tuple[list[float], str]:
    """The 95 % bootstrap interval of F1, and what was drawn."""
    if len(each) >= TOMOGRAMS_TO_DRAW:
        counts = np.array([(t.matched, t.selected, t.truth) for t in each])
        drawn = counts[generator.integers(len(each), size=(DRAWS, len(each)))].sum(axis=1)
        f1 = 2 * drawn[:, 0] / np.maximum(drawn[:, 1] + drawn[:, 2], 1)
        what = "tomograms"
    else:
        outcomes = np.array([total.matched, total.selected - total.matched, total.truth - total.matched])
        share = outcomes / max(outcomes.sum(), 1) if outcomes.sum() else np.array([0.0, 0.0, 1.0])
        right, wrong, missed = generator.multinomial(outcomes.sum(), share, size=DRAWS).T
        f1 = 2 * right / np.maximum(2 * right + wrong + missed, 1)
        what = "outcomes (right, wrong, missed)"
    return [float(value) for value in np.percentile(f1, [2.5, 97.5])], what


def _curve_rows(curve: Curve, region: Region, class_id: int) -> list[CurveRow]:
    return [
        CurveRow(
            region=region,
            class_id=class_id,
            threshold=float(curve.threshold[index]),
            picks=int(curve.picks[index]),
            matched=int(curve.matched[index]),
            precision=float(curve.precision[index]),
            recall=float(curve.recall[index]),
            f1=float(curve.f1[index]),
        )
        for index in range(len(curve.threshold))
    ]


def _single(parts: Sequence[Tomogram], region: Region, class_id: int, settings: EvaluateSettings) -> TomogramScoreRow:
    outcome, _ = _outcome(parts, settings)
    curve = _curve(parts, settings)
    best, crossing = curve.best, curve.crossing
    return TomogramScoreRow(
        id=parts[0].identifier,
        region=region,
        class_id=class_id,
        annotations=outcome.truth,
        picks=sum(len(t.picks) for t in parts),
        selected=outcome.selected,
        matched=outcome.matched,
        precision=outcome.matched / max(outcome.selected, 1),
        recall=outcome.matched / max(outcome.truth, 1),
        f1=outcome.f1,
        f1_best=0.0 if best is None else float(curve.f1[best]),
        threshold_best=None if best is None else float(curve.threshold[best]),
        f1_crossing=None if crossing is None else crossing[1],
        average_precision=curve.average_precision,
    )
