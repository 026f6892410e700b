"""Molecules put into a box of voxels, each where it touches most of what is there: the grid under TETRIS.

A molecule in one pose is two sets of voxels: its *body* must stay clear of what is placed, its *claim* (body and
guard) is what it takes away from those that come later.  The guard is every voxel whose centre is within the distance
asked, plus half a voxel's diagonal, of one of its atoms; the body holds every voxel with an atom in it.  Two atoms of
different molecules can then never be closer than the distance asked, whatever the voxel size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from template_learning.geometry import Grid

Cells = NDArray[np.int32]
HALF_DIAGONAL = np.sqrt(3.0) / 2.0


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code of ``function``, kept on disk between processes where numba finds a folder that it may write to."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:
        return numba.njit(function)


@dataclass(frozen=True)
class Shape:
    """A molecule ready to be packed.

    ``envelope`` is the smoothed density ``[z, y, x]`` divided by its threshold (the body is where it exceeds 1), on
    ``envelope_voxel_angstrom``, origin in its middle; ``atom`` are positions (N, 3) in ångström from the origin.
    """

    envelope: NDArray[np.float32]
    envelope_voxel_angstrom: float
    atom: NDArray[np.float32]
    reach_angstrom: float
    extent_angstrom: NDArray[np.float64]

    @classmethod
    def from_density(
        cls,
        density: NDArray[Any],
        voxel_size_angstrom: float,
        atom: NDArray[np.float32],
        *,
        smoothing_voxels: float,
        threshold: float,
    ) -> "Shape":
        """The paper's binary shape: a Gaussian of ``smoothing_voxels``, then ``threshold`` times the maximum."""
        padding = int(np.ceil(3 * smoothing_voxels))
        smooth = gaussian_filter(np.pad(density.astype(np.float32), padding), smoothing_voxels, mode="constant")
        smooth /= threshold * smooth.max()
        inside = (np.argwhere(smooth > 1.0)[:, ::-1] - (np.array(smooth.shape) - 1) / 2.0) * voxel_size_angstrom
        return cls._measured(smooth, voxel_size_angstrom, atom, inside)

    @classmethod
    def from_atoms(cls, atom: NDArray[np.float32]) -> "Shape":
        """A shape with no envelope: nothing but the voxels that hold atoms."""
        return cls._measured(np.zeros((1, 1, 1), np.float32), 1.0, atom, atom[:0])

    @classmethod
    def _measured(cls, envelope: NDArray[np.float32], voxel: float, atom: NDArray[np.float32], inside: Any) -> "Shape":
        points = np.concatenate([inside, atom.astype(float)])
        axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]
        extent = np.sort(np.ptp(points @ axes.T, axis=0)) + voxel
        reach = float(np.linalg.norm(points, axis=1).max()) + voxel
        return cls(envelope, voxel, atom, reach, extent)


@dataclass(frozen=True)
class Pose:
    """A molecule in one orientation: offsets (N, 3) as [z, y, x] voxels from the voxel that holds its origin."""

    body: Cells
    claim: Cells
    shell: Cells


