"""A network's picks in one sample's tomograms, reconstructed and treated in the ways that facilities do.

The sample is Parakeet's (shared data, parakeet_reference): nothing of it is seen in training.  Its counted images become
tomograms by this package's reconstructions and treatments, and by IMOD's.  One model with one set of settings
(presets/workstation.yml) picks in all of them, at its own choice, and ``scenes.score`` counts.

``--model PATH`` measures another model; tomograms stay in build/bench/treatments, so that this costs segmentations alone.
``--only NAME ...`` takes some treatments, ``--pictures`` draws a section of each tomogram and measures nothing.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from harness import BUILD, ROOT, SHARED, Figure, report
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scenes import REFERENCE, SEED, SHAPE, VOXEL, Picker, score
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import generator_for
from template_learning.reconstruction.gold_beads import put_gold_beads
from template_learning.settings import TreatmentSettings
from template_learning.simulation.detector import count_electrons
from template_learning.simulation.optics import Lens
from template_learning.stages.reconstruct import read_angles
from template_learning.treatments.apply import TiltSeries, treated_tomogram
from template_learning.treatments.field import crop, turn_about_z, turned_position
from template_learning.treatments.grey_values import invert

FOLDER = BUILD / "treatments"
SHIPPED = ROOT / "models" / "nucleosome_8A.keras"
DOSE = 120.0
IMAGED = Lens(defocus_angstrom=-25000.0)
AMPLITUDE_CONTRAST = 0.07
"""What whoever corrects the images would assume."""
GOLD_RADIUS_ANGSTROM = 50.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to make a tomogram of the series: its words, the settings that differ, and what is no setting."""

    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    voxel_angstrom: float = VOXEL
    dose: int | None = None
    """e/Å^2 counted anew; none: the counts as they are."""
    gold_beads: int = 0
    turned_deg: float = 0.0
    crop_voxels: int = 0
    inverted: bool = False
    imod: bool = False
    figure: str = ""
    """The figure that it has instead of taking part in the least: the mean of all ways that name it."""


