"""Noise as a reconstruction has it: drawn, measured and added."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from template_learning.learning.noise import noise_bank, noise_power, noise_share, of_lower_dose
from template_learning.learning.patches import widen_wedge
from template_learning.reconstruction.back_projection import back_project
from template_learning.simulation.acquisition import Tilts

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_drawn_noise_is_that_of_a_reconstruction() -> None:
    """Against series of noise that are reconstructed on another field."""
    generator = np.random.default_rng(5)
    angles = np.arange(-60.0, 61.0, 3.0)
    images = [generator.standard_normal((41, 60, 140), dtype=np.float32) for _ in range(8)]
    noise = np.array([back_project(image, angles, (60, 60, 60))[18:42, 18:42, 18:42] for image in images])
    bank = noise_bank(24, Tilts(60.0, 3.0), None, generator)
    made = np.array([bank.draw(24, generator) for _ in range(8)])
    assert made.std() == pytest.approx(1, rel=0.05)
    assert np.abs(np.corrcoef(made.reshape(8, -1)) - np.eye(8)).max() < 0.2  # no two are alike
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
    in_band = noise_bank(24, Tilts(60.0, 3.0), (0.5, 4.0), generator)
    assert in_band.draw(24, generator).var() == pytest.approx(in_band.variance, rel=0.2)
    assert in_band.variance < 0.8


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_share_of_noise_is_measured_where_there_is_signal_too(share: float) -> None:
    """Images of blurred blobs with white noise, back-projected: the tomogram's variance, and the noise's part of it."""
    generator = np.random.default_rng(6)
    angles = np.arange(-60.0, 61.0, 3.0)
    signal = ndimage.gaussian_filter(generator.standard_normal((72, 72, 72)), 1.5).astype(np.float32)
    signal /= signal.std()
    noise = back_project(generator.standard_normal((41, 72, 110), dtype=np.float32), angles, (72, 72, 72))
    volume = np.sqrt(1 - share) * signal + np.sqrt(share) * noise / noise.std()
    found = noise_share(volume, 0.0, 1.0, Tilts(60.0, 3.0))
    assert found == pytest.approx(share, abs=0.07)
    # A quarter of the dose is four times the noise's variance and leaves the signal's as it is.
    noisier = of_lower_dose(volume.astype(np.float32), 0.25, found, Tilts(60.0, 3.0), generator)
    assert noisier.std() == pytest.approx(1, rel=0.03)
    assert (noisier * signal).mean() == pytest.approx((1 - share) ** 0.5 / (1 + 3 * share) ** 0.5, abs=0.03)
    assert np.allclose(of_lower_dose(noise, 1.0, 1.0, Tilts(60.0, 3.0), generator), noise)


def test_a_wider_wedge_is_what_a_shorter_tilt_series_leaves() -> None:
    noise = np.random.default_rng(4).standard_normal((16, 12, 20)).astype(np.float32)
    narrow = widen_wedge(noise, 40.0)
    z, _, x = np.meshgrid(*(np.fft.fftfreq(count) for count in noise.shape), indexing="ij")
    steepness = np.rad2deg(np.arctan2(np.abs(z), np.abs(x)))
    before, after = np.abs(np.fft.fftn(noise)), np.abs(np.fft.fftn(narrow))
    assert after[steepness > 41].max() < 1e-3
    np.testing.assert_allclose(after[steepness < 39], before[steepness < 39], atol=1e-3)


@pytest.mark.parametrize("offset", [-20.0, 15.0])
def test_the_wedge_of_an_offset_series_is_where_back_projection_leaves_nothing(offset: float) -> None:
    noise = np.random.default_rng(4).standard_normal((24, 24, 24)).astype(np.float32)
    kept = np.abs(np.fft.rfftn(widen_wedge(noise, 40.0, offset))).mean(axis=1) > 1e-3
    seen = noise_power(24, Tilts(40.0, 2.0, offset))
    away = np.ones_like(kept)
    away[:, :2] = False  # near the axis all views meet
    assert seen[kept & away].mean() > 5 * seen[~kept & away].mean()
    mirrored = np.roll(kept[::-1], 1, axis=0)
    assert seen[kept & ~mirrored & away].mean() > 5 * seen[mirrored & ~kept & away].mean()
