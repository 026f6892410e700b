"""Tomograms at another voxel size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

VOXEL_SIZE_TOLERANCE = 0.01
"""Voxel sizes that differ by a smaller share are the same."""


def resample(data: NDArray[Any], ratio: float) -> NDArray[np.float32]:
    """A volume on voxels ``ratio`` times as large, the centres of voxel (0, 0, 0) coinciding.

    The volume, mirrored at its borders, is cut to the frequencies that the new voxels hold and evaluated at their centres
    (a truncated cosine series along each axis), as RECONSTRUCT brings images to their size: what a blur would do to the
    noise, training tomograms do not have.
    """
    grey = np.asarray(data, dtype=np.float32)
    for axis, count in enumerate(data.shape):
        grey = np.moveaxis(np.tensordot(_crop_matrix(count, ratio), grey, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(grey)


def _crop_matrix(count: int, ratio: float) -> NDArray[np.float32]:
    """The (new count, count) matrix: cosine transform, truncated, evaluated at every ``ratio`` voxels from the first."""
    order = np.arange(min(count, max(1, round(count / ratio))))
    old = (np.arange(count) + 0.5) / count
    new = (np.arange(int((count - 1) / ratio + 1e-6) + 1) * ratio + 0.5) / count
    terms = np.cos(np.pi * new[:, None] * order) * (np.where(order == 0, 1.0, 2.0) / count)
    return np.asarray(terms @ np.cos(np.pi * order[:, None] * old), dtype=np.float32)
