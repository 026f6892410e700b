"""Spectrum and grey values of tomograms, and the filters that bring tomograms of other origins nearer to each other."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.common.errors import BadInput

SHELLS = 32
"""Shells of equal width between zero and Nyquist; frequencies beyond (the corners) count to the last one."""
GREY_BINS = np.linspace(-5.0, 5.0, 81)
"""Borders of the bins of normalised grey values."""


def _shell_positions(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """For each frequency of a real FFT its radius in shells, the middle of the first being 0."""
    z, y = (fft.fftfreq(count).astype(np.float32) for count in shape[:2])
    x = fft.rfftfreq(shape[2]).astype(np.float32)
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return np.clip(radius * (2 * SHELLS) - 0.5, 0, SHELLS - 1).astype(np.float32)


def real_fft_weights(count: int) -> NDArray[np.float64]:
    """How many frequencies each along the last axis of a real FFT of ``count`` samples stands for: itself and its twin."""
    weight = np.full(count // 2 + 1, 2.0)
    weight[0] = 1.0
    if count % 2 == 0:
        weight[-1] = 1.0
    return weight


def radial_spectrum(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square amplitude in each shell of a volume [z, y, x], zero frequency left out, per voxel."""
    power = np.abs(fft.rfftn(volume)) ** 2 / volume.size
    shell = np.round(_shell_positions(volume.shape)).astype(np.intp)
    power[0, 0, 0] = 0.0
    weights = np.broadcast_to(real_fft_weights(volume.shape[2]), power.shape).copy()
    weights[0, 0, 0] = 0.0
    count = np.bincount(shell.ravel(), weights.ravel(), minlength=SHELLS)
    total = np.bincount(shell.ravel(), (power * weights).ravel(), minlength=SHELLS)
    return np.asarray(np.sqrt(total / np.maximum(count, 1)))


def grey_histogram(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of a normalised volume's voxels per unit of grey value in each of ``GREY_BINS``; voxels beyond them do not count."""
    return np.histogram(volume, GREY_BINS, density=True)[0]


def match_spectrum(volume: NDArray[np.float32], target: Sequence[float] | NDArray[np.float64] | None) -> NDArray[np.float32]:
    """``volume`` [z, y, x] with the radial spectrum ``target``; phases and what differs within a shell stay.

    BadInput where there is none to match: models need not carry one.
    """
    if target is None:
        raise BadInput("segment.match_spectrum: the model's card holds no spectrum of its training tomograms")
    own = radial_spectrum(volume)
    gain = np.divide(target, own, out=np.zeros_like(own), where=own > 1e-6 * own.max())
    transform = fft.rfftn(volume)
    transform *= np.interp(_shell_positions(volume.shape), np.arange(SHELLS), gain)
    return np.asarray(fft.irfftn(transform, volume.shape), dtype=np.float32)


def _band_factors(
    frequency: Sequence[NDArray[Any]], band_voxels: tuple[float, float]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of the narrow and of the wide Gaussian: its transform along z, and that over y and x."""
    parts = []
    for sigma in band_voxels:
        z, y, x = (np.exp(-2 * (np.pi * sigma * one) ** 2).astype(np.float32) for one in frequency)
        parts.append((z, y[:, None] * x))
    return parts


@cache
def _gaussian_rows(count: int, first: int, last: int, sigma_voxels: float) -> NDArray[np.float32]:
    """Rows ``first`` to ``last`` of the matrix that blurs a line of ``count`` voxels, mirrored at its ends, with a Gaussian."""
    lines = fft.dct(np.eye(count), axis=0)
    lines *= np.exp(-2 * (np.pi * sigma_voxels * np.arange(count) / (2 * count)) ** 2)[:, None]
    return np.ascontiguousarray(fft.idct(lines, axis=0)[first:last], dtype=np.float32)


def band_pass_inside(
    volume: NDArray[np.float32], band_voxels: tuple[float, float], window: tuple[slice, ...]
) -> NDArray[np.float32]:
    """``band_pass(volume, band_voxels)[window]`` of a small volume, quicker: products with small matrices."""
    parts = []
    for sigma in band_voxels:
        z, y, x = (_gaussian_rows(count, one.start, one.stop, sigma) for count, one in zip(volume.shape, window, strict=True))
        blurred = z @ volume.reshape(volume.shape[0], -1)
        parts.append(y @ (blurred.reshape(-1, *volume.shape[1:]) @ x.T))
    return np.asarray(parts[0] - parts[1], dtype=np.float32)


def band_pass(volume: NDArray[np.float32], band_voxels: tuple[float, float]) -> NDArray[np.float32]:
    """``volume`` [z, y, x], mirrored at its borders, less its mean over a wide Gaussian, after a narrow one."""
    cosines = fft.dctn(np.asarray(volume, dtype=np.float32), workers=-1)
    frequency = [np.arange(count) / (2 * count) for count in volume.shape]
    (narrow_z, narrow), (wide_z, wide) = _band_factors(frequency, band_voxels)
    for section, of_narrow, of_wide in zip(cosines, narrow_z, wide_z, strict=True):  # all responses would be another volume
        section *= of_narrow * narrow - of_wide * wide
    return np.asarray(fft.idctn(cosines, overwrite_x=True, workers=-1), dtype=np.float32)