AVERAGED = {"binning": "plain"}
"""Of all ways that do not say else: IMOD's reference was made of images averaged over 8 x 8 pixels."""
DRAWS = 3
"""Of alignment errors: how much harm they do depends on the draw."""
FLIPPED = {"ctf_correction": "phase_flip"}
WEIGHTED = {"dose_weighting": True}
ISSUE = {
    "plain": Way(words="plain back-projection", figure="f1_plain"),
    "plain_imod": Way(words="IMOD's tilt", imod=True),
    "phases_flipped": Way(words="phases flipped", changes=FLIPPED),
    "wiener": Way(words="CTF corrected by a Wiener filter", changes={"ctf_correction": "wiener"}),
    "dose_weighted": Way(words="dose-weighted", changes=WEIGHTED),
    "flipped_and_weighted": Way(words="phases flipped and dose-weighted", changes=FLIPPED | WEIGHTED),
    "bytes": Way(words="8 bits", changes={"grey_values": "uint8"}),
    "tilts_48": Way(words="tilts of +-48 degrees", changes={"lowest_tilt_deg": -48, "highest_tilt_deg": 48}),
    "tilts_asymmetric": Way(words="tilts of -44 to 60 degrees", changes={"lowest_tilt_deg": -44}),
    "every_other_tilt": Way(words="every other tilt", changes={"every_nth_tilt": 2}),
    "slope": Way(words="a slope of 3 standard deviations across the field", changes={"slope_sigma": 3.0}),
    "hamming_like": Way(words="Hamming-like filter", changes={"radial_filter": "hamming_like"}),
    "sirt_like_50": Way(words="SIRT-like filter, 50 iterations", changes={"radial_filter": "sirt_like", "iterations": 50}),
    "sirt_like_15": Way(words="SIRT-like filter, 15 iterations", changes={"radial_filter": "sirt_like", "iterations": 15}),
    "gaussian_1": Way(words="Gaussian of 1 voxel", changes={"gaussian_voxels": 1.0}),
    "gaussian_2": Way(words="Gaussian of 2 voxels", changes={"gaussian_voxels": 2.0}),
    "deconvolved_warp": Way(words="deconvolved as Warp does", changes={"deconvolution": "warp"}),
    "deconvolved_isonet": Way(words="deconvolved as IsoNet does", changes={"deconvolution": "isonet"}),
    "total_variation": Way(words="total variation", changes={"total_variation_sigma": 0.6}),
    "flipped_weighted_total_variation": Way(
        words="flipped, weighted, total variation", changes=FLIPPED | WEIGHTED | {"total_variation_sigma": 0.6}
    ),
    **{
        f"misaligned_8A_{draw}": Way(
            words=f"tilts misaligned by 8 Å, draw {draw}", changes={"shift_error_angstrom": 8.0}, figure="f1_misaligned_8A"
        )
        for draw in range(1, DRAWS + 1)
    },
    "misaligned_16A": Way(words="tilts misaligned by 16 Å", changes={"shift_error_angstrom": 16.0}, figure="f1_misaligned_16A"),
    "rotated_1_deg": Way(words="tilts turned by 1 degree", changes={"rotation_error_deg": 1.0}),
    "voxels_6A": Way(words="voxels of 6 Å", voxel_angstrom=6.0),
    "voxels_10A": Way(words="voxels of 10 Å", voxel_angstrom=10.0),
    "voxels_13A": Way(words="voxels of 13.48 Å", voxel_angstrom=13.48),
    "zero_border": Way(words="a border of 16 voxels of zeros", changes={"border_voxels": 16}),
    "gold": Way(words="twelve 10 nm gold beads", gold_beads=12, figure="f1_gold"),
    "inverted": Way(words="contrast inverted", inverted=True, figure="f1_inverted"),
    "at_30": Way(words="30 e/Å^2", dose=30, figure="f1_at_30"),
    "at_15": Way(words="15 e/Å^2", dose=15, figure="f1_at_15"),
}
"""Those that ``f1_min_treatments`` is the least of, but for those with a figure of their own."""
FURTHER = {
    "recounted": Way(words="other counts of the same images, 120 e/Å^2", dose=120),
    "sirt_15": Way(words="SIRT, 15 iterations", changes={"method": "sirt", "iterations": 15}),
    "sirt_5": Way(words="SIRT, 5 iterations", changes={"method": "sirt", "iterations": 5}),
    "antialiased": Way(words="binned with an antialiasing filter", changes={"binning": "antialiased"}),
    "antialiased_gaussian_1": Way(
        words="antialiased, Gaussian of 1 voxel", changes={"binning": "antialiased", "gaussian_voxels": 1.0}
    ),
    "flipped_in_strips": Way(words="phases flipped in strips of 80 Å", changes=FLIPPED | {"ctf_strip_angstrom": 80.0}),
    "flipped_at_wrong_defocus": Way(words="phases flipped, 0.5 µm off", changes=FLIPPED | {"defocus_error_um": -0.5}),
    "wiener_at_wrong_defocus": Way(
        words="Wiener filter, 0.5 µm off", changes={"ctf_correction": "wiener", "defocus_error_um": 0.5}
    ),
    "flipped_sirt_like": Way(
        words="flipped, SIRT-like, 20 iterations", changes=FLIPPED | {"radial_filter": "sirt_like", "iterations": 20}
    ),
    "median_3": Way(words="median of 3 voxels", changes={"median_voxels": 3}),
    "total_variation_strong": Way(words="total variation, strong", changes={"total_variation_sigma": 1.0}),
    "diffusion": Way(words="anisotropic diffusion, 10 iterations", changes={"diffusion_iterations": 10}),
    "non_local_means": Way(words="non-local means", changes={"non_local_means_sigma": 0.8}),
    "deconvolved_flipped": Way(words="flipped, deconvolved as IsoNet does", changes=FLIPPED | {"deconvolution": "isonet"}),
    "mean_border": Way(words="a border of 16 voxels of the mean", changes={"border_voxels": 16, "border": "mean"}),
    "cropped": Way(words="4 voxels cropped on each side", crop_voxels=4),
    "turned_30_deg": Way(words="turned about z by 30 degrees", turned_deg=30.0),
    "cut_percentiles": Way(words="1 % of grey values cut on both sides", changes={"cut_percent": 1.0}),
    "words": Way(words="16 bits", changes={"grey_values": "int16"}),
    "misaligned_4A": Way(words="tilts misaligned by 4 Å", changes={"shift_error_angstrom": 4.0}),
}
WAYS = ISSUE | FURTHER
COMPARED = {name for name, way in ISSUE.items() if not way.figure}
GOALS = {
    "f1_plain": ">= 0.977",
    "f1_gold": ">= 0.8",
    "f1_inverted": ">= 0.93",
    "f1_at_30": ">= 0.93",
    "f1_at_15": ">= 0.648",
}
FIGURES = {
    **{f"f1_{name}": Figure(f"F1: {way.words}", GOALS.get(f"f1_{name}", "")) for name, way in WAYS.items()},
    "f1_misaligned_8A": Figure(f"mean F1 of the {DRAWS} draws of tilts misaligned by 8 Å (normal, along x and y)", ">= 0.9"),
    "f1_min_treatments": Figure("least F1 over the first group of treatments, but those with a goal of their own", ">= 0.94"),
    "f1_min_further": Figure("least F1 over the second group"),
    "f1_mean_treatments": Figure("mean F1 over both groups"),
    "calibration_error": Figure("mean distance of the expected from the true precision over all tomograms", "<= 0.05"),
    **{
        f"recall_{side}_at_{dose}": Figure(f"share of the {side} views found, {dose} e/Å^2")
        for dose in (30, 15)
        for side in ("top", "side")
    },
    "seconds_of_treatments": Figure("seconds to make all tomograms that were not there yet"),
    "seconds_of_picking": Figure("seconds to segment and pick in all of them"),
}


