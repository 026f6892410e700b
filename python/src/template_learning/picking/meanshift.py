"""MeanShift with a flat kernel on the voxels of a mask: the modes that scikit-learn finds, without its point queries.

As ``sklearn.cluster.MeanShift(bandwidth=radius, bin_seeding=True)``, which DeepFinder calls (Comaniciu and Meer 2002):
one seed for each occupied cell of a lattice with the radius as its step, moved to the mean of the voxels within the
radius until it rests; of modes within a radius of each other the one with most voxels stays.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from template_learning.simulation.series import processors

REST = 1e-3
"""A seed rests when it moves by no more than this share of the radius."""
MOVES = 300
BATCH = 64


def mean_shift(voxels: NDArray[np.intp], radius: float) -> NDArray[np.float64]:
    """The modes (M, 3) of voxels (N, 3), both z, y, x in voxels, densest first; ``voxels`` sorted as by ``np.argwhere``."""
    if len(voxels) == 0:
        return np.zeros((0, 3))
    low = voxels.min(axis=0)
    seeds = _seeds(voxels, radius) - low
    rows, run_start, run_end = _runs(voxels - low)
    members = np.zeros(len(seeds), dtype=np.int64)

    def move(start: int) -> None:
        batch = slice(start, start + BATCH)
        _move_seeds(seeds[batch], members[batch], rows, run_start, run_end, radius)

    _move_seeds(seeds[:0], members[:0], rows, run_start, run_end, radius)  # compiled once, not per thread
    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(move, range(0, len(seeds), BATCH)))
    return _distinct(seeds[members > 0], members[members > 0], radius) + low


def assign_to_nearest(points: NDArray[Any], centres: NDArray[np.float64]) -> NDArray[np.intp]:
    """The index of the nearest of the centres for each of the points (N, 3)."""
    return np.asarray(cKDTree(centres).query(points, workers=processors())[1])


def _seeds(voxels: NDArray[np.intp], radius: float) -> NDArray[np.float64]:
    """The centres of the lattice's occupied cells; the voxels themselves where each has a cell of its own."""
    cells = np.round(voxels / radius).astype(np.int64)
    low = cells.min(axis=0)
    shape = tuple(int(count) for count in cells.max(axis=0) - low + 1)
    occupied = np.unique(np.ravel_multi_index(tuple((cells - low).T), shape))
    if len(occupied) == len(voxels):
        return voxels.astype(np.float64)
    return (np.stack(np.unravel_index(occupied, shape), axis=1) + low) * radius


def _runs(voxels: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Sorted voxels as runs along x: each row's first and end in the list of runs, [z, y, 2], and the runs' first x and end."""
    depth, height = voxels[:, 0].max() + 1, voxels[:, 1].max() + 1
    row = voxels[:, 0] * height + voxels[:, 1]
    starts = np.flatnonzero(np.diff(row, prepend=-1) | (np.diff(voxels[:, 2], prepend=-2) != 1))
    ends = np.append(starts[1:], len(voxels)) - 1
    first = np.searchsorted(row[starts], np.arange(depth * height + 1)).astype(np.intp)
    rows = np.stack((first[:-1], first[1:]), axis=1).reshape(depth, height, 2)
    return rows, voxels[starts, 2], voxels[ends, 2] + 1


def _distinct(modes: NDArray[np.float64], members: NDArray[np.int64], radius: float) -> NDArray[np.float64]:
    """The modes that have no denser one within a radius (ties: the larger coordinates first)."""
    modes, first = np.unique(modes, axis=0, return_index=True)
    members = members[first]
    order = np.lexsort((modes[:, 2], modes[:, 1], modes[:, 0], members))[::-1]
    modes = modes[order]
    near = cKDTree(modes).query_ball_point(modes, radius)
    kept = np.ones(len(modes), dtype=bool)
    for index in range(len(modes)):
        if kept[index]:
            kept[near[index]] = False
            kept[index] = True
    return modes[kept]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code of ``function``, kept on disk between processes where numba finds a folder that it may write to."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@_compiled
def _move_seeds(seeds, members, rows, run_start, run_end, radius):  # type: ignore[no-untyped-def]
    """Move each seed (z, y, x) to where it rests; ``members`` gets the number of voxels about it (0: none)."""
    square = radius * radius
    for seed in range(seeds.shape[0]):
        z0, y0, x0 = seeds[seed]
        for _ in range(MOVES + 1):
            number, sum_z, sum_y, sum_x = 0, 0, 0, 0
            for z in range(max(0, int(np.ceil(z0 - radius))), min(rows.shape[0] - 1, int(np.floor(z0 + radius))) + 1):
                left_z = square - (z - z0) ** 2
                reach_y = np.sqrt(max(left_z, 0.0))
                for y in range(max(0, int(np.ceil(y0 - reach_y))), min(rows.shape[1] - 1, int(np.floor(y0 + reach_y))) + 1):
                    first_run, end_run = rows[z, y]
                    if first_run == end_run:
                        continue
                    reach_x = np.sqrt(max(left_z - (y - y0) ** 2, 0.0))
                    first, end = int(np.ceil(x0 - reach_x)), int(np.floor(x0 + reach_x)) + 1
                    for run in range(first_run, end_run):
                        low, high = max(first, run_start[run]), min(end, run_end[run])
                        if high > low:
                            here = high - low
                            number += here
                            sum_z += here * z
                            sum_y += here * y
                            sum_x += here * (low + high - 1) // 2
            members[seed] = number
            if number == 0:
                break
            z1, y1, x1 = sum_z / number, sum_y / number, sum_x / number
            moved = np.sqrt((z1 - z0) ** 2 + (y1 - y0) ** 2 + (x1 - x0) ** 2)
            z0, y0, x0 = z1, y1, x1
            if moved <= REST * radius:
                break
        seeds[seed, 0], seeds[seed, 1], seeds[seed, 2] = z0, y0, x0
