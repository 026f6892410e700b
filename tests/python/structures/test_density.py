"""Densities: the sum of the atoms' Gaussians."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.stages.volume import density_of_atoms


def brute_force(position, element, voxel, resolution, shape):
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * voxel for n in shape), indexing="ij")
    width = resolution / np.pi
    density = np.zeros(shape)
    for (px, py, pz), weight in zip(position, element, strict=True):
        density += weight * np.exp(-((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) / width**2)
    return density


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.floats(2, 20), st.floats(1.0, 4.0), st.integers(0, 1000))
def test_density_is_the_sum_of_the_atoms_gaussians(count, voxel, ratio, seed):
    generator = np.random.default_rng(seed)
    position = generator.normal(size=(count, 3)) * 30
    element = generator.choice([6, 7, 8, 15, 16], count).astype(np.uint8)
    density = density_of_atoms(position, element, voxel, ratio * voxel)
    assert len(set(density.shape)) == 1
    assert density.shape[0] % 2 == 1
    expected = brute_force(position, element, voxel, ratio * voxel, density.shape)
    np.testing.assert_allclose(density, expected, atol=1e-4 * expected.max())
    # The box holds the tails however the molecule is turned.
    border = np.ones(density.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert density[border].max() <= 2e-5 * element.sum()


def test_electrons_are_counted():
    position, element = np.array([[3.0, -2.0, 5.0], [-20.0, 11.0, 4.0]]), np.array([8, 6], dtype=np.uint8)
    width = 12 / np.pi
    total = density_of_atoms(position, element, 2.0, 12.0).sum(dtype=float) * 2.0**3 / (np.sqrt(np.pi) * width) ** 3
    assert total == pytest.approx(14, rel=1e-4)


def test_axes_and_handedness():
    # One heavy atom far along +x, +y and +z each by another distance.
    density = density_of_atoms(np.array([[10.0, 20.0, 40.0]]), np.array([6], dtype=np.uint8), 10.0, 20.0, (9, 7, 5))
    assert np.unravel_index(density.argmax(), density.shape) == (4 + 4, 3 + 2, 2 + 1)


def test_a_given_grid_cuts_what_reaches_beyond():
    position = np.array([[0.0, 0.0, 0.0], [500.0, 0.0, 0.0], [31.0, 0.0, 0.0]])
    density = density_of_atoms(position, np.full(3, 6, dtype=np.uint8), 10.0, 30.0, (5, 5, 5))
    np.testing.assert_allclose(density, brute_force(position[[0, 2]], [6, 6], 10.0, 30.0, (5, 5, 5)), atol=1e-4 * density.max())


@pytest.mark.shared
def test_a_nucleosome_at_the_papers_settings(shared_data):
    # Golden number: the electrons of 2PYO (12147 atoms), from its elements alone.
    from template_learning.structures.structure import read_structure

    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    density = density_of_atoms(structure.position_angstrom, structure.element, 16.0, 32.0)
    electrons = density.sum(dtype=float) * 16**3 / (np.sqrt(np.pi) * 32 / np.pi) ** 3
    assert electrons == pytest.approx(structure.element.sum(dtype=float), rel=5e-3)
