"""Template matching (pytme, or pytom-match-pick on GPUs) and a scorer for any picks on Parakeet's nucleosomes, at falling dose.

Parakeet's noise-free images (shared data, parakeet_reference: 45 nucleosomes among 91 other molecules, defocus -2.5 um,
tilts -60..60 step 4) are counted again at a few doses and reconstructed by the native engine.  Picks of any origin are
scored in one way: matched within 6 voxels of 8 Å, 8 voxels of border left out, top views and side views apart.
"""

import argparse
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from harness import BUILD, SHARED, molecule_row, report
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from template_learning.common.files import read_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import generator_for, read_sidecar, write_json
from template_learning.common.tables import PickRow
from template_learning.labelling.labels import molecule_axis
from template_learning.picking.assignment import f_beta, match, threshold_curve
from template_learning.settings import MatchSettings, ReconstructSettings, VolumeSettings
from template_learning.simulation.detector import count_electrons
from template_learning.simulation.parakeet_config import simulate_parakeet
from template_learning.stages.match import match_tomogram
from template_learning.stages.reconstruct import reconstruct_series
from template_learning.stages.volume import build_library
from template_learning.structures.structure import read_structure
from template_learning.template_matching.pytme import pytme_version

REFERENCE = SHARED / "parakeet_reference"
DOSES = (120, 60, 30, 15)
SEED = 1
VOXEL = 8.0
SHAPE = (80, 128, 128)
BORDER_VOXELS, MATCH_VOXELS = 8, 6
FREE = 0.05
"""A nucleosome stands free with less of its atoms than this in other molecules."""
TOP_DEG, SIDE_DEG = 30.0, 60.0


def make_low_dose_tomograms(folder: Path, doses: tuple[int, ...] = DOSES) -> dict[int, Path]:
    """``<folder>/dose_<n>.mrc`` of each total dose n in e/Å^2: 80 x 128 x 128 [z, y, x] at 8 Å, protein dark.

    The images (1 = vacuum intensity, 4 Å) get Poisson noise of dose / 31 each, are binned 2 x 2 and back-projected.  What is
    there already is kept.  Radiation damage is that of the images, 120 e/Å^2, at every dose.
    """
    paths = {dose: folder / f"dose_{dose}.mrc" for dose in doses}
    if all(path.is_file() for path in paths.values()):
        return paths
    optics, pixel = read_mrc(REFERENCE / "optics_4A.mrc.gz")
    for dose, path in paths.items():
        if not path.is_file():
            generator = generator_for(SEED, "low dose", str(dose))
            counts = count_electrons(optics, dose / len(optics) * pixel**2, generator)
            reconstruct_counts(counts, REFERENCE / "tilts.tlt", path)
    return paths


def make_native_tomogram(folder: Path, plate_defocus_um: float | None = None) -> Path:
    """``<folder>/native*.mrc``: the same sample and microscope, simulated by the native engine from Parakeet's configuration; with
    ``plate_defocus_um`` (negative = underfocus) at that defocus and with a phase plate of 90 degrees."""
    name = "native" if plate_defocus_um is None else f"native_phase_plate_{abs(plate_defocus_um):g}_um"
    path = folder / f"{name}.mrc"
    if not path.is_file():
        config = yaml.safe_load((REFERENCE / "config.yaml").read_text())
        if plate_defocus_um is not None:
            config["microscope"]["lens"]["c_10"] = plate_defocus_um * 1e4
            config["microscope"]["phase_plate"] |= {"use": True, "phase_shift": 90}
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.yaml").write_text(yaml.safe_dump(config))
        simulate_parakeet(folder / name / "config.yaml", SHARED / "structures", 4, SEED, folder / name)
        reconstruct_counts(read_mrc(folder / name / "image.mrc")[0], folder / name / "tilts.tlt", path)
    return path


