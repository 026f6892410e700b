"""TETRIS: its files, and what it refuses."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.tables import LibraryRow
from template_learning.settings import VolumeSettings
from template_learning.stages.volume import build_library
from template_learning.structures.library import TABLE, read_library

from ..builders import closest_atoms, pack_and_check, placed_atoms


def test_same_seed_same_bytes_and_another_seed_another_packing(packing_library: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pack_and_check(packing_library, tmp_path / name, seed, shape_voxels=(24, 24, 24))
    first, again, other = ((tmp_path / name / "s1.placed.csv").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_a_molecule_placed_is_of_its_librarys_species_and_class(packing_library: Path, tmp_path: Path) -> None:
    rows = [
        row.model_copy(update={"class_name": f"class {row.class_id}"})
        for row in read_table(packing_library / TABLE, LibraryRow)
    ]
    shutil.copytree(packing_library, tmp_path / "library")
    write_table(tmp_path / "library" / TABLE, LibraryRow, rows)
    particles, _ = pack_and_check(tmp_path / "library", tmp_path, shape_voxels=(24, 24, 24))
    library = {row.molecule: (row.species, row.class_id, row.class_name) for row in rows}
    assert particles
    assert all((one.species, one.class_id, one.class_name) == library[one.molecule] for one in particles)


def test_a_gpu_that_is_not_there_is_named(packing_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BadInput, match=r"tetris\.device: a GPU was asked for"):
        pack_and_check(packing_library, tmp_path, device="gpu")


def test_a_molecule_larger_than_the_box_is_refused(packing_library: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="larger than the box"):
        pack_and_check(packing_library, tmp_path, shape_voxels=(10, 10, 10))
    assert not list(tmp_path.iterdir())


def test_a_species_that_is_not_there_is_named(packing_library: Path, tmp_path: Path) -> None:
    for text in ("cube=3", "disc=x", "disc"):
        with pytest.raises(BadInput, match="species=count"):
            pack_and_check(packing_library, tmp_path, maximum_counts=[text])


@pytest.mark.shared
@pytest.mark.long
def test_real_molecules_as_crowded_as_a_cell(shared_data: Path, tmp_path: Path) -> None:
    structures = shared_data / "structures"
    names = ["2pyo", "7y00", "1bxn", "1s3x", "2cg9", "3cf3", "3gl1", "6x5z", "7b5s", "1u6g"]
    files = {path.name.split(".")[0]: path for path in structures.glob("*/*.cif.gz")}
    molecules = [
        {
            "molecule": name,
            "species": name,
            "role": "template" if number < 2 else "distractor",
            "class_id": int(number < 2),
            "share": 1.0,
            "file": str(files[name]),
        }
        for number, name in enumerate(names)
    ]
    (tmp_path / "molecules.json").write_text(json.dumps(molecules))
    build_library(tmp_path / "molecules.json", VolumeSettings(), tmp_path / "library")
    particles, metadata = pack_and_check(
        tmp_path / "library",
        tmp_path,
        shape_voxels=(40, 40, 40),
        excluded_volume="atoms",
        packing_voxel_size_angstrom=4.0,
        minimum_distance_angstrom=3.0,
        distractors_per_template=4.0,
    )
    species = Counter(row.species for row in particles)
    assert max(species.values()) - min(species.values()) <= 1
    assert len(species) == 10
    assert metadata["protein_mg_per_ml"] > 180
    assert closest_atoms(placed_atoms(particles, read_library([tmp_path / "library"])), 10.0) >= 3.0
