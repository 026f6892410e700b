"""The box of voxels: the place that is chosen beside the published correlation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from template_learning.common.geometry import Grid, random_rotations
from template_learning.packing.voxel_box import Box, Shape


@settings(derandomize=True, deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_the_place_is_the_maximum_of_the_papers_correlation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    atom = (generator.standard_normal((300, 3)) * [15, 22, 10]).astype(np.float32)
    box = Box(Grid(shape=(26, 30, 28), voxel_size_angstrom=10.0), shell_voxels=2.0, candidates=10**9)
    shape = Shape.from_atoms(atom)
    for rotation in random_rotations(3, generator):
        pose = box.pose(shape, rotation, np.zeros(3))
        low, high = box.limits(pose)
        box.put(pose, generator.integers(low, high + 1))
    pose = box.pose(shape, random_rotations(1, generator)[0], generator.uniform(-0.5, 0.5, 3))
    half = max(np.abs(pose.shell).max(), np.abs(pose.body).max())
    body, shell = (np.zeros((2 * half + 1,) * 3) for _ in range(2))
    body[tuple((pose.body + half).T)] = 1
    shell[tuple((pose.shell + half).T)] = 1
    occupied = (box.taken[tuple(slice(edge, -edge) for edge in box.padding)] > 0).astype(float)
    kernel = shell - 1e4 * body
    correlation = fftconvolve(occupied, kernel[::-1, ::-1, ::-1], mode="same")
    low, high = box.limits(pose)
    allowed = correlation[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    position, touched = box.best(pose, box.free(pose, low, high), low, int(generator.integers(2**31)))
    if allowed.max() < -0.5:
        assert touched == -1
    else:
        assert touched == round(float(allowed.max()))
        assert round(float(correlation[tuple(position)])) == touched
