"""Tomograms imaged anew: linear, inside the wedge, as noisy as asked, the same however a training comes to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checked
from hypothesis import strategies as st
from scipy import fft, ndimage
from template_learning.common.geometry import Grid
from template_learning.learning.noise import back_projected_noise
from template_learning.learning.patches import Patches, open_tomogram
from template_learning.learning.random_imaging import drawn_filter, drawn_transfer, imaged_anew
from template_learning.settings import RandomImagingSettings
from template_learning.simulation.acquisition import Tilts

from ..toy_tomograms import SMALL, imaged

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
GRID = Grid(shape=(32, 48, 40), voxel_size_angstrom=8.0)
LINEAR = RandomImagingSettings(noiseless_fraction=1.0, gold_fraction=0.0)
TILTS = Tilts(50.0, 2.0)


def anew(volume: np.ndarray, settings: RandomImagingSettings, seed: int, passes_all: bool = True) -> np.ndarray:
    return imaged_anew(volume.astype(np.float32), GRID, TILTS, passes_all, settings, np.random.default_rng(seed))


def noise(seed: int) -> np.ndarray:
    volume = np.random.default_rng(seed).standard_normal(GRID.shape, dtype=np.float32)
    return volume - volume.mean()


@given(st.integers(0, 10**6))
@checked(max_examples=20, deadline=None)
def test_what_is_laid_on_is_linear(seed: int) -> None:
    first, second = noise(1), noise(2)
    both = anew(first - 3 * second, LINEAR, seed)
    np.testing.assert_allclose(both, anew(first, LINEAR, seed) - 3 * anew(second, LINEAR, seed), atol=1e-4 * np.abs(both).max())


@pytest.mark.parametrize("gold", [0.0, 1.0])
def test_nothing_gets_into_the_missing_wedge(gold: float) -> None:
    settings = RandomImagingSettings(gold_fraction=gold, noiseless_fraction=0.0)
    volume = back_projected_noise(GRID.shape, TILTS, np.random.default_rng(0))
    z, x = np.abs(fft.fftfreq(GRID.shape[0])), fft.rfftfreq(GRID.shape[2])
    missing = (z[:, None] > 0.1) & (z[:, None] > 1.5 * x * np.tan(np.deg2rad(TILTS[0])))
    for seed in range(8):
        power = (np.abs(fft.rfftn(anew(volume, settings, seed))) ** 2).sum(axis=1)
        before = (np.abs(fft.rfftn(volume)) ** 2).sum(axis=1)
        assert power[missing].sum() / power.sum() < 0.02 + 2 * before[missing].sum() / before.sum()


@pytest.mark.parametrize("amount", [0.3, 5.0])
def test_noise_is_as_strong_as_asked(amount: float) -> None:
    flat = RandomImagingSettings(
        noiseless_fraction=0.0, gold_fraction=0.0, noise_to_signal=(amount, amount), low_pass_voxels=(0, 0), slope=(0, 0), bumps=0,
        largest_slope_across=0.0,
    )  # fmt: skip
    volume = back_projected_noise(GRID.shape, TILTS, np.random.default_rng(0))
    total = [np.std(anew(volume, flat, seed, passes_all=False)) / volume.std() for seed in range(4)]
    assert np.mean(total) == pytest.approx(np.hypot(1, amount), rel=0.05)


@given(st.integers(0, 10**6))
@checked(max_examples=20, deadline=None)
def test_protein_stays_dark_and_filters_positive(seed: int) -> None:
    generator = np.random.default_rng(seed)
    transfer = drawn_transfer(8.0, LINEAR, generator)
    assert (transfer[:15] > 0).all()  # up to 1/320 Å^-1, before the first zero of 7 um
    assert (drawn_filter(LINEAR, generator) > 0).all()


def test_batches_do_not_depend_on_where_a_training_goes_on(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed(
        {"augmentation": {"random_imaging": {"fraction": 0.7, "batches": 3}}, "dose_curriculum_fraction": 0.5}
    )
    tomograms = [open_tomogram(toy[1], name, imaged(60.0)) for name in ("t0", "t1")]
    early = Patches(tomograms, chosen, 3, split="train", first=0, count=8)
    late = Patches(tomograms, chosen, 3, split="train", first=0, count=4)
    late.first = 4  # as a training that goes on has it
    whole = [early[index] for index in range(8)]
    for index in range(4):
        for first, second in zip(whole[4 + index], late[index], strict=True):
            assert np.array_equal(first, second)


def test_labels_turn_with_their_tomogram(toy: tuple[Path, Path]) -> None:
    """The tomogram's grey values are its labels: wherever a patch is cut from, however it is turned, they still fit."""
    imaging = {"fraction": 1.0, "batches": 1, "noiseless_fraction": 1.0, "gold_fraction": 0.0, "turned_fraction": 0.5, "slope": [0, 0], "bumps": 0.0, "low_pass_voxels": [0, 0], "largest_slope_across": 0.0}  # fmt: skip
    chosen = SMALL.changed({"augmentation": {"random_imaging": imaging, "rotation": "mirrors"}, "background_fraction": 0.0})
    tomogram = open_tomogram(toy[1], "t0")
    ramp = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(tomogram.labels.shape), 1.0)
    labels = (ramp > np.quantile(ramp, 0.8)).astype(np.int8)
    tomogram = replace(tomogram, data=labels.astype(np.float32), labels=labels, mean=0.0, std=1.0)
    patches = Patches([tomogram], chosen, 3, split="train", first=0, count=10)
    for index in range(10):
        for grey, truth in zip(*patches[index], strict=True):
            assert np.corrcoef(grey.ravel(), truth.ravel())[0, 1] > 0.95
