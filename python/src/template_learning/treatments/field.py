"""What changes a volume's field [z, y, x]: borders, crops, turns about the beam."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Border = Literal["zero", "mean"]


def add_border(volume: NDArray[Any], width_voxels: int, fill: Border = "zero") -> NDArray[np.float32]:
    """``width_voxels`` of zeros or of the volume's mean added on every side; the centre stays."""
    grey = np.asarray(volume, dtype=np.float32)
    value = 0.0 if fill == "zero" else float(grey.mean(dtype=np.float64))
    return np.pad(grey, width_voxels, constant_values=value)


def crop(volume: NDArray[Any], width_voxels: int) -> NDArray[np.float32]:
    """``width_voxels`` taken off on every side; the centre stays.  ValueError where nothing would be left."""
    if width_voxels * 2 >= min(volume.shape):
        raise ValueError(f"{width_voxels} voxels taken off on each side of {volume.shape}; fewer were expected")
    inside = slice(width_voxels, -width_voxels or None)
    return np.array(volume[inside, inside, inside], dtype=np.float32)


def turn_about_z(volume: NDArray[Any], angle_deg: float) -> NDArray[np.float32]:
    """The volume turned about its centre from x to y; corners that nothing came to are 0, as programs leave them."""
    grey = np.asarray(volume, dtype=np.float32)
    # scipy turns from its second axis to its first: with (y, x) that is from x to y, against the sign of its angle.
    return np.asarray(ndimage.rotate(grey, -angle_deg, axes=(1, 2), reshape=False, order=3, mode="constant", cval=0.0))


def turned_position(
    position_angstrom: NDArray[np.floating], angle_deg: float, shape: tuple[int, int, int], voxel_size_angstrom: float
) -> NDArray[np.float64]:
    """Where (N, 3) positions x, y, z from the centre of voxel (0, 0, 0) of a volume of ``shape`` lie after ``turn_about_z``."""
    centre = (np.array(shape[::-1]) - 1) / 2 * voxel_size_angstrom
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return (np.asarray(position_angstrom, dtype=float) - centre) @ turn.T + centre
