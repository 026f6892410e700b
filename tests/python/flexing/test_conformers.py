import json

import numpy as np
import pytest
import scipy.sparse
from template_learning.common.errors import BadInput
from template_learning.flexing.anm import SparseANM, connected_parts, joined_pairs, prody
from template_learning.flexing.conformers import Geometry, draw_conformer, find_modes, rms
from template_learning.flexing.sparse_cholesky import Factor, dissect
from template_learning.report.run import Run
from template_learning.report.simulation_sections import molecules_section
from template_learning.settings import FlexSettings
from template_learning.stages.flex import flex_template
from template_learning.structures.structure import Structure, read_structure


def cloud(count, seed=0, spread=1.0):
    """Nodes about as dense as a protein's, none nearer than 3 Å to another."""
    generator = np.random.default_rng(seed)
    lattice = np.stack(np.meshgrid(*[np.arange(np.ceil(count ** (1 / 3)))] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return (lattice[:count] * 5.5 + generator.uniform(-1.2, 1.2, (count, 3))) * spread


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


PAPER = FlexSettings(minimum_contacts=0, minimum_collectivity=0, damage=1, conformers=3)


@pytest.mark.parametrize("count", [60, 400])
def test_hessian_and_modes_are_prodys(count):
    position = cloud(count)
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
    network.buildHessian(cloud(300))
    network.calcModes(5, zeros=True)
    values = network.getEigvals()
    assert len(values) == 11
    assert np.abs(values[:6]).max() < 1e-9
    assert values[6] > 1e-3


@pytest.mark.parametrize("count", [30, 700])
def test_factor_solves(count):
    position = cloud(count, seed=4)
    network = SparseANM()
    network.buildHessian(position)
    matrix = network.getHessian() + scipy.sparse.eye_array(3 * count)
    joined = scipy.sparse.csr_array(network.getKirchhoff())
    fronts = dissect(position, joined)
    assert sorted(np.concatenate([front.own for front in fronts])) == list(range(count))
    right = np.random.default_rng(1).normal(size=(3 * count, 4))
    np.testing.assert_allclose(matrix @ Factor(fronts, network.getHessian(), 1.0).solve(right), right, atol=1e-10)


def test_free_parts_and_hinges_are_counted():
    far = np.concatenate([cloud(300), cloud(4) + 500.0])
    network = SparseANM()
    network.buildHessian(far)
    network.calcModes(10)
    # The body and the four nodes move freely, six ways each.
    assert network.zero_modes == 12
    assert network.getEigvals().min() > 1e-6
    assert np.bincount(connected_parts(joined_pairs(far, 15.0), 304)).tolist() == [300, 4]


def test_sparse_networks_are_held_by_fewer_springs_and_those_that_fall_apart_refused():
    thin = chain_of(cloud(343, spread=2.1))
    contacts = np.bincount(joined_pairs(thin.position_angstrom, 15.0).ravel())
    assert np.median(contacts) < 8
    modes = find_modes(thin, FlexSettings())
    assert modes.facts["loose_nodes"] < 343 / 2
    assert modes.eigenvalue.min() > 1e-6
    with pytest.raises(BadInput, match=r"cloud: springs of 15 Å join fewer than half of the 343 nodes"):
        find_modes(chain_of(cloud(343, spread=4.0)), FlexSettings())
    with pytest.raises(BadInput, match="did not converge"):
        find_modes(chain_of(cloud(160, spread=8.0)), PAPER)


def test_loose_ends_follow_their_chain():
    body = cloud(343)
    tail = body[-1] + np.arange(1, 12)[:, None] * np.array([3.0, 2.0, 1.2])
    structure = chain_of(np.concatenate([body, tail]))
    loose = find_modes(structure, PAPER)
    held = find_modes(structure, FlexSettings(minimum_contacts=8, minimum_collectivity=0.1))
    assert held.facts["loose_nodes"] >= 9
    assert any("loose ends" in note for note in held.notes)
    assert held.collectivity.min() >= 0.1 > loose.collectivity.min()
    moved = held.displacement(np.full(14, 10.0))
    np.testing.assert_allclose(moved[-9:], np.tile(moved[-1], (9, 1)))
    assert find_modes(structure, PAPER).facts["zero_modes"] >= 6


def test_a_chain_apart_follows_the_nearest_node():
    position = np.concatenate([cloud(343), cloud(5) + 100.0])
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
    amplitude = np.linspace(-50, 60, 14)
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
    network.calcModes(14)
    extended, mapped = prody.extendModel(network, nodes, atoms)
    sign = np.sign(np.einsum("nim,nim->m", modes.vector, network.getArray().reshape(-1, 3, 14)))
    expected = (extended.getArray() @ (sign * amplitude)).reshape(-1, 3)
    np.testing.assert_allclose(moved[mapped.getIndices()], expected, atol=1e-5)
    # The amplitude is in ångström times the unit vector over the nodes.
    node = np.flatnonzero(structure.atom_name == "CA")
    assert np.sqrt((moved[node] ** 2).sum()) == pytest.approx(np.linalg.norm(amplitude), rel=1e-6)


@pytest.mark.parametrize("rmsd", [0.5, 3.0])
def test_thermal_conformers_have_the_rmsd_asked_for(rmsd):
    structure = chain_of(cloud(343))
    settings = FlexSettings(amplitude_kind="thermal", rmsd_angstrom=rmsd)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    for seed in range(5):
        drawn = draw_conformer(modes, geometry, settings, np.random.default_rng(seed))
        assert rms(drawn.displacement) == pytest.approx(rmsd, rel=1e-9)


def test_thermal_amplitudes_follow_the_eigenvalues():
    structure = chain_of(cloud(343))
    settings = FlexSettings(amplitude_kind="thermal", damage=1)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    drawn = [draw_conformer(modes, geometry, settings, np.random.default_rng(seed)).amplitude for seed in range(400)]
    share = (np.array(drawn) ** 2).mean(axis=0)
    expected = 1 / modes.eigenvalue
    np.testing.assert_allclose(share / share.sum(), expected / expected.sum(), rtol=0.35)


@pytest.mark.shared
def test_damaged_conformers_are_drawn_again(shared_data):
    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    settings = FlexSettings(damage=0.02)
    modes, geometry = find_modes(structure, settings), Geometry.of(structure)
    assert len(geometry.bond) > 1000
    assert geometry.damage(structure.position_angstrom) == (0, 0)
    kept = draw_conformer(modes, geometry, settings, np.random.default_rng(0))
    assert kept.accepted
    assert kept.draws > 1
    assert max(geometry.damage(structure.position_angstrom + kept.displacement)) <= 0.02
    paper = draw_conformer(modes, geometry, settings.model_copy(update={"damage": 1.0}), np.random.default_rng(0))
    assert paper.draws == 1
    assert max(geometry.damage(structure.position_angstrom + paper.displacement)) > 0.02
    assert np.abs(paper.amplitude).max() <= 100


@pytest.mark.shared
def test_conformer_seven_does_not_depend_on_how_many_there_are(shared_data, tmp_path, capsys):
    path = shared_data / "structures/distractors/3qm1.cif.gz"
    for folder, count in (("few", 3), ("many", 5)):
        flex_template(path, "tiny", FlexSettings(conformers=count), 7, tmp_path / folder)
    flex_template(path, "tiny", FlexSettings(conformers=3), 8, tmp_path / "other")
    few, many = ((tmp_path / folder / "tiny_c002.cif.gz").read_bytes() for folder in ("few", "many"))
    assert few == many
    assert (tmp_path / "other" / "tiny_c002.cif.gz").read_bytes() != few
    told = json.loads((tmp_path / "few" / "tiny.flex.json").read_text())
    assert [conformer["id"] for conformer in told["conformers"]] == ["tiny_c000", "tiny_c001", "tiny_c002"]
    assert len(told["eigenvalue"]) == 14
    rmsd = [conformer["rmsd_angstrom"] for conformer in told["conformers"]]
    assert list(told["rmsd_angstrom"].values()) == pytest.approx(np.percentile(rmsd, [0, 25, 50, 75, 100]))
    assert told["damaged_conformers"] == sum(not conformer["accepted"] for conformer in told["conformers"])
    assert "waters" not in told["notes"]
    assert "tiny: 173 atoms of water removed" in capsys.readouterr().err
    conformer, start = read_structure(tmp_path / "few" / "tiny_c002.cif.gz"), read_structure(path)
    assert np.array_equal(conformer.atom_name, start.atom_name)
    difference = conformer.position_angstrom + conformer.origin_angstrom - start.position_angstrom
    assert rms(difference) == pytest.approx(told["conformers"][2]["rmsd_angstrom"], rel=1e-2)


def test_the_report_shows_how_far_conformers_lie(tmp_path):
    (tmp_path / "flex").mkdir()
    conformers = [{"rmsd_angstrom": rmsd, "accepted": rmsd < 4} for rmsd in (1.0, 2.0, 3.0, 4.0, 5.0)]
    facts = {"conformers": conformers, "rejected_draws": 7, "nodes": 1234, "loose_nodes": 12, "zero_modes": 8}
    (tmp_path / "flex/one.flex.json").write_text(json.dumps(facts))
    section = molecules_section(Run.open(tmp_path))
    assert section is not None
    (table,) = section.blocks
    assert list(table.rows) == [["one", "5", "1.0", "2.0", "3.0", "4.0", "5.0", "7", "2", "1,234", "12", "8"]]


def test_too_few_nodes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="too few nodes"):
        find_modes(chain_of(cloud(5)), FlexSettings())
    with pytest.raises(BadInput, match="only letters"):
        flex_template(tmp_path / "x.cif", "a b", FlexSettings(), 1, tmp_path)
    with pytest.raises(BadInput, match="one place"):
        SparseANM().buildHessian(np.zeros((5, 3)))
