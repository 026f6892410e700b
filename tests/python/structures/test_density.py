import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    position, element = library["a"].atoms()
    assert voxel == 4.0
    assert element.tolist() == [7, 6, 6, 7, 6]
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


def test_a_library_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no library\.csv"):
        read_library([tmp_path])
    with pytest.raises(BadInput, match="no such folder"):
        read_library([tmp_path / "nowhere"])


@pytest.mark.shared
def test_a_nucleosome_at_the_papers_settings(shared_data):
    # Golden number: the electrons of 2PYO (12147 atoms), from its elements alone.
    from template_learning.structures.structure import read_structure

    structure = read_structure(shared_data / "structures/nucleosome/2pyo.cif.gz")
    density = density_of_atoms(structure.position_angstrom, structure.element, 16.0, 32.0)
    electrons = density.sum(dtype=float) * 16**3 / (np.sqrt(np.pi) * 32 / np.pi) ** 3
    assert electrons == pytest.approx(structure.element.sum(dtype=float), rel=5e-3)