@cache
def series_at(dose: int | None) -> TiltSeries:
    """Parakeet's series as counted, or its noise-free images counted anew at a dose."""
    angles = read_angles(REFERENCE / "tilts.tlt")
    total = DOSE if dose is None else float(dose)
    if dose is None:
        images, pixel = read_mrc(REFERENCE / "counts_4A.mrc.gz")
    else:
        optics, pixel = read_mrc(REFERENCE / "optics_4A.mrc.gz")
        images = count_electrons(optics, total / len(optics) * pixel**2, generator_for(SEED, "low dose", str(dose)))
    order = np.argsort(read_angles(REFERENCE / "acquisition_tilts.txt"), kind="stable")
    received = total / len(angles) * (order + 1.0)
    return TiltSeries(images.astype(np.float32), angles, pixel, IMAGED, AMPLITUDE_CONTRAST, received)


def with_gold(series: TiltSeries, beads: int) -> TiltSeries:
    """The series with beads on both faces of the sample, drawn from the bench's seed."""
    generator = generator_for(SEED, "gold", str(beads))
    position = (generator.random((beads, 3)) - 0.5) * np.array(SHAPE[::-1]) * VOXEL
    position[:, 2] = np.where(position[:, 2] > 0, 0.5, -0.5) * SHAPE[0] * VOXEL
    images = put_gold_beads(
        series.images, series.angles_deg, series.pixel_angstrom, series.lens, position, GOLD_RADIUS_ANGSTROM
    )
    return replace(series, images=images)


def tomogram_by(name: str) -> Path:
    """The tomogram of a way; what is there already, made in the same way, is kept."""
    way = WAYS[name]
    if way.imod:
        return SHARED / "imod_reference" / "tomogram_default.mrc.gz"
    path, told = FOLDER / f"{name}.mrc", FOLDER / f"{name}.json"
    treatment = TreatmentSettings.model_validate(AVERAGED | dict(way.changes))
    key = json.dumps([asdict(replace(way, words="", figure="")), treatment.model_dump()])
    if path.is_file() and told.is_file() and told.read_text() == key:
        return path
    series = series_at(way.dose)
    if way.gold_beads:
        series = with_gold(series, way.gold_beads)
    grid = Grid(shape=SHAPE, voxel_size_angstrom=VOXEL).resampled(way.voxel_angstrom)
    volume = treated_tomogram(
        series, grid.shape, grid.shape[2], way.voxel_angstrom, treatment, generator_for(SEED, "treatment", name)
    )
    if way.turned_deg:
        volume = turn_about_z(volume, way.turned_deg)
    if way.crop_voxels:
        volume = crop(volume, way.crop_voxels)
    if way.inverted:
        volume = invert(volume)
    write_mrc(path, volume, way.voxel_angstrom)
    told.write_text(key)
    return path


