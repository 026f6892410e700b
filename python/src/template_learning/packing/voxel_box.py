"""Molecules put into a box of voxels, each where it touches most of what is there: the grid under TETRIS.

A molecule in one pose is two sets of voxels: its *body* must stay clear of what is placed, its *occupied* voxels are what it takes
away from those that come later.  By the paper's figure both are its binarised density; by the released script the body is
that, eroded, so that the rims of two molecules may lie in each other.  Where a distance between atoms is asked for, the body also holds every voxel with an atom in it, and what it occupies every voxel whose centre is within that distance,
plus some slack, of an atom.  With a slack of half a voxel's diagonal two atoms of different molecules are then never
closer than asked; with less, the positions that the grid allows are still to be tested atom by atom (``clear``).

What is taken is kept one bit a voxel, 64 voxels of x in a word and the words of one column side by side along y, so
that one body voxel is tested at 64 positions with a few operations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from template_learning.common.compute import jit
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid

Voxels = NDArray[np.int64]
HALF_DIAGONAL = np.sqrt(3.0) / 2.0
WORD = 64
BODY, OCCUPIED, SHELL = 1, 2, 4


@dataclass(frozen=True)
class Shape:
    """A molecule ready to be packed, in its own frame, (x, y, z) in ångström from its origin.

    ``envelope`` is its smoothed density ``[z, y, x]`` over the threshold (the body is where it exceeds 1), origin in
    the middle; ``inside`` the centres (N, 3) of the voxels where it does; both are empty for a body made of atoms alone.
    """

    atom: NDArray[np.float32]
    envelope: NDArray[np.float32]
    envelope_voxel_angstrom: float
    inside: NDArray[np.float32]

    @classmethod
    def from_density(
        cls,
        density: NDArray[Any],
        voxel_size_angstrom: float,
        atom: NDArray[np.float32],
        *,
        smoothing_voxels: float,
        threshold: float | None = None,
        level: float | None = None,
    ) -> "Shape":
        """A binary shape: a Gaussian of ``smoothing_voxels``, then ``threshold`` times the maximum, or else the grey ``level``.

        Raises BadInput for a density that does not reach the level.
        """
        padding = int(np.ceil(3 * smoothing_voxels))
        smooth = gaussian_filter(np.pad(density.astype(np.float32), padding), smoothing_voxels, mode="constant")
        if threshold is not None:
            level = threshold * float(smooth.max())
        if level is None or smooth.max() <= level:
            raise BadInput(
                f"a density of {smooth.max():.3g} at most after the Gaussian, below the level {level}; a lower one was expected"
            )
        smooth /= level
        inside = (np.argwhere(smooth > 1.0)[:, ::-1] - (smooth.shape[0] - 1) / 2.0) * voxel_size_angstrom
        return cls(atom, smooth, voxel_size_angstrom, inside.astype(np.float32))

    @classmethod
    def from_atoms(cls, atom: NDArray[np.float32]) -> "Shape":
        """A body of the voxels that hold atoms, nothing more."""
        return cls(atom, np.zeros((0, 0, 0), np.float32), 1.0, np.zeros((0, 3), np.float32))

    def extent_angstrom(self) -> NDArray[np.float64]:
        """Lengths along the principal axes, ascending."""
        points = np.concatenate([self.atom, self.inside]).astype(float)
        axes = np.linalg.eigh(np.cov(points.T))[1]
        return np.sort(np.ptp(points @ axes, axis=0))


@dataclass(frozen=True)
class Pose:
    """A molecule in one orientation: offsets (N, 3) as [z, y, x] voxels from the voxel that holds its origin."""

    body: Voxels
    occupied: Voxels
    shell: Voxels


class Box:
    """The voxels of the sample: which are taken, where the next molecule can go, and what has been refused where.

    ``margin_angstrom`` [z, y, x] stays free of bodies at both sides of the box, ``centre_margin_angstrom`` of the origins of
    molecules.  Bodies made of densities are eroded by a ball of ``erosion_voxels``, at least to the origin's voxel.  The positions are divided into tiles, and a molecule goes to the best position of the first tile (from the box's
    centre outwards) that has room for it; so the work for a molecule does not grow with the box.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        margin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
        centre_margin_angstrom: float = 0.0,
        erosion_voxels: float = 0.0,
        distance_angstrom: float = 0.0,
        shell_voxels: float = 2.0,
        tile_voxels: int = 32,
        candidates: int = 400,
        patience: int = 10,
        attempts: int = 8,
        slack_voxels: float = float(HALF_DIAGONAL),
    ) -> None:
        self.grid = grid
        self.margin = np.ceil(np.array(margin_angstrom) / grid.voxel_size_angstrom - 1e-6).astype(np.int64)
        # An origin lies up to half a voxel off its voxel's centre, which lies half a voxel off the voxel's face.
        self.centre_margin = np.int64(np.ceil(centre_margin_angstrom / grid.voxel_size_angstrom - 1e-6))
        self.eroded = _ball(erosion_voxels)
        self.distance_angstrom = distance_angstrom
        self.ball = _ball(shell_voxels)
        self.candidates, self.attempts = candidates, attempts
        self.guard_voxels = distance_angstrom / grid.voxel_size_angstrom + slack_voxels + 1e-3  # the last for float32
        self.padding = np.array([int(np.ceil(shell_voxels)) + 1] * 2 + [WORD])
        depth, height, width = np.array(grid.shape) + 2 * self.padding
        self.bits = np.zeros((depth, (width + WORD - 1) // WORD + 1, height), np.uint64)
        self.taken = np.zeros((depth, height, width), np.uint8)
        self.molecules = self.body_voxels = 0
        self.centre_low = np.array(grid.shape, np.int64)
        self.centre_high = np.full(3, -1, np.int64)
        tile = np.array([tile_voxels, tile_voxels, WORD])
        edges = [np.arange(0, edge, step) for edge, step in zip(grid.shape, tile, strict=True)]
        low = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 3)
        high = np.minimum(low + tile, grid.shape) - 1
        order = np.argsort((((low + high + 1 - np.array(grid.shape)) / 2.0) ** 2).sum(axis=1), kind="stable")
        self.tile_low, self.tile_high = low[order], high[order]
        self.tile_reached = np.zeros(len(low), bool)
        # the sizes of the smallest bodies that each tile refused, ascending: larger ones are not tried there any more
        self.tile_refused = np.full((len(low), patience), np.iinfo(np.int64).max)

    def pose(self, shape: Shape, rotation: Rotation, shift_voxels: NDArray[np.float64]) -> Pose:
        """``shape`` turned by ``rotation``, its origin ``shift_voxels`` (x, y, z) off a voxel's centre."""
        voxel = self.grid.voxel_size_angstrom
        matrix = rotation.as_matrix().astype(np.float32)
        turn, shift = matrix.T / np.float32(voxel), shift_voxels.astype(np.float32)
        by_atoms = self.distance_angstrom > 0 or not shape.envelope.size
        guard = self.guard_voxels
        points = _turned(np.concatenate([shape.inside, shape.atom]) if by_atoms else shape.inside, turn, shift)
        border = int(np.ceil(max(guard, 1.0))) + int(self.padding[0])
        low = np.floor(points.min(axis=1)).astype(np.int64)[::-1] - border
        high = np.ceil(points.max(axis=1)).astype(np.int64)[::-1] + border
        mask = np.zeros(high - low + 1, np.uint8)
        if shape.envelope.size:
            _mark_envelope(mask, low, shape.envelope, matrix.T * np.float32(voxel / shape.envelope_voxel_angstrom), shift)
        if len(self.eroded) > 1:  # the shell is that of the whole body, and its rim counts as shell
            _mark_shell(mask, self.ball)
            _erode(mask, low, self.eroded)
        if by_atoms:
            _mark_atoms(mask, low, points[:, len(shape.inside) :], np.float32(guard))
        _mark_shell(mask, self.ball)
        return Pose(*(_offsets(mask, low, bit) for bit in (BODY, OCCUPIED, SHELL)))

    def edges_angstrom(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest (x, y, z) of an atom, from the centre of voxel (0, 0, 0)."""
        voxel, margin = self.grid.voxel_size_angstrom, self.margin[::-1].astype(np.float64)
        return (margin - 0.5) * voxel, (np.array(self.grid.shape[::-1]) - 0.5 - margin) * voxel

    def limits(self, pose: Pose) -> tuple[Voxels, Voxels]:
        """First and last origin voxel [z, y, x] at which the body lies inside the box and its margin, and the origin off it."""
        low = np.maximum(self.margin - pose.body.min(axis=0), self.centre_margin)
        last = np.array(self.grid.shape) - 1
        high = np.minimum(last - self.margin - pose.body.max(axis=0), last - self.centre_margin)
        return low, high

    def place_best(self, pose: Pose, generator: np.random.Generator, clear: Callable[[Voxels], bool]) -> Voxels | None:
        """Put a molecule where it touches most in the first tile with room for it; the first molecule to the centre.

        ``clear`` has the last word on a position.  Returns the voxel [z, y, x] of the molecule's origin, or None if no
        tile has room.  A tile that has refused ``patience`` molecules with no larger a body is passed over.
        """
        low, high = self.limits(pose)
        if (high < low).any():
            return None
        self._note_limits(low, high)
        if self.molecules == 0:
            position = np.clip(np.array(self.grid.shape) // 2, low, high)
            self.put(pose, position)
            return position
        size = len(pose.body)
        start = int(generator.integers(2**31))
        for tile in np.flatnonzero(self.tile_reached & (self.tile_refused[:, -1] > size)):
            tile_low, tile_high = np.maximum(self.tile_low[tile], low), np.minimum(self.tile_high[tile], high)
            if (tile_low > tile_high).any():
                continue
            free = self.free(pose, tile_low, tile_high)
            for _ in range(self.attempts):
                position, touched = self.best(pose, free, tile_low, start)
                if touched <= 0:
                    break
                if clear(position):
                    self.put(pose, position)
                    return position
                _strike_out(free, position - tile_low, self.padding[2] + tile_low[2])
            if touched != 0:
                self.tile_refused[tile, -1] = size
                self.tile_refused[tile].sort()
        return None

    def place_random(
        self, pose: Pose, generator: np.random.Generator, clear: Callable[[Voxels], bool], tries: int = 1000
    ) -> Voxels | None:
        """Put a molecule at the first of ``tries`` uniformly random positions that is free and clear; None if none is."""
        low, high = self.limits(pose)
        if (high < low).any():
            return None
        self._note_limits(low, high)
        positions = generator.integers(low, high + 1, (tries, 3))
        while len(positions):
            found = _first_free(self.taken, pose.body, positions + self.padding)
            if found < 0:
                return None
            position = np.asarray(positions[found])
            if clear(position):
                self.put(pose, position)
                return position
            positions = positions[found + 1 :]
        return None

    def _note_limits(self, low: Voxels, high: Voxels) -> None:
        self.centre_low, self.centre_high = np.minimum(self.centre_low, low), np.maximum(self.centre_high, high)

    def free(self, pose: Pose, low: Voxels, high: Voxels) -> NDArray[np.uint64]:
        """One bit for each origin voxel from ``low`` to ``high`` [z, y, x] in one tile, as [z, y]: set where the body is free."""
        return np.asarray(_free(self.bits, pose.body, low + self.padding, high + self.padding))

    def best(self, pose: Pose, free: NDArray[np.uint64], low: Voxels, start: int) -> tuple[Voxels, int]:
        """Where, of the ``free`` positions of a tile that begins at ``low``, the shell touches most of what is there.

        At most ``candidates``, scattered from ``start`` on, are correlated, and the best is improved step by step.
        Returns the position and the touched voxels (0: free without contact, -1: none free).
        """
        position, touched = _best(free, self.taken, pose.shell, low + self.padding, self.candidates, start)
        return position - self.padding, int(touched)

    def put(self, pose: Pose, position: Voxels) -> None:
        """Take the voxels of ``pose`` with its origin at voxel ``position`` [z, y, x]."""
        _take(self.bits, self.taken, pose.occupied, position + self.padding, OCCUPIED)
        _take(self.bits, self.taken, pose.body, position + self.padding, BODY)
        self.molecules += 1
        self.body_voxels += len(pose.body)
        reach = np.abs(pose.occupied).max() * 2 + self.padding[0]
        self.tile_reached |= ((self.tile_low <= position + reach) & (self.tile_high >= position - reach)).all(axis=1)

    def exclude(self, pose: Pose, position: Voxels) -> None:
        """Take the molecule away again and keep its place free."""
        self.taken[tuple((pose.body + position + self.padding).T)] &= OCCUPIED
        self.molecules -= 1
        self.body_voxels -= len(pose.body)

    def filled_fraction(self, *, where_centres_may_be: bool = False) -> float:
        """Share of the voxels that are body: of the box, or of the part that the origins of the molecules may take."""
        inner = self.taken[tuple(slice(edge, -edge) for edge in self.padding)]
        if where_centres_may_be:
            inner = inner[tuple(slice(a, b + 1) for a, b in zip(self.centre_low, self.centre_high, strict=True))]
        return float(np.mean(inner & BODY > 0)) if inner.size else 0.0


def _erode(mask: NDArray[np.uint8], low: Voxels, ball: Voxels) -> None:
    """Leave of the body what lies ``ball`` deep in it, or the origin's voxel (``mask`` begins at ``low``); its rim is shell."""
    edge = np.abs(ball).max()
    body = np.pad(mask & BODY, edge)
    core = np.ones(mask.shape, np.uint8)
    for offset in ball:
        core &= body[tuple(slice(edge + step, edge + step + size) for step, size in zip(offset, mask.shape, strict=True))]
    if not core.any():
        core[tuple(-low)] = 1
    mask[(mask & BODY > 0) & (core == 0)] ^= BODY | SHELL
    mask[core > 0] = (mask[core > 0] | BODY | OCCUPIED) & ~np.uint8(SHELL)


def _ball(radius: float) -> Voxels:
    edge = int(np.floor(radius))
    offset = np.stack(np.meshgrid(*[np.arange(-edge, edge + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return offset[(offset**2).sum(axis=1) <= radius**2].astype(np.int64)


@jit
def _mark_envelope(mask, low, envelope, step, shift):  # type: ignore[no-untyped-def]
    """Body and occupied where the turned envelope exceeds 1 (trilinear)."""
    middle = (envelope.shape[0] - 1) / 2.0
    edge = envelope.shape[0] - 1
    for iz in range(mask.shape[0]):
        for iy in range(mask.shape[1]):
            for ix in range(mask.shape[2]):
                x, y, z = ix + low[2] - shift[0], iy + low[1] - shift[1], iz + low[0] - shift[2]
                u = step[0, 0] * x + step[0, 1] * y + step[0, 2] * z + middle
                v = step[1, 0] * x + step[1, 1] * y + step[1, 2] * z + middle
                w = step[2, 0] * x + step[2, 1] * y + step[2, 2] * z + middle
                if u < 0 or v < 0 or w < 0 or u >= edge or v >= edge or w >= edge:
                    continue
                iu, iv, iw = int(u), int(v), int(w)
                fu, fv, fw = u - iu, v - iv, w - iw
                value = 0.0
                for dw in range(2):
                    for dv in range(2):
                        weight = (fw if dw else 1 - fw) * (fv if dv else 1 - fv)
                        row = envelope[iw + dw, iv + dv]
                        value += weight * ((1 - fu) * row[iu] + fu * row[iu + 1])
                if value > 1:
                    mask[iz, iy, ix] |= BODY | OCCUPIED


@jit
def _turned(points, turn, shift):  # type: ignore[no-untyped-def]
    """``points @ turn + shift`` as (3, N)."""
    moved = np.empty((3, points.shape[0]), np.float32)
    for axis in range(3):
        for index in range(points.shape[0]):
            moved[axis, index] = (
                points[index, 0] * turn[0, axis] + points[index, 1] * turn[1, axis] + points[index, 2] * turn[2, axis]
            ) + shift[axis]
    return moved


@jit
def _mark_atoms(mask, low, atom, radius):  # type: ignore[no-untyped-def]
    """Body in voxels that hold an atom ((3, N) as x, y, z in voxels), occupied within ``radius`` of one."""
    for index in range(atom.shape[1]):
        x = atom[0, index] - np.float32(low[2])
        y = atom[1, index] - np.float32(low[1])
        z = atom[2, index] - np.float32(low[0])
        mask[int(z + np.float32(0.5)), int(y + np.float32(0.5)), int(x + np.float32(0.5))] |= BODY | OCCUPIED
        for iz in range(int(z - radius) + 1, int(z + radius) + 1):
            for iy in range(int(y - radius) + 1, int(y + radius) + 1):
                left = radius * radius - (np.float32(iz) - z) ** 2 - (np.float32(iy) - y) ** 2
                if left >= 0:
                    wide = np.sqrt(left)
                    for ix in range(int(x - wide) + 1, int(x + wide) + 1):
                        mask[iz, iy, ix] |= OCCUPIED


@jit
def _mark_shell(mask, ball):  # type: ignore[no-untyped-def]
    """Shell within ``ball`` of the body, outside it; the body does not come near the mask's border."""
    for iz in range(1, mask.shape[0] - 1):
        for iy in range(1, mask.shape[1] - 1):
            for ix in range(1, mask.shape[2] - 1):
                around = mask[iz - 1, iy, ix] & mask[iz + 1, iy, ix] & mask[iz, iy - 1, ix]
                around &= mask[iz, iy + 1, ix] & mask[iz, iy, ix - 1] & mask[iz, iy, ix + 1]
                if mask[iz, iy, ix] & BODY and not around & BODY:
                    for index in range(ball.shape[0]):
                        jz, jy, jx = iz + ball[index, 0], iy + ball[index, 1], ix + ball[index, 2]
                        if not mask[jz, jy, jx] & BODY:
                            mask[jz, jy, jx] |= SHELL


@jit
def _offsets(mask, low, bit):  # type: ignore[no-untyped-def]
    """Offsets (N, 3) of the cells with ``bit``, neighbours far apart in the list, so that its start samples them all."""
    count = 0
    for cell in mask.flat:
        if cell & bit:
            count += 1
    offset = np.empty((count, 3), np.int64)
    step = int(count * 0.6180339887) | 1
    while count > 1 and np.gcd(step, count) > 1:
        step += 2
    index = 0
    for iz in range(mask.shape[0]):
        for iy in range(mask.shape[1]):
            for ix in range(mask.shape[2]):
                if mask[iz, iy, ix] & bit:
                    offset[index, 0] = iz + low[0]
                    offset[index, 1] = iy + low[1]
                    offset[index, 2] = ix + low[2]
                    index = (index + step) % count
    return offset


@jit
def _take(bits, taken, cells, position, bit):  # type: ignore[no-untyped-def]
    """Set ``bit`` (and for an occupied voxel the packed bit) in the cells that lie in the array."""
    for index in range(cells.shape[0]):
        z, y, x = cells[index, 0] + position[0], cells[index, 1] + position[1], cells[index, 2] + position[2]
        if 0 <= z < taken.shape[0] and 0 <= y < taken.shape[1] and 0 <= x < taken.shape[2]:
            taken[z, y, x] |= bit
            if bit == OCCUPIED:
                bits[z, x // WORD, y] |= np.uint64(1) << np.uint64(x % WORD)


@jit
def _free(bits, body, low, high):  # type: ignore[no-untyped-def]
    """One bit for each position from ``low`` to ``high`` (x within one word), as [z, y]: set where the body is free."""
    word = low[2] // WORD
    depth, height = high[0] - low[0] + 1, high[1] - low[1] + 1
    everything = (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(WORD - 1 - high[2] % WORD)) & (
        np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(low[2] % WORD)
    )
    free = np.full((depth, height), everything, np.uint64)
    rows = np.arange(depth)
    alive = depth
    for index in range(body.shape[0]):
        dz, dy, dx = body[index, 0], body[index, 1], body[index, 2]
        column, right = word + dx // WORD, np.uint64(dx % WORD)
        left = np.uint64(WORD) - right
        first = low[1] + dy
        for row in range(alive):
            iz = rows[row]
            target = free[iz]
            lower = bits[low[0] + iz + dz, column, first : first + height]
            if right == 0:
                for iy in range(height):
                    target[iy] &= ~lower[iy]
            else:
                upper = bits[low[0] + iz + dz, column + 1, first : first + height]
                for iy in range(height):
                    target[iy] &= ~((lower[iy] >> right) | (upper[iy] << left))
        if index % 8 == 7:
            kept = 0
            for row in range(alive):
                some = np.uint64(0)
                for iy in range(height):
                    some |= free[rows[row], iy]
                if some:
                    rows[kept] = rows[row]
                    kept += 1
            alive = kept
            if alive == 0:
                break
    return free


@jit
def _first_free(taken, body, positions):  # type: ignore[no-untyped-def]
    """Index of the first of ``positions`` where the body meets nothing, or -1."""
    for number in range(positions.shape[0]):
        free = True
        for index in range(body.shape[0]):
            z, y, x = (
                positions[number, 0] + body[index, 0],
                positions[number, 1] + body[index, 1],
                positions[number, 2] + body[index, 2],
            )
            if taken[z, y, x]:
                free = False
                break
        if free:
            return number
    return -1


@jit
def _touched(taken, shell, z, y, x):  # type: ignore[no-untyped-def]
    """Number of shell voxels that are occupied, with the origin at (z, y, x)."""
    touched = 0
    for index in range(shell.shape[0]):
        touched += taken[z + shell[index, 0], y + shell[index, 1], x + shell[index, 2]] & OCCUPIED
    return touched // OCCUPIED


@jit
def _strike_out(free, row, x):  # type: ignore[no-untyped-def]
    """Unset the position ``row`` [z, y, x] from the start of the tile, which is at padded ``x``, and its neighbours."""
    bit = (x + row[2]) % WORD
    around = np.uint64(0)
    for other in range(max(bit - 1, 0), min(bit + 1, WORD - 1) + 1):
        around |= np.uint64(1) << np.uint64(other)
    for iz in range(max(row[0] - 1, 0), min(row[0] + 2, free.shape[0])):
        for iy in range(max(row[1] - 1, 0), min(row[1] + 2, free.shape[1])):
            free[iz, iy] &= ~around


@jit
def _best(free, taken, shell, low, candidates, start):  # type: ignore[no-untyped-def]
    best_score = -1
    best = low.copy()
    count = 0
    for iz in range(free.shape[0]):
        for iy in range(free.shape[1]):
            left = free[iz, iy]
            while left:
                left &= left - np.uint64(1)
                count += 1
    if count == 0:
        return best, best_score
    # every n-th free position, the first drawn
    every = max(1, count // candidates)
    until = start % every
    word = low[2] // WORD * WORD
    for iz in range(free.shape[0]):
        for iy in range(free.shape[1]):
            if free[iz, iy]:
                for bit in range(WORD):
                    if (free[iz, iy] >> np.uint64(bit)) & np.uint64(1):
                        if until == 0:
                            until = every
                            score = _touched(taken, shell, low[0] + iz, low[1] + iy, word + bit)
                            if score > best_score:
                                best_score = score
                                best[0], best[1], best[2] = low[0] + iz, low[1] + iy, word + bit
                        until -= 1
    climbing = best_score > 0 and every > 1
    while climbing:
        climbing = False
        centre = best.copy()
        for z in range(max(centre[0] - 1, low[0]), min(centre[0] + 1, low[0] + free.shape[0] - 1) + 1):
            for y in range(max(centre[1] - 1, low[1]), min(centre[1] + 1, low[1] + free.shape[1] - 1) + 1):
                for x in range(max(centre[2] - 1, word), min(centre[2] + 1, word + WORD - 1) + 1):
                    if (free[z - low[0], y - low[1]] >> np.uint64(x - word)) & np.uint64(1):
                        score = _touched(taken, shell, z, y, x)
                        if score > best_score:
                            best_score = score
                            best[0], best[1], best[2] = z, y, x
                            climbing = True
    return best, best_score
