"""Training on toy tomograms: what it learns, how it goes on after a kill, what it refuses."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from template_learning.common import compute as machine_code
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import ParticleRow
from template_learning.learning.inference import segment_volume
from template_learning.learning.model_card import read_card
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.patches import open_tomogram
from template_learning.learning.training import HistoryRow, Training, arithmetic, what_is_learnt
from template_learning.settings import (
    SegmentSettings,
    TrainSettings,
)
from template_learning.stages.segment import segment_tomogram
from template_learning.stages.train import train_network

from ..toy_tomograms import SMALL, VOXEL, imaged

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match="a multiple of 8 was expected"):
        TrainSettings(patch_voxels=52, network="residual")
    with pytest.raises(ValidationError, match="a weight above 0 was expected"):
        TrainSettings(tversky_weight=0, crossentropy_weight=0)
    with pytest.raises(ValidationError, match="a crossentropy_weight above 0 was expected"):
        TrainSettings(top_view_weight=3, crossentropy_weight=0)


def test_training_learns_writes_its_files_and_finds_the_rods(toy: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = SMALL.model_copy(
        update={"epochs": 12, "steps_per_epoch": 15, "batch_size": 4, "learning_rate": 5e-3, "background_fraction": 0.6}
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


@pytest.mark.parametrize(("optimizer", "averaged_share"), [("adam", 0.0), ("muon", 0.0), ("muon", 1.0)])
def test_training_is_deterministic_and_goes_on_after_a_kill(
    toy: tuple[Path, Path],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    averaged_share: float,
) -> None:
    from template_learning.learning import training as train

    chosen = SMALL.model_copy(update={"optimizer": optimizer, "averaged_share": averaged_share})
    if optimizer == "muon":
        trained = tmp_path / "whole"
        train_network(*toy, chosen, 7, trained)
    whole = train.Training._save
    calls = []

    def killed(self: "train.Training") -> None:
        whole(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Training, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_network(*toy, chosen, 7, tmp_path)
    assert not (tmp_path / "trained.keras").exists()
    train_network(*toy, chosen, 7, tmp_path)
    assert len(calls) == 3  # one epoch was left
    assert (tmp_path / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    for one, other in zip(
        load_model(tmp_path / "trained.keras")[0].get_weights(),
        load_model(trained / "trained.keras")[0].get_weights(),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_top_views_weigh_in_training_and_views_of_mean_weight_as_without(toy: tuple[Path, Path], tmp_path: Path) -> None:
    entropy = SMALL.model_copy(update={"tversky_weight": 0.0, "crossentropy_balance": 0.0})
    history = {}
    for name, axis_z in (("mean", 0.2**0.25), ("top", 1.0)):
        shutil.copytree(toy[1], tmp_path / name)
        for table in (tmp_path / name).glob("*.particles.csv"):
            rows = [row.model_copy(update={"axis_z": axis_z}) for row in read_table(table, ParticleRow)]
            write_table(table, ParticleRow, rows)
        weighted = entropy.model_copy(update={"top_view_weight": 99.0})
        train_network(toy[0], tmp_path / name, weighted, 7, tmp_path / name / "trained")
        history[name] = read_table(tmp_path / name / "trained" / "history.csv", HistoryRow)
    train_network(*toy, entropy, 7, tmp_path)
    plain = read_table(tmp_path / "history.csv", HistoryRow)
    for column in ("loss", "validation_loss", "validation_f1"):
        of = {name: [getattr(row, column) for row in rows] for name, rows in {**history, "plain": plain}.items()}
        assert of["mean"] == pytest.approx(of["plain"], rel=2e-3)
        if column == "loss":
            top, mean = (np.abs(np.subtract(of[name], of["plain"])).max() for name in ("top", "mean"))
            assert top > 1e-3 > 2 * mean


def test_a_training_begins_with_the_weights_of_a_trained_model(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    hardly = SMALL.model_copy(update={"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e-9})
    for name, start in (("on", trained / "trained.keras"), ("anew", None)):
        train_network(*toy, hardly, 7, tmp_path / name, start=start)
    before, on, anew = (
        np.concatenate([np.ravel(weight.numpy()) for weight in load_model(path / "trained.keras")[0].trainable_weights])
        for path in (trained, tmp_path / "on", tmp_path / "anew")
    )
    np.testing.assert_allclose(on, before, atol=1e-6)
    assert np.abs(anew - before).max() > 0.01
    card = read_card(tmp_path / "on" / "trained.keras")
    assert card.training["start"]["settings"]["learning_rate"] == SMALL.learning_rate
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


def test_a_state_of_another_training_is_not_taken_up(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "training_state.npz", tmp_path)
    train_network(*toy, SMALL.model_copy(update={"epochs": 1}), 8, tmp_path)
    assert len(read_table(tmp_path / "history.csv", HistoryRow)) == 1


def test_a_state_in_a_shared_folder_is_taken_up_by_its_own_training(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = Training._save, []

    def killed(self: Training) -> None:
        whole(self)
        calls.append(self.state)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_save", killed)
    states = tmp_path / "states"
    with pytest.raises(KeyboardInterrupt):
        train_network(*toy, SMALL, 7, tmp_path / "first", states)
    train_network(*toy, SMALL, 7, tmp_path / "second", states)
    assert len(calls) == 3  # one epoch was left
    assert (tmp_path / "second/history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    assert not (tmp_path / "second/training_state.npz").exists()
    train_network(*toy, SMALL.model_copy(update={"epochs": 1}), 7, tmp_path / "third", states)
    assert len(read_table(tmp_path / "third/history.csv", HistoryRow)) == 1
    assert sorted(set(calls)) == sorted(states.iterdir())
    assert len(set(calls)) == 2
    with pytest.raises(BadInput, match="a folder for the training's state was expected"):
        train_network(*toy, SMALL, 7, tmp_path / "fourth", calls[0])


def test_another_label_dose_or_grey_value_is_another_training(toy: tuple[Path, Path]) -> None:
    tomogram = open_tomogram(toy[1], "t0", imaged(60.0))
    labels = np.array(tomogram.labels)
    labels[3, 5, 7] ^= 1
    others = [
        dataclasses.replace(tomogram, labels=labels),
        dataclasses.replace(tomogram, centre=tomogram.centre[::-1]),
        dataclasses.replace(tomogram, along_beam=np.ones(len(tomogram.centre))),
        dataclasses.replace(tomogram, mean=tomogram.mean + 1e-9),
        open_tomogram(toy[1], "t0", imaged(61.0)),
    ]
    assert what_is_learnt(tomogram) == what_is_learnt(open_tomogram(toy[1], "t0", imaged(60.0)))
    assert all(what_is_learnt(other) != what_is_learnt(tomogram) for other in others)


def test_half_precision_of_gpus_is_refused_without_one(toy: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a GPU"):
        train_network(*toy, SMALL.model_copy(update={"precision": "mixed_float16", "device": "cpu"}), 7, tmp_path)


def test_mixed_precision_trains_and_gives_sound_probabilities(toy: tuple[Path, Path], tmp_path: Path) -> None:
    train_network(*toy, SMALL.model_copy(update={"precision": "mixed_bfloat16", "epochs": 2}), 7, tmp_path)
    assert all(np.isfinite(row.loss) for row in read_table(tmp_path / "history.csv", HistoryRow))
    network, card = load_model(tmp_path / "trained.keras")
    assert card.training["arithmetic"] == "mixed_bfloat16"
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}  # it runs where there is no half precision
    probability = segment_volume(network, read_mrc(toy[1] / "t3.mrc")[0], SegmentSettings())
    assert probability.dtype == np.float32
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-3)


@pytest.mark.parametrize(("flags", "expected"), [("fma avx512_bf16", "mixed_bfloat16"), ("fma avx2 avx512f", "float32")])
def test_automatic_precision_is_half_where_the_processor_has_instructions_for_it(
    flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(f"model name\t: one\nflags\t\t: {flags}\n\nmodel name\t: two\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine_code, "CPU_INFORMATION", listed)
    assert arithmetic(TrainSettings(precision="auto", device="cpu")) == expected
    assert arithmetic(TrainSettings(precision="mixed_bfloat16", device="cpu")) == "mixed_bfloat16"
    listed.unlink()  # not a Linux
    assert arithmetic(TrainSettings(precision="auto", device="cpu")) == "float32"


def test_averaged_epochs_keep_the_mean_of_their_weights(
    toy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, weights = Training._save, []

    def saved(self: Training) -> None:
        whole(self)
        weights.append(self.network.get_weights())

    monkeypatch.setattr(Training, "_save", saved)
    chosen = SMALL.model_copy(update={"epochs": 5, "averaged_share": 0.6})
    train_network(toy[0], toy[1], chosen, 7, tmp_path / "mean")
    plain = SMALL.model_copy(update={"epochs": 5})
    train_network(toy[0], toy[1], plain, 7, tmp_path / "plain")
    for averaged, alone in zip(weights[:5], weights[5:], strict=True):  # what is validated does not change what is learnt
        assert all(np.array_equal(a, b) for a, b in zip(averaged, alone, strict=True))
    history = read_table(tmp_path / "mean" / "history.csv", HistoryRow)
    assert [row.averaged for row in history] == [1, 1, 1, 2, 3]
    kept = next(row for row in reversed(history) if row.best)
    assert kept.averaged > 1
    mean = [np.mean(one, axis=0) for one in zip(*weights[kept.epoch - kept.averaged : kept.epoch], strict=True)]
    for a, b in zip(load_model(tmp_path / "mean" / "trained.keras")[0].get_weights(), mean, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_early_stopping(toy: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = SMALL.model_copy(update={"epochs": 30, "steps_per_epoch": 1, "early_stopping_epochs": 2, "learning_rate": 1e-9})
    train_network(*toy, chosen, 1, tmp_path)
    history = read_table(tmp_path / "history.csv", HistoryRow)
    assert len(history) < 30
    assert not any(row.best for row in history[-2:])


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
