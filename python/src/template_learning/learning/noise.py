"""Patches and tomograms as a lower dose would give them: with more of the noise that a tilt series leaves in a tomogram."""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.learning.spectrum import band_response, real_fft_weights
from template_learning.reconstruction.native import back_project
from template_learning.simulation.acquisition import tilt_angles

DRAWS = 8
BLOCK_VOXELS = 64
"""Edge of the cubes that a volume gets its noise in; the noise of one does not go on in the next."""


@cache
def noise_amplitude(edge: int, tilt_range_deg: float, tilt_step_deg: float) -> NDArray[np.float32]:
    """What back-projection makes of white noise in the images: Fourier amplitudes (edge, edge // 2 + 1) over z and x.

    Measured on series of noise in a volume of ``edge`` voxels, since ramp, wedge, interpolation and the gaps between the tilts
    all have their part; the mean square over the whole Fourier volume is 1.  The noise is white along y, the tilt axis.
    """
    angles = tilt_angles(tilt_range_deg, tilt_step_deg)
    generator = np.random.default_rng(edge)  # a measurement, the same each time: no draw of the training's
    power = np.zeros((edge, edge, edge // 2 + 1))
    for _ in range(DRAWS):
        images = generator.standard_normal((len(angles), edge, 3 * edge // 2 + 2), dtype=np.float32)
        power += np.abs(fft.rfftn(back_project(images, angles, (edge, edge, edge)))) ** 2
    flat = power.mean(axis=1)
    return np.sqrt(flat / np.average(flat, weights=np.broadcast_to(real_fft_weights(edge), flat.shape))).astype(np.float32)


@cache
def noise_power_in_band(edge: int, tilt_range_deg: float, tilt_step_deg: float, band_voxels: tuple[float, float]) -> float:
    """Share of that noise's variance that ``spectrum.band_pass`` leaves."""
    frequency = fft.fftfreq(edge)
    response = band_response([frequency, frequency, fft.rfftfreq(edge)], band_voxels)
    power = (noise_amplitude(edge, tilt_range_deg, tilt_step_deg)[:, None, :] * response) ** 2
    return float(np.average(power, weights=np.broadcast_to(real_fft_weights(edge), power.shape)))


def lower_dose(
    grey: NDArray[np.float32], share: float, amplitude: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """A patch [z, y, x] of unit deviation as ``share`` (up to 1) of its dose would give it, again of unit deviation.

    All of its variance is taken for noise, which it nearly is.  ``amplitude``: see ``noise_amplitude``, of a cube that the
    patch fits into.  What less dose damages less is not undone.
    """
    more = 1 / share - 1
    cube = (len(amplitude),) * 3
    white = fft.rfftn(generator.standard_normal(cube, dtype=np.float32))
    noise = fft.irfftn(white * amplitude[:, None, :], s=cube)[tuple(slice(count) for count in grey.shape)]
    return np.asarray((grey + np.float32(np.sqrt(more)) * noise) * np.float32(np.sqrt(share)), dtype=np.float32)


def volume_of_lower_dose(
    grey: NDArray[np.float32], share: float, tilt_range_deg: float, tilt_step_deg: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A tomogram [z, y, x] of zero mean and unit deviation as ``share`` (up to 1) of its dose would give it; see ``lower_dose``."""
    amplitude = noise_amplitude(BLOCK_VOXELS, tilt_range_deg, tilt_step_deg)
    result = np.empty(grey.shape, dtype=np.float32)
    for corner in itertools.product(*(range(0, count, BLOCK_VOXELS) for count in grey.shape)):
        window = tuple(slice(begin, begin + BLOCK_VOXELS) for begin in corner)
        result[window] = lower_dose(grey[window], share, amplitude, generator)
    return result
