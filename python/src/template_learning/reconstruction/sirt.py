"""SIRT: a tomogram whose projections come nearer to the tilt images with each iteration."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import jit_fast_math, processors

LINES = 16


def sirt(
    images: NDArray[np.floating],
    angles_deg: NDArray[np.float64],
    shape: tuple[int, int, int],
    iterations: int,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """The tomogram after some iterations of SIRT, from an empty one; the tilt axis is y.

    Each iteration adds C A^T R (b - A v): A projects with linear interpolation (u = x cos t + z sin t from the centres), R and
    C are one over the sums of its rows and columns.  Images are taken as they differ from their means, and where rays leave
    the volume nothing is projected.

    Parameters
    ----------
    images : (T, y, x) array
        The tilt series, in pixels of the volume's voxel size; the images' y is the volume's y.
    angles_deg : (T,) array
        Tilt angles, degrees.
    shape : (int, int, int)
        [z, y, x] voxels of the volume.
    iterations : int
        How many.
    workers : int, optional
        Threads; all processors without it.

    Returns
    -------
    (z, y, x) array of float32
        Mean density along the rays is that of the images; the volume shares their centre.

    References
    ----------
    Gilbert, J. Theor. Biol. 36 (1972) 105.
    """
    workers = workers or processors()
    angles = np.deg2rad(angles_deg)
    cosine, sine = np.cos(angles), np.sin(angles)
    depth, height, width = shape
    views = np.asarray(images, dtype=np.float32)
    views = np.ascontiguousarray((views - views.mean(axis=(1, 2), keepdims=True)).transpose(0, 2, 1))
    ones = np.ones((depth, width, 1), dtype=np.float32)
    rays = np.zeros((len(views), views.shape[1], 1), dtype=np.float32)
    _project(ones, rays, cosine, sine)
    hit = np.ones_like(rays)
    columns = np.zeros_like(ones)
    _spread(hit, columns, cosine, sine)
    row_weight = np.divide(1, rays, out=np.zeros_like(rays), where=rays > 1e-3)
    column_weight = np.divide(1, columns, out=np.zeros_like(columns), where=columns > 1e-3)
    result = np.empty(shape, dtype=np.float32)

    def some_lines(start: int) -> None:
        measured = np.ascontiguousarray(views[:, :, start : start + LINES])
        volume = np.zeros((depth, width, measured.shape[2]), dtype=np.float32)
        for _ in range(iterations):
            projected = np.zeros_like(measured)
            _project(volume, projected, cosine, sine)
            difference = (measured - projected) * row_weight
            update = np.zeros_like(volume)
            _spread(difference, update, cosine, sine)
            volume += column_weight * update
        result[:, start : start + LINES] = volume.transpose(0, 2, 1)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(some_lines, range(0, height, LINES)))
    return result


@jit_fast_math
def _project(volume, views, cosine, sine):  # type: ignore[no-untyped-def]
    """Add the projections of ``volume`` [z, x, y] to ``views`` [tilt, x, y]."""
    centre_z, centre_x, centre_u = (volume.shape[0] - 1) / 2, (volume.shape[1] - 1) / 2, (views.shape[1] - 1) / 2
    for view in range(views.shape[0]):
        for z in range(volume.shape[0]):
            for x in range(volume.shape[1]):
                u = (x - centre_x) * cosine[view] + (z - centre_z) * sine[view] + centre_u
                if u >= 0 and u < views.shape[1] - 1:
                    left = int(u)
                    right_share = np.float32(u - left)
                    left_share = np.float32(1) - right_share
                    for y in range(volume.shape[2]):
                        views[view, left, y] += left_share * volume[z, x, y]
                        views[view, left + 1, y] += right_share * volume[z, x, y]


@jit_fast_math
def _spread(views, volume, cosine, sine):  # type: ignore[no-untyped-def]
    """The transpose of ``_project``: add the views' values to the voxels that they were summed from."""
    centre_z, centre_x, centre_u = (volume.shape[0] - 1) / 2, (volume.shape[1] - 1) / 2, (views.shape[1] - 1) / 2
    for view in range(views.shape[0]):
        for z in range(volume.shape[0]):
            for x in range(volume.shape[1]):
                u = (x - centre_x) * cosine[view] + (z - centre_z) * sine[view] + centre_u
                if u >= 0 and u < views.shape[1] - 1:
                    left = int(u)
                    right_share = np.float32(u - left)
                    left_share = np.float32(1) - right_share
                    for y in range(volume.shape[2]):
                        volume[z, x, y] += left_share * views[view, left, y] + right_share * views[view, left + 1, y]
