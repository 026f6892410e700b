"""Ice where molecules lie in each other: what several of them displace is missing once.

Bodies that TETRIS lets interpenetrate have atoms in the same place.  Their potentials add, but each atom also takes
away the ice of its own volume.  Taken away several times, the ice there would be less than none, and the molecules too
faint.  Parakeet's ice is masked for the whole sample at once and has none of this.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from template_learning.common.compute import jit
from template_learning.simulation.potential import Float32, Sample
from template_learning.structures.atoms import Atoms

REACH_ANGSTROM = 1.9
"""Atoms of two molecules displace the same ice within this distance (give or take half a diagonal of 1 Å voxels)."""
BLOCK_BYTES = 64_000_000
"""Memory for the voxels in which two molecules are compared at one time."""


def displaced_again(sample: Sample) -> tuple[Float32, Float32]:
    """Where atoms displace ice that other molecules' displace too, (N, 3) in ångström from the sample's centre, and how much.

    Of an atom that m other molecules reach, the share m / (1 + m) is too much: as many atoms are given as these shares sum
    up to, spread evenly over those concerned, each with the volume (N,) in Å^3 that it displaces.
    """
    displacing = [atoms.kept(atoms.displaced_angstrom3 > 0) for atoms in sample.atoms]
    pose = [
        (displacing[kind].position_angstrom, rotation.astype(np.float32), centre.astype(np.float32))
        for kind, rotation, centre in zip(sample.kind, sample.rotation, sample.position_angstrom, strict=True)
    ]
    bounds = np.array([_bounds(*one) for one in pose]).reshape(-1, 2, 3)
    others: dict[int, NDArray[np.uint8]] = {}
    for pair in _near(bounds):
        for low, shape in _blocks(bounds[pair]):
            for this, other in (pair, pair[::-1]):
                taken = np.zeros(shape, dtype=np.bool_)
                if not _take(taken, low, *pose[other], REACH_ANGSTROM):
                    break
                count = others.get(this, np.zeros(len(pose[this][0]), dtype=np.uint8))
                if _count_taken(taken, low, *pose[this], count):
                    others[this] = count
    place, carried = [np.zeros((0, 3), dtype=np.float32)], 0.0
    volume = [np.zeros(0, dtype=np.float32)]
    for molecule in sorted(others):
        atoms, rotation, centre = pose[molecule]
        total = carried + np.cumsum(others[molecule] / (1.0 + others[molecule]))
        given = np.diff(np.floor(total + 0.5), prepend=np.floor(carried + 0.5)) > 0
        place.append(atoms[given] @ rotation.T + centre)
        volume.append(displacing[sample.kind[molecule]].displaced_angstrom3[given])
        carried = total[-1]
    return np.concatenate(place), np.concatenate(volume)


def with_ice_put_back(sample: Sample) -> tuple[Sample, float]:
    """The sample with ice where it was displaced more than once, and how much of it in Å^3 that took.

    The ice is put back by points that scatter nothing and displace less than nothing: what an atom took away too much.
    """
    place, volume = displaced_again(sample)
    if len(place) == 0:
        return sample, 0.0
    middle = place.mean(axis=0, dtype=np.float64)
    nothing = np.zeros(len(place), dtype=np.uint8)
    back = Atoms((place - middle).astype(np.float32), nothing, nothing.astype(np.float32), -volume)
    return replace(
        sample,
        atoms=[*sample.atoms, back],
        kind=np.append(sample.kind, len(sample.atoms)),
        rotation=np.concatenate([sample.rotation, np.eye(3)[None]]),
        position_angstrom=np.concatenate([sample.position_angstrom, middle[None]]),
    ), float(volume.sum(dtype=float))


def _near(bounds: NDArray[np.float32]) -> list[list[int]]:
    """Pairs of molecules whose boxes (N, 2, 3), lowest and highest x, y, z, meet; in order."""
    there = np.flatnonzero((bounds[:, 0] <= bounds[:, 1]).all(axis=1))
    if len(there) < 2:
        return []
    low, high = bounds[there].swapaxes(0, 1)
    reach = float(np.linalg.norm(high - low, axis=1).max()) + REACH_ANGSTROM
    pairs = cKDTree((low + high) / 2).query_pairs(reach, output_type="ndarray")
    one, other = pairs.T
    meet = ((low[one] < high[other] + REACH_ANGSTROM) & (low[other] < high[one] + REACH_ANGSTROM)).all(axis=1)
    return sorted(there[pairs[meet]].tolist())


def _blocks(bounds: NDArray[np.float32]) -> Iterator[tuple[Float32, tuple[int, int, int]]]:
    """What two boxes (2, 2, 3) have in common, in blocks of whole ångström: lowest x, y, z and extent of each."""
    low, high = bounds[:, 0].max(axis=0) - REACH_ANGSTROM, bounds[:, 1].min(axis=0) + REACH_ANGSTROM
    width, height, depth = (int(count) for count in np.ceil(high - low))
    step = max(1, BLOCK_BYTES // max(1, height * depth))
    for first in range(0, width, step):
        yield low + np.array([first, 0, 0], dtype=np.float32), (min(step, width - first), height, depth)


@jit
def _turned(point: Float32, rotation: Float32, centre: Float32) -> tuple[float, float, float]:
    """Where a point of a molecule is in the sample."""
    return (
        rotation[0, 0] * point[0] + rotation[0, 1] * point[1] + rotation[0, 2] * point[2] + centre[0],
        rotation[1, 0] * point[0] + rotation[1, 1] * point[1] + rotation[1, 2] * point[2] + centre[1],
        rotation[2, 0] * point[0] + rotation[2, 1] * point[1] + rotation[2, 2] * point[2] + centre[2],
    )


@jit
def _bounds(atoms: Float32, rotation: Float32, centre: Float32) -> Float32:
    """Lowest and highest x, y, z of a placed molecule, (2, 3); the lowest above the highest where it has no atoms."""
    bounds = np.empty((2, 3), np.float32)
    bounds[0], bounds[1] = np.inf, -np.inf
    for j in range(len(atoms)):
        place = _turned(atoms[j], rotation, centre)
        for axis in range(3):
            bounds[0, axis] = min(bounds[0, axis], place[axis])
            bounds[1, axis] = max(bounds[1, axis], place[axis])
    return bounds


@jit
def _take(taken: NDArray[np.bool_], low: Float32, atoms: Float32, rotation: Float32, centre: Float32, reach: float) -> int:
    """Mark the voxels [x, y, z] of 1 Å, from ``low`` on, whose middle lies within ``reach`` of an atom; how many atoms did."""
    width, height, depth = taken.shape
    within = 0
    for j in range(len(atoms)):
        x, y, z = _turned(atoms[j], rotation, centre)
        x, y, z = x - low[0], y - low[1], z - low[2]
        if min(x, y, z) < -reach or x > width + reach or y > height + reach or z > depth + reach:
            continue
        within += 1
        for a in range(max(0, int(np.ceil(x - reach - 0.5))), min(width, int(np.floor(x + reach + 0.5)))):
            for b in range(max(0, int(np.ceil(y - reach - 0.5))), min(height, int(np.floor(y + reach + 0.5)))):
                rest = reach**2 - (a + 0.5 - x) ** 2 - (b + 0.5 - y) ** 2
                if rest >= 0:
                    half = np.sqrt(rest)
                    for c in range(max(0, int(np.ceil(z - half - 0.5))), min(depth, int(np.floor(z + half + 0.5)))):
                        taken[a, b, c] = True
    return within


@jit
def _count_taken(
    taken: NDArray[np.bool_], low: Float32, atoms: Float32, rotation: Float32, centre: Float32, count: NDArray[np.uint8]
) -> int:
    """Add 1 to ``count`` (N,) of each atom in a taken voxel; the number of these."""
    width, height, depth = taken.shape
    hit = 0
    for j in range(len(atoms)):
        x, y, z = _turned(atoms[j], rotation, centre)
        x, y, z = x - low[0], y - low[1], z - low[2]
        if min(x, y, z) >= 0 and x < width and y < height and z < depth and taken[int(x), int(y), int(z)]:
            count[j] += 1
            hit += 1
    return hit
