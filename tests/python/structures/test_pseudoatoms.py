import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.tables import MoleculeInput
from template_learning.flexing.conformers import find_modes
from template_learning.settings import FlexSettings
from template_learning.stages.flex import flex_template
from template_learning.stages.volume import density_of_atoms
from template_learning.structures.density import pull_of_field
from template_learning.structures.molecules import check_molecule, prepare_molecule, read_molecule
from template_learning.structures.pseudoatoms import bound_map, fit_map, is_map
from template_learning.structures.structure import read_structure

DEMO = Path(__file__).parents[3] / "data" / "demo"


def blob(folder, name="blob.mrc", voxel=6.0):
    """A map of two lobes of unlike density and size, at 18 Å."""
    generator = np.random.default_rng(5)
    lobes = [generator.normal(size=(1500, 3)) * 14, generator.normal(size=(800, 3)) * [8, 8, 20] + [45, 10, 0]]
    position = np.concatenate(lobes)
    density = density_of_atoms(position, np.full(len(position), 7, dtype=np.uint8), voxel, 18.0, (32, 30, 36))
    write_mrc(folder / name, density, voxel)
    return folder / name


def test_the_slope_is_that_of_the_density():
    generator = np.random.default_rng(3)
    field = generator.normal(size=(9, 10, 11))
    position = generator.normal(size=(4, 3)) * 8
    one = np.ones(1, dtype=np.uint8)

    def under(place):
        return float((density_of_atoms(place[None], one, 5.0, 20.0, field.shape).astype(float) * field).sum())

    slope = pull_of_field(position, field, 5.0, 20.0)
    for atom in range(4):
        for axis in range(3):
            step = np.eye(3)[axis] * 0.05
            expected = (under(position[atom] + step) - under(position[atom] - step)) / 0.1
            assert slope[atom, axis] == pytest.approx(expected, abs=2e-3)


def test_pseudoatoms_give_the_map_back(tmp_path):
    fitted = fit_map(blob(tmp_path), MoleculeInput(resolution_angstrom=18.0, mass_dalton=30_000))
    structure = fitted.structure
    assert fitted.correlation > 0.98
    assert structure.mass_dalton == pytest.approx(30_000, rel=1e-3)
    assert len(structure.element) == round(30_000 / 14.11)  # a protein's, with hydrogens
    assert set(structure.element) == {6, 7, 8}
    # One CA a group, groups side by side.
    nodes = structure.atom_name == "CA"
    assert np.array_equal(np.bincount(structure.residue[nodes]), np.ones(structure.residue[-1] + 1))
    assert 4 < len(nodes) / nodes.sum() < 14
    # The centre of the atoms is that of the density, in x, y, z.
    assert structure.origin_angstrom == pytest.approx([45 * 800 / 2300, 10 * 800 / 2300, 0], abs=2.5)


def test_a_proteins_map_becomes_atoms_that_scatter_like_the_protein(tmp_path):
    protein = read_structure(DEMO / "distractors" / "3qm1.cif.gz")
    density = density_of_atoms(protein.position_angstrom, protein.element, 4.0, 12.0)
    write_mrc(tmp_path / "protein.mrc", density, 4.0)
    found = fit_map(
        tmp_path / "protein.mrc", MoleculeInput(resolution_angstrom=12.0, mass_dalton=protein.mass_dalton)
    ).structure
    assert len(found.element) == pytest.approx(len(protein.element), rel=0.02)
    assert found.element.sum(dtype=int) == pytest.approx(protein.element.sum(dtype=int), rel=0.02)
    for element in (6, 7, 8):
        assert (found.element == element).mean() == pytest.approx((protein.element == element).mean(), abs=0.03)
    assert (found.element[found.nodes] == 6).all()


def test_one_map_has_one_set_of_pseudoatoms(tmp_path):
    path = blob(tmp_path)
    first, second = (fit_map(path, MoleculeInput(mass_dalton=10_000)).structure for _ in range(2))
    assert np.array_equal(first.position_angstrom, second.position_angstrom)


def test_pseudoatoms_flex(tmp_path):
    path = blob(tmp_path)
    flex_template(path, "blob", FlexSettings(conformers=2), 1, tmp_path / "out")
    conformer, start = read_structure(tmp_path / "out" / "blob_c001.cif.gz"), read_molecule(path)
    assert len(conformer.element) == len(start.element)
    modes = find_modes(start, FlexSettings())
    assert len(modes.eigenvalue) == 14
    assert modes.eigenvalue.min() > 1e-6
    moved = modes.displacement(np.full(14, 5.0))
    # The motion is smooth: atoms near one another move alike.
    distance = np.linalg.norm(start.position_angstrom - start.position_angstrom[100], axis=1)
    near = distance < 8
    assert np.abs(moved[near] - moved[100]).max() < 0.7 * np.linalg.norm(moved, axis=1).max()


