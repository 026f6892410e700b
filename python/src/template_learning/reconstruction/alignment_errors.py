"""Tilt images that are not where they should be: shifted and turned, as after an alignment that is not perfect."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def misalign(
    images: NDArray[np.floating], shift_pixels: NDArray[np.floating], rotation_deg: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Tilt images [tilt, y, x] turned about their centre, from x to y, and then shifted; mirrored at their borders.

    Parameters
    ----------
    images : (T, y, x) array
        The tilt series.
    shift_pixels : (T, 2) array
        Shifts along x and y.
    rotation_deg : (T,) array
        Degrees.

    Returns
    -------
    (T, y, x) array of float32
        Interpolated by cubic splines.
    """
    result = np.empty(images.shape, dtype=np.float32)
    centre = (np.array(images.shape[1:]) - 1) / 2
    for index, image in enumerate(images):
        angle = np.deg2rad(rotation_deg[index])
        # From a pixel (y, x) of the result to where it came from.
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = centre - back @ (centre + np.asarray(shift_pixels[index])[::-1])
        result[index] = ndimage.affine_transform(np.asarray(image, dtype=np.float32), back, offset, order=3, mode="mirror")
    return result


def misalign_at_random(
    images: NDArray[np.floating],
    pixel_angstrom: float,
    shift_error_angstrom: float,
    rotation_error_deg: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """``misalign`` by normal errors of these standard deviations, independent in each tilt, along x and y."""
    shift = generator.normal(size=(len(images), 2)) * shift_error_angstrom / pixel_angstrom
    return misalign(images, shift, generator.normal(size=len(images)) * rotation_error_deg)
