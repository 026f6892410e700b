"""Where a molecule fits and how much it touches, by Fourier transforms on a device: the same answers as the bits and loops
of ``voxel_box.py``, for a GPU.

Overlaps are whole numbers far below 2^24, so that rounding the transforms' result makes them exact, on every device.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from template_learning.common.device import Device
from template_learning.common.geometry import Grid
from template_learning.packing.voxel_box import OCCUPIED, WORD, Box, Pose, Voxels


class DeviceBox(Box):
    """A ``Box`` that searches its tiles on a device; placements are those of ``Box``."""

    def __init__(self, grid: Grid, device: Device, **options: Any) -> None:
        super().__init__(grid, **options)
        self.device = device
        self.occupied = device.put(np.zeros(self.taken.shape, np.float32))
        self.touched: NDArray[np.int64] = np.zeros((0, 0, 0), np.int64)

    def free(self, pose: Pose, low: Voxels, high: Voxels) -> NDArray[np.uint64]:
        """As ``Box.free``; the shell's overlaps at the same positions are kept for ``best``."""
        xp, ft = self.device.xp, self.device.fft
        first = np.minimum(pose.shell.min(axis=0), pose.body.min(axis=0))
        last = np.maximum(pose.shell.max(axis=0), pose.body.max(axis=0))
        positions = high - low + 1
        corner, extent = low + self.padding + first, positions + last - first
        padded = [next_fast_len(int(edge), real=True) for edge in extent]
        region = self.occupied[tuple(slice(a, a + n) for a, n in zip(corner, extent, strict=True))]
        spectrum = ft.rfftn(region, s=padded)
        overlaps = []
        for cells in (pose.body, pose.shell):
            kernel = np.zeros(padded, np.float32)
            kernel[tuple((cells - first).T)] = 1
            product = spectrum * xp.conj(ft.rfftn(self.device.put(kernel)))
            overlap = ft.irfftn(product, s=padded)[tuple(slice(0, int(n)) for n in positions)]
            overlaps.append(np.rint(self.device.get(overlap)).astype(np.int64))
        self.touched = overlaps[1]
        bit = np.uint64(1) << ((np.arange(low[2], high[2] + 1) + self.padding[2]) % WORD).astype(np.uint64)
        return np.asarray(np.where(overlaps[0] == 0, bit, np.uint64(0)).sum(axis=2, dtype=np.uint64))

    def best(self, pose: Pose, free: NDArray[np.uint64], low: Voxels, start: int) -> tuple[Voxels, int]:
        """As ``Box.best``, for the positions last given to ``free``."""
        touched = self.touched
        shift = ((np.arange(touched.shape[2]) + low[2] + self.padding[2]) % WORD).astype(np.uint64)
        is_free = (free[..., None] >> shift) & np.uint64(1) > 0
        score = np.where(is_free, touched, -1)
        places = np.flatnonzero(is_free)
        if not len(places):
            return low, -1
        every = max(1, len(places) // self.candidates)
        chosen = places[start % every :: every]
        best = np.array(np.unravel_index(chosen[score.flat[chosen].argmax()], score.shape))
        while every > 1 and score[tuple(best)] > 0:
            corner = np.maximum(best - 1, 0)
            around = score[tuple(slice(a, b + 2) for a, b in zip(corner, best, strict=True))]
            if around.max() <= score[tuple(best)]:
                break
            best = corner + np.array(np.unravel_index(around.argmax(), around.shape))
        return low + best, int(score[tuple(best)])

    def put(self, pose: Pose, position: Voxels) -> None:
        """As ``Box.put``."""
        super().put(pose, position)
        first, last = (
            position + self.padding + pose.occupied.min(axis=0),
            position + self.padding + pose.occupied.max(axis=0) + 1,
        )
        part = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(first, last, strict=True))
        self.occupied[part] = self.device.put((self.taken[part] & OCCUPIED > 0).astype(np.float32))
