"""Tomograms at another voxel size: what the new voxels can hold is kept, what they cannot is gone."""

import numpy as np
import pytest
from numpy.typing import NDArray
from template_learning.common.resampling import resample


def waves(position: NDArray[np.float64], frequency: float) -> NDArray[np.float64]:
    """A wave along each axis at positions (in voxels of the first grid), fading towards the borders."""
    fade = np.exp(-(((position - 24) / 9) ** 2))
    line = fade * np.cos(2 * np.pi * frequency * position)
    return line[:, None, None] * line[:, None] * line


@pytest.mark.parametrize("ratio", [0.7, 1.25, 1.6, 2.0])
def test_waves_that_the_new_voxels_hold_stay_in_place(ratio: float) -> None:
    found = resample(waves(np.arange(48.0), 0.1), ratio)
    expected = waves(np.arange(found.shape[0]) * ratio, 0.1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-3


def test_waves_that_they_do_not_hold_are_gone() -> None:
    assert np.abs(resample(waves(np.arange(48.0), 0.4), 2.0)).max() < 1e-2


def test_noise_stays_white_up_to_the_new_voxels_limit() -> None:
    noise = np.random.default_rng(1).standard_normal((60, 60, 60)).astype(np.float32)
    found = resample(noise, 1.5)
    power = np.abs(np.fft.rfftn(found)) ** 2
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.fft.fftfreq(40)] * 2, np.fft.rfftfreq(40), indexing="ij")))
    bands = [power[(radius >= low) & (radius < low + 0.1)].mean() for low in (0.1, 0.2, 0.3, 0.4)]
    assert max(bands) < 1.1 * min(bands)
    assert found.var() == pytest.approx(1.5**-3, rel=0.05)
