"""How a tomogram's grey values are brought to the scale that networks see: by what, and over which of its voxels."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Normalisation = Literal["tomogram", "patch", "robust", "percentile"]
NORMAL_QUARTILE = 0.6744897501960817
"""The normal distribution's median absolute deviation, in standard deviations."""
BUT_CONSTANTS: tuple[Normalisation, ...] = ("robust", "percentile")
"""Those that leave constant voxels out, where the network then sees nothing."""
PERCENTILE = 99.0
NORMAL_PERCENTILE = 2.5758293035489004
"""The normal distribution's percentile of absolute values, in standard deviations."""
VALUES = 2**24
"""Medians are taken of about as many voxels at most, evenly chosen."""


def grey_statistics(data: NDArray[Any], normalisation: Normalisation = "tomogram") -> tuple[float, float]:
    """Level and spread of a volume [z, y, x], those that networks see as 0 and 1.

    ``robust``: median, and median absolute deviation in the normal distribution's standard deviations, of the voxels that
    are not constant.  Else mean and standard deviation of all, section by section (memory maps are not read whole).
    NaN, or a spread of 0, where there are no such voxels.
    """
    if normalisation in BUT_CONSTANTS:
        return _median_and_spread(np.asarray(data)[~constant_voxels(data)], normalisation)
    total = sum(float(np.sum(section, dtype=np.float64)) for section in data)
    mean = total / data.size
    squares = sum(float(np.sum((section.astype(np.float64) - mean) ** 2)) for section in data)
    return mean, float(np.sqrt(squares / data.size))


def band_deviation(
    band: NDArray[np.float32], constant: NDArray[np.bool_] | None, normalisation: Normalisation = "robust"
) -> float:
    """Standard deviation of a filtered volume; with ``constant``, the spread by ``normalisation`` of what was not constant before."""
    return float(band.std()) if constant is None else _median_and_spread(band[~constant], normalisation)[1]


def constant_voxels(data: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels [z, y, x] that equal a neighbour along each axis, and whole sections of one value: paddings and what was masked.

    Where grey values are measured, hardly a voxel is so, not even in 8 bits.
    """
    volume = np.asarray(data)
    constant = np.ones(volume.shape, dtype=bool)
    for axis in range(3):
        same = np.diff(volume, axis=axis) == 0
        none = np.zeros_like(same.take([0], axis=axis)) if volume.shape[axis] > 1 else np.zeros(volume.shape, dtype=bool)
        before, after = np.concatenate([none, same], axis=axis), np.concatenate([same, none], axis=axis)
        constant &= before | after
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        constant |= np.ptp(volume, axis=others, keepdims=True) == 0
    return constant


def without_constants(data: NDArray[Any], level: float) -> NDArray[np.float32]:
    """The volume, its constant voxels at ``level``: a network sees nothing there."""
    return np.where(constant_voxels(data), np.float32(level), np.asarray(data, dtype=np.float32))


def _median_and_spread(values: NDArray[Any], normalisation: Normalisation) -> tuple[float, float]:
    if not values.size:
        return float("nan"), 0.0
    chosen = values[:: -(-values.size // VALUES)].astype(np.float32)
    median = float(np.median(chosen))
    distance = np.abs(chosen - np.float32(median))
    if normalisation == "percentile":
        return median, float(np.percentile(distance, PERCENTILE)) / NORMAL_PERCENTILE
    return median, float(np.median(distance)) / NORMAL_QUARTILE
