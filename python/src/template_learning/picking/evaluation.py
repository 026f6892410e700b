"""EVALUATE: picks scored against what is there."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from template_learning.common.geometry import Grid
from template_learning.common.tables import CurveRow, ParticleRow, PickRow, TomogramScoreRow, positions
from template_learning.picking.assignment import ThresholdCurve, f_beta, match, threshold_curve
from template_learning.picking.intervals import interval_of_alike, interval_of_these
from template_learning.settings import EvaluateSettings

CHALLENGE_BETA = 4.0
"""F-beta of the CZII cryoET object identification challenge (2024): recall counts sixteenfold."""
POLAR_BINS_DEG = (0.0, 30.0, 60.0, 90.0)
SECTORS = (1, 4, 4)
"""Parts of each ring of polar angles on the half sphere: nearly equal areas.  The first of four is about the x axis."""
Region = Literal["all", "masked"]


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


def classes_of(tomograms: Sequence[Tomogram]) -> list[int]:
    """The classes that were picked or are there, sorted."""
    picked = {pick.class_id for t in tomograms for pick in t.picks}
    return sorted(picked | {particle.class_id for t in tomograms for particle in t.truth})


def curve_of(tomograms: Sequence[Tomogram], settings: EvaluateSettings, rank: str | None = None) -> ThresholdCurve:
    """The curve of tomograms that hold one class each."""
    by_size = (rank or settings.rank) == "size"
    # In units of the match radius, since voxel sizes may differ between tomograms.
    return threshold_curve(
        [
            (
                positions(t.picks) / (settings.match_radius_voxels * t.grid.voxel_size_angstrom),
                np.array([pick.size_voxels if by_size else pick.score for pick in t.picks], dtype=float),
                positions(t.truth) / (settings.match_radius_voxels * t.grid.voxel_size_angstrom),
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
        pairs = match(positions(selected), positions(t.truth), radius)
        result.matched += len(pairs)
        result.selected += len(selected)
        result.truth += len(t.truth)
        result.distance_angstrom += sum(distance for _, _, distance in pairs)
        found = {particle for _, particle, _ in pairs}
        particles += [(row, index in found) for index, row in enumerate(t.truth)]
    return result, particles


def region_score(parts: Sequence[Sequence[Tomogram]], curve: ThresholdCurve, settings: EvaluateSettings) -> dict[str, Any]:
    """The figures of one class, or of several taken together: ``parts`` are the tomograms, class by class.

    ``f1_interval_95`` is for tomograms like these, none for one alone; ``f1_interval_95_of_these`` for these very ones.
    """
    total, particles = _outcome([t for part in parts for t in part], settings)
    each = [_outcome([part[index] for part in parts], settings)[0] for index in range(len(parts[0]))]
    crossing = curve.crossing
    at_crossing = None if crossing is None else f1_at(crossing[0], parts, settings)
    return {
        "annotations": total.truth,
        "segments": sum(len(t.picks) for part in parts for t in part),
        "selected": {
            "picks": total.selected,
            "matched": total.matched,
            "precision": total.matched / max(total.selected, 1),
            "recall": total.matched / max(total.truth, 1),
            "f1": total.f1,
            "f1_interval_95": interval_of_alike(
                [one.matched for one in each], [one.selected for one in each], [one.truth for one in each]
            ),
            "f1_interval_95_of_these": interval_of_these(total.matched, total.selected, total.truth),
            "f_beta_4": f_beta(total.matched, total.selected, total.truth, CHALLENGE_BETA),
            "mean_distance_angstrom": total.distance_angstrom / total.matched if total.matched else None,
        },
        "best": best_of(curve),
        "crossing": None
        if crossing is None or at_crossing is None
        else {
            "threshold": crossing[0],
            "f1": crossing[1],
            "f1_by_tomogram": at_crossing,
            "median_f1": float(np.median(at_crossing)),
        },
        "average_precision": curve.average_precision,
        "orientation": recall_by_angle(particles),
        "orientation_sphere": recall_on_sphere(particles),
    }


def best_of(curve: ThresholdCurve) -> dict[str, float] | None:
    """The threshold of the best F1, precision and recall there; None where nothing was picked."""
    if curve.best is None:
        return None
    return {name: float(getattr(curve, name)[curve.best]) for name in ("threshold", "precision", "recall", "f1")}


def f1_at(threshold: float, parts: Sequence[Sequence[Tomogram]], settings: EvaluateSettings) -> list[float]:
    """The F1 of each tomogram with all picks that reach one threshold, of size or score; ``parts`` class by class.

    With the threshold at which the joint curves of precision and recall cross, its median over the tomograms is the paper's
    figure.  A threshold between two sizes is taken as it is, so that the greater of them counts.
    """
    by_size = settings.rank == "size"

    def reached(t: Tomogram) -> Tomogram:
        kept = [
            pick.model_copy(update={"selected": True})
            for pick in t.picks
            if (pick.size_voxels if by_size else pick.score) >= threshold
        ]
        return replace(t, picks=kept)

    return [_outcome([reached(part[index]) for part in parts], settings)[0].f1 for index in range(len(parts[0]))]


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


def curve_rows(curve: ThresholdCurve, region: Region, class_id: int) -> list[CurveRow]:
    """The curve as rows of its table."""
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


def tomogram_score(
    parts: Sequence[Tomogram],
    region: Region,
    class_id: int,
    settings: EvaluateSettings,
    joint_crossing: float | None = None,
) -> TomogramScoreRow:
    """The score of one class in one tomogram, in one region; ``parts`` is that tomogram.

    ``joint_crossing`` is the threshold where the curves of all tomograms together cross.
    """
    outcome, _ = _outcome(parts, settings)
    curve = curve_of(parts, settings)
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
        f1_joint_crossing=None if joint_crossing is None else f1_at(joint_crossing, [[part] for part in parts], settings)[0],
        average_precision=curve.average_precision,
    )