def reconstruct_counts(counts: NDArray[Any], angles: Path, path: Path) -> None:
    """Write the tomogram of counted images [tilt, y, x] of 4 Å, binned 2 x 2."""
    views, height, width = counts.shape
    binned = counts.reshape(views, height // 2, 2, width // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    series = path.parent / "series" / f"{path.stem}.tilts.mrc"
    write_mrc(series, binned, VOXEL, stack=True)
    settings = ReconstructSettings(voxel_size_angstrom=VOXEL, thickness_angstrom=SHAPE[0] * VOXEL)
    reconstruct_series(series, angles, path.stem, settings, path.parent)


@dataclass(frozen=True)
class Truth:
    """The nucleosomes away from the border.

    ``position_angstrom`` (N, 3) is x, y, z from the centre of voxel (0, 0, 0); ``beam_angle_deg`` (N,) the angle between
    the disc's axis and the beam, 0 for a top view to 90 for a side view; ``overlap`` (N,) the share of its atoms that lie
    within 4 Å of another molecule's: some molecules of the reference lie in each other.
    """

    position_angstrom: NDArray[np.float64]
    beam_angle_deg: NDArray[np.float64]
    overlap: NDArray[np.float64]


@cache
def truth() -> Truth:
    """What there is to find in the tomograms of ``make_low_dose_tomograms`` and in IMOD's of the same tilt series."""
    every = json.loads((REFERENCE / "truth.json").read_text())
    files = {path.name.removesuffix(".cif.gz"): path for path in (SHARED / "structures").glob("*/*.cif.gz")}
    atoms = {name: read_structure(files[name]).position_angstrom for name in sorted({row["name"] for row in every})}
    placed = [Rotation.from_rotvec(row["rotvec"]).apply(atoms[row["name"]]) + row["position_angstrom"] for row in every]
    trees = [KDTree(one) for one in placed]
    numbers = [number for number, row in enumerate(every) if row["kind"] != "distractor"]
    rows = [every[number] for number in numbers]
    axes = {name: molecule_axis(atoms[name]) for name in {row["name"] for row in rows}}
    # Positions there count from the box's corner, half a voxel off the centre of voxel (0, 0, 0).
    position = np.array([row["position_angstrom"] for row in rows]) - VOXEL / 2
    along = np.array([Rotation.from_rotvec(row["rotvec"]).apply(axes[row["name"]])[2] for row in rows])
    angle = np.rad2deg(np.arccos(np.clip(np.abs(along), 0, 1)))
    inside = away_from_border(position)
    overlap = []
    for number in np.array(numbers)[inside]:
        others = [tree for other, tree in enumerate(trees) if other != number]
        nearest = np.min([tree.query(placed[number], distance_upper_bound=4.0)[0] for tree in others], axis=0)
        overlap.append(np.isfinite(nearest).mean())
    return Truth(position[inside], angle[inside], np.array(overlap))


def away_from_border(position_angstrom: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which positions (N, 3) lie at least 8 voxels from the border."""
    index = position_angstrom / VOXEL
    return ((index >= BORDER_VOXELS) & (index <= np.array(SHAPE[::-1]) - 1 - BORDER_VOXELS)).all(axis=1)


def score(
    position_angstrom: NDArray[Any],
    value: NDArray[Any] | None = None,
    *,
    threshold: float | None = None,
    first: int | None = None,
) -> dict[str, float]:
    """Figures of picks on these nucleosomes: F1, precision, recall, recall of top views, of those that stand free and of side views, best F1.

    ``position_angstrom`` (N, 3) is x, y, z from the centre of voxel (0, 0, 0), in any order; ``value`` (N,) what the picks are
    ranked by (higher = surer).  All but the best F1 are of the picks of at least ``threshold``, or of the ``first`` by value
    (all where neither is given); ``f1_best`` and ``threshold_best`` are over all thresholds and need values.
    """
    position = np.asarray(position_angstrom, dtype=float).reshape(-1, 3)
    value = np.ones(len(position)) if value is None else np.asarray(value, dtype=float)
    inside = away_from_border(position)
    position, value = position[inside], value[inside]
    order = np.argsort(-value, kind="stable")
    position, value = position[order], value[order]
    there = truth()
    radius = MATCH_VOXELS * VOXEL
    chosen = position[value >= threshold] if threshold is not None else position[:first]
    pairs = match(chosen, there.position_angstrom, radius)
    found = np.isin(np.arange(len(there.position_angstrom)), [particle for _, particle, _ in pairs])
    top, side, free = there.beam_angle_deg < TOP_DEG, there.beam_angle_deg >= SIDE_DEG, there.overlap < FREE
    curve = threshold_curve([(position, value, there.position_angstrom)], radius)
    best = curve.best
    return {
        "f1": f_beta(len(pairs), len(chosen), len(found), 1.0),
        "precision": len(pairs) / max(1, len(chosen)),
        "recall": float(found.mean()),
        "recall_top": float(found[top].mean()),
        "recall_side": float(found[side].mean()),
        "recall_top_free": float(found[top & free].mean()),
        "f1_best": 0.0 if best is None else float(curve.f1[best]),
        "threshold_best": float("nan") if best is None else float(curve.threshold[best]),
        "picks": len(chosen),
        "matched": len(pairs),
        "nucleosomes": len(found),
        "top_views": int(top.sum()),
        "side_views": int(side.sum()),
        "free_top_views": int((top & free).sum()),
        "found_top": int(found[top].sum()),
        "found_side": int(found[side].sum()),
    }


def nucleosome_library(folder: Path) -> Path:
    """A library of the reference's first nucleosome (2pyo), what the search is made with."""
    if not (folder / "library.csv").is_file():
        row = molecule_row(SHARED / "structures/nucleosome/2pyo.cif.gz", "nucleosome")
        write_json(folder / "molecules.json", [row])  # type: ignore[arg-type]
        build_library(folder / "molecules.json", VolumeSettings(), folder)
    return folder


def matching_settings(angular_step_deg: float) -> MatchSettings:
    """Exact contrast transfer and missing wedge of the reference's tilt series."""
    return MatchSettings(
        run=True,
        angular_step_deg=angular_step_deg,
        defocus_um=-2.5,
        tilt_range_deg=60,
        tilt_step_deg=4,
        radius_angstrom=MATCH_VOXELS * VOXEL,
    )


def matched(
    tomogram: Path, name: str, angular_step_deg: float = 20.0, engine: Literal["pytme", "pytom"] = "pytme"
) -> dict[str, float]:
    """Figures of a program's picks in one tomogram, kept under build/bench/matching; the seconds are those of the search."""
    folder = BUILD / "matching" / (f"{angular_step_deg:g}deg" + ("" if engine == "pytme" else f"_{engine}"))
    table = folder / f"{name}.picks.csv"
    if not table.is_file():
        library = nucleosome_library(BUILD / "matching" / "library")
        settings = matching_settings(angular_step_deg).model_copy(update={"engine": engine})
        match_tomogram(tomogram, [library], name, settings, folder)
    picks = read_table(table, PickRow)
    position = np.array([(pick.x_angstrom, pick.y_angstrom, pick.z_angstrom) for pick in picks])
    value = np.array([pick.score for pick in picks])
    facts = read_sidecar(table)
    first = score(position, value, first=len(truth().beam_angle_deg))
    return {
        **score(position, value, threshold=facts["threshold"]),
        "recall_top_of_first": first["recall_top"],
        "recall_side_of_first": first["recall_side"],
        "seconds": facts["matching_seconds"],
    }


def main() -> None:
    """Search IMOD's tomogram, or those of the doses named, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--doses", type=int, nargs="*", default=[], help="e/Å^2; IMOD's tomogram (120 e/Å^2) is always searched"
    )
    parser.add_argument("--angular-step", type=float, default=20.0, help="degrees")
    parser.add_argument("--engine", choices=["pytme", "pytom"], default="pytme")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    tomograms = {"imod": SHARED / "imod_reference" / "tomogram_default.mrc.gz"}
    tomograms |= {
        f"dose_{dose}": path for dose, path in make_low_dose_tomograms(BUILD / "lowdose").items() if dose in given.doses
    }
    for name, path in tomograms.items():
        figures |= {f"{key}_{name}": value for key, value in matched(path, name, given.angular_step, given.engine).items()}
    report("template_matching", figures, {}, f"pytme {pytme_version()}" if given.engine == "pytme" else "pytom-match-pick")


if __name__ == "__main__":
    main()
