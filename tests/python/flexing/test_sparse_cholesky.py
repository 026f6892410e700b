"""Factors of a network's Hessian."""

import numpy as np
import pytest
import scipy.sparse
from template_learning.flexing.anm import SparseANM
from template_learning.flexing.sparse_cholesky import Factor, dissect

from ..builders import node_cloud


@pytest.mark.parametrize("count", [30, 700])
def test_factor_solves(count):
    position = node_cloud(count, seed=4)
    network = SparseANM()
    network.buildHessian(position)
    matrix = network.getHessian() + scipy.sparse.eye_array(3 * count)
    joined = scipy.sparse.csr_array(network.getKirchhoff())
    fronts = dissect(position, joined)
    assert sorted(np.concatenate([front.own for front in fronts])) == list(range(count))
    right = np.random.default_rng(1).normal(size=(3 * count, 4))
    np.testing.assert_allclose(matrix @ Factor(fronts, network.getHessian(), 1.0).solve(right), right, atol=1e-10)
