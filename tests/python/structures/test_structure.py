import bz2
import gzip
import json
import lzma
from pathlib import Path

import gemmi
import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.tables import MoleculeInput
from template_learning.structures.molecules import prepare_molecule
from template_learning.structures.structure import read_structure, write_structure

from ..builders import ASSEMBLY_CIF


def atom_line(serial, name, residue, number, x, y, z, *, altloc=" ", occupancy=1.0, element="C", chain="A", record="ATOM"):
    return (
        f"{record:<6}{serial:>5} {name:<4}{altloc}{residue:>3} {chain}{number:>4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0.0:6.2f}          {element:>2}\n"
    )


GLYCINES = (
    atom_line(1, " N", "GLY", 1, 0, 0, 0, element="N")
    + atom_line(2, " CA", "GLY", 1, 1.5, 0, 0)
    + atom_line(3, " C", "GLY", 1, 2.0, 1.4, 0)
    + atom_line(4, " N", "GLY", 2, 3.3, 1.5, 0, element="N")
    + atom_line(5, " CA", "GLY", 2, 4.0, 2.8, 0)
)


def write(folder, text, name="x.pdb"):
    path = folder / name
    path.write_text(text)
    return path


def test_atoms_are_centred_and_remember_where_they_were(tmp_path):
    structure = read_structure(write(tmp_path, GLYCINES + "END\n"))
    np.testing.assert_allclose(structure.position_angstrom.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose((structure.position_angstrom + structure.origin_angstrom)[1], [1.5, 0, 0], atol=1e-6)
    assert structure.element.tolist() == [7, 6, 6, 7, 6]
    assert structure.residue.tolist() == [0, 0, 0, 1, 1]
    # of a glycine in a chain, C2 N O with three hydrogens, 38.029 and 26.018 of 54.028 Da are there
    hydrogens = 3 * (38.029 + 26.018) / 54.028
    assert structure.mass_dalton == pytest.approx(3 * 12.011 + 2 * 14.007 + 1.008 * hydrogens, abs=0.01)
    assert structure.notes == ()
    assert structure.name == "x"


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_are_read_whatever_they_are_called(tmp_path, suffix, compress):
    plain = read_structure(write(tmp_path, GLYCINES))
    for name in ("x.pdb" + suffix, "unnamed"):
        (tmp_path / name).write_bytes(compress(GLYCINES.encode()))
        assert np.array_equal(read_structure(tmp_path / name).position_angstrom, plain.position_angstrom)


def test_first_of_several_models_is_kept_and_said(tmp_path):
    other = GLYCINES.replace("   0.000", "   0.900")
    path = write(tmp_path, f"MODEL        1\n{GLYCINES}ENDMDL\nMODEL        2\n{other}ENDMDL\nEND\n")
    structure = read_structure(path)
    assert len(structure.element) == 5
    assert structure.notes == ("2 models: the first was kept",)


def test_highest_occupancy_of_alternate_locations_is_kept(tmp_path):
    text = (
        atom_line(1, " CA", "SER", 1, 0, 0, 0)
        + atom_line(2, " CB", "SER", 1, 1.5, 0, 0, altloc="A", occupancy=0.3)
        + atom_line(3, " CB", "SER", 1, 1.5, 9, 0, altloc="B", occupancy=0.7)
        + atom_line(4, " OG", "SER", 1, 2.5, 0, 0, altloc="A", occupancy=0.3, element="O")
        + atom_line(5, " OG", "SER", 1, 2.5, 9, 0, altloc="B", occupancy=0.7, element="O")
        + atom_line(6, " CA", "ALA", 2, 5, 0, 0, altloc="A", occupancy=0.5)
        + atom_line(7, " CA", "ALA", 2, 5, 1, 0, altloc="B", occupancy=0.5)
    )
    structure = read_structure(write(tmp_path, text))
    place = structure.position_angstrom + structure.origin_angstrom
    np.testing.assert_allclose(place[:, 1], [0, 9, 9, 0], atol=1e-6)
    assert "3 atoms of alternate locations removed" in structure.notes[0]


def test_waters_hydrogens_and_buffer_ions_go_and_bound_metals_stay(tmp_path):
    extra = (
        atom_line(6, " H", "GLY", 2, 3, 3, 3, element="H")
        + atom_line(7, " O", "HOH", 101, 9, 9, 9, element="O", record="HETATM")
        + atom_line(8, "CL", " CL", 102, 8, 9, 9, element="CL", record="HETATM")
        + atom_line(9, "MG", " MG", 103, 7, 9, 9, element="MG", record="HETATM")
        + atom_line(10, "ZN", " ZN", 104, 6, 9, 9, element="X", record="HETATM")
    )
    structure = read_structure(write(tmp_path, GLYCINES + extra))
    assert structure.element.tolist() == [7, 6, 6, 7, 6, 12, 30]
    said = " ".join(structure.notes)
    assert all(part in said for part in ("1 atoms of water", "1 hydrogens", "1 ions of the buffer"))


def test_written_mmcif_reads_back_the_same_and_has_the_same_bytes(tmp_path):
    text = GLYCINES + atom_line(6, " O5'", " DA", 1, 7, 7, 7, element="O", chain="B")
    structure = read_structure(write(tmp_path, text))
    write_structure(tmp_path / "a.cif.gz", structure)
    write_structure(tmp_path / "b.cif.gz", structure)
    assert (tmp_path / "a.cif.gz").read_bytes() == (tmp_path / "b.cif.gz").read_bytes()
    again = read_structure(tmp_path / "a.cif.gz")
    np.testing.assert_allclose(again.position_angstrom, structure.position_angstrom, atol=2e-3)
    for column in ("element", "atom_name", "residue_name", "residue_number", "chain", "hetero", "residue"):
        assert np.array_equal(getattr(again, column), getattr(structure, column)), column
    # And gemmi, which Parakeet reads with, agrees.
    assert gemmi.read_structure(str(tmp_path / "a.cif.gz"))[0].count_atom_sites() == 6


def test_diameter_is_the_greatest_distance(tmp_path):
    generator = np.random.default_rng(2)
    place = generator.normal(size=(300, 3)) * [40, 10, 20]
    text = "".join(atom_line(i + 1, " CA", "GLY", i + 1, *p) for i, p in enumerate(place))
    structure = read_structure(write(tmp_path, text))
    x = structure.position_angstrom
    true = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=-1).max())
    assert 0.99 * true < structure.diameter_angstrom <= true + 1e-6


