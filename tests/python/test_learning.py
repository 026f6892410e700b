"""Training, model files and segmentation, on toy tomograms: dark, lopsided particles among round ones, in noise."""

import dataclasses
import itertools
import json
import shutil
import zipfile
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage
from template_learning.errors import BadInput
from template_learning.files import read_mrc, read_table, write_mrc, write_table
from template_learning.learning.calibrate import calibrate_model
from template_learning.learning.finetune import FinetuningRow, draw_spheres, finetune_model
from template_learning.learning.model_file import CARD, ModelCard, copy_model, load_model, read_card
from template_learning.learning.network import (
    balanced_crossentropy,
    build_network,
    device_scope,
    grid_multiple,
    has_gpu,
    tversky_loss,
)
from template_learning.learning.noise import lower_dose, noise_amplitude
from template_learning.learning.patches import HALF_TURNS, Patches, open_tomogram, widen_wedge
from template_learning.learning.segment import segment_tomogram, segment_volume, tile_layout, tile_weight
from template_learning.learning.spectrum import match_spectrum, radial_spectrum
from template_learning.learning.train import HistoryRow, Training, train_network, what_is_learnt
from template_learning.provenance import read_sidecar
from template_learning.reconstruction.native import back_project
from template_learning.resampling import resample
from template_learning.settings import (
    CalibrateSettings,
    EvaluateSettings,
    FinetuneCommandSettings,
    FinetuneSettings,
    SegmentSettings,
    TrainSettings,
)
from template_learning.tables import DesignRow, ParticleRow

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

VOXEL = 10.0
SHAPE = (24, 40, 48)
SMALL = TrainSettings(
    epochs=3,
    steps_per_epoch=4,
    batch_size=2,
    patch_voxels=16,
    random_shift_voxels=4,
    validation_steps=2,
    learning_rate=2e-3,
    filters=4,
)


def toy_tomogram(folder: Path, identifier: str, seed: int, targets: int = 6) -> None:
    """A tomogram with ``targets`` dark rods (class 1) and as many dark balls (class 0), noise of deviation one."""
    generator = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    data = generator.standard_normal(SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    rows = []
    cells = generator.permutation([(i, j, k) for i in range(2) for j in range(3) for k in range(4)])
    for number, cell in enumerate(cells[: 2 * targets], start=1):
        centre = np.array(cell) * 12 + generator.uniform(5, 7, 3)
        rod = number <= targets
        reach = (2.0, 2.0, 5.0) if rod else (3.0, 3.0, 3.0)
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, reach, strict=True)) < 1
        data[inside] -= 3
        if rod:
            labels[inside] = 1
        position = dict(zip(("z_angstrom", "y_angstrom", "x_angstrom"), centre * VOXEL, strict=True))
        rows.append(ParticleRow(particle=number, species="rod" if rod else "ball", class_id=int(rod), **position))
    write_mrc(folder / f"{identifier}.mrc", ndimage.gaussian_filter(data, 0.5), VOXEL)
    write_mrc(folder / f"{identifier}.labels.mrc", labels, VOXEL)
    write_table(folder / f"{identifier}.particles.csv", ParticleRow, rows)


def imaged(dose: float) -> DesignRow:
    """How a tomogram of that dose was imaged."""
    tilts = {"tilt_range_deg": 60, "tilt_step_deg": 3}
    return DesignRow(id="t", total_dose_e_per_angstrom2=dose, defocus_um=-3, ice_density_g_per_cm3=0.94, **tilts)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Design and data folder of three training and one validation tomogram."""
    folder = tmp_path_factory.mktemp("toy")
    rows = []
    for number in range(4):
        toy_tomogram(folder, f"t{number}", number)
        split = "validation" if number == 3 else "train"
        rows.append(imaged(100 + number).model_copy(update={"id": f"t{number}", "split": split}))
    write_table(folder / "design.csv", DesignRow, rows)
    return folder / "design.csv", folder


@pytest.fixture(scope="module")
def trained(toy: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short training."""
    output = tmp_path_factory.mktemp("trained")
    train_network(*toy, SMALL, 7, output)
    return output


