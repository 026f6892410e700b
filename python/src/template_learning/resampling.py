"""Tomograms at another voxel size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

VOXEL_SIZE_TOLERANCE = 0.01
"""Voxel sizes that differ by a smaller share are the same."""


def resample(data: NDArray[Any], ratio: float) -> NDArray[np.float32]:
    """A volume on voxels ``ratio`` times as large, the centres of voxel (0, 0, 0) coinciding.

    Larger voxels get a Gaussian first (sigma = half a new voxel's excess), against aliasing.
    """
    grey = np.asarray(data, dtype=np.float32)
    if ratio > 1:
        grey = ndimage.gaussian_filter(grey, 0.5 * np.sqrt(ratio**2 - 1), mode="nearest")
    shape = tuple(int((count - 1) / ratio + 1e-6) + 1 for count in data.shape)
    return np.asarray(ndimage.affine_transform(grey, np.full(3, ratio), output_shape=shape, order=1, mode="nearest"))
