"""MeanShift with a flat kernel on the voxels of a mask: the modes that scikit-learn finds, without its point queries.

As ``sklearn.cluster.MeanShift(bandwidth=radius, bin_seeding=True)``, which DeepFinder calls (Comaniciu and Meer 2002):
one seed for each occupied cell of a lattice with the radius as its step, moved to the mean of the voxels within the
radius until it rests; of modes within a radius of each other the one with most voxels stays.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from template_learning.common.compute import jit, processors

REST = 1e-3
"""A seed rests when it moves by no more than this share of the radius."""
MOVES = 300
BATCH = 64
PART = 1 << 16


def mean_shift(voxels: NDArray[np.intp], radius: float) -> NDArray[np.float64]:
    """The modes of voxels by MeanShift with a flat kernel.

    Parameters
    ----------
    voxels : (N, 3) array of int
        [z, y, x], sorted as by ``np.argwhere``.
    radius : float
        Of the kernel, in voxels.

    Returns
    -------
    (M, 3) array
        [z, y, x] in voxels, densest first.

    References
    ----------
    Comaniciu and Meer, IEEE PAMI 24 (2002) 603.
    """
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


def assign_to_nearest(voxels: NDArray[np.intp], centres: NDArray[np.float64], radius: float) -> NDArray[np.int32]:
    """The index of the nearest centre for each of the voxels (N, 3); quick where most have one within ``radius``."""
    nearest = np.empty(len(voxels), dtype=np.int32)
    if len(voxels) == 0:
        return nearest
    low = np.minimum(voxels.min(axis=0), np.floor(centres.min(axis=0)))
    high = np.maximum(voxels.max(axis=0), centres.max(axis=0))
    # Cells of one radius, with an empty one on each side: a centre within the radius is in one of 27 cells.
    cell = ((centres - low) // radius).astype(np.int64) + 1
    shape = ((high - low) // radius).astype(np.int64) + 3
    number = (cell[:, 0] * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    order = np.argsort(number, kind="stable")
    first = np.searchsorted(number[order], np.arange(shape.prod() + 1))
    _nearest(nearest[:0], voxels[:0], centres, low, radius, shape, order, first)  # compiled once, not per thread

    def assign(start: int) -> None:
        part = slice(start, start + PART)
        _nearest(nearest[part], voxels[part], centres, low, radius, shape, order, first)

    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(assign, range(0, len(voxels), PART)))
    far = np.flatnonzero(nearest < 0)
    nearest[far] = cKDTree(centres).query(voxels[far])[1]
    return nearest


def _seeds(voxels: NDArray[np.intp], radius: float) -> NDArray[np.float64]:
    """The centres of the lattice's occupied cells; the voxels themselves where each has a cell of its own."""
    table = [np.round(np.arange(end) / radius).astype(np.int64) for end in voxels.max(axis=0) + 1]
    shape = tuple(int(places[-1]) + 1 for places in table)
    occupied = np.zeros(shape, dtype=bool)
    occupied[table[0][voxels[:, 0]], table[1][voxels[:, 1]], table[2][voxels[:, 2]]] = True
    seeds = np.argwhere(occupied)
    return np.asarray(voxels if len(seeds) == len(voxels) else seeds * radius, dtype=np.float64)


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


@jit
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


@jit
def _nearest(nearest, voxels, centres, low, radius, shape, order, first):  # type: ignore[no-untyped-def]
    """The nearest centre of each voxel among those within ``radius``, -1 where there is none."""
    for index in range(voxels.shape[0]):
        z, y, x = voxels[index]
        cz, cy, cx = int((z - low[0]) // radius), int((y - low[1]) // radius), int((x - low[2]) // radius)
        best, chosen = radius * radius, -1
        for iz in range(cz, cz + 3):
            for iy in range(cy, cy + 3):
                row = (iz * shape[1] + iy) * shape[2] + cx
                for place in range(first[row], first[row + 3]):
                    centre = order[place]
                    square = (z - centres[centre, 0]) ** 2 + (y - centres[centre, 1]) ** 2 + (x - centres[centre, 2]) ** 2
                    if square < best or (square == best and (chosen < 0 or centre < chosen)):
                        best, chosen = square, centre
        nearest[index] = chosen
