"""Labels lie where the turned atoms lie."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid, random_rotations, rotation_from_angles
from template_learning.labelling.labels import draw_labels, molecule_axis
from template_learning.settings import LabelSettings
from template_learning.structures.structure import read_structure

from ..builders import ArmedMolecule, placed_particle


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_shape_lies_where_the_turned_atoms_lie(seed):
    generator = np.random.default_rng(seed)
    grid = Grid(shape=(40, 44, 48), voxel_size_angstrom=7.0)
    rotation = random_rotations(1, generator)[0]
    position = grid.centre_angstrom + generator.uniform(-20, 20, 3)
    molecule = ArmedMolecule()
    labels, instances = draw_labels([placed_particle(3, position, rotation)], {"ell": molecule}, grid, LabelSettings())
    z, y, x = np.nonzero(labels)
    assert set(np.unique(instances)) == {0, 3}
    atoms = rotation.apply(molecule.position) + position
    voxels = np.stack((x, y, z), axis=1) * 7.0
    np.testing.assert_allclose(voxels.mean(axis=0), atoms.mean(axis=0), atol=7.0)

    # Each atom of the arms is inside the label but the thin ends; the same atoms turned the other way are not.
    def inside(points):
        index = np.round(points / 7.0).astype(int)
        return labels[index[:, 2], index[:, 1], index[:, 0]].mean()

    assert inside(atoms) > 0.9
    distance = np.sqrt(((voxels[:, None] - atoms[None]) ** 2).sum(axis=2)).min(axis=1)
    assert distance.max() < 32


def test_the_inverse_rotation_would_not_fit():
    grid = Grid(shape=(40, 44, 48), voxel_size_angstrom=7.0)
    rotation = rotation_from_angles((30, 70, -40))
    molecule = ArmedMolecule()
    labels, _ = draw_labels([placed_particle(1, grid.centre_angstrom, rotation)], {"ell": molecule}, grid, LabelSettings())
    hits = []
    for turn in (rotation, rotation.inv()):
        index = np.round((turn.apply(molecule.position) + grid.centre_angstrom) / 7.0).astype(int)
        hits.append(labels[index[:, 2], index[:, 1], index[:, 0]].mean())
    assert hits[0] > 0.9 > 0.75 > hits[1]


def test_spheres_for_templates_only_and_before_shapes():
    grid = Grid(shape=(40, 40, 40), voxel_size_angstrom=10.0)
    rotation = rotation_from_angles((0, 0, 0))
    rows = [
        placed_particle(1, (195, 195, 195), rotation),
        placed_particle(2, (250, 195, 195), rotation, "distractor", 0),
    ]
    kind = LabelSettings(kind="sphere", sphere_radius_angstrom=60)
    for order in (rows, rows[::-1]):
        labels, instances = draw_labels(order, {"ell": ArmedMolecule(), "distractor": ArmedMolecule()}, grid, kind)
        z, y, x = np.indices(grid.shape) * 10.0 - 195
        np.testing.assert_array_equal(labels == 1, z**2 + y**2 + x**2 < 3600.001)
        assert (instances == 2).any()
        assert not labels[instances == 2].any()


def test_molecules_cut_by_the_border_and_outside_it():
    grid = Grid(shape=(20, 20, 20), voxel_size_angstrom=10.0)
    rotation = rotation_from_angles((0, 0, 0))
    rows = [placed_particle(1, (30, 30, 30), rotation), placed_particle(2, (5000, 0, 0), rotation)]
    _, instances = draw_labels(rows, {"ell": ArmedMolecule()}, grid, LabelSettings())
    assert set(np.unique(instances)) == {0, 1}


def test_axis_of_a_disc_and_of_a_rod():
    generator = np.random.default_rng(1)
    cloud = generator.standard_normal((4000, 3))
    assert abs(molecule_axis(cloud * (50, 48, 20))[2]) > 0.99
    assert abs(molecule_axis(cloud * (20, 90, 22))[1]) > 0.99


@pytest.mark.shared
def test_a_grey_level_gives_the_released_scripts_label_of_2pyo(shared_data):
    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    entry = SimpleNamespace(
        atoms=lambda: (structure.position_angstrom.astype(np.float32), structure.element), row=SimpleNamespace(molecule="2pyo")
    )
    grid = Grid(shape=(30, 30, 30), voxel_size_angstrom=8.0)
    row = placed_particle(
        1, (120.0, 120.0, 120.0), rotation_from_angles((0, 0, 0))
    )  # a voxel's centre: nothing is interpolated
    row = row.model_copy(update={"molecule": "2pyo"})
    nm3 = [
        (draw_labels([row], {"2pyo": entry}, grid, kind)[0] > 0).sum() * 0.512
        for kind in (LabelSettings(), LabelSettings(grey_level=100))
    ]
    assert nm3 == pytest.approx([446, 673], rel=0.02)
    with pytest.raises(BadInput, match=r"the density of '2pyo' is 1\.7.*at most"):
        draw_labels([row], {"2pyo": entry}, grid, LabelSettings(grey_level=5000))
