"""Grey values of volumes [z, y, x] as files and programs leave them: whole numbers, cut, sloped, inverted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cut_percentiles(volume: NDArray[Any], percent: float) -> NDArray[np.float32]:
    """Grey values beyond the lowest and the highest ``percent`` of the voxels brought to those limits."""
    grey = np.asarray(volume, dtype=np.float32)
    low, high = np.percentile(grey, (percent, 100 - percent))
    return np.asarray(np.clip(grey, np.float32(low), np.float32(high)), dtype=np.float32)


def as_bytes(volume: NDArray[Any], cut_percent: float = 0.1) -> NDArray[np.uint8]:
    """Grey values between two percentiles on 0 to 255, rounded; 0 where they are all the same."""
    return _whole_numbers(volume, cut_percent, 0, 255).astype(np.uint8)


def as_words(volume: NDArray[Any], cut_percent: float = 0.0) -> NDArray[np.int16]:
    """Grey values between two percentiles on -32000 to 32000, rounded."""
    return _whole_numbers(volume, cut_percent, -32000, 32000).astype(np.int16)


def _whole_numbers(volume: NDArray[Any], cut_percent: float, lowest: int, highest: int) -> NDArray[np.float64]:
    cut = cut_percentiles(volume, cut_percent).astype(np.float64)
    low, high = cut.min(), cut.max()
    span = high - low or 1.0
    return np.round(lowest + (cut - low) / span * (highest - lowest))


def add_slope(volume: NDArray[Any], slope_sigma: float, direction_deg: float = 0.0) -> NDArray[np.float32]:
    """A ramp of grey values across the field added, ``slope_sigma`` standard deviations from edge to edge.

    It rises in the direction ``direction_deg`` from x to y, and is 0 at the centre.
    """
    grey = np.asarray(volume, dtype=np.float32)
    y, x = (np.linspace(-0.5, 0.5, count, dtype=np.float32) for count in grey.shape[1:])
    turn = np.deg2rad(direction_deg)
    ramp = np.float32(np.cos(turn)) * x[None] + np.float32(np.sin(turn)) * y[:, None]
    return np.asarray(grey + np.float32(slope_sigma * grey.std(dtype=np.float64)) * ramp, dtype=np.float32)


def invert(volume: NDArray[Any]) -> NDArray[np.float32]:
    """Grey values mirrored about their mean: protein dark becomes protein bright."""
    grey = np.asarray(volume, dtype=np.float32)
    return np.asarray(np.float32(2 * grey.mean(dtype=np.float64)) - grey, dtype=np.float32)
