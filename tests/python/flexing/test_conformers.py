"""Conformers: modes of a structure, drawn, and drawn again where they are broken."""

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.flexing.anm import SparseANM, joined_pairs, prody
from template_learning.flexing.conformers import Geometry, draw_conformer, find_modes, rms
from template_learning.settings import FlexSettings
from template_learning.stages.flex import flex_template
from template_learning.structures.structure import Structure, read_structure

from ..builders import node_cloud


def chain_of(position, chain=None):
    """A structure of glycines that have nothing but their CA."""
    count = len(position)
    return Structure(
        name="cloud",
        position_angstrom=position - position.mean(axis=0),
        origin_angstrom=position.mean(axis=0),
        element=np.full(count, 6, dtype=np.uint8),
        atom_name=np.full(count, "CA"),
        residue_name=np.full(count, "GLY"),
        residue_number=np.arange(count, dtype=np.int32),
        insertion_code=np.full(count, ""),
        chain=np.full(count, "A") if chain is None else np.asarray(chain),
        hetero=np.zeros(count, dtype=bool),
    )


PAPER = FlexSettings(minimum_contacts=0, minimum_collectivity=0, maximum_broken_fraction=1, conformers=3)


def test_sparse_networks_are_held_by_fewer_springs_and_those_that_fall_apart_refused():
    thin = chain_of(node_cloud(343, spread=2.1))
    contacts = np.bincount(joined_pairs(thin.position_angstrom, 15.0).ravel())
    assert np.median(contacts) < 8
    modes = find_modes(thin, FlexSettings())
    assert modes.metadata["loose_nodes"] < 343 / 2
    assert modes.eigenvalue.min() > 1e-6
    with pytest.raises(BadInput, match=r"cloud: springs of 15 Å join fewer than half of the 343 nodes"):
        find_modes(chain_of(node_cloud(343, spread=4.0)), FlexSettings())
    with pytest.raises(BadInput, match="did not converge"):
        find_modes(chain_of(node_cloud(160, spread=8.0)), PAPER)


def test_loose_ends_follow_their_chain():
    body = node_cloud(343)
    tail = body[-1] + np.arange(1, 12)[:, None] * np.array([3.0, 2.0, 1.2])
    structure = chain_of(np.concatenate([body, tail]))
    loose = find_modes(structure, PAPER)
    held = find_modes(structure, FlexSettings(minimum_contacts=8, minimum_collectivity=0.1))
    assert held.metadata["loose_nodes"] >= 9
    assert any("loose ends" in note for note in held.notes)
    assert held.collectivity.min() >= 0.1 > loose.collectivity.min()
    moved = held.displacement(np.full(14, 10.0))
    np.testing.assert_allclose(moved[-9:], np.tile(moved[-1], (9, 1)))
    assert find_modes(structure, PAPER).metadata["zero_modes"] >= 6


def test_a_chain_apart_follows_the_nearest_node():
    position = np.concatenate([node_cloud(343), node_cloud(5) + 100.0])
    structure = chain_of(position, chain=["A"] * 343 + ["B"] * 5)
    modes = find_modes(structure, FlexSettings())
    moved = modes.displacement(np.full(14, 10.0))
    nearest = np.linalg.norm(position[:343] - position[343:].mean(axis=0), axis=1).argmin()
    np.testing.assert_allclose(moved[343:], np.tile(moved[nearest], (5, 1)))


