"""Picks of networks trained on the native engine alone: nucleosomes and ribosomes of held-out tomograms, and across simulators.

The other simulator is Parakeet, its images reconstructed by IMOD, and counted again at lower doses (``scenes``); nothing of
it is seen in training, and the size threshold is the model's own.  Where pytme is installed the same tomograms are searched
by template matching, with their exact contrast transfer and wedge and the best of its thresholds.
``--only PART`` does one part; without it all but ``train_shipped`` are done.  Data and trainings that are there already are
kept.
"""

import argparse
import csv
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import mrcfile
import numpy as np
import yaml
from harness import BUILD, ROOT, SHARED, Figure, merged, of_part, report
from numpy.typing import NDArray
from scenes import (
    DOSES,
    demo_structures,
    make_library,
    make_low_dose_tomograms,
    make_native_tomogram,
    make_tomograms,
    molecule_row,
    score,
    structures_of,
)
from scipy.stats import fisher_exact
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import write_json
from template_learning.common.tables import DesignRow, ParticleRow, PickRow
from template_learning.learning.inference import classes_and_log_odds, segment_on_own_grid
from template_learning.learning.model_card import read_card
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.training import HistoryRow
from template_learning.picking.assignment import f_beta, match
from template_learning.picking.evaluation import recall_by_angle
from template_learning.picking.segments import select_picks
from template_learning.picking.selection import Selection, selection_of
from template_learning.settings import CalibrateSettings, ClusterSettings, Settings
from template_learning.stages.calibrate import calibrate_model
from template_learning.stages.design import design_rows
from template_learning.stages.flex import flex_template
from template_learning.stages.train import train_network
from template_matching import matched

FOLDER = BUILD / "picking"
NUCLEOSOME: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "nucleosome_8A.yml").read_text())
"""What trains the model that is shipped; its doses, defocus and tilts lie between bounds that hold the other simulator's."""
EARLY: list[str] = NUCLEOSOME["train"]["phases"][0]["groups"]
"""Groups of tomograms that every network is taught; those that are not among them hold molecules that lie in each other."""
RIBOSOME = {
    "flex": {"conformers": 2},
    "design": {
        "tomograms": 12,
        "validation_tomograms": 1,
        "groups": {
            **{
                name: {"design": {"tomograms": count}}
                for name, count in (("low", 4), ("plate", 4), ("sparse", 6), ("dense", 4), ("overlap", 5))
            },
            "thin": {"design": {"tomograms": 6}, "tetris": {"slab_thickness_angstrom": 500}},
        },
    },
    "tetris": {"shape_voxels": [56, 96, 96], "distractors_per_template": 5},
    "reconstruct": {"voxel_size_angstrom": 13},
    "label": {"kind": "sphere", "sphere_radius_angstrom": 75},
    "train": {"epochs": 25},
    "cluster": {"radius_voxels": 6},
    "evaluate": {"match_radius_voxels": 10},
}
LATE = {
    "epochs": 20,
    "optimizer": {"learning_rate": 0.0075},
    "dose_curriculum_fraction": 0,
    "loss": {"top_view_weight": 4},
}
HOUR = [{"groups": EARLY, "settings": {"epochs": 62}}, {"settings": LATE}]
"""Phases of the hour on two processors, shared between what is easy and what is hard."""
SHIPPED = ROOT / "models" / "nucleosome_8A.keras"
CURVE_STEPS = 400
PARAKEETS = {"defocus_um": -2.5, "tilt_range_deg": 60.0, "tilt_step_deg": 4.0, "ice_density_g_per_cm3": 0.91}
"""Its reference's microscope and ice; the design's ice is up to 1.1 g/cm^3, where there is less contrast."""
VIEWS_COUNTED_IN = {120: 8, 60: 8, 30: 8, 15: 20}
"""Tomograms of each dose; at 15 e/Å^2 eight were too few to tell 0.56 of the top views from 0.66 of the side views."""
PLATE_DEFOCI_UM = (0.0, -0.5, -1.0, -2.5)
"""The paper's with a phase plate, and one that no training tomogram with a plate has."""
TOP_VIEW_WEIGHTS = (1, 12, 20)
"""Of the late epochs, beside that of ``LATE``."""
OPTIMIZERS = [("adam", 0.004), ("adam", 0.012), ("muon", 0.03)]
REAL_VOXEL = 16.4
Value = TypeVar("Value")