def test_columns_that_are_not_needed_may_be_missing(tmp_path):
    columns = ("group_PDB", "id", "type_symbol", "label_atom_id", "label_comp_id", "label_asym_id", "label_seq_id")
    header = "".join(f"_atom_site.{column}\n" for column in (*columns, "Cartn_x", "Cartn_y", "Cartn_z"))
    atoms = "ATOM 1 N N GLY A 1 0 0 0\nATOM 2 C CA GLY A 1 1.5 0 0\nATOM 3 C CA GLY B 1 9 0 0\n"
    structure = read_structure(write(tmp_path, f"data_x\nloop_\n{header}{atoms}", "x.cif"))
    assert structure.element.tolist() == [7, 6, 6]
    assert structure.chain.tolist() == ["A", "A", "B"]
    assert structure.nodes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),  # the time would be part of the test's name, and differ between processes
        (gzip.compress(GLYCINES.encode() * 50, mtime=0)[:-40], "broken"),
        (b"HEADER    NOTHING\nEND\n", "no atoms"),
        (b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1\n", "not a structure"),
        (b"\xff\xfe\x00 no text at all", "not a structure"),
        (atom_line(1, " O", "HOH", 1, 0, 0, 0, element="O").encode(), "no atoms are left"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "bad.cif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=said) as refusal:
        read_structure(path)
    assert "bad.cif" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_mass_counts_the_hydrogens_that_the_file_leaves_out():
    lysozyme = read_structure(Path(__file__).parents[2] / "data/1aki.bcif.gz")
    assert 1 not in lysozyme.element
    assert lysozyme.mass_dalton == pytest.approx(14_305, rel=3e-3)  # hen egg-white lysozyme by its sequence


def test_hydrogens_and_volumes_are_those_of_what_a_residue_is(tmp_path):
    """Two nucleotides, a ligand, an ion, an unknown amino acid and what no table knows; one or two atoms of each."""
    parts = [
        (" P", "DG", "P"), (" O5'", "DG", "O"), (" P", "G", "P"), (" O5'", "G", "O"),
        (" C1", "NAG", "C"), (" O1", "NAG", "O"), ("ZN", "ZN", "ZN"), (" C", "UNK", "C"), (" C1", "ZZZ", "C"),
    ]  # fmt: skip
    number = {residue: i for i, residue in enumerate(dict.fromkeys(residue for _, residue, _ in parts))}
    lines = [
        atom_line(i, name, residue, number[residue], 2.0 * i, 0.5 * i * i, 0, element=element, record="HETATM")
        for i, (name, residue, element) in enumerate(parts, 1)
    ]
    structure = read_structure(write(tmp_path, "".join(lines)))
    assert structure.residue_name.tolist() == [residue for _, residue, _ in parts]
    there = 30.974 + 15.999
    whole = {  # hydrogens and heavy atoms' mass of each in its chain
        "DG": (12, 10 * 12.011 + 5 * 14.007 + 6 * 15.999 + 30.974),
        "G": (12, 10 * 12.011 + 5 * 14.007 + 7 * 15.999 + 30.974),
    }
    for at, (kind, specific) in enumerate((("DG", 0.55), ("G", 0.53))):
        hydrogens = whole[kind][0] * there / whole[kind][1]
        np.testing.assert_allclose(structure.hydrogens[2 * at : 2 * at + 2], hydrogens / 2, rtol=1e-3)
        salt = there + 1.008 * hydrogens + 21.98  # with sodium for one of them
        np.testing.assert_allclose(
            structure.displaced_angstrom3[2 * at : 2 * at + 2], specific / 0.602214 * salt / 2, rtol=1e-3
        )
    sugar = 15 * 28.01 / (8 * 12.011 + 14.007 + 6 * 15.999)  # C8 H15 N O6, not in a chain of amino acids
    np.testing.assert_allclose(structure.hydrogens[4:6], sugar / 2, rtol=1e-3)
    np.testing.assert_allclose(structure.displaced_angstrom3[4:6], np.array([16.44, 9.13]) + 5.15 * sugar / 2, rtol=1e-3)
    assert structure.hydrogens[6:].tolist() == [0, 0.993, 0]
    np.testing.assert_allclose(
        structure.displaced_angstrom3[6:], [10.0, 0.73 / 0.602214 * (12.011 + 0.993 * 1.008), 16.44], rtol=1e-3
    )


@pytest.mark.shared
def test_a_ribosome_is_read_whole(shared_data):
    structure = read_structure(shared_data / "structures/ribosome/4ug0_assembly1.cif.gz")
    assert len(structure.element) == 218_776
    assert structure.mass_dalton == pytest.approx(3.229e6, rel=1e-3)  # 3.058e6 without hydrogens


def test_an_assembly_is_built(tmp_path):
    (tmp_path / "x.cif").write_text(ASSEMBLY_CIF)
    structure = read_structure(tmp_path / "x.cif", assembly="1")
    place = structure.position_angstrom + structure.origin_angstrom
    np.testing.assert_allclose(place, [[1, 2, 3], [4, 2, 3], [29, -2, 3], [26, -2, 3]], atol=1e-6)
    assert len(set(structure.chain)) == 2
    assert structure.notes == ("assembly 1: 2 chains",)
    with pytest.raises(BadInput, match="describes 1"):
        read_structure(tmp_path / "x.cif", assembly="2")
    written = prepare_molecule(str(tmp_path / "x.cif"), "dimer", tmp_path / "out", MoleculeInput(assembly="1"))
    assert len(read_structure(written).element) == 4
    assert json.loads((tmp_path / "out" / "dimer.cif.gz.json").read_text())["atoms"] == 4