def test_a_light_map_hangs_together(tmp_path):
    light = read_molecule(blob(tmp_path, voxel=18.0), MoleculeInput(mass_dalton=12_000))
    # More nodes than one of eight atoms, so that springs of 15 Å join most of them.
    assert len(light.nodes) > len(light.element) / 5
    modes = find_modes(light, FlexSettings())
    assert modes.metadata["loose_nodes"] < 0.5 * len(light.nodes)
    assert modes.eigenvalue.min() > 1e-6


def test_maps_are_told_by_their_names(tmp_path):
    assert is_map(tmp_path / "EMD-1997.MAP")
    assert is_map(tmp_path / "x.mrc.gz")
    assert not is_map(tmp_path / "x.cif.gz")


def test_a_map_is_checked_without_fitting(tmp_path):
    path = blob(tmp_path)
    checked = check_molecule(path)
    assert "density map" in checked.notes[0]
    radius = np.linalg.norm(fit_map(path).structure.position_angstrom, axis=1).max()
    assert checked.diameter_angstrom == pytest.approx(2 * radius, rel=0.25)
    light = MoleculeInput(mass_dalton=12_000, resolution_angstrom=20, threshold=200.0)
    assert check_molecule(path, light).diameter_angstrom < checked.diameter_angstrom
    assert "12 kDa at 20 Å" in check_molecule(path, light).notes[0]
    assert read_molecule(path, light).mass_dalton == pytest.approx(12_000, rel=1e-3)
    written = prepare_molecule(str(path), "mine", tmp_path / "out", light)
    assert len(read_structure(written).element) == round(12_000 / 14.11)


def test_a_maps_axes_are_those_of_its_header(tmp_path):
    path = blob(tmp_path)
    volume = mrcfile.read(path)
    # The same map, its columns along z and its sections along x.
    write_mrc(tmp_path / "turned.mrc", np.ascontiguousarray(volume.transpose(2, 1, 0)), 6.0)
    with mrcfile.open(tmp_path / "turned.mrc", mode="r+") as opened:
        opened.header.mapc, opened.header.mapr, opened.header.maps = 3, 2, 1
    plain, turned = (bound_map(folder) for folder in (path, tmp_path / "turned.mrc"))
    assert np.array_equal(plain.volume, turned.volume)
    with mrcfile.open(tmp_path / "turned.mrc", mode="r+") as opened:
        opened.voxel_size = (6.0, 6.0, 7.0)
    with pytest.raises(BadInput, match="cubes were expected"):
        bound_map(tmp_path / "turned.mrc")
    (tmp_path / "packed.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(bound_map(tmp_path / "packed.mrc.gz").volume, plain.volume)


def test_bad_maps_are_refused(tmp_path):
    write_mrc(tmp_path / "flat.mrc", np.full((8, 8, 8), 3.0, dtype=np.float32), 5.0)
    with pytest.raises(BadInput, match="all voxels are 3"):
        fit_map(tmp_path / "flat.mrc")
    with pytest.raises(BadInput, match="no voxel is above"):
        fit_map(blob(tmp_path), MoleculeInput(threshold=1e9))
    with pytest.raises(BadInput, match="at least the voxel size"):
        fit_map(blob(tmp_path), MoleculeInput(resolution_angstrom=2))
    with pytest.raises(BadInput, match="a density map has none"):
        read_molecule(blob(tmp_path), MoleculeInput(assembly="1"))
    (tmp_path / "no.mrc").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="not a whole MRC"):
        read_molecule(tmp_path / "no.mrc")


@pytest.mark.shared
@pytest.mark.long
@pytest.mark.parametrize("name", ["EMD-3197.map", "2uv8_10A.mrc"])
def test_real_maps_are_given_back(shared_data, name):
    # A light molecule keeps this quick; bench/pseudoatoms.py takes the whole mass.
    assert fit_map(shared_data / "maps" / name, MoleculeInput(mass_dalton=600_000)).correlation > 0.98


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda volume: -volume, "protein bright was expected"),
        (lambda volume: volume.max() - volume, "as where protein is dark"),
        (lambda volume: np.random.default_rng(1).normal(size=volume.shape).astype(np.float32), "noise"),
        (lambda volume: volume - volume.max() - 1, "no grey value above 0"),
    ],
)
def test_maps_that_cannot_be_a_bright_molecule_are_refused(tmp_path, change, words):
    volume, voxel = read_mrc(blob(tmp_path))
    write_mrc(tmp_path / "odd.mrc", np.ascontiguousarray(change(volume)), voxel)
    with pytest.raises(BadInput) as refusal:
        check_molecule(tmp_path / "odd.mrc")
    assert words in str(refusal.value)
