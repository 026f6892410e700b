"""Template matching (pytme) and a scorer for any picks on Parakeet's nucleosomes, at falling dose.

Parakeet's noise-free images (shared data, parakeet_reference: 45 nucleosomes among 91 other molecules, defocus -2.5 um,
tilts -60..60 step 4) are counted again at a few doses and reconstructed by the native engine.  Picks of any origin are
scored in one way: matched within 6 voxels of 8 Å, 8 voxels of border left out, top views and side views apart.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from harness import SHARED
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from template_learning.files import read_mrc, write_mrc
from template_learning.labels import molecule_axis
from template_learning.picking.matching import f_beta, match, threshold_curve
from template_learning.provenance import generator_for
from template_learning.reconstruction.tomogram import reconstruct_series
from template_learning.settings import ReconstructSettings
from template_learning.simulation.detector import count_electrons
from template_learning.structure import read_structure

REFERENCE = SHARED / "parakeet_reference"
DOSES = (120, 60, 30, 15)
SEED = 1
VOXEL = 8.0
SHAPE = (80, 128, 128)
BORDER_VOXELS, MATCH_VOXELS = 8, 6
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
    views, height, width = optics.shape
    settings = ReconstructSettings(voxel_size_angstrom=VOXEL, thickness_angstrom=SHAPE[0] * VOXEL)
    for dose, path in paths.items():
        if path.is_file():
            continue
        generator = generator_for(SEED, "low dose", str(dose))
        counts = count_electrons(optics, dose / views * pixel**2, generator)
        binned = counts.reshape(views, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
        series = folder / "series" / f"dose_{dose}.tilts.mrc"
        write_mrc(series, binned, 2 * pixel, stack=True)
        reconstruct_series(series, REFERENCE / "tilts.tlt", path.stem, settings, folder)
    return paths


@dataclass(frozen=True)
class Truth:
    """The nucleosomes away from the border.

    ``position_angstrom`` (N, 3) is x, y, z from the centre of voxel (0, 0, 0); ``beam_angle_deg`` (N,) the angle between
    the disc's axis and the beam, 0 for a top view to 90 for a side view.
    """

    position_angstrom: NDArray[np.float64]
    beam_angle_deg: NDArray[np.float64]


@cache
def truth() -> Truth:
    """What there is to find in the tomograms of ``make_low_dose_tomograms`` and in IMOD's of the same tilt series."""
    rows = [row for row in json.loads((REFERENCE / "truth.json").read_text()) if row["kind"] != "distractor"]
    names = sorted({row["name"] for row in rows})
    axes = {
        name: molecule_axis(read_structure(SHARED / "structures" / "nucleosome" / f"{name}.cif.gz").position_angstrom)
        for name in names
    }
    # Positions there count from the box's corner, half a voxel off the centre of voxel (0, 0, 0).
    position = np.array([row["position_angstrom"] for row in rows]) - VOXEL / 2
    along = np.array([Rotation.from_rotvec(row["rotvec"]).apply(axes[row["name"]])[2] for row in rows])
    angle = np.rad2deg(np.arccos(np.clip(np.abs(along), 0, 1)))
    inside = away_from_border(position)
    return Truth(position[inside], angle[inside])


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
    """Figures of picks on these nucleosomes: F1, precision, recall, recall of top and side views, best F1.

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
    top, side = there.beam_angle_deg < TOP_DEG, there.beam_angle_deg >= SIDE_DEG
    curve = threshold_curve([(position, value, there.position_angstrom)], radius)
    best = curve.best
    return {
        "f1": f_beta(len(pairs), len(chosen), len(found), 1.0),
        "precision": len(pairs) / max(1, len(chosen)),
        "recall": float(found.mean()),
        "recall_top": float(found[top].mean()),
        "recall_side": float(found[side].mean()),
        "f1_best": 0.0 if best is None else float(curve.f1[best]),
        "threshold_best": float("nan") if best is None else float(curve.threshold[best]),
        "picks": len(chosen),
        "matched": len(pairs),
        "nucleosomes": len(found),
        "top_views": int(top.sum()),
        "side_views": int(side.sum()),
        "found_top": int(found[top].sum()),
        "found_side": int(found[side].sum()),
    }
