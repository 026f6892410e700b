"""Scenes that several benches share: libraries, simulated tomograms with their truth, Parakeet's nucleosomes at any dose.

Parakeet's noise-free images (shared data, parakeet_reference: 45 nucleosomes among 91 other molecules, defocus -2.5 um,
tilts -60..60 step 4) are counted again at a few doses and reconstructed by the native engine.  Picks of any origin are
scored in one way: matched within 6 voxels of 8 Å, 8 voxels of border left out, top views and side views apart.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from harness import DEMO, ROOT, SHARED, merged
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import generator_for, write_json
from template_learning.common.tables import DesignRow, PickRow, positions
from template_learning.labelling.labels import molecule_axis
from template_learning.learning.contrast import find_contrast
from template_learning.learning.inference import classes_and_log_odds, segment_on_own_grid
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model
from template_learning.learning.patches import TrainingTomogram
from template_learning.learning.training import Training
from template_learning.picking.assignment import f_beta, match, threshold_curve
from template_learning.picking.segments import select_picks
from template_learning.picking.selection import Selection, confidence, selection_of
from template_learning.settings import ReconstructSettings, Settings, TrainSettings, VolumeSettings
from template_learning.simulation.detector import count_electrons
from template_learning.simulation.parakeet_config import simulate_parakeet
from template_learning.stages.label import label_sample
from template_learning.stages.reconstruct import reconstruct_series
from template_learning.stages.simulate import simulate_sample
from template_learning.stages.tetris import pack_sample
from template_learning.stages.volume import build_library
from template_learning.structures.structure import read_structure

REFERENCE = SHARED / "parakeet_reference"
DOSES = (120, 60, 30, 15)
SEED = 1
VOXEL = 8.0
SHAPE = (80, 128, 128)
BORDER_VOXELS, MATCH_VOXELS = 8, 6
FREE = 0.05
"""A nucleosome stands free with less of its atoms than this in other molecules."""
TOP_DEG, SIDE_DEG = 30.0, 60.0
COMPARED_ANGSTROM = 8.0
"""Pixel at which images of two simulators are compared."""
HIGH_PASS_SIGMA_PIXELS = 400 / np.sqrt(8 * np.log(2)) / COMPARED_ANGSTROM


# Libraries


def structures_of(kind: str) -> list[Path]:
    """The structure files of a kind (nucleosome, ribosome, distractors, ...) in the shared data."""
    return sorted((SHARED / "structures" / kind).glob("*.cif.gz"))


def demo_structures(kind: str) -> list[Path]:
    """The structure files of the demo: ``kind`` is templates or distractors."""
    return sorted((DEMO / kind).glob("*.cif.gz"))


def molecule_row(path: Path, class_name: str = "", species: str | None = None) -> dict[str, Any]:
    """What ``build_library`` wants to know of a file: a template of class 1 where it has a class name, else a distractor."""
    name = path.name.removesuffix(".cif.gz")
    row = {"molecule": name, "species": species or name, "role": "template" if class_name else "distractor"}
    return {**row, "class_id": int(bool(class_name)), "class_name": class_name, "share": 1.0, "file": str(path)}


def make_library(molecules: Iterable[dict[str, Any]], settings: VolumeSettings, folder: Path) -> Path:
    """The library of ``molecule_row``s in ``folder``, as VOLUME makes it."""
    write_json(folder / "molecules.json", list(molecules))  # type: ignore[arg-type]
    build_library(folder / "molecules.json", settings, folder)
    return folder


# Simulated tomograms


def make_tomogram(row: DesignRow, library: Path, chosen: Settings, folder: Path) -> None:
    """A tomogram of the design with its truth in ``folder``/data; what is there already is kept."""
    if (folder / "data" / f"{row.id}.particles.csv").is_file():
        return
    placed = pack_sample([library], row.id, chosen.tetris, chosen.seed, folder / "packed")
    simulate_sample(placed, [library], row, chosen.for_stage("simulate"), chosen.seed, folder / "series")
    reconstruct_and_label(row, placed, library, chosen, folder / "series", folder / "data")


def reconstruct_and_label(row: DesignRow, placed: Path, library: Path, chosen: Settings, series: Path, data: Path) -> None:
    """The tomogram of a simulated series and its truth, in ``data``."""
    reconstruct_series(series / f"{row.id}.tilts.mrc", series / f"{row.id}.tlt", row.id, chosen.reconstruct, data)
    label_sample(placed, [library], data / f"{row.id}.mrc", row.id, chosen.label, data)


def make_tomograms(rows: Sequence[DesignRow], library: Path, chosen: Sequence[Settings], folder: Path) -> None:
    """``make_tomogram`` of each row with its settings, on all processors."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(make_tomogram, rows, repeat(library), chosen, repeat(folder)))


