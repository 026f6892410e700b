"""Picks of a network trained on the native engine alone: on its own held-out tomograms, and across simulators.

The library is the demo's (six nucleosomes, twelve distractors).  The other simulator is Parakeet, reconstructed by IMOD
(shared data, imod_reference); nothing of it is seen in training, and the size threshold is the model's own.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import BUILD, ROOT, SHARED, report
from numpy.typing import NDArray
from template_learning.density import build_library
from template_learning.design import write_design
from template_learning.files import read_mrc, read_table
from template_learning.flex import flex_template
from template_learning.labels import label_sample
from template_learning.learning.calibrate import calibrate_model
from template_learning.learning.model_file import load_model
from template_learning.learning.segment import classes_and_probability, scaled_minimum_size, segment_on_own_grid
from template_learning.learning.train import train_network
from template_learning.picking.cluster import find_picks
from template_learning.picking.matching import f_beta, match
from template_learning.provenance import write_json
from template_learning.reconstruction.tomogram import reconstruct_series
from template_learning.settings import CalibrateSettings, Settings
from template_learning.simulation.series import simulate_sample
from template_learning.tables import DesignRow, ParticleRow, PickRow
from template_learning.tetris import pack_sample

DEMO = ROOT / "data" / "demo"
BORDER_VOXELS, MATCH_VOXELS, PARAKEET_VOXEL = 8, 6, 8.0


def settings(voxel_size_angstrom: float, tomograms: int, steps: int) -> Settings:
    """Tomograms of 1280 x 1280 x 512 Å; doses, defocus and tilts between bounds that hold the other simulator's."""
    epochs = max(1, round(steps / 50))
    return Settings.model_validate(
        {
            "flex": {"conformers": 6},
            "design": {
                "scheme": "sobol",
                "tomograms": tomograms + 3,
                "test_tomograms": 2,
                "validation_tomograms": 1,
                "total_dose_e_per_angstrom2": [60, 150],
                "defocus_um": [-2, -4],
                "tilt_step_deg": [2, 4],
                "tilt_range_deg": [50, 60],
            },
            "tetris": {"shape_voxels": [32, 80, 80], "distractors_per_template": 2},
            "reconstruct": {"voxel_size_angstrom": voxel_size_angstrom},
            "train": {
                "epochs": epochs,
                "steps_per_epoch": 50,
                "batch_size": 4,
                "patch_voxels": 32,
                "random_shift_voxels": 8,
                "learning_rate": 1e-3,
                "learning_rate_schedule": "cosine",
                "filters": 16,
            },
            "evaluate": {"match_radius_voxels": MATCH_VOXELS * PARAKEET_VOXEL / voxel_size_angstrom},
        }
    )


def make_data(chosen: Settings, folder: Path) -> list[DesignRow]:
    """Tomograms with truth in ``folder``/data and design.csv; what is there already is kept."""
    library = folder / "library"
    if not (library / "library.csv").is_file():
        molecules = []
        for path in sorted((DEMO / "templates").glob("*.cif.gz")):
            name = path.name.removesuffix(".cif.gz")
            flex_template(path, name, chosen.flex, chosen.seed, folder / "flex")
            for conformer in sorted((folder / "flex").glob(f"{name}_c*.cif.gz")):
                one = {"molecule": conformer.name.removesuffix(".cif.gz"), "species": name, "role": "template"}
                molecules.append({**one, "class_id": 1, "class_name": "nucleosome", "share": 1, "file": str(conformer)})
        for path in sorted((DEMO / "distractors").glob("*.cif.gz")):
            name = path.name.removesuffix(".cif.gz")
            one = {"molecule": name, "species": name, "role": "distractor"}
            molecules.append({**one, "class_id": 0, "class_name": "", "share": 1, "file": str(path)})
        write_json(folder / "molecules.json", molecules)  # type: ignore[arg-type]
        build_library(folder / "molecules.json", chosen.volume, library)
    write_design(chosen.design, chosen.seed, folder / "design.csv")
    rows = read_table(folder / "design.csv", DesignRow)
    for row in rows:
        if (folder / "data" / f"{row.id}.particles.csv").is_file():
            continue
        placed = pack_sample([library], row.id, chosen.tetris, chosen.seed, folder / "packed")
        simulate_sample(placed, [library], row, chosen.simulate, chosen.seed, folder / "series")
        tilts, angles = folder / "series" / f"{row.id}.tilts.mrc", folder / "series" / f"{row.id}.tlt"
        reconstruct_series(tilts, angles, row.id, chosen.reconstruct, folder / "data")
        label_sample(placed, [library], folder / "data" / f"{row.id}.mrc", row.id, chosen.label, folder / "data")
    return rows