class Box:
    """The voxels of the sample: which are taken, where the next molecule can go, and what has been refused where.

    The positions are divided into cubic tiles, and a molecule goes to the best position of the first tile (from the
    box's centre outwards) that has room for it; so the work for a molecule does not grow with the box.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        margin_angstrom: float = 0.0,
        distance_angstrom: float = 0.0,
        shell_voxels: float = 2.0,
        tile_voxels: int = 32,
        candidates: int = 400,
        patience: int = 4,
    ) -> None:
        self.grid = grid
        self.margin = int(np.ceil(margin_angstrom / grid.voxel_size_angstrom))
        self.distance_angstrom = distance_angstrom
        self.ball = _ball(shell_voxels)
        self.padding = int(np.ceil(shell_voxels)) + 1
        self.taken = np.zeros(np.array(grid.shape) + 2 * self.padding, np.uint8)
        self.molecules = 0
        self.centre_low = np.array(grid.shape, np.int64)
        self.centre_high = np.full(3, -1, np.int64)
        self.candidates = candidates
        self.patience = patience
        edges = [np.arange(0, edge, tile_voxels) for edge in grid.shape]
        self.tile_low = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 3)
        self.tile_high = np.minimum(self.tile_low + tile_voxels, grid.shape) - 1
        from_centre = (self.tile_low + self.tile_high + 1 - np.array(grid.shape)) / 2.0
        self.tile_order = np.argsort((from_centre**2).sum(axis=1), kind="stable")
        self.tile_reached = np.zeros(len(self.tile_low), bool)
        self.tile_refused: list[list[int]] = [[] for _ in self.tile_low]

    def pose(self, shape: Shape, rotation: Rotation, shift_voxels: NDArray[np.float64]) -> Pose:
        """``shape`` turned by ``rotation``, its origin ``shift_voxels`` (x, y, z) off a voxel's centre."""
        voxel = self.grid.voxel_size_angstrom
        guard = self.distance_angstrom / voxel + HALF_DIAGONAL
        half = int(np.ceil(shape.reach_angstrom / voxel + guard)) + 1 + self.padding
        matrix = rotation.as_matrix().astype(np.float32)
        mask = np.zeros((2 * half + 1,) * 3, np.uint8)
        shift = shift_voxels.astype(np.float32)
        if shape.envelope.size > 1:
            step = matrix.T * np.float32(voxel / shape.envelope_voxel_angstrom)
            _mark_envelope(mask, shape.envelope, step, shift)
        _mark_atoms(mask, shape.atom @ (matrix.T / np.float32(voxel)) + shift, np.float32(guard))
        return Pose(*_split(mask, self.ball))

    def limits(self, pose: Pose) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last origin voxel [z, y, x] at which the body lies inside the box and its margin."""
        low = self.margin - pose.body.min(axis=0)
        high = np.array(self.grid.shape) - 1 - self.margin - pose.body.max(axis=0)
        return low.astype(np.int64), high.astype(np.int64)

    def settle(self, pose: Pose, generator: np.random.Generator) -> NDArray[np.int64] | None:
        """Put a molecule where it touches most in the first tile with room for it; the first molecule to the centre.

        Returns the voxel [z, y, x] of its origin, or None if no tile has room.  A tile that has refused ``patience``
        molecules with no larger a body is passed over.
        """
        low, high = self.limits(pose)
        if (high < low).any():
            return None
        self.centre_low, self.centre_high = np.minimum(self.centre_low, low), np.maximum(self.centre_high, high)
        if self.molecules == 0:
            position = np.clip(np.array(self.grid.shape, np.int64) // 2, low, high)
            self.put(pose, position)
            return position
        size = len(pose.body)
        for tile in self.tile_order:
            refused = self.tile_refused[tile]
            if not self.tile_reached[tile] or sum(other <= size for other in refused) >= self.patience:
                continue
            start = int(generator.integers(2**31))
            position, touched = self.best(pose, self.tile_low[tile], self.tile_high[tile], self.candidates, start)
            if touched > 0:
                self.put(pose, position)
                return position
            if touched < 0:
                refused.append(size)
        return None

    def put(self, pose: Pose, position: NDArray[np.int64]) -> None:
        """Take the voxels of ``pose`` with its origin at voxel ``position`` [z, y, x]."""
        _take(self.taken, pose.claim, position + self.padding, 1)
        _take(self.taken, pose.body, position + self.padding, 2)
        self.molecules += 1
        reach = np.abs(pose.claim).max() * 2 + self.padding
        near = (self.tile_low <= position + reach) & (self.tile_high >= position - reach)
        self.tile_reached |= near.all(axis=1)

    def filled_fraction(self, *, where_centres_may_be: bool = False) -> float:
        """Share of the voxels that are body: of the box, or of the part that the origins of the molecules may take."""
        inner = self.taken[(slice(self.padding, -self.padding),) * 3]
        if where_centres_may_be:
            inner = inner[tuple(slice(a, b + 1) for a, b in zip(self.centre_low, self.centre_high, strict=True))]
        return float(np.mean(inner & 2 > 0)) if inner.size else 0.0

    def best(
        self, pose: Pose, low: NDArray[np.int64], high: NDArray[np.int64], candidates: int, start: int
    ) -> tuple[NDArray[np.int64], int]:
        """Where, with the origin from ``low`` to ``high`` [z, y, x], the body is free and the shell touches most.

        Positions are visited in a scattered order that begins at ``start``; after ``candidates`` free ones the best is
        improved step by step.  Returns the position and the touched voxels (0: free without contact, -1: no room).
        """
        inside_low, inside_high = self.limits(pose)
        low, high = np.maximum(low, inside_low), np.minimum(high, inside_high)
        if (high < low).any():
            return low, -1
        strides = np.array(self.taken.strides, np.int64)
        position, score = _search(
            self.taken.reshape(-1),
            strides,
            (pose.body.astype(np.int64) @ strides),
            (pose.shell.astype(np.int64) @ strides),
            low + self.padding,
            high + self.padding,
            candidates,
            start,
        )
        return position - self.padding, int(score)


def _ball(radius: float) -> Cells:
    edge = int(np.floor(radius))
    offset = np.stack(np.meshgrid(*[np.arange(-edge, edge + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return offset[(offset**2).sum(axis=1) <= radius**2].astype(np.int32)


@_compiled
def _mark_envelope(mask, envelope, step, shift):  # type: ignore[no-untyped-def]
    """Set bits 1 and 2 where the turned envelope exceeds 1 (trilinear)."""
    half = mask.shape[0] // 2
    middle = (envelope.shape[0] - 1) / np.float32(2.0)
    edge = envelope.shape[0] - 1
    for iz in range(mask.shape[0]):
        for iy in range(mask.shape[1]):
            for ix in range(mask.shape[2]):
                x, y, z = ix - half - shift[0], iy - half - shift[1], iz - half - shift[2]
                u = step[0, 0] * x + step[0, 1] * y + step[0, 2] * z + middle
                v = step[1, 0] * x + step[1, 1] * y + step[1, 2] * z + middle
                w = step[2, 0] * x + step[2, 1] * y + step[2, 2] * z + middle
                if u < 0 or v < 0 or w < 0 or u >= edge or v >= edge or w >= edge:
                    continue
                iu, iv, iw = int(u), int(v), int(w)
                fu, fv, fw = u - iu, v - iv, w - iw
                value = np.float32(0.0)
                for dw in range(2):
                    for dv in range(2):
                        weight = (fw if dw else 1 - fw) * (fv if dv else 1 - fv)
                        row = envelope[iw + dw, iv + dv]
                        value += weight * ((1 - fu) * row[iu] + fu * row[iu + 1])
                if value > 1:
                    mask[iz, iy, ix] |= 3


@_compiled
def _mark_atoms(mask, atom, radius):  # type: ignore[no-untyped-def]
    """Set bit 1 in voxels that hold an atom (x, y, z in voxels from the middle), bit 2 within ``radius`` of one."""
    half = mask.shape[0] // 2
    for index in range(atom.shape[0]):
        x, y, z = atom[index, 0] + half, atom[index, 1] + half, atom[index, 2] + half
        mask[int(np.rint(z)), int(np.rint(y)), int(np.rint(x))] |= 3
        for iz in range(int(np.ceil(z - radius)), int(np.floor(z + radius)) + 1):
            for iy in range(int(np.ceil(y - radius)), int(np.floor(y + radius)) + 1):
                left = radius * radius - (iz - z) ** 2 - (iy - y) ** 2
                if left >= 0:
                    wide = np.sqrt(left)
                    for ix in range(int(np.ceil(x - wide)), int(np.floor(x + wide)) + 1):
                        mask[iz, iy, ix] |= 2


@_compiled
def _split(mask, ball):  # type: ignore[no-untyped-def]
    """Offsets of the body (bit 1), of the claim (bit 2) and of the shell (within ``ball`` of the body, outside it)."""
    half = mask.shape[0] // 2
    size = mask.shape[0]
    body_count = claim_count = shell_count = 0
    for iz in range(1, size - 1):
        for iy in range(1, size - 1):
            for ix in range(1, size - 1):
                if mask[iz, iy, ix] & 1:
                    body_count += 1
                    if not (
                        mask[iz - 1, iy, ix]
                        & mask[iz + 1, iy, ix]
                        & mask[iz, iy - 1, ix]
                        & mask[iz, iy + 1, ix]
                        & mask[iz, iy, ix - 1]
                        & mask[iz, iy, ix + 1]
                        & 1
                    ):
                        for index in range(ball.shape[0]):
                            jz, jy, jx = iz + ball[index, 0], iy + ball[index, 1], ix + ball[index, 2]
                            if not mask[jz, jy, jx] & 5:
                                mask[jz, jy, jx] |= 4
                                shell_count += 1
                if mask[iz, iy, ix] & 2:
                    claim_count += 1
    body = np.empty((body_count, 3), np.int32)
    claim = np.empty((claim_count, 3), np.int32)
    shell = np.empty((shell_count, 3), np.int32)
    body_count = claim_count = shell_count = 0
    for iz in range(size):
        for iy in range(size):
            for ix in range(size):
                bits = mask[iz, iy, ix]
                if bits & 1:
                    body[body_count] = iz - half, iy - half, ix - half
                    body_count += 1
                if bits & 2:
                    claim[claim_count] = iz - half, iy - half, ix - half
                    claim_count += 1
                if bits & 4 and not bits & 1:
                    shell[shell_count] = iz - half, iy - half, ix - half
                    shell_count += 1
    return body, claim, shell[:shell_count]


@_compiled
def _take(taken, cells, position, bit):  # type: ignore[no-untyped-def]
    """Set ``bit`` in the cells that lie in the array."""
    for index in range(cells.shape[0]):
        z, y, x = cells[index, 0] + position[0], cells[index, 1] + position[1], cells[index, 2] + position[2]
        if 0 <= z < taken.shape[0] and 0 <= y < taken.shape[1] and 0 <= x < taken.shape[2]:
            taken[z, y, x] |= bit


@_compiled
def _score(taken, here, body, shell):  # type: ignore[no-untyped-def]
    """Touched shell voxels with the origin at flat index ``here``, or -1 where a body voxel is taken."""
    for index in range(body.shape[0]):
        if taken[here + body[index]]:
            return -1
    touched = 0
    for index in range(shell.shape[0]):
        touched += taken[here + shell[index]] & 1
    return touched


@_compiled
def _search(taken, strides, body, shell, low, high, candidates, start):  # type: ignore[no-untyped-def]
    count = high - low + 1
    total = count[0] * count[1] * count[2]
    step = int(total * 0.6180339887) | 1
    while _common_divisor(step, total) > 1:
        step += 2
    best_score, left = -1, candidates
    best = low.copy()
    index = start % total
    for _ in range(total):
        index = (index + step) % total
        z = low[0] + index // (count[1] * count[2])
        y = low[1] + index // count[2] % count[1]
        x = low[2] + index % count[2]
        score = _score(taken, z * strides[0] + y * strides[1] + x * strides[2], body, shell)
        if score >= 0:
            if score > best_score:
                best_score = score
                best[0], best[1], best[2] = z, y, x
            left -= 1
            if left == 0:
                break
    climbing = best_score > 0 and left == 0
    while climbing:
        climbing = False
        centre = best.copy()
        for dz in range(-1, 2):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    z, y, x = centre[0] + dz, centre[1] + dy, centre[2] + dx
                    if low[0] <= z <= high[0] and low[1] <= y <= high[1] and low[2] <= x <= high[2]:
                        score = _score(taken, z * strides[0] + y * strides[1] + x * strides[2], body, shell)
                        if score > best_score:
                            best_score = score
                            best[0], best[1], best[2] = z, y, x
                            climbing = True
    return best, best_score


@_compiled
def _common_divisor(first, second):  # type: ignore[no-untyped-def]
    while second:
        first, second = second, first % second
    return first
