"""The trained models of models/, as users get them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from template_learning.common.files import read_table
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import PickRow
from template_learning.learning.domain import FAR
from template_learning.learning.model_card import read_card
from template_learning.picking.assignment import f_beta, match
from template_learning.picking.selection import check_segments, segments_by
from template_learning.settings import Settings, TrainSettings
from template_learning.stages.check import check_settings
from template_learning.stages.cluster import cluster_segmentation
from template_learning.stages.design import design_rows
from template_learning.stages.segment import segment_tomogram

ROOT = Path(__file__).parents[2]
NUCLEOSOME = ROOT / "models" / "nucleosome_8A.keras"
TREATED = ROOT / "models" / "nucleosome_8A_treated.keras"
VOXEL = 8.0
BORDER_VOXELS, MATCH_VOXELS = 8, 6

# Keras on NumPy 2 warns of its own weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def preset() -> Settings:
    """The settings that models/README.md says to pick with."""
    return check_settings(yaml.safe_load((ROOT / "presets" / "workstation.yml").read_text()))


@pytest.mark.parametrize("model", [NUCLEOSOME, TREATED], ids=lambda path: path.stem)
def test_the_model_is_calibrated_for_the_settings_that_it_is_to_pick_with(preset: Settings, model: Path) -> None:
    card = read_card(model)
    assert card.voxel_size_angstrom == VOXEL
    assert card.class_names == {1: "nucleosome"}
    assert card.score_probability is not None
    assert card.segments_by is not None
    check_segments(card.segments_by, segments_by(preset.segment.probability_threshold, preset.cluster), "the model's threshold")


def test_the_networks_preset_is_what_its_card_says_that_trained_it() -> None:
    card, recipe = read_card(NUCLEOSOME), check_settings(yaml.safe_load((ROOT / "presets/nucleosome_8A.yml").read_text()))
    told = [card.training]
    while "start" in told[0]:
        told.insert(0, told[0]["start"])
    phases = recipe.train.of_phases()
    assert phases == [TrainSettings.model_validate(one["settings"]) for one in told]
    rows = design_rows(recipe.design, recipe.seed)
    for phase, one in zip(recipe.train.phases, told, strict=True):
        seen = [row for row in rows if not phase.groups or row.group in phase.groups]
        splits = [sum(row.split == split for row in seen) for split in ("train", "validation")]
        assert splits == [one["tomograms"], one["validation_tomograms"]]
    taught = [row for row in rows if row.split == "train"]
    for name, bounds in card.training["design"].items():
        values = [getattr(row, name) for row in taught]
        assert [min(values), max(values)] == pytest.approx(bounds, abs=1e-4), name  # as the table is rounded
    assert segments_by(recipe.segment.probability_threshold, recipe.cluster) == card.segments_by


def test_nucleosomes_of_another_simulator_and_reconstruction(shared_data: Path, preset: Settings, tmp_path: Path) -> None:
    tomogram = shared_data / "imod_reference" / "tomogram_default.mrc.gz"
    segment_tomogram(NUCLEOSOME, tomogram, "t", preset.segment, tmp_path, VOXEL)
    cluster_segmentation(tmp_path / "t.segmentation.mrc", tmp_path / "t.log_odds.mrc", "t", preset.cluster, tmp_path)
    segments = read_table(tmp_path / "t.picks.csv", PickRow)
    picks = [row for row in segments if row.selected]
    assert len({row.score for row in picks}) == len(picks)
    # It is of 0.1.0, which went by mean probabilities; its steps and sizes say what it took.
    card = read_card(NUCLEOSOME)
    whole, steps = card.whole_size_voxels[1], np.array(card.score_probability[1])
    sure = np.array([row.mean_probability * min(1, row.size_voxels / whole) for row in segments])
    chance = np.concatenate([[0], steps[:, 1]])[np.searchsorted(steps[:, 0], sure, side="right")]
    order = np.argsort(-sure)
    right = np.cumsum(chance[order])
    count = 1 + int((right / (np.arange(1, len(right) + 1) + right[-1])).argmax())
    assert {row.pick for row in picks} == {segments[place].pick for place in order[:count] if chance[place] >= 0.25}
    beside = read_sidecar(tmp_path / "t.picks.csv")
    assert beside["contrast"] == "protein_dark"
    assert beside["domain_distance"]["total"] < FAR
    assert beside["expected"]["1"]["precision"] == pytest.approx(chance[order[:count]].mean(), abs=1e-6)
    found = np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in picks])
    rows = json.loads((shared_data / "parakeet_reference" / "truth.json").read_text())
    # Positions there count from the box's corner, half a voxel off the centre of voxel (0, 0, 0).
    truth = np.array([row["position_angstrom"] for row in rows if row["kind"] != "distractor"]) - VOXEL / 2
    last = np.array([128, 128, 80]) - 1 - BORDER_VOXELS
    found, truth = (one[((one / VOXEL >= BORDER_VOXELS) & (one / VOXEL <= last)).all(axis=1)] for one in (found, truth))
    assert len(truth) == 45
    assert f_beta(len(match(found, truth, MATCH_VOXELS * VOXEL)), len(found), len(truth), 1.0) > 0.96


@pytest.mark.long
def test_the_treated_model_finds_real_nucleosomes(preset: Settings, shared_data: Path, tmp_path: Path) -> None:
    """A crop of denoised chromatin, bright: the sign is found, and nearly all of its 25 nucleosomes, whose centres are ours."""
    crop = shared_data / "real" / "chromatin" / "native_7.mrc.gz"
    segment_tomogram(TREATED, crop, "c", preset.segment, tmp_path)
    files = tmp_path / "c.segmentation.mrc", tmp_path / "c.log_odds.mrc"
    cluster_segmentation(*files, "c", preset.cluster, tmp_path)
    picks = [row for row in read_table(tmp_path / "c.picks.csv", PickRow) if row.selected]
    assert read_sidecar(tmp_path / "c.picks.csv")["contrast"] == "protein_bright"
    found = np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in picks])
    rows = csv.DictReader(crop.with_name("native_7.csv").read_text().splitlines())
    truth = np.array([[float(row[f"{axis}_angstrom"]) for axis in "xyz"] for row in rows if row["label"] == "nucleosome"])
    assert f_beta(len(match(found, truth, 55.0)), len(found), len(truth), 1.0) > 0.85