@pytest.mark.shared
def test_atoms_move_with_their_residues_node_as_in_prody(shared_data):
    path = shared_data / "structures/distractors/3qm1.cif.gz"
    structure = read_structure(path)
    modes = find_modes(structure, PAPER)
    amplitude = np.linspace(-250, 300, 14)
    moved = modes.displacement(amplitude)
    atoms = prody.AtomGroup("x")
    atoms.setCoords(structure.position_angstrom)
    atoms.setNames(structure.atom_name)
    atoms.setResnames(structure.residue_name)
    atoms.setResnums(structure.residue_number)
    atoms.setChids(structure.chain)
    atoms.setElements(np.where(structure.element == 6, "C", "X"))
    nodes = atoms.select("name CA P and element C")
    network = prody.ANM()
    network.buildHessian(nodes, cutoff=15.0, gamma=1.0)
    network.calcModes(20)  # without the rigid body's
    released = [prody.extendMode(network[number], nodes, atoms, norm=True) for number in range(6, 20)]
    mapped = released[0][1].getIndices()
    unit = np.stack([mode.getArray() for mode, _ in released], axis=1)
    ours = np.stack([modes.displacement(one) for one in np.eye(14)])
    # The amplitude is in ångström times the unit vector over all atoms; ProDy leaves out the few without a node.
    np.testing.assert_allclose(np.linalg.norm(ours, axis=(1, 2)), 1, rtol=1e-6)
    share = np.linalg.norm(ours[:, mapped], axis=(1, 2))
    assert share.min() > 0.98
    sign = np.sign((unit * ours[:, mapped].reshape(14, -1).T).sum(axis=0))
    np.testing.assert_allclose(moved[mapped].ravel(), unit @ (sign * share * amplitude), atol=1e-3)


@pytest.mark.shared
def test_2pyo_bends_as_far_as_by_the_released_script(shared_data):
    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    modes, geometry = find_modes(structure, PAPER), Geometry.of(structure)
    drawn = [draw_conformer(modes, geometry, PAPER, np.random.default_rng(seed)) for seed in range(60)]
    assert np.sqrt(np.mean([rms(one.displacement) ** 2 for one in drawn])) == pytest.approx(1.97, abs=0.2)


def test_the_first_mode_and_the_last_are_those_asked_for():
    structure = chain_of(node_cloud(343))
    softest = find_modes(structure, PAPER.changed({"first_mode": 1}))
    chosen = find_modes(structure, PAPER)
    assert (len(softest.eigenvalue), len(chosen.eigenvalue)) == (20, 14)
    np.testing.assert_allclose(chosen.eigenvalue, softest.eigenvalue[6:], rtol=1e-9)
    with pytest.raises(ValueError, match="first_mode = 21, modes = 20"):
        PAPER.changed({"first_mode": 21})


@pytest.mark.parametrize("rmsd", [0.5, 3.0])
def test_thermal_conformers_have_the_rmsd_asked_for(rmsd):
    structure = chain_of(node_cloud(343))
    settings = FlexSettings(amplitude_kind="thermal", rmsd_angstrom=rmsd)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    for seed in range(5):
        drawn = draw_conformer(modes, geometry, settings, np.random.default_rng(seed))
        assert rms(drawn.displacement) == pytest.approx(rmsd, rel=1e-9)


def test_thermal_amplitudes_follow_the_eigenvalues():
    structure = chain_of(node_cloud(343))
    settings = FlexSettings(amplitude_kind="thermal", maximum_broken_fraction=1)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    drawn = [draw_conformer(modes, geometry, settings, np.random.default_rng(seed)).amplitude for seed in range(400)]
    share = (np.array(drawn) ** 2).mean(axis=0)
    expected = 1 / modes.eigenvalue
    np.testing.assert_allclose(share / share.sum(), expected / expected.sum(), rtol=0.35)


@pytest.mark.shared
def test_damaged_conformers_are_drawn_again(shared_data):
    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    settings = FlexSettings(maximum_broken_fraction=0.02, amplitude=500)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    assert len(geometry.bond) > 1000
    assert geometry.damage(structure.position_angstrom) == (0, 0)
    kept = draw_conformer(modes, geometry, settings, np.random.default_rng(0))
    assert kept.accepted
    assert kept.draws > 1
    assert max(geometry.damage(structure.position_angstrom + kept.displacement)) <= 0.02
    paper = draw_conformer(modes, geometry, settings.changed({"maximum_broken_fraction": 1.0}), np.random.default_rng(0))
    assert paper.draws == 1
    assert max(geometry.damage(structure.position_angstrom + paper.displacement)) > 0.02
    assert np.abs(paper.amplitude).max() <= 500


def test_too_few_nodes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="too few nodes"):
        find_modes(chain_of(node_cloud(5)), FlexSettings())
    with pytest.raises(BadInput, match="only letters"):
        flex_template(tmp_path / "x.cif", "a b", FlexSettings(), 1, tmp_path)
    with pytest.raises(BadInput, match="one place"):
        SparseANM().buildHessian(np.zeros((5, 3)))
