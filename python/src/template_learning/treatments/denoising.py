"""Filters and denoisers of volumes [z, y, x]; those that are not linear take their strength in the volume's own noise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TV_ITERATIONS = 60
DIFFUSION_STEP = 1 / 7
"""Largest step that keeps the scheme stable with six neighbours, 1/6, and a little less."""


def gaussian(volume: NDArray[Any], sigma_voxels: float) -> NDArray[np.float32]:
    """The volume after a Gaussian low pass of this standard deviation, mirrored at its borders."""
    return np.asarray(ndimage.gaussian_filter(np.asarray(volume, dtype=np.float32), sigma_voxels))


def median(volume: NDArray[Any], width_voxels: int) -> NDArray[np.float32]:
    """The volume after a median filter over cubes of ``width_voxels``, mirrored at its borders."""
    return np.asarray(ndimage.median_filter(np.asarray(volume, dtype=np.float32), width_voxels))


def noise_sigma(volume: NDArray[Any]) -> float:
    """The standard deviation of white noise that would explain the finest detail: its differences along each axis."""
    grey = np.asarray(volume, dtype=np.float32)
    spread = [np.median(np.abs(np.diff(grey, axis=axis))) / 0.6745 / np.sqrt(2) for axis in range(3)]
    return float(np.mean(spread))


def total_variation(volume: NDArray[Any], weight_sigma: float) -> NDArray[np.float32]:
    """The volume of least total variation about the given one (Chambolle, J. Math. Imaging Vis. 20 (2004) 89).

    ``weight_sigma`` weighs total variation against fidelity, in standard deviations of the volume; 0 changes nothing.
    """
    from skimage.restoration import denoise_tv_chambolle

    grey = np.asarray(volume, dtype=np.float32)
    mean, std = float(grey.mean(dtype=np.float64)), float(grey.std(dtype=np.float64))
    if weight_sigma == 0 or std == 0:
        return grey.copy()
    found = denoise_tv_chambolle((grey - mean) / std, weight=weight_sigma, eps=1e-5, max_num_iter=TV_ITERATIONS)
    return np.asarray(found * std + mean, dtype=np.float32)


def anisotropic_diffusion(volume: NDArray[Any], iterations: int, edge_sigma: float = 1.0) -> NDArray[np.float32]:
    """The volume after diffusion that stops at edges (Perona and Malik, IEEE PAMI 12 (1990) 629).

    The flow to each neighbour is their difference d times exp(-(g / K)^2): g is the difference in the volume smoothed by one voxel, as
    noise would stop the flow too, and K ``edge_sigma`` standard deviations of these differences (cf. Frangakis and Hegerl,
    J. Struct. Biol. 135 (2001) 239).
    """
    grey = np.array(volume, dtype=np.float32)
    for _ in range(iterations):
        smooth = ndimage.gaussian_filter(grey, 1.0)
        change = np.zeros_like(grey)
        for axis in range(3):
            edge = np.diff(smooth, axis=axis)
            scale = edge_sigma * float(edge.std(dtype=np.float64)) or 1.0
            flow = np.diff(grey, axis=axis) * np.exp(-((edge / np.float32(scale)) ** 2))
            low = [slice(None)] * 3
            high = [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            change[tuple(low)] += flow
            change[tuple(high)] -= flow
        grey += np.float32(DIFFUSION_STEP) * change
    return grey


def non_local_means(volume: NDArray[Any], strength_sigma: float, reach_voxels: int = 3) -> NDArray[np.float32]:
    """Each voxel the mean of those within ``reach_voxels`` whose 3 x 3 x 3 surroundings look alike.

    ``strength_sigma``: how unlike they may be, in standard deviations of the noise (Buades, Coll and Morel 2005).
    """
    from skimage.restoration import denoise_nl_means

    grey = np.asarray(volume, dtype=np.float32)
    sigma = noise_sigma(grey)
    if strength_sigma == 0 or sigma == 0:
        return grey.copy()
    found = denoise_nl_means(
        grey / np.float32(sigma), patch_size=3, patch_distance=reach_voxels, h=strength_sigma, sigma=1.0, fast_mode=True
    )
    return np.asarray(found * sigma, dtype=np.float32)
