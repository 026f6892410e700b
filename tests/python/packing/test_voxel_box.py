"""The box of voxels: the place that is chosen beside the published correlation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter
from scipy.signal import fftconvolve
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid, random_rotations
from template_learning.packing.voxel_box import Box, Shape
from template_learning.structures.density import density_of_atoms
from template_learning.structures.structure import read_structure


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


def binary(cells: np.ndarray, half: int) -> np.ndarray:
    whole = np.zeros((2 * half + 1,) * 3, bool)
    whole[tuple((cells + half).T)] = True
    return whole


def test_a_released_body_is_the_binary_density_eroded_and_its_shell_reaches_over_the_rim() -> None:
    generator = np.random.default_rng(4)
    atom = (generator.uniform(-1, 1, (12000, 3)) * [60, 45, 70]).astype(np.float32)
    density = density_of_atoms(atom, np.full(12000, 6, np.uint8), 16.0, 32.0)
    shape = Shape.from_density(density, 16.0, atom, smoothing_voxels=1.65, level=100.0)
    grid = Grid(shape=(40, 40, 40), voxel_size_angstrom=16.0)
    pose = Box(grid, erosion_voxels=2.0, slack_voxels=0.0).pose(shape, Rotation.identity(), np.zeros(3))
    half = 14
    smooth = gaussian_filter(np.pad(density, half - density.shape[0] // 2), 1.65, mode="constant")
    whole = smooth > 100
    offset = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"))
    ball = (offset**2).sum(axis=0) <= 4
    core = binary_erosion(whole, ball)
    assert 0 < core.sum() < whole.sum() / 2
    np.testing.assert_array_equal(binary(pose.body, half), core)
    np.testing.assert_array_equal(binary(pose.occupied, half), whole)
    np.testing.assert_array_equal(binary(pose.shell, half), binary_dilation(whole, ball) & ~core)


def test_a_small_molecule_keeps_a_voxel_of_its_body_and_a_faint_one_is_refused() -> None:
    atom = np.random.default_rng(0).normal(0, 8, (600, 3)).astype(np.float32)
    density = density_of_atoms(atom, np.full(600, 6, np.uint8), 16.0, 32.0)
    shape = Shape.from_density(density, 16.0, atom, smoothing_voxels=1.65, level=20.0)
    box = Box(Grid(shape=(30, 30, 30), voxel_size_angstrom=16.0), erosion_voxels=8.0, centre_margin_angstrom=192.0)
    pose = box.pose(shape, Rotation.identity(), np.zeros(3))
    assert pose.body.tolist() == [[0, 0, 0]]
    assert len(pose.occupied) > 20
    low, high = box.limits(pose)
    assert (low.tolist(), high.tolist()) == ([12] * 3, [17] * 3)
    with pytest.raises(BadInput, match="below the level 1000"):
        Shape.from_density(density, 16.0, atom, smoothing_voxels=1.65, level=1000.0)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "nm3"), [("nucleosome/2pyo", 279), ("distractors/3qm1", 4)])
def test_forbidden_bodies_are_as_large_as_the_released_scripts(shared_data: Path, name: str, nm3: float) -> None:
    molecule = read_structure(shared_data / f"structures/{name}.cif.gz")
    density = density_of_atoms(molecule.position_angstrom, molecule.element, 16.0, 32.0)
    atom = molecule.position_angstrom.astype(np.float32)
    shape = Shape.from_density(density, 16.0, atom, smoothing_voxels=1.65, level=100.0)
    box = Box(Grid(shape=(40, 40, 40), voxel_size_angstrom=16.0), erosion_voxels=2.0)
    pose = box.pose(shape, Rotation.identity(), np.zeros(3))
    assert len(pose.body) * 4.096 == pytest.approx(nm3, abs=0.6)
