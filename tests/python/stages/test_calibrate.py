"""Thresholds chosen on simulated tomograms and carried in the model."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit, logit
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import DesignRow
from template_learning.learning.model_card import read_card
from template_learning.learning.model_file import copy_model
from template_learning.learning.noise import noise_share
from template_learning.picking.selection import selection_of
from template_learning.settings import (
    CalibrateSettings,
    ClusterSettings,
    EvaluateSettings,
    SegmentSettings,
)
from template_learning.simulation.acquisition import Tilts
from template_learning.stages.calibrate import calibrate_model
from template_learning.stages.segment import segment_tomogram

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("split", ["validation", "train"])
def test_calibration_puts_a_threshold_into_the_card(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    from template_learning.stages import calibrate

    def truth_and_specks(*arguments: object) -> np.ndarray:
        """The labels as a sure segmentation, and specks of two voxels that only a size threshold removes."""
        identifier = Path(str(arguments[-1])).stem
        target = np.asarray(read_mrc(toy[1] / f"{identifier}.labels.mrc")[0]).astype(np.float32)
        target[0, 0:40:4, 0:2] = 1
        assert arguments[4].contrast == "protein_dark"  # type: ignore[attr-defined]  # simulated tomograms always are
        return np.stack([1 - target, target], axis=-1)

    monkeypatch.setattr(calibrate, "segment_on_own_grid", truth_and_specks)
    rows = [row for row in read_table(toy[0], DesignRow) if row.split == split]
    write_table(tmp_path / "design.csv", DesignRow, rows)
    of_users = SegmentSettings(contrast="protein_bright")
    calibrate_model(trained / "trained.keras", tmp_path / "design.csv", toy[1], CalibrateSettings(segment=of_users), tmp_path)
    card = read_card(tmp_path / "model.keras")
    assert card.minimum_size_voxels is not None
    assert card.minimum_score == {}
    assert card.segments_by == {
        "segment.probability_threshold": None,
        "cluster.method": "watershed",
        "cluster.probability_threshold": 0.5,
    }
    assert 2 < card.minimum_size_voxels[1] < 60
    assert ("training tomogram(s), as there are none for validation: t0, t1" in card.minimum_size_chosen) == (split == "train")
    assert read_sidecar(tmp_path / "model.keras")["minimum_size_voxels"] == {"1": card.minimum_size_voxels[1]}
    segment_tomogram(tmp_path / "model.keras", toy[1] / "t3.mrc", "t3", SegmentSettings(keep_probabilities=True), tmp_path)
    metadata = read_sidecar(tmp_path / "t3.segmentation.mrc")
    assert metadata["minimum_size_voxels"] == {"1": card.minimum_size_voxels[1]}
    assert metadata["segments_by"] == card.segments_by
    both = mrcfile.read(tmp_path / "t3.probabilities.mrc.gz").astype(np.float32)
    np.testing.assert_allclose(both.sum(axis=0), 1, atol=2e-3)
    np.testing.assert_allclose(both[1], expit(read_mrc(tmp_path / "t3.log_odds.mrc")[0]), atol=1e-3)


def test_calibration_by_score(toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from template_learning.stages import calibrate

    def sure_of_the_truth(*arguments: object) -> np.ndarray:
        """The labels, and as large a segment elsewhere that is less sure."""
        target = np.asarray(read_mrc(toy[1] / "t3.labels.mrc")[0]).astype(np.float32) * np.float32(0.9)
        target[10:14, 17:21, 0:10] = 0.6
        return np.stack([1 - target, target], axis=-1)

    monkeypatch.setattr(calibrate, "segment_on_own_grid", sure_of_the_truth)
    chosen = CalibrateSettings(evaluate=EvaluateSettings(rank="score", match_radius_voxels=4))
    calibrate_model(trained / "trained.keras", toy[0], toy[1], chosen, tmp_path)
    card = read_card(tmp_path / "model.keras")
    assert card.minimum_size_voxels == {1: 1}
    assert card.minimum_score is not None
    assert card.score_kind == "log_odds"
    assert logit(0.6) < card.minimum_score[1] < logit(0.9)
    assert "by score" in card.minimum_size_chosen
    assert card.score_probability is not None
    (unsure, seldom), (sure, always) = card.score_probability[1]
    assert (seldom, always) == (0.0, 1.0)
    assert unsure < card.minimum_score[1] < sure
    assert card.whole_size_voxels == {1: read_sidecar(tmp_path / "model.keras")["whole_size_voxels"]["1"]}
    # Of half the voxel size there are eight in each.
    finer = selection_of(card, card.voxel_size_angstrom / 2)
    assert finer.whole_size_voxels == pytest.approx({1: 8 * card.whole_size_voxels[1]})


def test_calibration_by_score_also_at_the_lower_doses_that_the_model_was_trained_for(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from template_learning.stages import calibrate

    rows = [row.model_copy(update={"total_dose_e_per_angstrom2": 100}) for row in read_table(toy[0], DesignRow)]
    row = next(row for row in rows if row.split == "validation")
    write_table(tmp_path / "design.csv", DesignRow, [row])
    card = read_card(trained / "trained.keras")
    taught = {**card.training, "settings": {**card.training["settings"], "augmentation": {"minimum_dose_e_per_angstrom2": 20}}}
    copy_model(trained / "trained.keras", tmp_path / "low.keras", card.model_copy(update={"training": taught}))
    seen = []

    def unsure_of_the_truth(*arguments: Any) -> np.ndarray:
        """The labels: the later, that is the less dose, the less sure; and as sure a segment of nothing."""
        seen.append(np.asarray(arguments[2], dtype=np.float64))
        target = np.asarray(read_mrc(toy[1] / f"{row.id}.labels.mrc")[0]).astype(np.float32)
        target[10:14, 17:21, 0:10] = 1
        return np.stack([1 - target * 0.9 / len(seen), target * 0.9 / len(seen)], axis=-1)

    monkeypatch.setattr(calibrate, "segment_on_own_grid", unsure_of_the_truth)
    sections = CalibrateSettings(
        evaluate=EvaluateSettings(rank="score", match_radius_voxels=4),
        segment=SegmentSettings(probability_threshold=0.1),
        cluster=ClusterSettings(probability_threshold=0.1),
    )
    calibrate_model(tmp_path / "low.keras", tmp_path / "design.csv", toy[1], sections, tmp_path)
    # 100, 58, 34 and 20 e/Å^2.
    own, *noisy = [(grey - grey.mean()) / grey.std() for grey in seen]
    noise = noise_share(own, 0.0, 1.0, Tilts(row.tilt_range_deg, row.tilt_step_deg))
    expected = [(1 + noise * (5**step - 1)) ** -0.5 for step in (1 / 3, 2 / 3, 1)]
    assert [(own * grey).mean() for grey in noisy] == pytest.approx(expected, abs=0.03)
    card = read_card(tmp_path / "model.keras")
    assert card.score_probability is not None
    assert card.minimum_score is not None
    # A quarter of 0.9, for the smallest of the molecules less for its share of a whole one.
    labels = np.asarray(read_mrc(toy[1] / f"{row.id}.labels.mrc")[0])
    smallest = min(np.bincount(ndimage.label(labels, np.ones((3, 3, 3)))[0].ravel()[labels.ravel() > 0])[1:])
    assert card.whole_size_voxels is not None
    share = min(1.0, smallest / card.whole_size_voxels[1])
    assert min(start for start, _ in card.score_probability[1]) == pytest.approx(logit(0.225) / share, abs=0.05)
    assert card.minimum_score[1] > logit(0.4)  # chosen at the tomogram's own dose
    assert list(read_sidecar(tmp_path / "model.keras")["particles"]) == [row.id]


def test_calibration_shows_a_network_what_its_training_imaged_anew(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from template_learning.stages import calibrate

    row = next(row for row in read_table(toy[0], DesignRow) if row.split == "validation")
    write_table(tmp_path / "design.csv", DesignRow, [row])
    card = read_card(trained / "trained.keras")
    augmentation = {"minimum_dose_e_per_angstrom2": 1, "random_imaging": {"fraction": 0.5}}
    taught = {**card.training, "settings": {**card.training["settings"], "augmentation": augmentation}}
    copy_model(trained / "trained.keras", tmp_path / "anew.keras", card.model_copy(update={"training": taught}))
    seen = []

    def sees_all(*arguments: Any) -> np.ndarray:
        seen.append(np.asarray(arguments[2], dtype=np.float64))
        target = np.asarray(read_mrc(toy[1] / f"{row.id}.labels.mrc")[0]).astype(np.float32) * 0.9
        return np.stack([1 - target, target], axis=-1)

    monkeypatch.setattr(calibrate, "segment_on_own_grid", sees_all)
    sections = CalibrateSettings(evaluate=EvaluateSettings(rank="score", match_radius_voxels=4))
    calibrate_model(tmp_path / "anew.keras", tmp_path / "design.csv", toy[1], sections, tmp_path)
    own, *anew = seen
    assert np.array_equal(own, read_mrc(toy[1] / f"{row.id}.mrc")[0])
    assert len(anew) == 4
    assert all(
        np.abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.999 for one in seen for other in seen if one is not other
    )
    names = list(read_sidecar(tmp_path / "model.keras")["segments"])
    assert names == [row.id, *(f"{row.id} imaged anew ({number})" for number in range(1, 5))]
