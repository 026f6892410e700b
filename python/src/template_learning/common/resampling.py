"""Tomograms at another voxel size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

VOXEL_SIZE_TOLERANCE = 0.01
"""Voxel sizes that differ by a smaller share are the same."""


def resample(data: NDArray[Any], ratio: float) -> NDArray[np.float32]:
    """A volume on voxels of another size, the centres of voxel (0, 0, 0) coinciding.

    The volume, mirrored at its borders, is cut to the frequencies that the new voxels hold and evaluated at their centres
    (a truncated cosine series along each axis), as RECONSTRUCT brings images to their size: what a blur would do to the
    noise, training tomograms do not have.

    Parameters
    ----------
    data : (z, y, x) array
        The volume.
    ratio : float
        The new voxel size over the old one.

    Returns
    -------
    (z, y, x) array of float32
        On the new voxels.
    """
    grey = np.asarray(data, dtype=np.float32)
    for axis, count in enumerate(data.shape):
        place = (np.arange(resampled_count(count, ratio)) * ratio + 0.5) / count
        grey = np.moveaxis(np.tensordot(crop_matrix(count, count / ratio, place), grey, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(grey)


def resampled_count(count: int, ratio: float) -> int:
    """How many voxels ``ratio`` times as large ``count`` become."""
    return int((count - 1) / ratio + 1e-6) + 1


def resampled_shape(shape: tuple[int, ...], ratio: float) -> tuple[int, ...]:
    """The shape that ``resample`` gives; nothing changes within the tolerance."""
    return shape if abs(ratio - 1) <= VOXEL_SIZE_TOLERANCE else tuple(resampled_count(count, ratio) for count in shape)


def crop_matrix(count: int, held: float, place: NDArray[np.floating]) -> NDArray[np.float32]:
    """The (len(place), count) matrix that takes ``count`` samples to what ``held`` of them could hold, at other places.

    A cosine transform, truncated, evaluated at ``place``: shares of the samples' extent, kept within it.
    """
    order = np.arange(min(count, max(1, round(held))))
    old = (np.arange(count) + 0.5) / count
    weight = np.where(order == 0, 1.0, 2.0) / count
    terms = np.cos(np.pi * np.clip(place, 0, 1)[:, None] * order) * weight
    return np.asarray(terms @ np.cos(np.pi * order[:, None] * old), dtype=np.float32)
