"""Training on toy tomograms: what it learns, how it goes on after a kill, what it refuses."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from template_learning.common import compute as machine_code
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import ParticleRow
from template_learning.learning.inference import segment_volume
from template_learning.learning.model_file import load_model
from template_learning.learning.patches import open_tomogram
from template_learning.learning.training import HistoryRow, Training, dtype_policy, training_fingerprint
from template_learning.settings import (
    SegmentSettings,
    TrainSettings,
)
from template_learning.stages.train import train_network

from ..toy_tomograms import SMALL, imaged

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.long
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

    chosen = SMALL.changed({"optimizer": {"name": optimizer, "weight_averaging_fraction": averaged_share}})
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


@pytest.mark.long
def test_top_views_weigh_in_training_and_views_of_mean_weight_as_without(toy: tuple[Path, Path], tmp_path: Path) -> None:
    entropy = SMALL.changed({"loss": {"tversky_weight": 0.0, "class_weight_exponent": 0.0}})
    history = {}
    for name, axis_z in (("mean", 0.2**0.25), ("top", 1.0)):
        shutil.copytree(toy[1], tmp_path / name)
        for table in (tmp_path / name).glob("*.particles.csv"):
            rows = [row.model_copy(update={"axis_z": axis_z}) for row in read_table(table, ParticleRow)]
            write_table(table, ParticleRow, rows)
        weighted = entropy.changed({"loss": {"top_view_weight": 99.0}})
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


def test_a_state_of_another_training_is_not_taken_up(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "training_state.npz", tmp_path)
    train_network(*toy, SMALL.model_copy(update={"epochs": 1}), 8, tmp_path)
    assert len(read_table(tmp_path / "history.csv", HistoryRow)) == 1


@pytest.mark.long
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
    assert training_fingerprint(tomogram) == training_fingerprint(open_tomogram(toy[1], "t0", imaged(60.0)))
    assert all(training_fingerprint(other) != training_fingerprint(tomogram) for other in others)


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
    assert dtype_policy(TrainSettings(precision="auto", device="cpu")) == expected
    assert dtype_policy(TrainSettings(precision="mixed_bfloat16", device="cpu")) == "mixed_bfloat16"
    listed.unlink()  # not a Linux
    assert dtype_policy(TrainSettings(precision="auto", device="cpu")) == "float32"


def test_averaged_epochs_keep_the_mean_of_their_weights(
    toy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, weights = Training._save, []

    def saved(self: Training) -> None:
        whole(self)
        weights.append(self.network.get_weights())

    monkeypatch.setattr(Training, "_save", saved)
    chosen = SMALL.changed({"epochs": 5, "optimizer": {"weight_averaging_fraction": 0.6}})
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
    chosen = SMALL.changed(
        {"epochs": 30, "steps_per_epoch": 1, "early_stopping_epochs": 2, "optimizer": {"learning_rate": 1e-9}}
    )
    train_network(*toy, chosen, 1, tmp_path)
    history = read_table(tmp_path / "history.csv", HistoryRow)
    assert len(history) < 30
    assert not any(row.best for row in history[-2:])
