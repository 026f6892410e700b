"""Picks in real tomograms, which nothing here was trained on (shared data, real): chromatin at 5.5 to 8.4 Å, a lamella at 31 Å.

Chromatin: ten crops, denoised, protein bright; F1 at the model's own choice, all crops together.  A pick counts within the
nucleosome's radius of a centre; what is matched by an ``uncertain`` centre alone counts neither way.  The lamella: by no means
all of its ribosomes are annotated, so that recall among the n surest picks counts, within 125 Å.

Beside each network stands a plain filter, tuned to nothing but the molecule's size: a difference of two Gaussians, and a ball
less its shell kept inside the lamella.  ``--nucleosome MODEL`` and ``--ribosome MODEL``; a model that is not given, or does not
exist, is left out, and its filter is measured all the same.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import ROOT, SHARED, Figure, report
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scenes import Picker
from scipy import fft
from scipy.ndimage import gaussian_filter, maximum_filter1d
from scipy.spatial import KDTree
from template_learning.common.mrc import read_mrc
from template_learning.picking.assignment import f_beta, match
from template_learning.picking.selection import confidence

REAL = SHARED / "real"
SHIPPED = {"nucleosome": ROOT / "models" / "nucleosome_8A.keras", "ribosome": ROOT / "models" / "ribosome_13A.keras"}
CHROMATIN = {"segment": {"contrast": "protein_bright"}}
NUCLEOSOME_ANGSTROM = 55.0
"""Greatest distance of a pick from the centre that it counts for: a nucleosome's radius."""
NARROW_ANGSTROM, WIDE_ANGSTROM = 30.0, 90.0
"""Standard deviations of the two Gaussians."""
APART_ANGSTROM = 60.0
RIBOSOME_ANGSTROM = 125.0
LAMELLA_SECTIONS = (33, 96)
BALL_ANGSTROM, SHELL_ANGSTROM = 125.0, 200.0
SUREST = (250, 400)


@dataclass(frozen=True)
class Crop:
    """A crop with its centres (N, 3) x, y, z in Å, and which of them are uncertain; protein bright."""

    name: str
    data: NDArray[np.float32]
    voxel_angstrom: float
    centre: NDArray[np.float64]
    uncertain: NDArray[np.bool_]

    def counts(self, position: NDArray[np.float64]) -> NDArray[np.int64]:
        """Right and wrong picks, and centres without one."""
        sure, unsure = self.centre[~self.uncertain], self.centre[self.uncertain]
        right = {pick for pick, _, _ in match(position, sure, NUCLEOSOME_ANGSTROM)}
        others = position[[number for number in range(len(position)) if number not in right]]
        neither = match(others, unsure, NUCLEOSOME_ANGSTROM)
        return np.array([len(right), len(others) - len(neither), len(sure) - len(right)])


def crops() -> list[Crop]:
    """Those of the shared data."""
    found = []
    for path in sorted((REAL / "chromatin").glob("*.mrc.gz")):
        data, voxel = read_mrc(path)
        name = path.name.removesuffix(".mrc.gz")
        rows = list(csv.DictReader((path.parent / f"{name}.csv").read_text().splitlines()))
        centre = np.array([[float(row[f"{axis}_angstrom"]) for axis in "xyz"] for row in rows])
        unsure = np.array([row["label"] == "uncertain" for row in rows])
        found.append(Crop(name, data.astype(np.float32), voxel, centre, unsure))
    return found


