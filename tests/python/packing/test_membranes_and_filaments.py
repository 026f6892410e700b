"""Vesicles, the molecules set in them, and filaments in a packed, simulated and labelled sample."""

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.geometry import rotation_from_angles
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.tables import ParticleRow
from template_learning.packing.filaments import unit_frame
from template_learning.packing.membranes import (
    HALF_THICKNESS_ANGSTROM,
    Vesicle,
)
from template_learning.packing.packed_sample import read_placed
from template_learning.settings import LabelSettings, TetrisSettings
from template_learning.simulation.series import placed_sample
from template_learning.stages.label import label_sample
from template_learning.stages.tetris import pack_sample
from template_learning.structures.library import read_library

from ..builders import CELL_OPTIONS, VOXEL_ANGSTROM


def _rotation(row: ParticleRow) -> Rotation:
    return rotation_from_angles(np.array([row.rot_deg, row.tilt_deg, row.psi_deg], dtype=float))


def _position(row: ParticleRow) -> np.ndarray:
    return np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom])


def _packed(folder: Path, output: Path, seed: int = 1, **options: Any) -> tuple[list[ParticleRow], dict[str, Any]]:
    """The table and sidecar of a packing, its distance checked from the atoms of the table."""
    path = pack_sample([folder], "s1", TetrisSettings.model_validate(CELL_OPTIONS).changed(options), seed, output)
    rows, metadata = read_table(path, ParticleRow), json.loads((output / "s1.placed.csv.json").read_text())
    least, _ = _closest_and_all_atoms(rows, metadata, path, folder)
    assert least >= 3.0 - 2e-3  # the table is rounded
    return rows, metadata


def _closest_and_all_atoms(
    rows: list[ParticleRow], metadata: dict[str, Any], placed: Path, cell_library: Path
) -> tuple[float, np.ndarray]:
    """Least distance (10 Å where none are nearer) of atoms of two rows, not of one filament, and all atoms (N, 3)."""
    library = read_placed(placed, [cell_library]).library
    trees = [cKDTree(_rotation(row).apply(library[row.molecule].atoms()[0].astype(float)) + _position(row)) for row in rows]
    filament = {
        unit: number
        for number, one in enumerate(metadata["filaments"])
        for unit in range(one["first_particle"], one["last_particle"] + 1)
    }
    least = 10.0
    for first, second in combinations(range(len(trees)), 2):
        if filament.get(first + 1, -1) == filament.get(second + 1, -2):
            continue
        one, other = trees[first], trees[second]
        if np.maximum(one.mins - other.maxes, other.mins - one.maxes).max() < least:
            least = min(least, float(other.query(one.data, distance_upper_bound=least)[0].min()))
    return least, np.concatenate([tree.data for tree in trees])


@pytest.fixture(scope="module")
def packed(cell_library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ParticleRow], dict[str, Any], Path]:
    output = tmp_path_factory.mktemp("packed")
    return *_packed(cell_library, output), output


def test_all_is_placed_and_keeps_its_distance(
    packed: tuple[list[ParticleRow], dict[str, Any], Path], cell_library: Path
) -> None:
    rows, metadata, folder = packed
    species = [row.species for row in rows]
    assert [row.particle for row in rows] == list(range(1, len(rows) + 1))
    assert species.count("vesicle") == 2
    assert species.count("channel") == 8
    assert len(metadata["filaments"]) == 2
    units = [range(f["first_particle"], f["last_particle"] + 1) for f in metadata["filaments"]]
    assert species.count("unit") == sum(map(len, units)) >= 10
    assert species.count("disc") + species.count("ball") == 60
    least, everything = _closest_and_all_atoms(rows, metadata, folder / "s1.placed.csv", cell_library)
    assert metadata["closest_approach_angstrom"] == pytest.approx(least, abs=2e-3)
    assert (everything > -VOXEL_ANGSTROM / 2 - 1e-2).all()
    assert (everything < np.array([44, 44, 30]) * VOXEL_ANGSTROM - VOXEL_ANGSTROM / 2 + 1e-2).all()


def test_membrane_molecules_stand_along_the_normal(packed: tuple[list[ParticleRow], dict[str, Any], Path]) -> None:
    rows, metadata, _ = packed
    seen = 0
    for vesicle in metadata["vesicles"]:
        centre = rows[vesicle["particle"] - 1]
        found = Vesicle.named(centre.molecule)
        assert found is not None
        for number in vesicle["molecules"]:
            row = rows[number - 1]
            assert row.species == "channel"
            offset = _position(row) - _position(centre)
            assert np.linalg.norm(offset) == pytest.approx(found.radius_angstrom + 12, abs=1e-2)
            along = _rotation(row).apply([0.0, 0.0, 1.0]) @ offset / np.linalg.norm(offset)
            assert along == pytest.approx(1, abs=1e-5)
            seen += 1
    assert seen == 8


def test_filaments_of_the_table_have_the_rise_and_twist_asked_for(
    packed: tuple[list[ParticleRow], dict[str, Any], Path], cell_library: Path
) -> None:
    rows, metadata, _ = packed
    atom = read_library([cell_library])["unit"].atoms()[0]
    frame = unit_frame(atom)
    for filament in metadata["filaments"]:
        units = rows[filament["first_particle"] - 1 : filament["last_particle"]]
        for one, other in pairwise(units):
            before, after = (_rotation(row) * frame.inv() for row in (one, other))
            step = before.inv().apply(_position(other) - _position(one))
            assert step[2] == pytest.approx(27.5, abs=0.6)  # bends a little
            twist = (before.inv() * after).as_rotvec(degrees=True)
            assert np.linalg.norm(twist) == pytest.approx(166.7, abs=1.0)
            assert twist[2] < 0


