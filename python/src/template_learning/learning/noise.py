"""The noise that a tilt series leaves in a tomogram: how much of it there is, and more of it, as a lower dose would give it."""

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.learning.spectrum import band_pass
from template_learning.reconstruction.back_projection import back_project
from template_learning.simulation.acquisition import Tilts, tilt_angles

DRAWS = 8
BLOCK_VOXELS = 64
"""Edge of the cubes that a tomogram's noise is measured in."""
BLOCKS = 3
"""At most so many of them along each axis."""
OUTER = (0.25, 0.68)
"""Frequencies (cycles a voxel) among which there are some where a tomogram holds next to nothing but noise."""
MARGIN_VOXELS = 8
"""Left out around a bank of noise after the band pass, which mirrors at borders."""


@cache
def noise_power(edge: int, tilts: Tilts) -> NDArray[np.float64]:
    """What back-projection makes of white noise in the images: power (edge, edge // 2 + 1) over z and x.

    Measured on series of noise in a volume of ``edge`` voxels, since ramp, wedge, interpolation and the gaps between the tilts
    all have their part; the mean over all frequencies is 1.  The noise is white along y, the tilt axis.
    """
    generator = np.random.default_rng(edge)  # a measurement, the same each time: no draw of the training's
    volumes = [back_projected_noise((edge,) * 3, tilts, generator) for _ in range(DRAWS)]
    power = np.mean([np.abs(fft.rfftn(volume)) ** 2 for volume in volumes], axis=(0, 2))
    return np.asarray(power / edge**3)


def back_projected_noise(shape: tuple[int, int, int], tilts: Tilts, generator: np.random.Generator) -> NDArray[np.float32]:
    """White noise in the images of a tilt series, back-projected; [z, y, x], of unit deviation, every voxel seen by all views."""
    angles = tilt_angles(*tilts)
    width = math.ceil(math.hypot(shape[0], shape[2])) + 4
    images = generator.standard_normal((len(angles), shape[1], width), dtype=np.float32)
    noise = back_project(images, angles, shape)
    return noise / noise.std()


def seen_frequencies(
    z: NDArray[np.floating], x: NDArray[np.floating], largest_tilt_deg: float, tilt_offset_deg: float = 0.0
) -> NDArray[np.bool_]:
    """Which frequencies, x not negative, a tilt series about y sees that ends ``largest_tilt_deg`` on either side of the offset."""
    low, high = (np.tan(np.deg2rad(tilt_offset_deg + end)) for end in (-largest_tilt_deg, largest_tilt_deg))
    return np.asarray((z <= x * high + 1e-6) & (z >= x * low - 1e-6))


def noise_share(data: NDArray[Any], mean: float, std: float, tilts: Tilts) -> float:
    """How much of a tomogram's variance is noise, 0 to 1; its grey values have that mean and deviation.

    Its power against that of back-projected noise, where it is least among the outer frequencies: the optics, the sample's
    own fall-off and the corners beyond the images' Nyquist leave little signal in some of them.
    """
    edge = min(BLOCK_VOXELS, *data.shape)
    window = np.hanning(edge + 2)[1:-1].astype(np.float32)
    window /= np.sqrt(np.mean(window**2))
    places = [np.unique(np.linspace(0, count - edge, min(BLOCKS, -(-count // edge))).astype(int)) for count in data.shape]
    corners = list(itertools.product(*places))
    found = np.zeros((edge, edge, edge // 2 + 1))
    for corner in corners:
        block = np.asarray(data[tuple(slice(begin, begin + edge) for begin in corner)], dtype=np.float32)
        block = (block - np.float32(mean)) * (window[:, None, None] * window[:, None] * window / np.float32(std))
        found += np.abs(fft.rfftn(block)) ** 2 / (edge**3 * len(corners))
    noise = np.broadcast_to(noise_power(edge, tilts)[:, None, :], found.shape)
    frequency = fft.fftfreq(edge)
    radius = np.sqrt(frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + fft.rfftfreq(edge) ** 2)
    shell = (radius * edge).astype(np.intp).ravel()
    first, last = (int(limit * edge) for limit in OUTER)
    ratio = (np.bincount(shell, found.ravel()) / np.bincount(shell, noise.ravel()))[first:last]
    return float(np.clip(ratio.min(), 0.0, 1.0))


def added_noise(share_of_dose: float, share_of_noise: float) -> float:
    """The deviation of the noise that a tomogram of unit deviation lacks to be one of that share (up to 1) of its dose."""
    return math.sqrt(share_of_noise * (1 / share_of_dose - 1))


def of_lower_dose(
    grey: NDArray[np.float32],
    share_of_dose: float,
    share_of_noise: float,
    tilts: Tilts,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """A tomogram [z, y, x] of zero mean and unit deviation as that share (up to 1) of its dose would give it.

    ``share_of_noise``: see ``noise_share``.  What less dose damages less is not undone.
    """
    amount = added_noise(share_of_dose, share_of_noise)
    depth, height, width = grey.shape
    noise = back_projected_noise((depth, height, width), tilts, generator)
    return np.asarray((grey + np.float32(amount) * noise) / np.float32(math.hypot(1.0, amount)), dtype=np.float32)


@dataclass(frozen=True)
class NoiseBank:
    """A cube of back-projected noise, of unit variance before the band pass, and its ``variance`` after it."""

    volume: NDArray[np.float16]
    variance: float

    def draw(self, edge: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """A cube [z, y, x] of ``edge`` voxels: two of the bank's places, mixed at random, so that no two are alike."""
        start = generator.integers(0, np.array(self.volume.shape) - edge + 1, size=(2, 3))
        turn = generator.uniform(0, 2 * math.pi)
        first, second = (self.volume[tuple(slice(begin, begin + edge) for begin in place)] for place in start)
        return np.asarray(first * np.float32(math.cos(turn)) + second * np.float32(math.sin(turn)), dtype=np.float32)


def noise_bank(
    edge: int,
    tilts: Tilts,
    band_voxels: tuple[float, float] | None,
    generator: np.random.Generator,
) -> NoiseBank:
    """Noise to draw cubes of ``edge`` voxels from: a cube of twice that, filtered where there is a band."""
    if band_voxels is None:
        noise = back_projected_noise((2 * edge,) * 3, tilts, generator)
        return NoiseBank(noise.astype(np.float16), 1.0)
    wide = back_projected_noise((2 * (edge + MARGIN_VOXELS),) * 3, tilts, generator)
    inner = slice(MARGIN_VOXELS, -MARGIN_VOXELS)
    noise = band_pass(wide, band_voxels)[inner, inner, inner]
    return NoiseBank(noise.astype(np.float16), float(noise.var()))