def positions_in_sample(
    position_angstrom: NDArray[np.floating], way: Way, shape: tuple[int, ...], voxel_angstrom: float
) -> NDArray[np.float64]:
    """Picks (N, 3) of a tomogram as ``scenes.score`` wants them: in the untreated tomogram, whose centre it shares."""
    depth, height, width = shape
    found = np.asarray(position_angstrom, dtype=float).reshape(-1, 3)
    if way.turned_deg:
        found = turned_position(found, -way.turned_deg, (depth, height, width), voxel_angstrom)
    centre = (np.array(shape[::-1]) - 1) / 2 * voxel_angstrom
    return found - centre + (np.array(SHAPE[::-1]) - 1) / 2 * VOXEL


def measure(picker: Picker, names: Sequence[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Figures, and by treatment: F1, right, wrong and missed picks, expected and true precision."""
    rows: dict[str, dict[str, float]] = {}
    making = picking = 0.0
    for name in names:
        begun = time.perf_counter()
        path = tomogram_by(name)
        making += time.perf_counter() - begun
        begun = time.perf_counter()
        data, voxel = read_mrc(path)
        picks, probability = picker.picks(data, voxel, name)
        picking += time.perf_counter() - begun
        place = positions_in_sample(picks, WAYS[name], data.shape, voxel)
        found = score(place)
        rows[name] = {
            **{key: found[key] for key in ("f1", "precision", "recall", "recall_top", "recall_side")},
            "right": found["matched"],
            "wrong": found["picks"] - found["matched"],
            "missed": found["nucleosomes"] - found["matched"],
            "expected_precision": float(probability.mean()) if len(probability) else math.nan,
        }
        print(f"{name}: F1 {found['f1']:.3f}, {rows[name]['right']:g} right, {rows[name]['wrong']:g} wrong", flush=True)
    figures = {f"f1_{name}": row["f1"] for name, row in rows.items()}
    for figure in {WAYS[name].figure for name in rows} - {""}:
        figures[figure] = float(np.mean([row["f1"] for name, row in rows.items() if WAYS[name].figure == figure]))
    for figure, group in (
        ("f1_min_treatments", COMPARED),
        ("f1_min_further", set(FURTHER)),
    ):
        if group <= set(rows):
            figures[figure] = min(rows[name]["f1"] for name in group)
    if set(rows) == set(WAYS):
        figures["f1_mean_treatments"] = float(np.mean([row["f1"] for row in rows.values()]))
    distance = [
        abs(row["expected_precision"] - row["precision"]) for row in rows.values() if not math.isnan(row["expected_precision"])
    ]
    if distance:
        figures["calibration_error"] = float(np.mean(distance))
    for dose in (30, 15):
        if f"at_{dose}" in rows:
            figures |= {f"recall_{side}_at_{dose}": rows[f"at_{dose}"][f"recall_{side}"] for side in ("top", "side")}
    return figures | {"seconds_of_treatments": making, "seconds_of_picking": picking}, rows


def draw(names: Sequence[str], path: Path, columns: int = 5) -> None:
    """The middle section of each tomogram, grey between its 1st and 99th percentiles, in one picture."""
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.4 * columns, 2.6 * lines), layout="constrained", squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, name in zip(axes.ravel(), names, strict=False):
        data, _ = read_mrc(tomogram_by(name))
        section = data[data.shape[0] // 2].astype(np.float32)
        low, high = np.percentile(section, (1, 99))
        axis.imshow(section, cmap="gray", vmin=low, vmax=high)
        axis.set_title(WAYS[name].words, fontsize=7)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def show(rows: Mapping[str, Mapping[str, float]], model: Path) -> None:
    """Print the table of all treatments."""
    table = Table(
        "treatment", "F1", "right", "wrong", "missed", "expected precision", "precision", title=f"{model.name}: its own choice"
    )
    for name, row in rows.items():
        expected = "" if math.isnan(row["expected_precision"]) else f"{row['expected_precision']:.2f}"
        counts = (f"{row[key]:g}" for key in ("right", "wrong", "missed"))
        table.add_row(WAYS[name].words, f"{row['f1']:.3f}", *counts, expected, f"{row['precision']:.2f}")
    Console().print(table)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    parser.add_argument("--pictures", action="store_true")
    asked = parser.parse_args()
    if asked.pictures:
        FOLDER.mkdir(parents=True, exist_ok=True)
        draw(asked.only, FOLDER / "treatments.png")
        return
    figures, rows = measure(Picker.of(asked.model), asked.only)
    show(rows, asked.model)
    report("treatments", figures, FIGURES, "the same network on plain back-projection", model=asked.model.name, treatments=rows)


if __name__ == "__main__":
    main()
