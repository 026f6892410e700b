"""TRAIN: its files, the model that it starts from, what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.learning.model_card import read_card
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.training import HistoryRow, Training
from template_learning.settings import (
    SegmentSettings,
)
from template_learning.stages.segment import segment_tomogram
from template_learning.stages.train import train_network

from ..toy_tomograms import SMALL, VOXEL

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.long
def test_training_learns_writes_its_files_and_finds_the_rods(toy: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = SMALL.changed(
        {
            "epochs": 12,
            "steps_per_epoch": 15,
            "batch_size": 4,
            "optimizer": {"learning_rate": 5e-3},
            "background_fraction": 0.6,
        }
    )
    train_network(*toy, chosen, 1, tmp_path)
    history = read_table(tmp_path / "history.csv", HistoryRow)
    assert [row.epoch for row in history] == list(range(1, 13))
    assert max(row.validation_f1 or 0 for row in history) > 0.8
    card = read_card(tmp_path / "trained.keras")
    assert card.classes == {1: ["rod"]}
    assert card.voxel_size_angstrom == pytest.approx(VOXEL)
    assert card.training["design"]["total_dose_e_per_angstrom2"] == [100, 102]
    best = min(history, key=lambda row: row.validation_loss or 9)
    assert card.training["best_epoch"] == best.epoch
    assert read_sidecar(tmp_path / "trained.keras")["best_epoch"] == best.epoch
    segment_tomogram(tmp_path / "trained.keras", toy[1] / "t3.mrc", "t3", SegmentSettings(), tmp_path)
    found, _ = read_mrc(tmp_path / "t3.segmentation.mrc")
    truth, _ = read_mrc(toy[1] / "t3.labels.mrc")
    assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.8


@pytest.mark.long
def test_a_training_begins_with_the_weights_of_a_trained_model(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    hardly = SMALL.changed({"epochs": 1, "steps_per_epoch": 1, "optimizer": {"learning_rate": 1e-9}})
    for name, start in (("on", trained / "trained.keras"), ("anew", None)):
        train_network(*toy, hardly, 7, tmp_path / name, start=start)
    before, on, anew = (
        np.concatenate([np.ravel(weight.numpy()) for weight in load_model(path / "trained.keras")[0].trainable_weights])
        for path in (trained, tmp_path / "on", tmp_path / "anew")
    )
    np.testing.assert_allclose(on, before, atol=1e-6)
    assert np.abs(anew - before).max() > 0.01
    card = read_card(tmp_path / "on" / "trained.keras")
    assert card.training["start"]["settings"]["optimizer"]["learning_rate"] == SMALL.optimizer.learning_rate
    assert "start" not in read_card(tmp_path / "anew" / "trained.keras").training
    for change, words in (
        ({"filters": 5}, "its filters is 4; train.filters = 5 was expected"),
        ({"band_pass_angstrom": (3.0, 40.0)}, "its band_pass_angstrom is None"),
        ({"engine": "deepfinder"}, "random weights"),
    ):
        with pytest.raises(BadInput, match=words):
            train_network(*toy, hardly.model_copy(update=change), 7, tmp_path, start=trained / "trained.keras")
    two = read_card(trained / "trained.keras").model_copy(update={"classes": {2: ["ball"]}})
    copy_model(trained / "trained.keras", tmp_path / "two.keras", two)
    with pytest.raises(BadInput, match="its classes are"):
        train_network(*toy, hardly, 7, tmp_path, start=tmp_path / "two.keras")


def test_half_precision_of_gpus_is_refused_without_one(toy: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a GPU"):
        train_network(*toy, SMALL.model_copy(update={"precision": "mixed_float16", "device": "cpu"}), 7, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_voxels": 32}, "smaller than the patch"),
        ({}, "labels 0 to 5"),
        ({}, "no particles"),
        ({}, "shape"),
        ({}, "no such file"),
    ],
)
def test_bad_training_input(toy: tuple[Path, Path], tmp_path: Path, change: dict[str, int], message: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy[1], data)
    labels, _ = read_mrc(data / "t1.labels.mrc")
    if message.startswith("labels"):
        write_mrc(data / "t1.labels.mrc", (labels * 5).astype(np.uint8), VOXEL)
    elif message == "no particles":
        for number in range(4):
            write_table(data / f"t{number}.particles.csv", ParticleRow, [])
    elif message == "shape":
        write_mrc(data / "t1.labels.mrc", labels[:-1], VOXEL)
    elif message == "no such file":
        (data / "t1.mrc").unlink()
    with pytest.raises(BadInput, match=message):
        train_network(data / "design.csv", data, SMALL.model_copy(update=change), 1, tmp_path / "output")


def in_groups(toy: tuple[Path, Path], folder: Path) -> Path:
    """The toy's design, its second training row of the group ``hard``."""
    rows = read_table(toy[0], DesignRow)
    second = [row.id for row in rows if row.split == "train"][1]
    rows = [row.model_copy(update={"group": "hard"}) if row.id == second else row for row in rows]
    write_table(folder / "design.csv", DesignRow, rows)
    return folder / "design.csv"


