"""Weighted back-projection in IMOD's sense, and tilt images brought to the tomogram's voxel size.

What IMOD's ``tilt`` (4.8.2, ``-COSINTERP 0``) does was found by comparing outputs and in its public source; facts, no code.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.common.compute import jit_fast_math, processors
from template_learning.common.resampling import crop_matrix
from template_learning.reconstruction.radial_filters import RadialFilter, radial_gain

ZERO_WEIGHT = 0.2
"""The ramp at zero frequency, in units of its first bin (Kak and Slaney 1988, chapter 3)."""
LINE_END = 3
"""Pixels at each end of a line whose mean the padding joins."""
SLAB = 8


def resample_images(
    images: NDArray[Any], pixel_angstrom: float, shape: tuple[int, int], voxel_angstrom: float
) -> NDArray[np.float32]:
    """Images [tilt, y, x] on a coarser grid of ``shape`` (y, x) with the same centre: a Fourier crop, for any ratio.

    Each image, mirrored at its borders, is cut to the frequencies that the new pixels hold and evaluated at their
    centres (two products with truncated cosine series).  Grey values keep their mean.
    """
    along_y = _crop_matrix(images.shape[1], pixel_angstrom, shape[0], voxel_angstrom)
    along_x = _crop_matrix(images.shape[2], pixel_angstrom, shape[1], voxel_angstrom).T.copy()
    result = np.empty((len(images), *shape), dtype=np.float32)
    for index, image in enumerate(images):
        np.matmul(along_y @ image.astype(np.float32), along_x, out=result[index])
    return result


def bin_images(images: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Images [tilt, y, x] as means over ``factor`` x ``factor`` pixels, without an antialiasing filter; what is over is cut off.

    The pixels that are left over are cut off on both sides alike, so that the centre stays to half a pixel.
    """
    views, height, width = images.shape
    rows, columns = height // factor, width // factor
    top, left = (height - rows * factor) // 2, (width - columns * factor) // 2
    kept = images[:, top : top + rows * factor, left : left + columns * factor]
    return kept.reshape(views, rows, factor, columns, factor).mean(axis=(2, 4), dtype=np.float32)


def _crop_matrix(count: int, pixel: float, new_count: int, new_pixel: float) -> NDArray[np.float32]:
    """The (new_count, count) matrix between two lines of pixels about the same centre."""
    extent = count * pixel
    place = 0.5 + (np.arange(new_count) - (new_count - 1) / 2) * new_pixel / extent
    return crop_matrix(count, extent / new_pixel, place)


