"""VOLUME: the library that it writes, and the lists that it refuses."""

import json

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.settings import VolumeSettings
from template_learning.stages.volume import build_library, density_of_atoms
from template_learning.structures.library import read_library

GLYCINES = """\
ATOM      1  N   GLY A   1       0.000   0.000   0.000  1.00  0.00           N
ATOM      2  CA  GLY A   1       1.500   0.000   0.000  1.00  0.00           C
ATOM      3  C   GLY A   1       2.000   1.400   0.000  1.00  0.00           C
ATOM      4  N   GLY A   2       3.300   1.500   0.000  1.00  0.00           N
ATOM      5  CA  GLY A   2       4.000   2.800   0.000  1.00  0.00           C
"""


def entry(name, **changes):
    row = {"molecule": name, "species": name, "role": "template", "class_id": 1, "share": 1, "file": "x.pdb"}
    return {**row, **changes}


def listed(folder, entries):
    (folder / "x.pdb").write_text(GLYCINES)
    path = folder / "molecules.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def test_library_is_written_and_read_back(tmp_path):
    path = listed(tmp_path, [entry("b_c000", species="b"), entry("a", role="distractor", class_id=0, share=2.5)])
    build_library(path, VolumeSettings(voxel_size_angstrom=4.0, resolution_angstrom=8.0), tmp_path / "run" / "library")
    library = read_library([tmp_path / "run"])
    assert list(library) == ["a", "b_c000"]
    assert library["a"].row.share == 2.5
    assert library["b_c000"].row.atom_count == 5
    density, voxel = library["a"].density()
    position, element, hydrogens, displaced = library["a"].atoms()
    assert voxel == 4.0
    assert element.tolist() == [7, 6, 6, 7, 6]
    np.testing.assert_allclose(hydrogens, [3 * 38.029 / 54.028 / 3] * 3 + [3 * 26.018 / 54.028 / 2] * 2, rtol=1e-4)
    assert displaced.sum() == pytest.approx(0.73 / 0.602214 * library["a"].row.mass_dalton, rel=1e-4)
    np.testing.assert_allclose(density, density_of_atoms(position, element, 4.0, 8.0), rtol=1e-5)


def test_two_molecules_of_one_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        build_library(listed(tmp_path, [entry("same")]), VolumeSettings(), tmp_path / folder)
    with pytest.raises(BadInput, match="same"):
        read_library([tmp_path / "one", tmp_path / "two"])


def test_one_folder_named_twice_is_one_folder(tmp_path):
    build_library(listed(tmp_path, [entry("a")]), VolumeSettings(), tmp_path / "one")
    assert list(read_library([tmp_path / "one", tmp_path])) == ["a"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("[", "not JSON"),
        ([], "no molecules"),
        ([entry("a"), entry("a")], "twice"),
        ([entry("a/../b")], "only letters"),
        ([entry("a", role="distractor")], "class_id"),
        ([entry("a", shape="round")], "shape"),
        ([entry("a", file="nowhere.pdb")], "no such file"),
    ],
)
def test_bad_lists_are_refused(tmp_path, entries, said):
    with pytest.raises(BadInput, match=said):
        build_library(listed(tmp_path, entries), VolumeSettings(), tmp_path / "out")
    assert not (tmp_path / "out" / "library.csv").exists()