def settings(*changes: Mapping[str, Any]) -> Settings:
    """The nucleosomes' settings with the changes, for one training from high doses to low ones."""
    alone = {"train": {"phases": [], "dose_curriculum_fraction": 0.4}}
    return Settings.model_validate(merged(NUCLEOSOME, alone, *changes))


def early(chosen: Settings) -> Settings:
    """The same with the early groups of tomograms alone."""
    groups = {name: group for name, group in chosen.design.groups.items() if name in EARLY}
    return chosen.model_copy(update={"design": chosen.design.model_copy(update={"groups": groups})})


def library_of(chosen: Settings, templates: Sequence[Path], class_name: str, folder: Path) -> Path:
    """Conformers of the templates, and the distractors of the shared data (without them the demo's dozen)."""
    library = folder / "library"
    if (library / "library.csv").is_file():
        return library
    molecules = []
    for path in templates:
        name = path.name.removesuffix(".cif.gz")
        flex_template(path, name, chosen.flex, chosen.seed, folder / "flex")
        conformers = sorted((folder / "flex").glob(f"{name}_c*.cif.gz"))
        molecules += [molecule_row(conformer, class_name, name) for conformer in conformers]
    distractors = structures_of("distractors") or demo_structures("distractors")
    return make_library([*molecules, *map(molecule_row, distractors)], chosen.volume, library)


def make_data(chosen: Settings, library: Path, design: Path) -> list[DesignRow]:
    """The table ``design`` of the settings' tomograms, and in data beside it the tomograms with their truth."""
    rows, mixture = design_rows(chosen.design, chosen.seed), chosen.mixture()
    write_table(design, DesignRow, rows)
    make_tomograms(rows, library, [mixture[row.group] for row in rows], design.parent)
    return rows


def positions(rows: Sequence[PickRow] | Sequence[ParticleRow]) -> NDArray[np.float64]:
    """(N, 3) x, y, z in ångström."""
    return np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows], dtype=float).reshape(-1, 3)


@dataclass(frozen=True)
class Segmented:
    """What a model makes of a tomogram, and what its card says of picks in it."""

    classes: NDArray[np.uint8]
    log_odds: NDArray[np.float32]
    voxel_size_angstrom: float
    radius_voxels: float
    selection: Selection

    def picks(self, cluster: ClusterSettings) -> NDArray[np.float64]:
        """Positions (Å) of those that the model selects."""
        cluster = cluster.model_copy(update={"radius_voxels": self.radius_voxels})
        found, _ = select_picks(self.classes, self.log_odds, self.voxel_size_angstrom, cluster, self.selection)
        return positions([pick for pick in found if pick.selected])


def segmented(model: Path, tomogram: Path, chosen: Settings) -> Segmented:
    """A tomogram segmented on its own grid; the settings' radius is in the model's voxels."""
    network, card = load_model(model)
    data, voxel_size = read_mrc(tomogram)
    probabilities = segment_on_own_grid(network, card, data, voxel_size, chosen.segment, str(tomogram))
    classes, log_odds = classes_and_log_odds(probabilities, chosen.segment)
    return Segmented(
        classes=classes,
        log_odds=log_odds,
        voxel_size_angstrom=voxel_size,
        radius_voxels=chosen.cluster.radius_voxels * card.voxel_size_angstrom / voxel_size,
        selection=selection_of(card, voxel_size),
    )


def picks_of(model: Path, tomogram: Path, chosen: Settings) -> NDArray[np.float64]:
    """Positions (Å) that the model selects by its own threshold."""
    return segmented(model, tomogram, chosen).picks(chosen.cluster)