def view_weights(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each view: the tilt intervals about it against the mean interval.

    The nearest interval on each side counts 2, the next 2/3, as in ``tilt``'s default.
    """
    order = np.argsort(angles_deg, kind="stable")
    interval = np.diff(angles_deg[order])
    weights = np.ones(len(angles_deg))
    if len(interval) == 0 or interval.sum() == 0:
        return weights
    for place, view in enumerate(order):
        near = [(place - 1, 2.0), (place, 2.0), (place - 2, 2 / 3), (place + 1, 2 / 3)]
        there = [(interval[index], share) for index, share in near if 0 <= index < len(interval)]
        total = sum(share for _, share in there)
        weights[view] = sum(width * share for width, share in there) / total / interval.mean()
    return weights


def padded_width(width: int) -> int:
    """Pixels to filter a line of ``width`` pixels in: a tenth more (16 to 50), up to a length that the FFT likes."""
    return int(fft.next_fast_len(width + min(50, 2 * max(8, width // 20)), real=True))


def filter_views(
    images: NDArray[np.float32],
    weights: NDArray[np.float64],
    workers: int = 1,
    radial_filter: RadialFilter = "ramp",
    iterations: int = 1,
) -> NDArray[np.float32]:
    """Images [tilt, y, x] after the ramp to Nyquist and the filter, times the views' weights, as [tilt, x, y].

    Lines are padded by a straight slope from the mean of their last three pixels to that of their first three.
    """
    count, height, width = images.shape
    padded = padded_width(width)
    slope = (np.arange(padded - width, dtype=np.float32) + 1) / (padded - width + 1)
    last = images[:, :, -LINE_END:].mean(axis=2, keepdims=True)
    first = images[:, :, :LINE_END].mean(axis=2, keepdims=True)
    ramp = np.arange(padded // 2 + 1, dtype=np.float32)
    ramp[0] = ZERO_WEIGHT
    ramp *= radial_gain(radial_filter, np.arange(padded // 2 + 1) / padded, iterations)
    result = np.empty((count, width, height), dtype=np.float32)

    def one(view: int) -> None:
        lines = np.empty((height, padded), dtype=np.float32)
        lines[:, :width] = images[view]
        lines[:, width:] = last[view] * (1 - slope) + first[view] * slope
        filtered = fft.irfft(fft.rfft(lines, axis=1) * (ramp * np.float32(weights[view])), padded, axis=1)
        result[view] = filtered[:, :width].T

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(count)))
    return result


def back_project(
    images: NDArray[np.float32],
    angles_deg: NDArray[np.float64],
    shape: tuple[int, int, int],
    workers: int | None = None,
    radial_filter: RadialFilter = "ramp",
    iterations: int = 1,
) -> NDArray[np.float32]:
    """The weighted back-projection of a tilt series; the tilt axis is y.

    A voxel at (x, z) from the volume's centre takes each filtered image at u = x cos t + z sin t from the image's centre,
    linearly interpolated; where no image is, it takes what the series' mean gives.  The scale is ``tilt``'s: the true
    density times the padded width over (views x tilt step in radians).

    Parameters
    ----------
    images : (T, y, x) array of float32
        The tilt series, in pixels of the volume's voxel size; the images' y is the volume's y.
    angles_deg : (T,) array
        Tilt angles, degrees.
    shape : (int, int, int)
        [z, y, x] voxels of the volume.
    workers : int, optional
        Threads; all processors without it.
    radial_filter : {"ramp", "hamming_like", "sirt_like"}, optional
        See ``radial_filters``.
    iterations : int, optional
        Those that the SIRT-like filter stands for.

    Returns
    -------
    (z, y, x) array of float32
        The volume; it shares the images' centre.

    References
    ----------
    Radermacher, in Electron Tomography (1992).
    """
    workers = workers or processors()
    weights = view_weights(angles_deg)
    views = filter_views(images, weights / len(images), workers, radial_filter, iterations)
    fill = (images.mean(dtype=np.float64) * ZERO_WEIGHT * weights / len(images)).astype(np.float32)
    angles = np.deg2rad(angles_deg)
    cosine, sine = np.cos(angles), np.sin(angles)
    depth, height, width = shape
    result = np.empty(shape, dtype=np.float32)

    def slab(start: int) -> None:
        planes = np.zeros((min(SLAB, depth - start), width, height), dtype=np.float32)
        _add_views(planes, views, cosine, sine, fill, start - (depth - 1) / 2)
        result[start : start + SLAB] = planes.transpose(0, 2, 1)

    _add_views(np.zeros((0, width, height), dtype=np.float32), views, cosine, sine, fill, 0.0)  # compiled once, not per thread
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(slab, range(0, depth, SLAB)))
    return result


@jit_fast_math
def _add_views(planes, views, cosine, sine, fill, first_z):  # type: ignore[no-untyped-def]
    """Add every view's values to ``planes`` [z, x, y]; y is innermost since all of a line shares one u."""
    centre_x, centre_u = (planes.shape[1] - 1) / 2, (views.shape[1] - 1) / 2
    for x in range(planes.shape[1]):
        for z in range(planes.shape[0]):  # inside x, since neighbours in z read the same lines of the views
            line = planes[z, x]
            for view in range(views.shape[0]):
                u = (x - centre_x) * cosine[view] + (z + first_z) * sine[view] + centre_u
                if u < 0 or u >= views.shape[1] - 1:
                    for y in range(line.shape[0]):
                        line[y] += fill[view]
                else:
                    left = int(u)
                    right_share = np.float32(u - left)
                    left_share = np.float32(1) - right_share
                    for y in range(line.shape[0]):
                        line[y] += left_share * views[view, left, y] + right_share * views[view, left + 1, y]
