"""Atoms as Gaussians on a grid: the density of the library, of pseudo-atoms and of labels.

The density is that of EMAN2's ``e2pdb2mrc.py``: each atom adds ``Z exp(-r^2 / w^2)`` with its atomic number ``Z`` and
``w = resolution / pi``, sampled at the centres of the voxels.  (Divided by ``(sqrt(pi) w)^3`` it is in electrons per Å^3.)
"""

import math

import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import jit

REACH = 3.5
"""Where an atom's Gaussian is cut, in units of its 1/e half-width (5e-6 of its peak)."""


def gaussian_width_angstrom(resolution_angstrom: float) -> float:
    """The 1/e half-width of an atom's Gaussian.

    Parameters
    ----------
    resolution_angstrom : float
        Resolution, Å.

    Returns
    -------
    float
        Å.
    """
    return resolution_angstrom / math.pi


def cube_edge(position_angstrom: NDArray[np.floating], voxel_size_angstrom: float, resolution_angstrom: float) -> int:
    """Voxels along the smallest odd cube that holds the Gaussians of atoms (N, 3) however the molecule is turned."""
    radius = float(np.sqrt((position_angstrom.astype(float) ** 2).sum(axis=1).max()))
    return 2 * math.ceil((radius + REACH * gaussian_width_angstrom(resolution_angstrom)) / voxel_size_angstrom) + 1


def density_of_atoms(
    position_angstrom: NDArray[np.floating],
    element: NDArray[np.uint8],
    voxel_size_angstrom: float,
    resolution_angstrom: float,
    shape: tuple[int, int, int] | None = None,
) -> NDArray[np.float32]:
    """The density of atoms, bright on zero: a Gaussian an atom, weighted with its atomic number (as EMAN2's e2pdb2mrc).

    Parameters
    ----------
    position_angstrom : (N, 3) array
        (x, y, z) in Å from the grid's centre.
    element : (N,) array of uint8
        Atomic numbers.
    voxel_size_angstrom : float
        Edge of a voxel, Å.
    resolution_angstrom : float
        The Gaussians' 1/e half-width is this over pi.
    shape : (int, int, int), optional
        [z, y, x] voxels; without it the smallest odd cube that holds the Gaussians however the molecule is turned.
        Gaussians that reach beyond a given grid are cut at its border.

    Returns
    -------
    (z, y, x) array of float32
        The grid's centre is at (N - 1) / 2 voxels on each axis.
    """
    width = gaussian_width_angstrom(resolution_angstrom)
    if shape is None:
        shape = (cube_edge(position_angstrom, voxel_size_angstrom, resolution_angstrom),) * 3
    centre = (np.array(shape) - 1) / 2
    index = position_angstrom[:, ::-1].astype(np.float64) / voxel_size_angstrom + centre
    grid = np.zeros(shape)
    _spread(index, element.astype(np.float64), width / voxel_size_angstrom, REACH * width / voxel_size_angstrom, grid)
    return grid.astype(np.float32)


@jit
def _spread(
    index: NDArray[np.float64], weight: NDArray[np.float64], width: float, reach: float, grid: NDArray[np.float64]
) -> None:
    """Add each atom's Gaussian to ``grid``; ``index`` (N, 3) is [z, y, x] in voxels, as are ``width`` and ``reach``."""
    side = int(2 * reach) + 2
    profile = np.empty((3, side))
    first, count = np.empty(3, np.int64), np.empty(3, np.int64)
    for atom in range(index.shape[0]):
        for axis in range(3):
            low = max(int(np.ceil(index[atom, axis] - reach)), 0)
            high = min(int(np.floor(index[atom, axis] + reach)), grid.shape[axis] - 1)
            first[axis], count[axis] = low, high - low + 1
            for step in range(count[axis]):
                offset = (low + step - index[atom, axis]) / width
                profile[axis, step] = np.exp(-offset * offset)
        for i in range(count[0]):
            for j in range(count[1]):
                line = weight[atom] * profile[0, i] * profile[1, j]
                for k in range(count[2]):
                    grid[first[0] + i, first[1] + j, first[2] + k] += line * profile[2, k]


@jit
def _pull(
    index: NDArray[np.float64], width: float, reach: float, field: NDArray[np.float64], slope: NDArray[np.float64]
) -> None:
    """Fill ``slope`` (N, 3) with the gradient, in [z, y, x] voxels, of the sum of ``field`` under each atom's Gaussian."""
    side = int(2 * reach) + 2
    profile, offset = np.empty((3, side)), np.empty((3, side))
    first, count = np.empty(3, np.int64), np.empty(3, np.int64)
    for atom in range(index.shape[0]):
        for axis in range(3):
            low = max(int(np.ceil(index[atom, axis] - reach)), 0)
            high = min(int(np.floor(index[atom, axis] + reach)), field.shape[axis] - 1)
            first[axis], count[axis] = low, high - low + 1
            for step in range(count[axis]):
                offset[axis, step] = (low + step - index[atom, axis]) / width
                profile[axis, step] = np.exp(-(offset[axis, step] ** 2))
        pull_z = pull_y = pull_x = 0.0
        for i in range(count[0]):
            for j in range(count[1]):
                line = profile[0, i] * profile[1, j]
                under = along = 0.0
                for k in range(count[2]):
                    part = profile[2, k] * field[first[0] + i, first[1] + j, first[2] + k]
                    under += part
                    along += part * offset[2, k]
                pull_z += line * offset[0, i] * under
                pull_y += line * offset[1, j] * under
                pull_x += line * along
        slope[atom, 0], slope[atom, 1], slope[atom, 2] = (2 / width) * pull_z, (2 / width) * pull_y, (2 / width) * pull_x


def pull_of_field(
    position_angstrom: NDArray[np.floating], field: NDArray[np.floating], voxel_size_angstrom: float, resolution_angstrom: float
) -> NDArray[np.float64]:
    """(N, 3) as (x, y, z): how the sum of ``field`` [z, y, x] under each position's Gaussian grows as it moves, for each Å."""
    width = gaussian_width_angstrom(resolution_angstrom) / voxel_size_angstrom
    index = position_angstrom[:, ::-1].astype(np.float64) / voxel_size_angstrom + (np.array(field.shape) - 1) / 2
    slope = np.empty_like(index)
    _pull(index, width, REACH * width, field.astype(np.float64), slope)
    return slope[:, ::-1] / voxel_size_angstrom
