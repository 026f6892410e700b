"""ProDy's anisotropic network model, with its Hessian assembled at once and its modes found by a sparse factorisation.

``SparseANM`` is a ``prody.ANM``: the same calls, the same Hessian and the same modes, for any of ProDy's functions.  The
lowest modes come from a block Krylov space of the shifted inverse (Grimes, Lewis and Simon 1994) on the multifrontal
Cholesky factor of ``sparse_cholesky.py``; the six motions of the rigid body are projected out beforehand.
"""

import warnings
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from template_learning.common.compute import jit
from template_learning.common.errors import BadInput
from template_learning.flexing.sparse_cholesky import Factor, dissect

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ProDy's own code warns where Python compiles it
    import prody
prody.confProDy(verbosity="none")

ZERO = 1e-6
"""An eigenvalue below this counts as zero (ProDy's own limit)."""
SHIFT = 1e-5
"""Makes the Hessian positive definite; far below the eigenvalues that matter."""
EXTRA = 4
"""Vectors in a block beyond the modes asked for."""
RESIDUAL = 1e-6
"""Of the shifted inverse, relative; the eigenvalues' error is its square."""
MOST_BLOCKS = 60
EXHAUSTED = 1e-9
"""A new direction shorter than this, relative to the inverse's largest value, is rounding error."""
DENSE_NODES = 150
"""Networks up to this size are solved densely."""


class SparseANM(prody.ANM):
    """An anisotropic network model for large molecules; ``buildHessian`` and ``calcModes`` as ProDy's, but fast."""

    def buildHessian(self, coords: Any, cutoff: float = 15.0, gamma: float = 1.0, **ignored: Any) -> None:  # noqa: N802
        """Assemble the Hessian (scipy sparse, 3N x 3N) of nodes (N, 3): springs ``gamma`` between all within ``cutoff`` Å.

        Raises BadInput where two nodes lie in one place.
        """
        position = np.asarray(coords.getCoords() if hasattr(coords, "getCoords") else coords, dtype=float)
        self._reset()
        self._position = position
        self._pairs, self._hessian, self._kirchhoff = hessian(position, cutoff, gamma)
        self._cutoff, self._gamma = cutoff, gamma
        self._n_atoms, self._dof = len(position), 3 * len(position)
        self._factor: Factor | None = None

    def calcModes(self, n_modes: int = 20, zeros: bool = False, turbo: bool = True, **ignored: Any) -> None:  # noqa: N802
        """Find the ``n_modes`` lowest modes above zero; with ``zeros`` the modes of zero are kept before them.

        ``zero_modes`` then tells how many modes cost nothing: six for a network that is whole and stiff.
        """
        # One thread: threads of BLAS that wait for one another on a busy machine cost far more than they gain here.
        with threadpool_limits(1):
            if self._factor is None and self._n_atoms > DENSE_NODES:
                self._factor = shifted_factor(self._position, self._hessian)
            values, vectors = lowest_modes(self._position, self._hessian, n_modes, self._factor)
        self.zero_modes = int((values < ZERO).sum())
        start = 0 if zeros else self.zero_modes
        self._clear()
        self._eigvals = values[start:]
        self._array = vectors[:, start:]
        with np.errstate(divide="ignore"):
            self._vars = np.where(self._eigvals < ZERO, 0.0, 1.0 / np.where(self._eigvals < ZERO, 1.0, self._eigvals))
        self._trace = self._vars.sum()
        self._n_modes = len(self._eigvals)

    def collectivity(self) -> NDArray[np.float64]:
        """(modes,) the share of the nodes that take part in each mode (Brueschweiler 1995)."""
        return np.atleast_1d(prody.calcCollectivity(self))


def joined_pairs(position: NDArray[np.float64], cutoff_angstrom: float) -> NDArray[np.intp]:
    """(P, 2) the nodes (N, 3) that a spring joins: those within the cutoff, each pair once, the lower number first."""
    return cKDTree(position).query_pairs(cutoff_angstrom, output_type="ndarray")