def test_network_has_deepfinders_size_and_takes_any_multiple_of_four() -> None:
    network = build_network(classes=3, filters=32)
    # Counted by hand from the layers: 27 (or 8) x in x out + out, 14 convolutions and the last one.
    levels = [(27, 1, 32), (27, 32, 32), (27, 32, 48), (27, 48, 48), (27, 48, 64), *[(27, 64, 64)] * 3, (8, 64, 64)]
    levels += [(27, 112, 48), (27, 48, 48), (8, 48, 48), (27, 80, 32), (27, 32, 32), (1, 32, 3)]
    assert network.count_params() == sum(edge * before * after + after for edge, before, after in levels)
    small = build_network(classes=2, filters=4)
    probability = np.asarray(small.predict_on_batch(np.zeros((1, 8, 12, 16, 1), np.float32)))
    assert probability.shape == (1, 8, 12, 16, 2)
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-5)


def test_blocks_of_two_voxels_take_an_eighth_of_the_work_and_any_multiple_of_eight() -> None:
    import keras  # not at the top: before the package it would load TensorFlow as it comes, without oneDNN

    keras.utils.set_random_seed(3)
    network = build_network(classes=3, filters=8, block_voxels=2)
    assert (grid_multiple(network), grid_multiple(build_network(3, 4))) == (8, 4)
    probability = np.asarray(network.predict_on_batch(np.zeros((1, 8, 16, 24, 1), np.float32)))
    assert probability.shape == (1, 8, 16, 24, 3)
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-5)
    volume = np.random.default_rng(2).standard_normal((21, 30, 44)).astype(np.float32)
    whole = segment_volume(network, volume, SegmentSettings(tile_voxels=64))
    tiled = segment_volume(network, volume, SegmentSettings(tile_voxels=36, overlap_voxels=16))
    assert whole.shape == tiled.shape == (21, 30, 44, 3)
    assert np.abs(whole - tiled).mean() < 0.2 * whole.std()


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match="a multiple of 8 was expected"):
        TrainSettings(patch_voxels=52, block_voxels=2)
    with pytest.raises(ValidationError, match="a weight above 0 was expected"):
        TrainSettings(tversky_weight=0, crossentropy_weight=0)


def test_crossentropy_between_balanced_and_plain() -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random((2, 4, 4, 4)) < 0.1).astype(np.int32)
    probability = generator.dirichlet(np.ones(2), labels.shape).astype(np.float32)
    surprise = -np.log(np.take_along_axis(probability, labels[..., None], axis=-1)[..., 0])
    means = [surprise[labels == number].mean() for number in (0, 1)]
    assert float(balanced_crossentropy(labels, probability)) == pytest.approx(np.mean(means), rel=1e-5)
    assert float(balanced_crossentropy(labels, probability, 0.0)) == pytest.approx(surprise.mean(), rel=1e-5)
    share = np.sqrt([(labels == number).sum() for number in (0, 1)])
    assert float(balanced_crossentropy(labels, probability, 0.5)) == pytest.approx(np.average(means, weights=share), rel=1e-5)


def test_noise_of_a_lower_dose_is_that_of_a_reconstruction() -> None:
    """Against a series of noise that is reconstructed on a larger field than the one measured."""
    amplitude = noise_amplitude(24, 60.0, 3.0)
    generator = np.random.default_rng(5)
    angles = np.arange(-60.0, 61.0, 3.0)
    images = [generator.standard_normal((41, 60, 140), dtype=np.float32) for _ in range(8)]
    noise = np.array([back_project(image, angles, (60, 60, 60))[18:42, 18:42, 18:42] for image in images])
    made = np.array([lower_dose(np.zeros((24, 24, 24), np.float32), 0.25, amplitude, generator) for _ in range(8)])
    # A quarter of the dose is four times the variance, of which three quarters are new.
    assert made.std() == pytest.approx(np.sqrt(0.75), rel=0.05)
    bands = [(0.05, 0.2), (0.2, 0.35), (0.35, 0.5)]
    z, _, x = np.meshgrid(*[np.fft.fftfreq(24)] * 3, indexing="ij")
    steep = np.abs(z) > 2.5 * np.abs(x) + 0.05  # well inside the missing wedge

    def shares(volumes: NDArray[np.float32]) -> NDArray[np.float64]:
        window = np.hanning(24)[:, None, None] * np.hanning(24)[:, None] * np.hanning(24)
        power = (np.abs(np.fft.fftn(volumes * window, axes=(1, 2, 3))) ** 2).mean(axis=0)
        radius = np.hypot(z, x)
        return np.array([*(power[(radius >= a) & (radius < b)].mean() for a, b in bands), power[steep].mean()]) / power.mean()

    found, expected = shares(made), shares(noise)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=0.25)
    assert max(found[3], expected[3]) < 0.1
    own = generator.standard_normal((24, 24, 24)).astype(np.float32)
    assert np.allclose(lower_dose(own, 1.0, amplitude, generator), own)