def train_timed(tomogram: TrainingTomogram, settings: TrainSettings, classes: int, state: Path) -> tuple[Training, float]:
    """A training on one tomogram, and the seconds of a step after its first epoch, which compiles."""
    training = Training({"train": [tomogram], "validation": []}, settings, SEED, classes, state)
    training.settings = settings.model_copy(update={"epochs": 1})
    training.run()
    training.settings = settings
    begun = time.perf_counter()
    training.run()
    return training, (time.perf_counter() - begun) / ((settings.epochs - 1) * settings.steps_per_epoch)


# Images of two simulators


def binned(image: NDArray[Any]) -> NDArray[np.float64]:
    """Means over 2 x 2 pixels."""
    height, width = (count // 2 for count in image.shape)
    return np.asarray(image, dtype=float).reshape(height, 2, width, 2).mean(axis=(1, 3))


def prepared(image: NDArray[Any], border_pixels: int) -> NDArray[np.float64]:
    """An image of 4 Å pixels as a comparison wants it: binned to 8 Å, high-passed, its border cut off."""
    coarse = binned(image)
    passed = coarse - gaussian_filter(coarse, HIGH_PASS_SIGMA_PIXELS, mode="reflect")
    return np.asarray(passed[border_pixels:-border_pixels, border_pixels:-border_pixels])


# Parakeet's nucleosomes


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


# A model's picks


@dataclass(frozen=True, eq=False)
class Picker:
    """A model, loaded once, that picks at its own choice with one set of settings."""

    network: Any
    card: ModelCard
    settings: Settings

    @classmethod
    def of(cls, model: Path, *changes: Mapping[str, Any]) -> "Picker":
        """A model file with presets/workstation.yml's settings and the changes."""
        preset = yaml.safe_load((ROOT / "presets" / "workstation.yml").read_text())
        return cls(*load_model(model), Settings.model_validate(merged(preset, *changes)))

    def every_pick(self, data: NDArray[Any], voxel_size_angstrom: float, name: str) -> tuple[list[PickRow], Selection]:
        """All segments of a tomogram [z, y, x], those selected marked, and what the model selects by."""
        segment = self.settings.segment
        if segment.contrast == "auto":
            found = find_contrast(self.network, self.card, data, voxel_size_angstrom, segment)
            segment = segment.model_copy(update={"contrast": found.sign})
        probabilities = segment_on_own_grid(self.network, self.card, data, voxel_size_angstrom, segment, name)
        classes, log_odds = classes_and_log_odds(probabilities, segment)
        # The settings' radius is in the model's voxels.
        radius = self.settings.cluster.radius_voxels * self.card.voxel_size_angstrom / voxel_size_angstrom
        cluster = self.settings.cluster.model_copy(update={"radius_voxels": radius})
        selection = selection_of(self.card, voxel_size_angstrom)
        return select_picks(classes, log_odds, voxel_size_angstrom, cluster, selection)[0], selection

    def picks(
        self, data: NDArray[Any], voxel_size_angstrom: float, name: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (N, 3) x, y, z in Å of the selected segments, and how likely each is right; none where the card does not say."""
        every, selection = self.every_pick(data, voxel_size_angstrom, name)
        chosen = [pick for pick in every if pick.selected]
        return positions(chosen), self.likely(chosen, selection)

    def likely(self, picks: Sequence[PickRow], selection: Selection) -> NDArray[np.float64]:
        """How likely each pick is right, by what the model's card says of its confidence; none where it says nothing."""
        if not selection.score_probability:
            return np.zeros(0)
        found = []
        for pick in picks:
            start, probability = np.array(selection.score_probability[pick.class_id], dtype=float).reshape(-1, 2).T
            reached = np.searchsorted(start, confidence(pick, selection.whole_size_voxels, selection.score_kind), side="right")
            found.append(float(np.concatenate([[0.0], probability])[reached]))
        return np.array(found)