def test_the_sample_is_simulated_and_labelled_through_the_same_door(
    packed: tuple[list[ParticleRow], dict[str, Any], Path], cell_library: Path, tmp_path: Path
) -> None:
    rows, metadata, folder = packed
    sample, grid = placed_sample(folder / "s1.placed.csv", [cell_library])
    assert len(sample.kind) == len(rows)
    centre = sample.position_angstrom[0] + grid.centre_angstrom
    np.testing.assert_allclose(centre, _position(rows[0]), atol=1e-9)
    assert set(np.unique(sample.atoms[sample.kind[0]][1])) == {6, 7, 8, 15}
    write_mrc(tmp_path / "s1.mrc", np.zeros((30, 44, 44), np.float32), VOXEL_ANGSTROM)
    label_sample(folder / "s1.placed.csv", [cell_library], tmp_path / "s1.mrc", "s1", LabelSettings(), tmp_path)
    labels, instances = (read_mrc(tmp_path / f"s1.{kind}.mrc")[0] for kind in ("labels", "instances"))
    for row in rows:
        assert (instances == row.particle).any(), row.species
    assert set(np.unique(labels[np.isin(instances, [row.particle for row in rows if row.species != "disc"])])) == {0}
    found = Vesicle.named(rows[0].molecule)
    assert found is not None
    z, y, x = np.nonzero(instances == 1)
    distance = np.linalg.norm(np.stack([x, y, z], axis=1) * VOXEL_ANGSTROM - _position(rows[0]), axis=1)
    assert np.abs(distance - found.radius_angstrom).max() < HALF_THICKNESS_ANGSTROM + 1.5 * VOXEL_ANGSTROM
    assert len(read_table(tmp_path / "s1.particles.csv", ParticleRow)) == len(rows)
    assert metadata["vesicles"][0]["particle"] == 1


def test_seeds_and_nothing_where_nothing_is_asked_for(cell_library: Path, tmp_path: Path) -> None:
    vesicles = {"count": 1, "membrane_molecules": ["channel=2"]}
    small = {"shape_voxels": (24, 30, 30), "vesicles": vesicles, "stop_at": {"molecules": 5}}
    one, again, other = (
        _packed(cell_library, tmp_path / name, seed, **small)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == again != other
    nothing = {"count": 0, "membrane_molecules": []}
    off: dict[str, Any] = {"vesicles": nothing, "filaments": {"counts": []}}
    bare, metadata = _packed(cell_library, tmp_path / "d", **small | off)
    other_radii, _ = _packed(
        cell_library, tmp_path / "e", **small | off | {"vesicles": {**nothing, "radius_angstrom": (60, 61)}}
    )
    assert bare == other_radii
    assert metadata["vesicles"] == metadata["filaments"] == []
    assert len(bare) == 5


def test_a_microtubule_in_the_box(cell_library: Path, tmp_path: Path) -> None:
    options = {"vesicles": {"count": 0, "membrane_molecules": []}, "filaments": {"counts": [], "microtubules": ["unit=1"]}}
    rows, metadata = _packed(cell_library, tmp_path, **options, shape_voxels=(40, 44, 44), stop_at={"molecules": 3})
    assert metadata["filaments"][0]["units"] == 13 * 3
    units = np.array([_position(row) for row in rows if row.species == "unit"])
    if len(units) == 39:
        around = units - units.mean(axis=0)
        axis = (units[13] - units[0]) / 82.0
        assert np.linalg.norm(axis) == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(around - np.outer(around @ axis, axis), axis=1) == pytest.approx(105.0, abs=3)


@pytest.mark.parametrize(
    ("radii", "slab", "words", "left"), [((80, 900), None, "Å instead", 1), ((200, 900), 150.0, "left out", 0)]
)
def test_a_vesicle_that_does_not_fit_is_drawn_smaller_or_left_out(
    cell_library: Path, tmp_path: Path, radii: tuple[float, float], slab: float | None, words: str, left: int
) -> None:
    vesicles = {"count": 2, "radius_angstrom": radii, "membrane_molecules": []}
    rows, metadata = _packed(cell_library, tmp_path, vesicles=vesicles, slab_thickness_angstrom=slab, filaments={"counts": []})
    assert any(words in note for note in metadata["notes"])
    assert len(metadata["vesicles"]) >= left
    assert len(rows) > len(metadata["vesicles"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vesicles": {"membrane_molecules": ["nothing=3"]}}, "tetris.vesicles.membrane_molecules 'nothing=3'"),
        ({"vesicles": {"membrane_molecules": ["channel=3@high"]}}, "species=count"),
        ({"filaments": {"counts": ["unit"]}}, "tetris.filaments.counts 'unit'"),
        ({"vesicles": {"count": 0}}, "vesicles to set them in were expected"),
    ],
)
def test_what_cannot_be_is_named(cell_library: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        _packed(cell_library, tmp_path, **options)