def peaks(
    score: NDArray[np.float32], voxel_angstrom: float, apart_angstrom: float
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Local maxima of a score [z, y, x], best first: positions (N, 3) x, y, z in Å, none near a better one, and their scores."""
    highest = score
    for axis in range(3):
        highest = maximum_filter1d(highest, 3, axis=axis)
    index = np.argwhere(score == highest)
    value = score[tuple(index.T)]
    order = np.argsort(-value, kind="stable")
    position, value = index[order][:, ::-1] * voxel_angstrom, value[order]
    kept = np.ones(len(position), dtype=bool)
    near = KDTree(position).query_ball_point(position, apart_angstrom)
    for number, others in enumerate(near):
        if kept[number]:
            kept[[other for other in others if other > number]] = False
    return position[kept], value[kept]


def two_gaussians(crop: Crop) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Peaks of the difference of two Gaussians, in its standard deviations."""
    narrow, wide = (gaussian_filter(crop.data, sigma / crop.voxel_angstrom) for sigma in (NARROW_ANGSTROM, WIDE_ANGSTROM))
    band = narrow - wide
    return peaks(band / band.std(), crop.voxel_angstrom, APART_ANGSTROM)


def f1_of(counts: NDArray[np.int64]) -> float:
    """F1 of right, wrong and missed ones."""
    right, wrong, missed = (int(count) for count in counts)
    return f_beta(right, right + wrong, right + missed, 1.0)


def best_threshold(found: Sequence[tuple[Crop, NDArray[np.float64], NDArray[np.floating]]]) -> float:
    """The highest F1 that one threshold for all crops gives."""
    every = np.unique(np.concatenate([value for _, _, value in found]))
    tried = every[:: max(1, len(every) // 200)]
    return max(
        (f1_of(sum((crop.counts(place[value >= least]) for crop, place, value in found), np.zeros(3, int))) for least in tried),
        default=0.0,
    )


def chromatin(model: Path | None) -> dict[str, float]:
    """Figures of the crops: the filter's, and the model's where there is one."""
    every = crops()
    figures = {"f1_chromatin_two_gaussians": best_threshold([(crop, *two_gaussians(crop)) for crop in every])}
    if model is None:
        return figures
    picker = Picker.of(model, CHROMATIN)
    table = Table("crop", "F1", "right", "wrong", "missed", title=f"{model.name}: its own choice")
    total = np.zeros(3, dtype=np.int64)
    expected: list[float] = []
    ranked = []
    for crop in every:
        segments, selection = picker.every_pick(crop.data, crop.voxel_angstrom, crop.name)
        place = np.array([(pick.x_angstrom, pick.y_angstrom, pick.z_angstrom) for pick in segments]).reshape(-1, 3)
        sure = np.array([confidence(pick, selection.whole_size_voxels, selection.score_kind) for pick in segments])
        chosen = np.array([pick.selected for pick in segments], dtype=bool)
        counts = crop.counts(place[chosen])
        ranked.append((crop, place, sure))
        expected += picker.likely(segments, selection)[chosen].tolist()
        total += counts
        table.add_row(crop.name, f"{f1_of(counts):.3f}", *(str(count) for count in counts))
    Console().print(table)
    figures |= {
        "f1_chromatin": f1_of(total),
        "f1_chromatin_best_threshold": best_threshold(ranked),
        "precision_chromatin": float(total[0] / max(1, total[0] + total[1])),
        "recall_chromatin": float(total[0] / (total[0] + total[2])),
    }
    return figures | ({"expected_precision_chromatin": float(np.mean(expected))} if expected else {})


def lamella() -> tuple[NDArray[np.float32], float, NDArray[np.float64]]:
    """The half tomogram [z, y, x], its voxel size, and the annotated ribosomes (N, 3) x, y, z in Å."""
    folder = REAL / "ribosome_31A"
    data, voxel = read_mrc(folder / "tomo171_left.mrc.gz")
    rows = list(csv.DictReader((folder / "tomo171_left.csv").read_text().splitlines()))
    return data.astype(np.float32), voxel, np.array([[float(row[f"{axis}_angstrom"]) for axis in "xyz"] for row in rows])


def ball_less_shell(data: NDArray[np.float32], voxel_angstrom: float) -> NDArray[np.float32]:
    """The mean over a ball less that over the shell about it, at each voxel, protein dark becoming high."""
    radius = (
        np.sqrt(sum(along**2 for along in np.ogrid[tuple(slice(-(n // 2), n - n // 2) for n in data.shape)])) * voxel_angstrom
    )
    ball = (radius <= BALL_ANGSTROM).astype(np.float32)
    shell = ((radius > BALL_ANGSTROM) & (radius <= SHELL_ANGSTROM)).astype(np.float32)
    kernel = fft.rfftn(fft.ifftshift(ball / ball.sum() - shell / shell.sum()))
    mean = data.mean(dtype=np.float64)
    return np.asarray(-fft.irfftn(fft.rfftn(data - np.float32(mean)) * kernel, data.shape), dtype=np.float32)


def recall_among(position: NDArray[np.float64], truth: NDArray[np.float64], count: int) -> float:
    """Share of the particles that have a pick of their own among the first ``count``."""
    return len(match(position[:count], truth, RIBOSOME_ANGSTROM)) / len(truth)


def inside_lamella(position: NDArray[np.float64], voxel_angstrom: float) -> NDArray[np.bool_]:
    """Which positions lie in the lamella's sections."""
    section = position[:, 2] / voxel_angstrom
    return (section >= LAMELLA_SECTIONS[0]) & (section <= LAMELLA_SECTIONS[1])


def ribosomes(model: Path | None) -> dict[str, float]:
    """Figures of the lamella: the ball's, and the model's where there is one."""
    data, voxel, truth = lamella()
    place, _ = peaks(ball_less_shell(data, voxel), voxel, RIBOSOME_ANGSTROM)
    place = place[inside_lamella(place, voxel)]
    figures = {f"ribosome_recall_at_{count}_ball": recall_among(place, truth, count) for count in SUREST}
    if model is None:
        return figures
    picker = Picker.of(model)
    segments, selection = picker.every_pick(data, voxel, "tomo171_left")
    sure = np.array([confidence(pick, selection.whole_size_voxels, selection.score_kind) for pick in segments])
    place = np.array([(pick.x_angstrom, pick.y_angstrom, pick.z_angstrom) for pick in segments]).reshape(-1, 3)
    chosen = place[np.array([pick.selected for pick in segments], dtype=bool)]
    place = place[np.argsort(-sure, kind="stable")]
    figures |= {f"ribosome_recall_at_{count}": recall_among(place, truth, count) for count in SUREST}
    likely = picker.likely([pick for pick in segments if pick.selected], selection)
    return figures | {
        "ribosome_segments": len(segments),
        "ribosome_picks": len(chosen),
        "ribosome_recall": recall_among(chosen, truth, len(chosen)),
        **({"ribosome_expected_precision": float(likely.mean())} if len(likely) else {}),
    }


FIGURES = {
    "f1_chromatin": Figure(
        f"F1 on ten crops of native chromatin, all picks together, within {NUCLEOSOME_ANGSTROM:g} Å", ">= 0.9"
    ),
    "f1_chromatin_best_threshold": Figure("the same at the best threshold of confidence, one for all crops"),
    "precision_chromatin": Figure("its precision"),
    "recall_chromatin": Figure("its recall"),
    "expected_precision_chromatin": Figure("the precision that the model expects there"),
    "f1_chromatin_two_gaussians": Figure(
        f"a plain difference of Gaussians of {NARROW_ANGSTROM:g} and {WIDE_ANGSTROM:g} Å, the best threshold for all crops"
    ),
    **{
        f"ribosome_recall_at_{count}": Figure(
            f"share of the annotated ribosomes among the {count} surest picks of half a lamella, within {RIBOSOME_ANGSTROM:g} Å",
            goal,
        )
        for count, goal in zip(SUREST, (">= 0.65", ">= 0.88"), strict=True)
    },
    **{
        f"ribosome_recall_at_{count}_ball": Figure(
            f"the same of a ball of {BALL_ANGSTROM:g} Å less its shell to {SHELL_ANGSTROM:g} Å, kept inside the lamella"
        )
        for count in SUREST
    },
    "ribosome_segments": Figure("segments that the network finds there"),
    "ribosome_picks": Figure("those that it selects", "<= 600"),
    "ribosome_recall": Figure("share of the annotated ribosomes among these", ">= 0.9"),
    "ribosome_expected_precision": Figure("the precision that the model expects; the true one is not known"),
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    for species, path in SHIPPED.items():
        parser.add_argument(f"--{species}", type=Path, default=path if path.is_file() else None, metavar="MODEL")
    parser.add_argument("--only", nargs="+", choices=["chromatin", "ribosomes"], default=["chromatin", "ribosomes"])
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    if "chromatin" in asked.only:
        figures |= chromatin(asked.nucleosome)
    if "ribosomes" in asked.only:
        figures |= ribosomes(asked.ribosome)
    models = {
        species: str(path and path.name) for species, path in (("nucleosome", asked.nucleosome), ("ribosome", asked.ribosome))
    }
    report("real", figures, FIGURES, "plain filters of the molecule's size", models=models)


if __name__ == "__main__":
    main()