def positions(rows: Sequence[PickRow] | Sequence[ParticleRow]) -> NDArray[np.float64]:
    """(N, 3) x, y, z in ångström."""
    return np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows], dtype=float).reshape(-1, 3)


def picks_of(model: Path, tomogram: Path, chosen: Settings) -> tuple[NDArray[np.float64], tuple[int, ...], float]:
    """Positions (Å) that the model selects by its own threshold, the tomogram's shape and voxel size."""
    network, card = load_model(model)
    data, voxel_size = read_mrc(tomogram)
    classes, probability = classes_and_probability(
        segment_on_own_grid(network, card, data, voxel_size, chosen.segment, str(tomogram))
    )
    radius = chosen.cluster.radius_voxels * card.voxel_size_angstrom / voxel_size
    cluster = chosen.cluster.model_copy(update={"radius_voxels": radius})
    found = find_picks(classes, probability, voxel_size, cluster, scaled_minimum_size(card, voxel_size) or {})
    return positions([pick for pick in found if pick.selected]), data.shape, voxel_size


def across_simulators(model: Path, chosen: Settings) -> dict[str, float]:
    """F1 on Parakeet's nucleosomes in IMOD's reconstruction, 8 voxels of border left out, matched within 6."""
    tomogram = SHARED / "imod_reference" / "tomogram_default.mrc.gz"
    found, shape, voxel = picks_of(model, tomogram, chosen)
    rows = json.loads((SHARED / "parakeet_reference" / "truth.json").read_text())
    # Its positions count from the box's corner, half a voxel off the centre of voxel (0, 0, 0).
    truth = np.array([row["position_angstrom"] for row in rows if row["kind"] != "distractor"]) - voxel / 2

    def inside(position: NDArray[np.float64]) -> NDArray[np.float64]:
        index = position / voxel
        return position[((index >= BORDER_VOXELS) & (index <= np.array(shape[::-1]) - 1 - BORDER_VOXELS)).all(axis=1)]

    found, truth = inside(found), inside(truth)
    matched = len(match(found, truth, MATCH_VOXELS * voxel))
    return {
        "f1_parakeet_imod": f_beta(matched, len(found), len(truth), 1.0),
        "precision_parakeet_imod": matched / max(1, len(found)),
        "recall_parakeet_imod": matched / len(truth),
        "nucleosomes_parakeet_imod": len(truth),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-size", type=float, default=10.0, help="Å of the training tomograms")
    parser.add_argument("--tomograms", type=int, default=12, help="training tomograms")
    parser.add_argument("--steps", type=int, default=4000, help="training steps")
    given = parser.parse_args()
    chosen = settings(given.voxel_size, given.tomograms, given.steps)
    folder = BUILD / "picking" / f"{given.voxel_size:g}A_{given.tomograms}"
    begun = time.perf_counter()
    rows = make_data(chosen, folder)
    made = time.perf_counter() - begun
    output = folder / f"trained_{given.steps}"
    begun = time.perf_counter()
    train_network(folder / "design.csv", folder / "data", chosen.train, chosen.seed, output)
    trained = time.perf_counter() - begun
    sections = CalibrateSettings(segment=chosen.segment, cluster=chosen.cluster, evaluate=chosen.evaluate)
    calibrate_model(output / "trained.keras", folder / "design.csv", folder / "data", sections, output)
    model = output / "model.keras"
    matched = selected = there = 0
    for row in rows:
        if row.split != "test":
            continue
        found, _, _ = picks_of(model, folder / "data" / f"{row.id}.mrc", chosen)
        particles = read_table(folder / "data" / f"{row.id}.particles.csv", ParticleRow)
        truth = positions([particle for particle in particles if particle.class_id > 0])
        matched += len(match(found, truth, MATCH_VOXELS * PARAKEET_VOXEL))
        selected, there = selected + len(found), there + len(truth)
    figures = {"f1_nucleosome": f_beta(matched, selected, there, 1.0), "data_seconds": made, "training_seconds": trained}
    if SHARED.is_dir():
        figures |= across_simulators(model, chosen)
    goals = {"f1_nucleosome": ">= 0.9", "f1_parakeet_imod": ">= 0.97"}
    report("picking", figures, goals, "Parakeet + IMOD as the other simulator", settings=chosen.model_dump(mode="json"))


if __name__ == "__main__":
    main()
