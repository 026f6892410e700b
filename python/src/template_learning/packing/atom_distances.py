"""How close molecules come to one another, from their atoms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from template_learning.common.compute import jit

CLUSTER_ANGSTROM = 10.0
Clusters = tuple[NDArray[np.float64], NDArray[np.int64], float, NDArray[np.float64]]


def closest_approach_angstrom(
    atoms: Mapping[str, NDArray[np.float32]],
    names: Sequence[str],
    position_angstrom: NDArray[np.float64],
    rotation: Rotation,
    within_angstrom: float = 100.0,
    group: NDArray[np.int64] | None = None,
) -> float:
    """Least distance between atoms of two molecules.

    Exact: clusters of atoms that cannot be nearer than the best so far are left out, all other pairs are measured.

    Parameters
    ----------
    atoms : mapping of str to (N, 3) array
        (x, y, z) in Å from the origin, for each kind of molecule.
    names : sequence of str
        The kind of each of the M molecules.
    position_angstrom : (M, 3) array
        (x, y, z) of the molecules' origins, Å.
    rotation : scipy.spatial.transform.Rotation
        M active rotations.
    within_angstrom : float, optional
        What is returned where no two are nearer, Å.
    group : (M,) array of int64, optional
        Molecules of one group are parts of one thing and not measured against one another; -1 for none.

    Returns
    -------
    float
        Å.
    """
    if len(names) < 2:
        return within_angstrom
    clustered = {name: _clusters(atoms[name]) for name in sorted(set(names))}
    matrix = np.atleast_3d(rotation.as_matrix())
    radius = np.array([clustered[name][2] for name in names])
    pairs = cKDTree(position_angstrom).query_pairs(2 * radius.max() + within_angstrom, output_type="ndarray")
    if group is not None:
        pairs = pairs[(group[pairs[:, 0]] < 0) | (group[pairs[:, 0]] != group[pairs[:, 1]])]
    apart = np.linalg.norm(position_angstrom[pairs[:, 0]] - position_angstrom[pairs[:, 1]], axis=1)
    gap = apart - radius[pairs].sum(axis=1)
    best = within_angstrom
    for pair in np.argsort(gap, kind="stable"):
        if gap[pair] >= best:
            break
        first, second = pairs[pair]
        turn = matrix[first].T @ matrix[second]
        shift = matrix[first].T @ (position_angstrom[second] - position_angstrom[first])
        best = _nearer(best, *clustered[names[first]], *clustered[names[second]], turn, shift)
    return float(best)


class NeighbourSearch:
    """Molecules that are there, asked whether another one clashes with them."""

    def __init__(self, distance_angstrom: float) -> None:
        self.distance_angstrom = distance_angstrom
        self.clustered: dict[str, Clusters] = {}
        self.name: list[str] = []
        self.matrix: list[NDArray[np.float64]] = []
        self.sphere = np.empty((1024, 4))
        self.group = np.empty(1024, np.int64)

    def clashes(
        self,
        name: str,
        atom: NDArray[np.float32],
        matrix: NDArray[np.float64],
        position_angstrom: Any,
        own_group: int | None = None,
    ) -> bool:
        """Whether an atom of the molecule comes nearer than the distance to one of those that are there (0: never).

        Those of its own group may be as near as they like.
        """
        if self.distance_angstrom == 0:
            return False
        own = self._clusters(name, atom)
        there = self.sphere[: len(self.name)]
        reach = self.distance_angstrom + own[2] + there[:, 3]
        near = ((there[:, :3] - position_angstrom) ** 2).sum(axis=1) < reach**2
        if own_group is not None:
            near &= self.group[: len(self.name)] != own_group
        for other in np.flatnonzero(near):
            turn = self.matrix[other].T @ matrix
            shift = self.matrix[other].T @ (position_angstrom - there[other, :3])
            clusters = self.clustered[self.name[other]]
            if _nearer(self.distance_angstrom, *clusters, *own, turn, shift) < self.distance_angstrom:
                return True
        return False

    def add(
        self,
        name: str,
        atom: NDArray[np.float32],
        matrix: NDArray[np.float64],
        position_angstrom: Any,
        group: int = -1,
    ) -> None:
        """The molecule is there from now on."""
        if len(self.name) == len(self.sphere):
            self.sphere = np.concatenate([self.sphere, np.empty_like(self.sphere)])
            self.group = np.concatenate([self.group, np.empty_like(self.group)])
        self.group[len(self.name)] = group
        self.sphere[len(self.name)] = *position_angstrom, self._clusters(name, atom)[2]
        self.name.append(name)
        self.matrix.append(matrix)

    def _clusters(self, name: str, atom: NDArray[np.float32]) -> Clusters:
        if name not in self.clustered:
            self.clustered[name] = _clusters(atom)
        return self.clustered[name]


def _clusters(atom: NDArray[np.float32]) -> Clusters:
    """Atoms sorted into cubic cells, first atom of each cell (and the end), radius of all, (x, y, z, radius) of each cell."""
    cell = np.floor(atom / CLUSTER_ANGSTROM).astype(np.int64)
    order = np.lexsort(cell.T)
    sorted_atom, cell = atom[order].astype(float), cell[order]
    start = np.flatnonzero(np.r_[True, (np.diff(cell, axis=0) != 0).any(axis=1), True])
    count = np.diff(start)
    middle = np.add.reduceat(sorted_atom, start[:-1], axis=0) / count[:, None]
    apart = np.linalg.norm(sorted_atom - np.repeat(middle, count, axis=0), axis=1)
    sphere = np.column_stack([middle, np.maximum.reduceat(apart, start[:-1])])
    return sorted_atom, start, float(np.linalg.norm(sorted_atom, axis=1).max()), sphere


@jit
def _nearer(
    best: Any,
    atom: Any,
    start: Any,
    radius: Any,
    sphere: Any,
    other: Any,
    begin: Any,
    far: Any,
    ball: Any,
    turn: Any,
    shift: Any,
) -> Any:
    """Least distance below ``best`` of an atom to one of another molecule, brought into its frame by turn and shift."""
    facing = np.empty(sphere.shape[0], np.int64)  # the cells that the other molecule, a ball of radius ``far``, may come near
    count = 0
    for a in range(sphere.shape[0]):
        reach = best + sphere[a, 3] + far
        x, y, z = sphere[a, 0] - shift[0], sphere[a, 1] - shift[1], sphere[a, 2] - shift[2]
        if x * x + y * y + z * z < reach * reach:
            facing[count] = a
            count += 1
    for b in range(ball.shape[0]):
        x = turn[0, 0] * ball[b, 0] + turn[0, 1] * ball[b, 1] + turn[0, 2] * ball[b, 2] + shift[0]
        y = turn[1, 0] * ball[b, 0] + turn[1, 1] * ball[b, 1] + turn[1, 2] * ball[b, 2] + shift[1]
        z = turn[2, 0] * ball[b, 0] + turn[2, 1] * ball[b, 1] + turn[2, 2] * ball[b, 2] + shift[2]
        if np.sqrt(x * x + y * y + z * z) - ball[b, 3] - radius >= best:
            continue
        for a in facing[:count]:
            reach = best + ball[b, 3] + sphere[a, 3]
            if (x - sphere[a, 0]) ** 2 + (y - sphere[a, 1]) ** 2 + (z - sphere[a, 2]) ** 2 >= reach * reach:
                continue
            for j in range(begin[b], begin[b + 1]):
                u = turn[0, 0] * other[j, 0] + turn[0, 1] * other[j, 1] + turn[0, 2] * other[j, 2] + shift[0]
                v = turn[1, 0] * other[j, 0] + turn[1, 1] * other[j, 1] + turn[1, 2] * other[j, 2] + shift[1]
                w = turn[2, 0] * other[j, 0] + turn[2, 1] * other[j, 1] + turn[2, 2] * other[j, 2] + shift[2]
                for i in range(start[a], start[a + 1]):
                    square = (u - atom[i, 0]) ** 2 + (v - atom[i, 1]) ** 2 + (w - atom[i, 2]) ** 2
                    if square < best * best:
                        best = np.sqrt(square)
    return best