def trained(chosen: Settings, design: Path, data: Path, output: Path) -> tuple[Path, float]:
    """The trained model and the seconds that took.  Phases that two trainings have in common are trained once."""
    model = output / "trained.keras"
    if not model.is_file():
        begun = time.perf_counter()
        train_network(design, data, chosen.train, chosen.seed, output, state=FOLDER / "states")
        write_json(output / "seconds.json", {"training": time.perf_counter() - begun})
    return model, float(json.loads((output / "seconds.json").read_text())["training"])


def train(chosen: Settings, design: Path, data: Path, output: Path) -> tuple[Path, float]:
    """The same, calibrated."""
    model, seconds = trained(chosen, design, data, output)
    if not (output / "model.keras").is_file():
        sections = CalibrateSettings(segment=chosen.segment, cluster=chosen.cluster, evaluate=chosen.evaluate)
        calibrate_model(model, design, data, sections, output)
    return output / "model.keras", seconds


def held_out(
    model: Path, rows: Sequence[DesignRow], data: Path, chosen: Settings
) -> tuple[float, list[tuple[ParticleRow, bool]]]:
    """F1 over the test tomograms without phase plate, all picks and particles together; each particle, and if it was found."""
    selected = 0
    found: list[tuple[ParticleRow, bool]] = []
    for row in rows:
        if row.split != "test" or row.phase_shift_deg != 0:
            continue
        picks = picks_of(model, data / f"{row.id}.mrc", chosen)
        particles = [one for one in read_table(data / f"{row.id}.particles.csv", ParticleRow) if one.class_id > 0]
        radius = chosen.evaluate.match_radius_voxels * chosen.reconstruct.voxel_size_angstrom
        right = {particle for _, particle, _ in match(picks, positions(particles), radius)}
        selected += len(picks)
        found += [(particle, number in right) for number, particle in enumerate(particles)]
    return f_beta(sum(hit for _, hit in found), selected, len(found), 1.0), found


def held_out_at_each_dose(model: Path, chosen: Settings, library: Path, folder: Path) -> dict[str, float]:
    """F1, how many top and side views there are and are found in further tomograms at each of Parakeet's doses, and how likely
    counts that differ as much are where both are found as often (Fisher's exact test): with the design's microscopes and ice, and
    with Parakeet's."""
    plain = [row for row in design_rows(chosen.design, chosen.seed) if row.group == "plain"]
    rows: dict[tuple[str, int], list[DesignRow]] = {}
    for dose in DOSES:
        as_parakeet = plain[: VIEWS_COUNTED_IN[dose]]
        for kind, short, first, changes in (("held_out", "at", plain[:4], {}), ("as_parakeet", "as", as_parakeet, PARAKEETS)):
            same = {**changes, "split": "test", "total_dose_e_per_angstrom2": dose}
            rows[kind, dose] = [row.model_copy(update={**same, "id": f"{short}_{dose}_{row.id}"}) for row in first]
    every = [row for of_dose in rows.values() for row in of_dose]
    make_tomograms(every, library, [chosen] * len(every), folder)
    figures: dict[str, float] = {}
    for (kind, dose), of_dose in rows.items():
        figures[f"f1_{kind}_at_{dose}"], found = held_out(model, of_dose, folder / "data", chosen)
        top, *_, side = recall_by_angle(found)
        for name, views in (("top", top), ("side", side)):
            figures |= {
                f"{name}_views_{kind}_at_{dose}": views["particles"],
                f"recall_{name}_{kind}_at_{dose}": views["recall"],
            }
        table = [[views["found"], views["particles"] - views["found"]] for views in (top, side)]
        figures[f"p_of_views_{kind}_at_{dose}"] = float(fisher_exact(table).pvalue)
    return figures


