"""The anisotropic network model beside ProDy's."""

import numpy as np
import pytest
from template_learning.flexing.anm import SparseANM, connected_parts, joined_pairs, prody

from ..builders import node_cloud


@pytest.mark.parametrize("count", [60, 400])
def test_hessian_and_modes_are_prodys(count):
    position = node_cloud(count)
    theirs, ours = prody.ANM(), SparseANM()
    theirs.buildHessian(position, cutoff=15.0)
    ours.buildHessian(position, cutoff=15.0)
    np.testing.assert_allclose(ours.getHessian().toarray(), theirs.getHessian(), atol=1e-10)
    np.testing.assert_allclose(ours.getKirchhoff().toarray(), theirs.getKirchhoff(), atol=1e-10)
    theirs.calcModes(14)
    ours.calcModes(14)
    assert ours.zero_modes == 6
    np.testing.assert_allclose(ours.getEigvals(), theirs.getEigvals(), rtol=1e-8)
    angle = np.linalg.svd(theirs.getArray().T @ ours.getArray())[1]
    np.testing.assert_allclose(angle, 1, atol=1e-8)  # the same subspace
    np.testing.assert_allclose(prody.calcSqFlucts(ours), prody.calcSqFlucts(theirs), rtol=1e-6)


def test_zero_modes_can_be_kept():
    network = SparseANM()
    network.buildHessian(node_cloud(300))
    network.calcModes(5, zeros=True)
    values = network.getEigvals()
    assert len(values) == 11
    assert np.abs(values[:6]).max() < 1e-9
    assert values[6] > 1e-3


def test_free_parts_and_hinges_are_counted():
    far = np.concatenate([node_cloud(300), node_cloud(4) + 500.0])
    network = SparseANM()
    network.buildHessian(far)
    network.calcModes(10)
    # The body and the four nodes move freely, six ways each.
    assert network.zero_modes == 12
    assert network.getEigvals().min() > 1e-6
    assert np.bincount(connected_parts(joined_pairs(far, 15.0), 304)).tolist() == [300, 4]
