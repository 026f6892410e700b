"""Libraries are read back."""

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.files import write_table
from template_learning.common.tables import LibraryRow
from template_learning.structures.library import read_library


def test_a_library_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no library\.csv"):
        read_library([tmp_path])
    with pytest.raises(BadInput, match="no such folder"):
        read_library([tmp_path / "nowhere"])


def entry_of(folder, **columns):
    np.savez(folder / "a.npz", position_angstrom=np.zeros((3, 3)), element=np.array([6, 1, 8], np.uint8), **columns)
    row = {"species": "a", "role": "distractor", "class_id": 0, "share": 1.0, "mass_dalton": 1.0, "atom_count": 3}
    write_table(folder / "library.csv", LibraryRow, [LibraryRow(molecule="a", density="a.mrc", atoms="a.npz", **row)])
    return read_library([folder])["a"]


def test_atoms_of_a_library_of_version_0_1_0_have_no_hydrogens_and_one_volume(tmp_path):
    atoms = entry_of(tmp_path).atoms()
    assert atoms.hydrogens.tolist() == [0, 0, 0]
    np.testing.assert_allclose(atoms.displaced_angstrom3, [17.4, 0, 17.4], rtol=1e-6)
    given = entry_of(tmp_path, hydrogens=np.array([2.0, 0, 1]), displaced_angstrom3=np.array([20.0, 5, 12])).atoms()
    assert given.hydrogens.tolist() == [2, 0, 1]
    assert given.displaced_angstrom3.tolist() == [20, 5, 12]


def test_columns_of_other_lengths_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"a\.npz: 3, 3, 2, 3 entries"):
        entry_of(tmp_path, hydrogens=np.zeros(2), displaced_angstrom3=np.zeros(3)).atoms()
    with pytest.raises(BadInput, match="not a molecule's atoms"):
        entry_of(tmp_path, hydrogens=np.zeros(3)).atoms()