def across_simulators(model: Path, chosen: Settings) -> dict[str, float]:
    """Figures on Parakeet's nucleosomes, beside template matching: IMOD's tomogram, native ones at each dose; and the native
    engine's tomograms of the same sample, as Parakeet's and with a phase plate."""
    tomograms = {"parakeet_imod": SHARED / "imod_reference" / "tomogram_default.mrc.gz"}
    tomograms |= {f"at_{dose}": path for dose, path in make_low_dose_tomograms(BUILD / "lowdose").items()}
    natively = {"sample_simulated_natively": make_native_tomogram(BUILD / "lowdose")}
    for defocus in PLATE_DEFOCI_UM:
        natively[f"phase_plate_{abs(defocus):g}_um"] = make_native_tomogram(BUILD / "lowdose", defocus)
    figures: dict[str, float] = {}
    for name, path in (tomograms | natively).items():
        ours = score(picks_of(model, path, chosen))
        figures |= {f"{key}_{name}": ours[key] for key in ("f1", "precision", "recall_top", "recall_side", "recall_top_free")}
        if shutil.which("pytme") and name in tomograms:
            peer = matched(path, "imod" if name == "parakeet_imod" else f"dose_{name.removeprefix('at_')}")
            figures[f"f1_matching_{name}"] = peer["f1_best"]
            figures |= {f"{side}_matching_{name}": peer[f"{side}_of_first"] for side in ("recall_top", "recall_side")}
    if shutil.which("pytme"):
        figures |= {f"f1_lead_at_{dose}": figures[f"f1_at_{dose}"] - figures[f"f1_matching_at_{dose}"] for dose in DOSES}
    return figures | {"recall_top": figures["recall_top_parakeet_imod"], "recall_side": figures["recall_side_parakeet_imod"]}