TWO_PHASES = SMALL.changed(
    {
        "epochs": 2,
        "phases": [
            {"groups": ["plain"], "settings": {"dose_curriculum_fraction": 0.5}},
            {"settings": {"optimizer": {"learning_rate": 1e-3, "weight_averaging_fraction": 1.0}}},
        ],
    }
)


@pytest.mark.long
def test_two_phases_killed_and_resumed_give_the_same_network(
    toy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = in_groups(toy, tmp_path)
    train_network(design, toy[1], TWO_PHASES, 7, tmp_path / "whole")
    history = read_table(tmp_path / "whole/history.csv", HistoryRow)
    assert [(row.phase, row.epoch, row.steps) for row in history] == [(1, 1, 4), (1, 2, 8), (2, 3, 12), (2, 4, 16)]
    card = read_card(tmp_path / "whole/trained.keras")
    first, second = card.training["phases"]
    assert (first["groups"], first["tomograms"], second["groups"], second["tomograms"]) == (["plain"], 2, "all", 3)
    assert second["settings"]["optimizer"]["learning_rate"] == card.training["settings"]["optimizer"]["learning_rate"] == 1e-3
    assert card.training["best_epoch"] in (3, 4)
    assert card.training["design"]["group"] == ["hard", "plain"]
    sidecar = read_sidecar(tmp_path / "whole/trained.keras")
    assert len(sidecar["settings"]["phases"]) == 2

    save, calls = Training._save, []

    def killed(self: Training) -> None:
        save(self)
        calls.append(self.state)
        if len(calls) in (1, 3):  # in the first phase, and in the second
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_save", killed)
    for shared in (None, tmp_path / "states"):
        calls.clear()
        output = tmp_path / f"killed{shared is not None}"
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train_network(design, toy[1], TWO_PHASES, 7, output, shared)
        train_network(design, toy[1], TWO_PHASES, 7, output, shared)
        assert len(calls) == 4  # each epoch once
        assert (output / "history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
        for one, other in zip(
            load_model(output / "trained.keras")[0].get_weights(),
            load_model(tmp_path / "whole/trained.keras")[0].get_weights(),
            strict=True,
        ):
            assert np.array_equal(one, other)


def test_a_later_phase_begins_with_the_network_before_it_and_draws_other_batches(
    toy: tuple[Path, Path], tmp_path: Path
) -> None:
    still = {"settings": {"optimizer": {"learning_rate": 1e-12}}}
    train_network(*toy, SMALL.changed({"epochs": 1}), 7, tmp_path / "one")
    train_network(*toy, SMALL.changed({"epochs": 1, "phases": [{}, still, still]}), 7, tmp_path / "three")
    one, three = (read_table(tmp_path / name / "history.csv", HistoryRow) for name in ("one", "three"))
    assert (three[0].loss, three[0].validation_loss) == (one[0].loss, one[0].validation_loss)
    assert three[1].validation_loss == pytest.approx(one[0].validation_loss, rel=1e-4)
    assert len({row.loss for row in three}) == 3


def test_a_phase_without_tomograms_is_refused(toy: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = SMALL.changed({"phases": [{}, {"groups": ["hard"]}]})
    with pytest.raises(BadInput, match="no row of the groups hard has split = train"):
        train_network(*toy, chosen, 1, tmp_path)