def connected_parts(pairs: NDArray[np.intp], count: int) -> NDArray[np.int32]:
    """(count,) which connected part of a network of pairs (P, 2) each node belongs to; part 0 is the largest."""
    adjacency = scipy.sparse.coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count,) * 2)
    label = scipy.sparse.csgraph.connected_components(adjacency, directed=False)[1]
    order = np.argsort(-np.bincount(label), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[label].astype(np.int32)


def hessian(
    position: NDArray[np.float64], cutoff_angstrom: float, gamma: float
) -> tuple[NDArray[np.intp], scipy.sparse.bsr_array, scipy.sparse.csr_array]:
    """The joined pairs (P, 2), Hessian (3N, 3N, in blocks of 3) and Kirchhoff matrix (N, N) of nodes (N, 3).

    The block of nodes i and j is ``-gamma d d^T / |d|^2`` with ``d`` from i to j, and minus the sum of its row on the
    diagonal (Atilgan et al. 2001).
    """
    count = len(position)
    pairs = joined_pairs(position, cutoff_angstrom)
    step = position[pairs[:, 1]] - position[pairs[:, 0]]
    squared = (step**2).sum(axis=1)
    if (squared < 1e-6).any():
        raise BadInput(f"{int((squared < 1e-6).sum())} pairs of network nodes lie in one place; each was expected once")
    # Each node's row: its neighbours in ascending order, itself among them, at the places that these sorts give.
    row = np.concatenate([pairs.ravel("F"), np.arange(count)])
    column = np.concatenate([pairs[:, ::-1].ravel("F"), np.arange(count)])
    order = np.argsort(row * count + column)
    start = np.searchsorted(row[order], np.arange(count + 1))
    blocks = np.zeros((len(order), 3, 3))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    _spring_blocks(pairs, step, gamma / squared, place, blocks)
    matrix = scipy.sparse.bsr_array((blocks, column[order], start), shape=(3 * count, 3 * count))
    springs = np.concatenate([np.full(2 * len(pairs), -gamma), np.bincount(pairs.ravel(), minlength=count) * gamma])
    kirchhoff = scipy.sparse.csr_array((springs[order], column[order], start), shape=(count, count))
    return pairs, matrix, kirchhoff


@jit
def _spring_blocks(
    pairs: NDArray[np.intp],
    step: NDArray[np.float64],
    strength: NDArray[np.float64],
    place: NDArray[np.intp],
    blocks: NDArray[np.float64],
) -> None:
    """Fill the Hessian's ``blocks``: those of pair p at ``place`` p and p + P, those of node n at 2 P + n."""
    count = len(pairs)
    for pair in range(count):
        for i in range(3):
            for j in range(3):
                value = strength[pair] * step[pair, i] * step[pair, j]
                blocks[place[pair], i, j] = -value
                blocks[place[count + pair], i, j] = -value
                blocks[place[2 * count + pairs[pair, 0]], i, j] += value
                blocks[place[2 * count + pairs[pair, 1]], i, j] += value


def rigid_motions(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal (3N, 6) translations and rotations of points (N, 3); fewer columns where the points lie on a line."""
    centred = position - position.mean(axis=0)
    motions = [np.tile(axis, len(position)) for axis in np.eye(3)]
    motions += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    basis, size, _ = np.linalg.svd(np.stack(motions, axis=1), full_matrices=False)
    return basis[:, size > 1e-9 * size[0]]


def lowest_modes(
    position: NDArray[np.float64], matrix: scipy.sparse.bsr_array, wanted: int, factor: Factor | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (M,) and eigenvectors (3N, M) of a Hessian: all that are zero, then the ``wanted`` lowest above.

    Without a ``factor`` (of ``shifted_factor``) the Hessian is diagonalised as a dense matrix.

    Raises BadInput where the network has fewer modes, or so many of zero that the iteration does not converge.
    """
    count = len(position)
    rigid = rigid_motions(position)
    if 3 * count - rigid.shape[1] < wanted:
        raise BadInput(f"a network of {count} nodes has {max(3 * count - rigid.shape[1], 0)} modes; {wanted} were asked for")
    if factor is None:
        values, vectors = scipy.linalg.eigh(matrix.toarray())
        zero = int((values < ZERO).sum())
        if len(values) - zero < wanted:
            raise BadInput(f"a network of {count} nodes has {len(values) - zero} modes; {wanted} were asked for")
        return values[: zero + wanted], vectors[:, : zero + wanted]
    values, vectors = _krylov(matrix, factor, rigid, wanted)
    return np.concatenate([np.zeros(rigid.shape[1]), values]), np.concatenate([rigid, vectors], axis=1)


def shifted_factor(position: NDArray[np.float64], matrix: scipy.sparse.bsr_array) -> Factor:
    """The Cholesky factor of a Hessian plus ``SHIFT`` times the unit matrix."""
    return Factor(dissect(position, _adjacency(matrix)), matrix, SHIFT)


def _adjacency(matrix: scipy.sparse.bsr_array) -> scipy.sparse.csr_array:
    """Which nodes (N, N) have a block in a Hessian, the diagonal left out."""
    row = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    other = row != matrix.indices
    start = np.searchsorted(row[other], np.arange(len(matrix.indptr)))
    ones = np.ones(int(other.sum()), dtype=np.int8)
    return scipy.sparse.csr_array((ones, matrix.indices[other], start), shape=(matrix.shape[0] // 3,) * 2)


def _krylov(
    matrix: scipy.sparse.bsr_array, factor: Factor, rigid: NDArray[np.float64], wanted: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest modes outside ``rigid`` by block Lanczos on the shifted inverse, with full reorthogonalisation."""
    size = matrix.shape[0]
    width = min(wanted + EXTRA, size - rigid.shape[1])
    blocks = min(MOST_BLOCKS, (size - rigid.shape[1]) // width)
    basis = np.empty((size, blocks * width), order="F")
    projected = np.zeros((blocks * width, blocks * width))  # the shifted inverse within the basis
    step = np.random.default_rng(0).standard_normal((size, width))
    step -= rigid @ (rigid.T @ step)
    ritz, zero = np.zeros(0), 0
    for number in range(blocks):
        new = slice(number * width, (number + 1) * width)
        step, length = np.linalg.qr(step)
        if number and np.abs(np.diag(length)).min() < EXHAUSTED * ritz[0]:
            # Directions that the inverse gives no more of are rounding errors: new ones, once clear of the basis.
            step -= rigid @ (rigid.T @ step)
            step -= basis[:, : new.start] @ (basis[:, : new.start].T @ step)
            step = np.linalg.qr(step)[0]
        basis[:, new] = step
        known = basis[:, : new.stop]
        step = factor.solve(step)
        for turn in range(2):
            step -= rigid @ (rigid.T @ step)
            within = known.T @ step
            step -= known @ within
            if turn == 0:
                projected[: new.stop, new] = within
                projected[new, : new.stop] = within.T
        ritz, turned = np.linalg.eigh(projected[: new.stop, : new.stop])
        ritz, turned = ritz[::-1], turned[:, ::-1]
        zero = int((ritz > 1 / (ZERO + SHIFT)).sum())
        top = slice(0, zero + wanted)
        # What the inverse takes out of the basis is ``step``, for the last block of the basis alone.
        if len(ritz) >= top.stop and (np.linalg.norm(step @ turned[new, top], axis=0) < RESIDUAL * ritz[top]).all():
            vectors = known @ turned[:, top]
            values = np.einsum("ij,ij->j", vectors, matrix @ vectors)
            order = np.argsort(values)
            return values[order], vectors[:, order]
    raise BadInput(
        f"the lowest {wanted} modes of a network of {len(matrix.indptr) // 3} nodes did not converge, {zero} of zero among them; "
        "nodes joined by enough springs were expected (flex.cutoff_angstrom, flex.minimum_contacts)"
    )
