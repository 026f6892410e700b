"""Where the ice is: a slab that goes on beyond the field, or a cuboid that ends, seen along the beam."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slab:
    """Ice of one thickness that fills the field at every tilt: its ends are never seen."""

    thickness_angstrom: float

    def path_angstrom(self, tilt_deg: float) -> float:
        """Way of the beam through the ice."""
        return self.thickness_angstrom / float(np.cos(np.deg2rad(tilt_deg)))


@dataclass(frozen=True)
class Cuboid:
    """Ice with edge lengths (x, y, z) in ångström about the sample's centre, and vacuum around it.

    Its ends make Fresnel fringes, and at a tilt the path differs from place to place.  On the image it lies off the
    sample's centre by ``offset_angstrom`` (x, y).
    """

    length_angstrom: tuple[float, float, float]
    offset_angstrom: tuple[float, float] = (0.0, 0.0)

    def path_angstrom(self, tilt_deg: float) -> float:
        """Longest way of the beam through the ice."""
        low, high = self.extent(tilt_deg, np.linspace(-0.5, 0.5, 257) * self.length_angstrom[0])
        return float((high - low).max())

    def extent(self, tilt_deg: float, u_angstrom: Array) -> tuple[Array, Array]:
        """Where the beam at u (from the tilt axis) enters and leaves the ice; the same place where it misses it."""
        cosine, sine = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
        x_half, z_half = self.length_angstrom[0] / 2, self.length_angstrom[2] / 2
        # In the sample's frame the beam at u is x = u cos - w sin, z = u sin + w cos.
        low, high = np.full(u_angstrom.shape, -np.inf), np.full(u_angstrom.shape, np.inf)
        for start, slope, half in ((u_angstrom * cosine, -sine, x_half), (u_angstrom * sine, cosine, z_half)):
            if abs(slope) < 1e-9:
                outside = np.abs(start) > half
                low, high = np.where(outside, 0.0, low), np.where(outside, 0.0, high)
                continue
            ends = np.sort([(-half - start) / slope, (half - start) / slope], axis=0)
            low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
        return np.minimum(low, high), np.where(low < high, high, np.minimum(low, high))

    def path_between(self, tilt_deg: float, u_angstrom: Array, v_angstrom: Array, low: float, high: float) -> Array:
        """Ice in ångström between two planes across the beam, [v, u], each value the mean over a pixel."""
        step = u_angstrom[1] - u_angstrom[0]
        u_angstrom, v_angstrom = u_angstrom - self.offset_angstrom[0], v_angstrom - self.offset_angstrom[1]
        fine = (u_angstrom[:, None] + step * (np.arange(4) - 1.5) / 4).ravel()
        start, end = self.extent(tilt_deg, fine)
        row = np.clip(np.clip(end, low, high) - np.clip(start, low, high), 0, None).reshape(-1, 4).mean(axis=1)
        covered = np.clip((self.length_angstrom[1] / 2 - np.abs(v_angstrom)) / step + 0.5, 0, 1)
        return covered[:, None] * row[None, :]
