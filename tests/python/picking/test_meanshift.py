"""Mean shift beside scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MeanShift
from template_learning.picking.meanshift import assign_to_nearest, mean_shift

from ..builders import balls, centres_apart


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([3.0, 4.5, 6.0]))
def test_mean_shift_has_the_modes_of_scikit_learn(seed, radius):
    generator = np.random.default_rng(seed)
    shape = (24, 36, 40)
    mask = balls(shape, centres_apart(generator, 6, shape, radius), radius) > 0
    mask ^= (generator.random(shape) < 0.1) & mask
    mask |= generator.random(shape) < 0.0005
    voxels = np.argwhere(mask)
    peer = MeanShift(bandwidth=radius, bin_seeding=True).fit(voxels)
    modes = mean_shift(voxels, radius)
    assert len(modes) == len(peer.cluster_centers_)
    apart = np.linalg.norm(modes[:, None] - peer.cluster_centers_[None], axis=2)
    assert apart.min(axis=1).max() < 0.5
    assert apart.min(axis=0).max() < 0.5
    assert (assign_to_nearest(voxels, modes, radius) == peer.labels_).mean() > 0.999


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([2.0, 7.3]))
def test_nearest_of_scattered_centres(seed, radius):
    generator = np.random.default_rng(seed)
    voxels = np.argwhere(generator.random((12, 20, 25)) < 0.1) + generator.integers(-5, 300, 3)
    centres = generator.uniform(voxels.min(axis=0) - 4, voxels.max(axis=0) + 4, (generator.integers(1, 12), 3))
    distance = np.linalg.norm(voxels[:, None] - centres[None], axis=2)
    np.testing.assert_array_equal(assign_to_nearest(voxels, centres, radius), distance.argmin(axis=1))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_mean_shift_of_next_to_nothing(count):
    voxels = np.array([(3, 4, 5), (9, 9, 90)])[:count]
    np.testing.assert_array_equal(np.sort(mean_shift(voxels, 6.0), axis=0), np.sort(voxels, axis=0))
