"""Planes through samples and tomograms, for pictures."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Plane = Literal["xy", "xz"]


@dataclass(frozen=True)
class Picture:
    """A plane's pixels ``[second axis, first axis]`` with their size in ångström; pixel (0, 0) lies at ``origin``.

    ``depth_angstrom`` is where the plane cuts the third axis.
    """

    pixels: NDArray[Any]
    pixel_size_angstrom: float
    plane: Plane
    depth_angstrom: float
    origin_angstrom: tuple[float, float] = (0.0, 0.0)

    @property
    def extent_angstrom(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top borders."""
        height, width = self.pixels.shape[:2]
        half = self.pixel_size_angstrom / 2
        left, bottom = self.origin_angstrom[0] - half, self.origin_angstrom[1] - half
        return left, left + width * self.pixel_size_angstrom, bottom, bottom + height * self.pixel_size_angstrom

    def at_most(self, width: int) -> "Picture":
        """The picture averaged over squares of whole pixels, so that it is no wider than ``width`` pixels."""
        factor = -(-self.pixels.shape[1] // width)
        if factor == 1:
            return self
        rows, columns = (count // factor for count in self.pixels.shape)
        squares = self.pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
        left, bottom = (edge + (factor - 1) / 2 * self.pixel_size_angstrom for edge in self.origin_angstrom)
        size = self.pixel_size_angstrom * factor
        return replace(self, pixels=squares.mean(axis=(1, 3)), pixel_size_angstrom=size, origin_angstrom=(left, bottom))

    def smoothed(self, sigma_angstrom: float) -> "Picture":
        """The picture smoothed by a Gaussian."""
        pixels = gaussian_filter(self.pixels.astype(np.float32), sigma_angstrom / self.pixel_size_angstrom)
        return replace(self, pixels=pixels)

    def split(self, position_angstrom: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (N, 3) as places in the plane (N, 2) and signed distances from it (N,)."""
        first, second, third = AXES[self.plane]
        return position_angstrom[:, [first, second]], position_angstrom[:, third] - self.depth_angstrom


AXES: dict[Plane, tuple[int, int, int]] = {"xy": (0, 1, 2), "xz": (0, 2, 1)}  # of (x, y, z): across, up, normal


def cut(volume: NDArray[Any], voxel_size_angstrom: float, plane: Plane, depth_angstrom: float) -> Picture:
    """The plane of voxels [z, y, x] nearest to a depth."""
    return slab(volume, voxel_size_angstrom, plane, depth_angstrom, 0.0)


def slab(
    volume: NDArray[Any],
    voxel_size_angstrom: float,
    plane: Plane,
    depth_angstrom: float,
    thickness_angstrom: float,
) -> Picture:
    """The mean of the planes within ``thickness_angstrom`` about a depth; one plane alone keeps the volume's type."""
    axis = 2 - AXES[plane][2]
    middle = int(np.clip(round(depth_angstrom / voxel_size_angstrom), 0, volume.shape[axis] - 1))
    reach = max(0, int(thickness_angstrom / voxel_size_angstrom) // 2)
    index: list[slice] = [slice(None)] * 3
    index[axis] = slice(max(0, middle - reach), middle + reach + 1)
    planes = np.asarray(volume[tuple(index)])
    pixels = planes.take(0, axis=axis) if planes.shape[axis] == 1 else planes.mean(axis=axis, dtype=np.float32)
    return Picture(pixels, voxel_size_angstrom, plane, middle * voxel_size_angstrom)