def draw_against_dose(figures: Mapping[str, float], path: Path) -> None:
    """F1 and the recall of top views against dose, beside template matching's; nothing without that."""
    if "f1_matching_at_30" not in figures:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for axis, name, title in ((left, "f1", "F1"), (right, "recall_top", "top views found")):
        for kind, style, label in (
            ("", "o-", "network, its own choice"),
            ("_matching", "s--", "template matching, best threshold"),
        ):
            axis.plot(DOSES, [figures[f"{name}{kind}_at_{dose}"] for dose in DOSES], style, label=label)
        axis.set(xscale="log", xticks=DOSES, xticklabels=DOSES, xlabel="total dose (e/Å$^2$)", title=title, ylim=(0, 1.02))
        axis.minorticks_off()
    left.legend(loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def nucleosomes() -> tuple[Settings, list[DesignRow], Path]:
    """Settings, design and folder of the nucleosomes' tomograms, made where they are not there yet; early.csv has the early groups'."""
    chosen, folder = settings(), FOLDER / "nucleosome"
    library = library_of(chosen, demo_structures("templates"), "nucleosome", folder)
    rows = make_data(chosen, library, folder / "design.csv")
    write_table(folder / "early.csv", DesignRow, [row for row in rows if row.group in EARLY])
    return chosen, rows, folder


def train_by(chosen: Settings, folder: Path, name: str) -> tuple[Path, float]:
    """The nucleosomes' network trained phase by phase, then calibrated, and the seconds of all phases."""
    return train(chosen, folder / "design.csv", folder / "data", folder / name)


def measure_nucleosome() -> dict[str, float]:
    """The model of nucleosomes on held-out tomograms and across simulators."""
    chosen, rows, folder = nucleosomes()
    model, seconds = train_by(settings({"train": {"phases": HOUR}}), folder, "trained")
    figures = {"f1_nucleosome": held_out(model, rows, folder / "data", chosen)[0], "training_seconds_nucleosome": seconds}
    figures |= beyond_the_design(model, chosen, folder)
    draw_against_dose(figures, FOLDER / "dose.png")
    return figures


def measure_ribosome() -> dict[str, float]:
    """The model of ribosomes (five 80S structures of the shared data) on held-out tomograms."""
    chosen, folder = early(settings(RIBOSOME)), FOLDER / "ribosome"
    library = library_of(chosen, structures_of("ribosome"), "ribosome", folder)
    rows = make_data(chosen, library, folder / "design.csv")
    model, seconds = train(chosen, folder / "design.csv", folder / "data", folder / "trained")
    return {"f1_ribosome": held_out(model, rows, folder / "data", chosen)[0], "training_seconds_ribosome": seconds}


def measure_curve() -> dict[str, float]:
    """F1 of nucleosomes after the same few steps on the first training tomograms, a few, more and all."""
    chosen, rows, folder = nucleosomes()
    chosen = chosen.model_copy(
        update={"train": chosen.train.model_copy(update={"epochs": CURVE_STEPS // chosen.train.steps_per_epoch})}
    )
    rows = [row for row in rows if row.group in EARLY]
    taught, others = [row for row in rows if row.split == "train"], [row for row in rows if row.split != "train"]
    figures = {}
    for count in CURVE_COUNTS:
        output = folder / f"trained_on_{count}"
        write_table(output / "design.csv", DesignRow, [*others, *taught[:count]])
        model, _ = train(chosen, output / "design.csv", folder / "data", output)
        figures[f"f1_of_{count}_tomograms"] = held_out(model, rows, folder / "data", chosen)[0]
    return figures


def measure_optimizers() -> dict[str, float]:
    """The last validation loss of short trainings of nucleosomes with each optimizer and step."""
    _, _, folder = nucleosomes()
    figures = {}
    for optimizer, rate in OPTIMIZERS:
        short = settings({"train": {"epochs": 12, "optimizer": {"name": optimizer, "learning_rate": rate}}})
        name = f"{optimizer}_{rate:g}"
        trained(short, folder / "early.csv", folder / "data", folder / f"trained_by_{name}")
        *_, last = read_table(folder / f"trained_by_{name}" / "history.csv", HistoryRow)
        figures[f"validation_loss_{name}"] = last.validation_loss or math.nan
    return figures


def measure_top_views() -> dict[str, float]:
    """The nucleosomes' first network taught its late epochs with lighter and heavier top views: what that brings and costs."""
    chosen, _, folder = nucleosomes()
    train_by(settings({"train": {"phases": HOUR}}), folder, "trained")  # whose first phase they have in common
    figures: dict[str, float] = {}
    for weight in TOP_VIEW_WEIGHTS:
        late = {"settings": merged(LATE, {"loss": {"top_view_weight": weight}})}
        weighted = settings({"train": {"phases": [HOUR[0], late]}})
        model, _ = train_by(weighted, folder, f"trained_top_views_{weight}")
        figures |= of_itself(beyond_the_design(model, chosen, folder), f"by_weight_{weight}")
    return figures


def beyond_the_design(model: Path, chosen: Settings, folder: Path) -> dict[str, float]:
    """Figures of a model of nucleosomes in further tomograms at each dose and, where their data are there, across simulators."""
    figures = held_out_at_each_dose(model, chosen, folder / "library", folder)
    return figures | (across_simulators(model, chosen) if SHARED.is_dir() else {})


def of_itself(figures: Mapping[str, Value], name: str) -> dict[str, Value]:
    """Those of the model, without template matching's own, ``_name`` after each."""
    return {f"{key}_{name}": value for key, value in figures.items() if "matching" not in key}


def measure_shipped() -> dict[str, float]:
    """The model that is shipped, as it is in the repository."""
    chosen, rows, folder = nucleosomes()
    figures = {"f1_nucleosome": held_out(SHIPPED, rows, folder / "data", chosen)[0]}
    figures |= beyond_the_design(SHIPPED, chosen, folder)
    draw_against_dose(figures, FOLDER / "dose_shipped.png")
    return of_itself(figures, "shipped")


def train_shipped() -> dict[str, float]:
    """The shipped model trained anew, build/bench/picking/nucleosome/shipped.keras: hours."""
    _, _, folder = nucleosomes()
    model, seconds = train_by(Settings.model_validate(NUCLEOSOME), folder, "shipped")
    copy_model(model, folder / "shipped.keras", read_card(model).model_copy(update={"class_names": {1: "nucleosome"}}))
    return {"training_seconds_shipped": seconds}


def measure_real() -> dict[str, float]:
    """The ribosomes' model on a real tomogram, EMD-1155: virions of HIV-1, and no ribosomes that we know of.

    Leaves a picture beside the tomogram, build/bench/picking/emd_1155.png.
    """
    model = FOLDER / "ribosome" / "trained" / "model.keras"
    source = SHARED / "tomograms" / "emd_1155"
    with mrcfile.open(source / "emd_1155.ccp4.gz") as opened:
        # The file's second axis lies along the beam; the flip undoes the mirror that changing two axes is.
        volume = np.flip(np.moveaxis(np.asarray(opened.data, dtype=np.float32), 1, 0), 2)
    path = FOLDER / "emd_1155.mrc"
    write_mrc(path, volume, REAL_VOXEL)
    chosen = settings(RIBOSOME)
    seen = segmented(model, path, chosen)
    found = seen.picks(chosen.cluster) / REAL_VOXEL
    table = [line for line in (source / "virions_annotation.csv").read_text().splitlines() if not line.startswith("#")]
    virions = [
        # x, y, z as the volume is turned, and the radius
        (np.array([volume.shape[2] - 1 - float(row["x"]), float(row["z"]), float(row["y"])]), float(row["radius_vox"]))
        for row in csv.DictReader(table)
    ]
    figure, axes = plt.subplots(1, 3, figsize=(9, 6.5), layout="constrained")
    for axis, section in zip(axes, (25, 45, 65), strict=True):
        axis.imshow(volume[section - 1 : section + 2].mean(axis=0), cmap="gray", vmin=-15, vmax=25)
        for centre, radius in virions:
            if abs(height := section - centre[2]) < radius:
                axis.add_patch(plt.Circle(centre[:2], math.sqrt(radius**2 - height**2), fill=False, color="tab:blue"))
        near = found[np.abs(found[:, 2] - section) < 10]
        axis.plot(near[:, 0], near[:, 1], "+", color="tab:red", markersize=12)
        axis.set(xlim=(0, volume.shape[2]), ylim=(volume.shape[1], 0), xticks=[], yticks=[], title=f"section {section}")
    figure.savefig(FOLDER / "emd_1155.png", dpi=80)
    border = np.minimum(found, np.array(volume.shape[::-1]) - 1 - found).min(axis=1)
    in_virions = [any(np.linalg.norm(pick - centre) < radius for centre, radius in virions) for pick in found]
    return {
        "picks_emd_1155": len(found),
        "picks_emd_1155_by_threshold": len(seen.picks(chosen.cluster.model_copy(update={"chosen_by": "threshold"}))),
        "picks_emd_1155_within_10_voxels_of_the_border": int((border < 10).sum()),
        "picks_emd_1155_in_virions": sum(in_virions),
    }


PARTS = {
    "nucleosome": measure_nucleosome,
    "shipped": measure_shipped,
    "ribosome": measure_ribosome,
    "curve": measure_curve,
    "optimizers": measure_optimizers,
    "top_views": measure_top_views,
    "real": measure_real,
    "train_shipped": train_shipped,
}
TAUGHT = sum(row.split == "train" for row in design_rows(early(settings()).design, settings().seed))
CURVE_COUNTS = (1, 3, 9, TAUGHT)
FURTHER = {
    "held_out": "further tomograms with the design's microscopes and ice",
    "as_parakeet": "further tomograms with Parakeet's microscope and ice",
}
SEARCHED = {
    "parakeet_imod": "Parakeet's images, IMOD's reconstruction",
    **{f"at_{dose}": f"Parakeet's images, native reconstruction, {dose} e/Å^2" for dose in DOSES},
}
NATIVELY = {
    "sample_simulated_natively": "Parakeet's sample by the native engine",
    **{
        f"phase_plate_{abs(defocus):g}_um": f"Parakeet's sample by the native engine, phase plate, defocus {defocus:g} µm"
        for defocus in PLATE_DEFOCI_UM
    },
}
LEAD = "lead of the network's F1 over template matching's best"


def figures_beyond(goals: Mapping[str, str]) -> dict[str, Figure]:
    """What ``beyond_the_design`` measures, with its goals."""
    found: dict[str, Figure] = {}
    for kind, what in FURTHER.items():
        for dose in DOSES:
            found[f"f1_{kind}_at_{dose}"] = Figure(f"F1 in {what}, {dose} e/Å^2")
            for name in ("top", "side"):
                found[f"{name}_views_{kind}_at_{dose}"] = Figure(f"{name} views there")
                found[f"recall_{name}_{kind}_at_{dose}"] = Figure(f"share of the {name} views found")
            found[f"p_of_views_{kind}_at_{dose}"] = Figure(
                "how likely counts that differ as much are where both are found as often (Fisher's exact test)"
            )
    for name, what in (SEARCHED | NATIVELY).items():
        found[f"f1_{name}"] = Figure(f"F1: {what}")
        found[f"precision_{name}"] = Figure("its precision")
        found[f"recall_top_{name}"] = Figure("share of the top views found there")
        found[f"recall_side_{name}"] = Figure("share of the side views")
        found[f"recall_top_free_{name}"] = Figure("share of the top views that stand free of other molecules")
    found |= {f"f1_lead_at_{dose}": Figure(f"{LEAD}, {dose} e/Å^2") for dose in DOSES}
    found |= {f"recall_{side}": Figure(f"the same as `recall_{side}_parakeet_imod`") for side in ("top", "side")}
    return {name: replace(figure, goal=goals.get(name, "")) for name, figure in found.items()}


ACROSS_SIMULATORS = {"f1_parakeet_imod": ">= 0.97", "f1_at_30": ">= 0.93", "f1_lead_at_15": ">= 0.15"}
VIEWS = {f"p_of_views_as_parakeet_at_{dose}": ">= 0.05" for dose in DOSES}
"""Top views found as often as side views, as far as these tomograms can tell."""
HELD_OUT = "F1 on two held-out tomograms of the design, all picks and particles together"
MATCHING = {
    f"{key}_matching_{name}": Figure(f"template matching, {meaning}: {what}")
    for name, what in SEARCHED.items()
    for key, meaning in (
        ("f1", "best F1 over thresholds"),
        ("recall_top", "top views among its first picks, as many as there are nucleosomes"),
        ("recall_side", "side views among these"),
    )
}
FIGURES = {
    **of_part(
        "nucleosome",
        {
            "f1_nucleosome": Figure(HELD_OUT, ">= 0.9"),
            "training_seconds_nucleosome": Figure("seconds of the training, all phases"),
            **figures_beyond(ACROSS_SIMULATORS),
            **MATCHING,
        },
    ),
    **of_part(
        "shipped", of_itself({"f1_nucleosome": Figure(HELD_OUT), **figures_beyond(ACROSS_SIMULATORS | VIEWS)}, "shipped")
    ),
    **of_part("train_shipped", {"training_seconds_shipped": Figure("seconds of the training, all phases")}),
    **of_part(
        "ribosome",
        {
            "f1_ribosome": Figure("F1 on two held-out tomograms of the design", ">= 0.9"),
            "training_seconds_ribosome": Figure("seconds of the training"),
        },
    ),
    **of_part(
        "real",
        {
            "picks_emd_1155": Figure("picks of the ribosomes' model in EMD-1155, where none are known to be"),
            "picks_emd_1155_by_threshold": Figure("the same by the model's threshold of score"),
            "picks_emd_1155_within_10_voxels_of_the_border": Figure("picks near the border"),
            "picks_emd_1155_in_virions": Figure("picks in the virions that are annotated"),
        },
    ),
    **of_part(
        "curve",
        {
            f"f1_of_{count}_tomograms": Figure(f"held-out F1 after the same {CURVE_STEPS} steps on {count} training tomograms")
            for count in CURVE_COUNTS
        },
    ),
    **of_part(
        "optimizers",
        {
            f"validation_loss_{optimizer}_{rate:g}": Figure(
                f"last validation loss of a short training by {optimizer}, step {rate:g}"
            )
            for optimizer, rate in OPTIMIZERS
        },
    ),
    **{
        name: figure
        for weight in TOP_VIEW_WEIGHTS
        for name, figure in of_part("top_views", of_itself(figures_beyond({}), f"by_weight_{weight}")).items()
    },
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=[part for part in PARTS if part != "train_shipped"], metavar="PART"
    )
    figures: dict[str, float] = {}
    for part in parser.parse_args().only:
        if part not in {"ribosome", "real"} or SHARED.is_dir():
            figures |= PARTS[part]()
    report("picking", figures, FIGURES, "Parakeet + IMOD as the other simulator; template matching by pytme")


if __name__ == "__main__":
    main()
