"""DeepFinder's own program: what it is given, what is made of its output, what is said without it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.deepfinder import program as deepfinder_program
from template_learning.deepfinder import steps
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings, SegmentSettings, TrainSettings


def test_deepfinder_is_named_where_it_is_missing() -> None:
    with pytest.raises(
        BadInput, match=r"train\.engine = 'deepfinder': cryoet-deepfinder is not installed here; run in the image"
    ):
        deepfinder_program.program("train")


def test_deepfinders_own_ways_hold_and_are_named(capsys) -> None:
    settings = TrainSettings(engine="deepfinder", filters=16, epochs=7, normalisation="patch")
    effective = deepfinder_program.effective_settings(settings)
    assert (effective.epochs, effective.filters, effective.loss.crossentropy_weight) == (7, 32, 0.0)
    said = capsys.readouterr().err
    assert "filters" in said
    assert "normalisation" not in said


def test_a_tomogram_by_deepfinder(monkeypatch) -> None:
    """Its sign, its padding to a tile and back, the weights' file; the class order of the scores stays."""
    network = SimpleNamespace(output_shape=(None, None, None, None, 3))
    asked: dict[str, object] = {}
    grey = np.random.default_rng(0).normal(size=(40, 90, 70)).astype(np.float32)

    def run(step: str, folder: Path, task: dict[str, object], device: str) -> None:
        asked.update(task, step=step, device=device)
        assert (folder / "weights.h5").is_file()
        volume = np.load(folder / "volume.npy")
        assert volume.shape == (60, 90, 70)
        np.save(folder / "scores.npy", np.stack([volume, -volume, 2 * volume], axis=-1).astype(np.float16))

    monkeypatch.setattr(steps, "run", run)
    monkeypatch.setattr(steps, "save_weights", lambda _, path: path.write_text("weights"))
    settings = SegmentSettings(engine="deepfinder", tile_voxels=60, contrast="protein_bright", device="cpu")
    scores = steps.segment(network, grey, settings)
    assert scores.shape == (*grey.shape, 3)
    assert np.abs(scores[..., 1] - grey).max() < 2e-3
    assert asked == {"step": "segment", "device": "cpu", "classes": 3, "patch_voxels": 60, "seed": 0}
    with pytest.raises(BadInput, match=r"segment\.tile_voxels = 48"):
        steps.segment(network, grey, settings.model_copy(update={"tile_voxels": 48}))
    with pytest.raises(BadInput, match="test_time_augmentation"):
        steps.segment(network, grey, settings.model_copy(update={"test_time_augmentation": True}))


def test_picks_by_deepfinder(monkeypatch) -> None:
    """Classes that are not 1, 2, ... go to DeepFinder as such and come back as they were."""
    classes = np.zeros((20, 24, 28), np.uint8)
    classes[3:7, 4:8, 5:9], classes[12:16, 15:19, 20:24] = 2, 5

    def run(step: str, folder: Path, task: dict[str, object], device: str) -> None:
        labels = np.load(folder / "labels.npy")
        assert sorted(np.unique(labels)) == [0, 1, 2]
        assert task["radius_voxels"] == 5
        found = [[n, *np.argwhere(labels == n).mean(axis=0).tolist(), int((labels == n).sum())] for n in (1, 2)]
        (folder / "objects.json").write_text(json.dumps(found))

    monkeypatch.setattr(deepfinder_program, "run", run)
    settings = ClusterSettings(engine="deepfinder", radius_voxels=5.2)
    picks = find_picks(classes, np.where(classes > 0, 0.75, -9.0), 10.0, settings, {})
    assert [(p.class_id, p.x_angstrom, p.y_angstrom, p.z_angstrom, p.size_voxels, p.score) for p in picks] == [
        (2, 65.0, 55.0, 45.0, 64, 0.75),
        (5, 215.0, 165.0, 135.0, 64, 0.75),
    ]
    assert find_picks(np.zeros_like(classes), np.zeros(classes.shape), 10.0, settings, {}) == []