def test_tversky_loss_is_classes_minus_dice() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, (2, 4, 4, 4))
    probability = generator.dirichlet(np.ones(3), (2, 4, 4, 4)).astype(np.float32)
    expected = 3.0
    for number in range(3):
        truth, found = labels == number, probability[..., number]
        expected -= (found * truth).sum() / (0.5 * found.sum() + 0.5 * truth.sum())
    assert float(np.asarray(tversky_loss(labels, probability))) == pytest.approx(expected, abs=1e-5)
    perfect = np.eye(3, dtype=np.float32)[labels]
    assert float(np.asarray(tversky_loss(labels, perfect))) == pytest.approx(1, abs=1e-6)  # class 2 is neither there nor found


def test_gpu_asked_and_absent() -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BadInput, match="no GPU"):
        device_scope("gpu")


def test_patches_hold_what_the_tomogram_holds_there(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.model_copy(update={"rotation": "none", "background_fraction": 0.5, "random_shift_voxels": 30})
    tomogram = open_tomogram(toy[1], "t0")
    assert set(tomogram.class_id) == {1}
    batch = Patches([tomogram], chosen, 3, split="train", first=0, count=5)[2]
    data = (np.asarray(tomogram.data) - tomogram.mean) / tomogram.deviation
    windows = np.lib.stride_tricks.sliding_window_view(data, (16, 16, 16))
    labels = np.lib.stride_tricks.sliding_window_view(np.asarray(tomogram.labels), (16, 16, 16))
    for grey, truth in zip(*batch, strict=True):
        place = np.argwhere(np.isclose(windows[..., 0, 0, 0], grey[0, 0, 0, 0], atol=1e-5))
        assert any(np.allclose(windows[tuple(p)], grey[..., 0], atol=1e-4) and (labels[tuple(p)] == truth).all() for p in place)


def test_patches_are_centred_on_targets_and_depend_on_their_number_alone(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.model_copy(update={"background_fraction": 0.0, "random_shift_voxels": 0, "least_dose_e_per_angstrom2": 10})
    tomograms = [open_tomogram(toy[1], name, imaged(60.0)) for name in ("t0", "t1")]
    early = Patches(tomograms, chosen, 3, split="train", first=0, count=8)
    late = Patches(tomograms, chosen, 3, split="train", first=4, count=4)
    for index in range(4):
        for first, second in zip(early[4 + index], late[index], strict=True):
            assert np.array_equal(first, second)
    assert not np.array_equal(early[0][0], early[1][0])
    middle = np.concatenate([early[index][1] for index in range(8)])[:, 6:10, 6:10, 6:10]
    assert (middle.reshape(len(middle), -1) == 1).any(axis=1).mean() > 0.6  # those near a border are moved inside


def test_high_doses_come_first_and_the_others_by_and_by(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.model_copy(
        update={"high_dose_first": 0.5, "epochs": 10, "steps_per_epoch": 10, "background_fraction": 0.3, "batch_size": 4}
    )
    doses = {"t0": 20.0, "t1": 100.0}
    tomograms = [open_tomogram(toy[1], name, imaged(dose)) for name, dose in doses.items()]

    def taken_from_low_dose(split: Literal["train", "validation"], batches: range) -> float:
        patches = Patches(tomograms, chosen, 3, split=split, first=0, count=100)
        low = (np.asarray(tomograms[0].data) - tomograms[0].mean) / tomograms[0].deviation
        greys = [grey for batch in batches for grey in patches[batch][0][..., 0]]
        there = [all(np.isclose(low, grey[5, 5, x], atol=1e-6, rtol=0).any() for x in range(4, 8)) for grey in greys]
        return float(np.mean(there))

    assert taken_from_low_dose("train", range(0, 18)) == 0
    assert 0.2 < taken_from_low_dose("train", range(50, 70)) < 0.8
    assert 0.2 < taken_from_low_dose("validation", range(0, 18)) < 0.8


def test_a_wider_wedge_is_what_a_shorter_tilt_series_leaves() -> None:
    noise = np.random.default_rng(4).standard_normal((16, 12, 20)).astype(np.float32)
    narrow = widen_wedge(noise, 40.0)
    z, _, x = np.meshgrid(*(np.fft.fftfreq(count) for count in noise.shape), indexing="ij")
    steepness = np.rad2deg(np.arctan2(np.abs(z), np.abs(x)))
    before, after = np.abs(np.fft.fftn(noise)), np.abs(np.fft.fftn(narrow))
    assert after[steepness > 41].max() < 1e-3
    np.testing.assert_allclose(after[steepness < 39], before[steepness < 39], atol=1e-3)


def test_half_turns_keep_the_hand_and_the_wedge() -> None:
    frequency = np.stack(np.meshgrid(*[np.fft.fftfreq(9)] * 3, indexing="ij"))
    wedge = np.abs(frequency[0]) > np.tan(np.deg2rad(50)) * np.abs(frequency[2])
    for axes in HALF_TURNS["half_turns"]:
        assert len(axes) in (0, 2)  # an even number of reversals is a rotation
        assert np.array_equal(np.fft.fftshift(wedge), np.flip(np.fft.fftshift(wedge), axes))


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


def test_training_is_deterministic_and_goes_on_after_a_kill(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from template_learning.learning import train

    whole = train.Training._save
    calls = []

    def killed(self: "train.Training") -> None:
        whole(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Training, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_network(*toy, SMALL, 7, tmp_path)
    assert not (tmp_path / "trained.keras").exists()
    train_network(*toy, SMALL, 7, tmp_path)
    assert len(calls) == 3  # one epoch was left
    assert (tmp_path / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    for one, other in zip(
        load_model(tmp_path / "trained.keras")[0].get_weights(),
        load_model(trained / "trained.keras")[0].get_weights(),
        strict=True,
    ):
        assert np.array_equal(one, other)


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
    network, _ = load_model(tmp_path / "trained.keras")
    probability = segment_volume(network, read_mrc(toy[1] / "t3.mrc")[0], SegmentSettings())
    assert probability.dtype == np.float32
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-3)


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


def test_card_is_read_kept_and_replaced(trained: Path, tmp_path: Path) -> None:
    path = trained / "trained.keras"
    network, card = load_model(path)
    assert card.minimum_size_voxels is None
    copy_model(path, tmp_path / "model.keras", card.model_copy(update={"minimum_size_voxels": {1: 42}}))
    other, changed = load_model(tmp_path / "model.keras")
    assert changed.minimum_size_voxels == {1: 42}
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), other.get_weights(), strict=True))


def test_card_and_segmentation_say_how_the_training_tomograms_looked(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    card = read_card(trained / "trained.keras")
    shares = []
    for name in ("t0", "t1", "t2"):
        data, _ = read_mrc(toy[1] / f"{name}.mrc")
        grey = (data - data.mean()) / data.std()
        place = np.floor((grey + 5) / 0.125).astype(int)  # 80 bins of an eighth between -5 and 5
        inside = place[(place >= 0) & (place < 80)]
        shares.append(np.bincount(inside, minlength=80) / inside.size / 0.125)
    assert card.grey_histogram == pytest.approx(np.mean(shares, axis=0), abs=2e-4)
    segment_tomogram(trained / "trained.keras", toy[1] / "t3.mrc", "t3", SegmentSettings(), tmp_path)
    facts = read_sidecar(tmp_path / "t3.segmentation.mrc")
    assert (facts["training_spectrum"], facts["training_grey_histogram"]) == (card.radial_spectrum, card.grey_histogram)


def test_models_that_cannot_be_loaded_are_refused_in_words(trained: Path, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    path.write_bytes(b"not an archive")
    with pytest.raises(BadInput, match=r"not a \.keras model file"):
        load_model(path)
    build_network(2, 4).save(path)
    with pytest.raises(BadInput, match=r"without template_learning\.json"):
        load_model(path)
    card = read_card(trained / "trained.keras")
    copy_model(trained / "trained.keras", path, card.model_copy(update={"format": 99}))
    with pytest.raises(BadInput, match="format is 99"):
        load_model(path)
    copy_model(trained / "trained.keras", path, card.model_copy(update={"classes": {1: ["a"], 2: ["b"]}}))
    with pytest.raises(BadInput, match="2 outputs, 3 were expected"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, json.dumps(card.model_dump(mode="json")))
    with pytest.raises(BadInput, match=f"Keras {keras.__version__} cannot load"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, json.dumps({"format": 1, "voxel_size_angstrom": -1}))
    with pytest.raises(BadInput, match="voxel_size_angstrom"):
        load_model(path)


@given(quarter=st.integers(4, 300), largest=st.integers(8, 32), overlap=st.integers(0, 31))
@settings(derandomize=True, deadline=None)
def test_tiles_cover_an_axis_and_overlap(quarter: int, largest: int, overlap: int) -> None:
    count, largest = 4 * quarter, 4 * largest
    overlap = min(overlap, largest - 4)  # more would leave a tile nothing of its own
    tile, starts = tile_layout(count, largest, overlap)
    assert tile <= min(count, largest)
    assert starts[0] == 0
    assert starts[-1] == count - tile
    assert all(start % 4 == 0 for start in [tile, *starts])
    assert all(0 < after - before <= tile - overlap for before, after in itertools.pairwise(starts))


def test_weights_of_tiles_add_up_everywhere() -> None:
    whole = np.zeros((16, 16, 48, 1))
    edge, starts = tile_layout(48, 24, 8)
    for start in starts:
        whole[:, :, start : start + edge] += tile_weight((0, 0, start), (16, 16, edge), (16, 16, 48), 8)
    assert whole.min() > 0.7
    assert tile_weight((0, 0, 0), (16, 16, 48), (16, 16, 48), 8).min() == 1


def test_tiles_give_what_one_piece_gives(trained: Path) -> None:
    network, _ = load_model(trained / "trained.keras")
    volume = np.random.default_rng(2).standard_normal((21, 90, 102)).astype(np.float32)
    one = segment_volume(network, volume, SegmentSettings(tile_voxels=128))
    assert one.shape == (21, 90, 102, 2)
    assert np.allclose(one.sum(axis=-1), 1, atol=1e-5)
    tiled = segment_volume(network, volume, SegmentSettings(tile_voxels=80, overlap_voxels=60))
    assert np.abs(one - tiled).max() < 1e-3
    turned = segment_volume(network, volume, SegmentSettings(tile_voxels=128, half_turns=True))
    assert np.abs(one - turned).max() < 0.5
    bright = segment_volume(network, -volume, SegmentSettings(tile_voxels=128, contrast="protein_bright"))
    assert np.allclose(one, bright, atol=1e-5)


def test_an_inverted_tomogram_is_told_of(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, dark = trained / "trained.keras", toy[1] / "t3.mrc"
    write_mrc(tmp_path / "bright.mrc", -read_mrc(dark)[0], VOXEL)
    segment_tomogram(model, dark, "dark", SegmentSettings(), tmp_path)
    assert not caplog.messages
    segment_tomogram(model, tmp_path / "bright.mrc", "bright", SegmentSettings(contrast="protein_bright"), tmp_path)
    told = f"{tmp_path / 'bright.mrc'}: inverted for the network, as segment.contrast = protein_bright says"
    assert caplog.messages == [told]
    same = [read_mrc(tmp_path / f"{name}.segmentation.mrc")[0] for name in ("dark", "bright")]
    assert np.array_equal(*same)


def test_a_tomogram_of_other_voxels_is_resampled_there_and_back(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    network, card = load_model(trained / "trained.keras")
    copy_model(trained / "trained.keras", tmp_path / "model.keras", card.model_copy(update={"minimum_size_voxels": {1: 40}}))
    data, _ = read_mrc(toy[1] / "t3.mrc")
    fine = ndimage.affine_transform(data, np.full(3, 0.5), output_shape=[2 * n - 1 for n in data.shape], order=1)
    write_mrc(tmp_path / "fine.mrc", fine, VOXEL / 2)
    segment_tomogram(tmp_path / "model.keras", tmp_path / "fine.mrc", "fine", SegmentSettings(), tmp_path)
    probability, voxel_size = read_mrc(tmp_path / "fine.probability.mrc")
    assert voxel_size == VOXEL / 2
    assert probability.shape == fine.shape
    assert read_sidecar(tmp_path / "fine.segmentation.mrc")["minimum_size_voxels"] == {"1": 320}
    coarse = segment_volume(network, resample(fine, 2.0), SegmentSettings())[..., 1]
    assert np.allclose(probability[::2, ::2, ::2], coarse, atol=1e-4)


def test_a_tomogram_smaller_than_a_patch_is_bad_input(trained: Path, tmp_path: Path) -> None:
    write_mrc(tmp_path / "small.mrc", np.random.default_rng(0).standard_normal((12, 40, 40)).astype(np.float32), VOXEL)
    with pytest.raises(BadInput, match=r"at least 16 voxels of 10 Å"):
        segment_tomogram(trained / "trained.keras", tmp_path / "small.mrc", "small", SegmentSettings(), tmp_path)


@pytest.mark.parametrize("split", ["validation", "train"])
def test_calibration_puts_a_threshold_into_the_card(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    from template_learning.learning import calibrate

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
    assert card.minimum_score == {1: 0.0}
    assert 2 < card.minimum_size_voxels[1] < 60
    assert ("training tomogram(s), as there are none for validation: t0, t1" in card.minimum_size_chosen) == (split == "train")
    assert read_sidecar(tmp_path / "model.keras")["minimum_size_voxels"] == {"1": card.minimum_size_voxels[1]}
    segment_tomogram(tmp_path / "model.keras", toy[1] / "t3.mrc", "t3", SegmentSettings(keep_probabilities=True), tmp_path)
    assert read_sidecar(tmp_path / "t3.segmentation.mrc")["minimum_size_voxels"] == {"1": card.minimum_size_voxels[1]}
    both = mrcfile.read(tmp_path / "t3.probabilities.mrc.gz").astype(np.float32)
    np.testing.assert_allclose(both.sum(axis=0), 1, atol=2e-3)
    np.testing.assert_allclose(both[1], read_mrc(tmp_path / "t3.probability.mrc")[0], atol=1e-3)


def test_calibration_by_score(toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from template_learning.learning import calibrate

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
    assert 0.6 < card.minimum_score[1] < 0.9
    assert "by score" in card.minimum_size_chosen
    assert card.score_probability is not None
    (unsure, seldom), (sure, always) = card.score_probability[1]
    assert (seldom, always) == (0.0, 1.0)
    assert unsure < card.minimum_score[1] < sure


@pytest.mark.parametrize("shape", [(48, 60, 56), (45, 63, 51)])
def test_spectrum_matching_gives_the_spectrum_and_keeps_phases(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(3)
    white, other = generator.standard_normal((2, *shape)).astype(np.float32)
    assert np.allclose(radial_spectrum(white)[3:], 1, atol=0.1)
    target = radial_spectrum(ndimage.gaussian_filter(other, 0.7))
    matched = match_spectrum(white, target)
    assert np.allclose(radial_spectrum(matched)[3:], target[3:], rtol=0.05)
    again = match_spectrum(ndimage.gaussian_filter(white, 0.6, mode="wrap"), radial_spectrum(white))
    assert np.corrcoef(again.ravel(), white.ravel())[0, 1] > 0.95


def test_segmenting_with_the_models_spectrum(trained: Path, toy: tuple[Path, Path]) -> None:
    network, card = load_model(trained / "trained.keras")
    data, _ = read_mrc(toy[1] / "t0.mrc")
    chosen = SegmentSettings(match_spectrum=True)
    sharp = match_spectrum(data, radial_spectrum(data) * np.linspace(1, 3, 32))
    plain = segment_volume(network, data, SegmentSettings(), card.radial_spectrum)
    unmatched = segment_volume(network, sharp, SegmentSettings(), card.radial_spectrum)
    matched = segment_volume(network, sharp, chosen, card.radial_spectrum)
    assert np.abs(matched - plain).mean() < 0.5 * np.abs(unmatched - plain).mean()
    with pytest.raises(BadInput, match="holds no spectrum"):
        segment_volume(network, data, chosen)


def test_spheres_about_annotations() -> None:
    centre, radius = np.array([[4.0, 5.5, 6.0], [0.0, 0.0, 0.0], [50.0, 50.0, 50.0]]), 2.5
    labels = draw_spheres((9, 10, 11), centre, np.array([1, 2, 3]), radius)
    grid = np.stack(np.indices(labels.shape), axis=-1)
    for position, number in zip(centre, (1, 2, 3), strict=True):
        assert np.array_equal(labels == number, np.linalg.norm(grid - position, axis=-1) <= radius)


def test_finetuning_scores_held_out_tomograms_and_writes_a_model(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["id,path,annotations"]
    for number in range(3):
        particles = [row for row in read_table(toy[1] / f"t{number}.particles.csv", ParticleRow) if row.class_id == 1]
        write_table(tmp_path / f"t{number}.csv", ParticleRow, particles)
        lines.append(f"t{number},{toy[1] / f't{number}.mrc'},t{number}.csv")
    (tmp_path / "tomograms.csv").write_text("\n".join(lines) + "\n")
    chosen = FinetuneCommandSettings(
        train=SMALL,
        finetune=FinetuneSettings(splits=2, epochs=[2], steps_per_epoch=3, learning_rate=1e-3, sphere_radius_angstrom=30),
    )
    states = tmp_path / "states"
    finetune_model(trained / "trained.keras", tmp_path / "tomograms.csv", chosen, 5, tmp_path / "out", state=states)
    rows = read_table(tmp_path / "out" / "finetuning.csv", FinetuningRow)
    assert {(row.split, row.epochs) for row in rows} == {(split, epochs) for split in (1, 2) for epochs in (0, 2)}
    assert all(row.annotations == 6 and row.matched <= min(row.selected, 6) for row in rows)
    before, after = (load_model(path)[0] for path in (trained / "trained.keras", tmp_path / "out" / "finetuned.keras"))
    assert not np.array_equal(before.get_weights()[0], after.get_weights()[0])
    card = read_card(tmp_path / "out" / "finetuned.keras")
    assert card.training["finetuning"]["annotations"] == 18
    assert card.grey_histogram == read_card(trained / "trained.keras").grey_histogram is not None
    assert card.minimum_size_voxels is not None
    # The same call elsewhere finds all of its trainings done.
    monkeypatch.delattr(Training, "_epoch")
    finetune_model(trained / "trained.keras", tmp_path / "tomograms.csv", chosen, 5, tmp_path / "again", state=states)
    assert (tmp_path / "again/finetuning.csv").read_bytes() == (tmp_path / "out/finetuning.csv").read_bytes()
    (tmp_path / "one.csv").write_text("\n".join(lines[:2]) + "\n")
    with pytest.raises(BadInput, match="at least two"):
        finetune_model(trained / "trained.keras", tmp_path / "one.csv", chosen, 5, tmp_path / "other")


def test_card_survives_json() -> None:
    card = ModelCard(voxel_size_angstrom=10, classes={1: ["rod"]}, filters=4, patch_voxels=16, minimum_size_voxels={1: 3})
    assert ModelCard.model_validate(json.loads(json.dumps(card.model_dump(mode="json")))) == card
