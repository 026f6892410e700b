"""Sparse Cholesky factorisation of a network of points in space, by geometric nested dissection.

The matrix has one 3 x 3 block for each pair of joined points.  Points are split by planes: those on one side of a plane
that are joined to the other side are its separator and are eliminated after both halves (George 1973).  Each leaf and each
separator is factorised as one dense front that passes its Schur complement on to its parent (the multifrontal method of
Duff and Reid 1983), so that nearly all of the work is dense linear algebra.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from template_learning.common.compute import jit

LEAF_POINTS = 80


@dataclass(frozen=True, eq=False)
class Front:
    """One dense step of the elimination: points eliminated here, and later ones that they touch."""

    own: NDArray[np.intp]
    border: NDArray[np.intp]
    children: tuple[int, ...]


def dissect(point: NDArray[np.float64], joined: scipy.sparse.csr_array) -> list[Front]:
    """Fronts in the order of elimination (children before parents) for points (N, 3) and their adjacency (N, N)."""
    fronts: list[Front] = []
    where = np.full(len(point), -1)  # the front that eliminates each point, once known

    def add(own: NDArray[np.intp], children: tuple[int, ...]) -> int:
        touched = joined[own].indices.astype(np.intp)
        border = np.unique(np.concatenate([touched, *(fronts[child].border for child in children)]))
        where[own] = len(fronts)
        border = border[where[border] < 0]
        fronts.append(Front(np.sort(own), border, children))
        return len(fronts) - 1

    def split(points: NDArray[np.intp]) -> tuple[int, ...]:
        if len(points) <= LEAF_POINTS:
            return (add(points, ()),) if len(points) else ()
        side, separator = _plane(point, joined, points)
        if len(separator) > len(points) // 2:
            return (add(points, ()),)
        low = points[(side == 0)]
        high = points[(side == 1)]
        below = split(low) + split(high)
        return (add(separator, below),) if len(separator) else below

    split(np.arange(len(point)))
    return fronts


def _plane(
    point: NDArray[np.float64], joined: scipy.sparse.csr_array, points: NDArray[np.intp]
) -> tuple[NDArray[np.int8], NDArray[np.intp]]:
    """The best of some planes across ``points``: 0 or 1 for the side of each point, 2 for the separator; the separator."""
    inside = joined[points][:, points].tocoo()
    place = point[points] - point[points].mean(axis=0)
    axes = np.linalg.svd(place, full_matrices=False)[2]
    best: tuple[float, NDArray[np.int8]] | None = None
    for axis in axes:
        along = place @ axis
        for cut in np.quantile(along, (0.36, 0.43, 0.5, 0.57, 0.64)):
            high = along > cut
            crossing = high[inside.row] != high[inside.col]
            for keep in (False, True):
                side = high.astype(np.int8)
                side[inside.row[crossing & (high[inside.row] == keep)]] = 2
                count = np.bincount(side, minlength=3)
                cost = float(count[2]) * (1 + 2 * abs(int(count[0]) - int(count[1])) / len(points))
                if best is None or cost < best[0]:
                    best = cost, side
    assert best is not None
    return best[1], points[best[1] == 2]


class Factor:
    """The Cholesky factor of a symmetric positive definite matrix of 3 x 3 blocks."""

    def __init__(self, fronts: list[Front], matrix: scipy.sparse.bsr_array, shift: float = 0.0):
        """Factorise ``matrix`` (3N, 3N) plus ``shift`` times the unit matrix.

        It must have blocks only between points that ``dissect`` was told are joined.
        """
        self.fronts = fronts
        self.size = matrix.shape[0]
        self._diagonal: list[NDArray[np.float64]] = []
        self._below: list[NDArray[np.float64]] = []
        self._rows: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        waiting: dict[int, NDArray[np.float64]] = {}  # Schur complements, the lower triangle of each
        local = np.zeros(self.size // 3, dtype=np.intp)
        front_of = np.full(self.size // 3, -1)
        for number, front in enumerate(fronts):
            points = np.concatenate([front.own, front.border])
            local[points] = np.arange(len(points))
            front_of[points] = number
            count = 3 * len(front.own)
            dense = np.zeros((3 * len(points), 3 * len(points)), order="F")
            _fill(front.own, matrix.indptr, matrix.indices, matrix.data, local, front_of, number, shift, dense)
            for child in front.children:
                _add_lower(_degrees(local[fronts[child].border]), waiting.pop(child), dense)
            diagonal, failed = lapack.dpotrf(dense[:count, :count], lower=1, clean=1)
            if failed:
                raise np.linalg.LinAlgError("the matrix is not positive definite")
            below = blas.dtrsm(1.0, diagonal, dense[count:, :count], side=1, lower=1, trans_a=1)
            if len(front.border):
                left = np.asfortranarray(dense[count:, count:])
                waiting[number] = blas.dsyrk(-1.0, below, beta=1.0, c=left, lower=1, overwrite_c=1)
            self._diagonal.append(diagonal)
            self._below.append(below)
            self._rows.append((_degrees(front.own), _degrees(front.border)))

    def solve(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """The solution (3N, K) for right-hand sides (3N, K)."""
        # Transposed, a row-major array is what BLAS takes without a copy: L x = b is x' L' = b'.
        x = np.array(right, dtype=np.float64, order="C")
        for (own, border), diagonal, below in zip(self._rows, self._diagonal, self._below, strict=True):
            part = blas.dtrsm(1.0, diagonal, x[own].T, side=1, lower=1, trans_a=1, overwrite_b=1).T
            x[own] = part
            x[border] -= below @ part
        for (own, border), diagonal, below in zip(
            reversed(self._rows), reversed(self._diagonal), reversed(self._below), strict=True
        ):
            part = x[own]
            part -= below.T @ x[border]
            x[own] = blas.dtrsm(1.0, diagonal, part.T, side=1, lower=1, overwrite_b=1).T
        return x


@jit
def _fill(
    own: NDArray[np.intp],
    start: NDArray[np.int32],
    column: NDArray[np.int32],
    block: NDArray[np.float64],
    local: NDArray[np.intp],
    front_of: NDArray[np.intp],
    number: int,
    shift: float,
    dense: NDArray[np.float64],
) -> None:
    """Put the columns of a matrix that a front eliminates into it; those eliminated before hold nothing still needed."""
    for place in range(len(own)):
        for entry in range(start[own[place]], start[own[place] + 1]):
            if front_of[column[entry]] == number:
                row = 3 * local[column[entry]]
                for i in range(3):
                    for j in range(3):
                        dense[row + j, 3 * place + i] = block[entry, i, j]
        for i in range(3):
            dense[3 * place + i, 3 * place + i] += shift


@jit
def _add_lower(place: NDArray[np.intp], child: NDArray[np.float64], dense: NDArray[np.float64]) -> None:
    """Add a symmetric matrix, of which the lower triangle is there, to the lower triangle of a larger one at ``place``."""
    for j in range(len(place)):
        for i in range(j, len(place)):
            dense[max(place[i], place[j]), min(place[i], place[j])] += child[i, j]


def _degrees(points: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rows (3 each) of points."""
    return (3 * points[:, None] + np.arange(3)).ravel()
