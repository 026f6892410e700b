"""The rules of packing, checked from the atoms and from the tables, never from the grid that was packed on."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import kstest
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid, rotation_from_angles
from template_learning.packing.tetris import pack
from template_learning.settings import TetrisSettings
from template_learning.structures.library import read_library

from ..builders import VOXEL_ANGSTROM, angles_of, closest_atoms, pack_and_check, placed_atoms


@pytest.mark.parametrize(
    ("distance_angstrom", "options"),
    [
        (3.0, {}),
        (45.0, {}),
        (0.5, {"excluded_volume": "atoms"}),
        (3.0, {"excluded_volume": "atoms", "packing_voxel_size_angstrom": 7.0}),
        (12.0, {"excluded_volume": "atoms", "packing_voxel_size_angstrom": 8.0, "shell_voxels": 3}),
        (3.0, {"placer": "random"}),
        (3.0, {"keep_shares": False, "retries": 2}),
    ],
)
def test_atoms_keep_the_distance_and_stay_in_the_box(
    packing_library: Path, tmp_path: Path, distance_angstrom: float, options: dict[str, Any]
) -> None:
    particles, metadata = pack_and_check(
        packing_library, tmp_path, minimum_distance_angstrom=distance_angstrom, margin_angstrom=16, **options
    )
    assert len(particles) > 20
    atoms = placed_atoms(particles, read_library([packing_library]))
    closest = closest_atoms(atoms, 100.0)
    assert closest >= distance_angstrom
    assert metadata["closest_approach_angstrom"] == pytest.approx(closest, abs=2e-3)  # the table is rounded
    everything = np.concatenate(atoms)
    assert (everything > 16 - VOXEL_ANGSTROM / 2).all()
    assert (everything < np.array([40, 32, 24]) * VOXEL_ANGSTROM - VOXEL_ANGSTROM / 2 - 16).all()
    assert metadata["shape_voxels"] == [24, 32, 40]
    assert metadata["voxel_size_angstrom"] == VOXEL_ANGSTROM
    assert metadata["molecules"] == len(particles)


def test_the_papers_bodies_share_no_voxel(packing_library: Path, tmp_path: Path) -> None:
    particles, metadata = pack_and_check(
        packing_library, tmp_path, minimum_distance_angstrom=0.0, smoothing_voxels=1.65, density_threshold=0.25
    )
    library = read_library([packing_library])
    voxel = np.stack(np.meshgrid(*map(np.arange, (24, 32, 40)), indexing="ij"), axis=-1)[..., ::-1]  # x, y, z
    bodies = np.zeros((24, 32, 40), int)
    for row in particles:
        smooth = gaussian_filter(np.pad(library[row.molecule].density()[0], 6), 1.65, mode="constant")
        own = (voxel - np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom]) / VOXEL_ANGSTROM).reshape(-1, 3)
        index = rotation_from_angles(angles_of(row)).inv().apply(own)[:, ::-1] + (smooth.shape[0] - 1) / 2
        value = map_coordinates(smooth, index.T, order=1).reshape(bodies.shape)
        bodies += value > 1.001 * 0.25 * smooth.max()  # the table is rounded
    assert len(particles) > 60
    assert bodies.max() == 1
    assert metadata["filled_fraction"] == pytest.approx(bodies.mean(), rel=0.01)


def test_by_the_released_rule_rims_overlap_and_centres_keep_off_the_faces(packing_library: Path) -> None:
    library = read_library([packing_library])
    own: dict[str, Any] = {"shape_voxels": (24, 32, 40), "smoothing_voxels": 1.65, "minimum_distance_angstrom": 0.0}
    # A level that every molecule of this library reaches.
    lowest = min(gaussian_filter(np.pad(entry.density()[0], 6), 1.65).max() for entry in library.values())
    released = {"excluded_volume": "released", "grey_level": 0.3 * float(lowest), "erosion_voxels": 1.0}
    away = 3.5 * VOXEL_ANGSTROM
    packing = pack(
        library, TetrisSettings(**own, **released, centre_margin_angstrom=away), np.random.default_rng(2)
    )  # fmt: skip
    apart = pack(library, TetrisSettings(**own, **released | {"erosion_voxels": 0.0}), np.random.default_rng(2))
    face = np.array(packing.position_angstrom) + VOXEL_ANGSTROM / 2
    assert len(packing.rows) > 30
    assert face.min() >= away - 1e-6
    assert (packing.grid.extent_angstrom - face).min() >= away - 1e-6
    assert packing.filled_fraction_of_centres > 0
    assert packing.protein_mg_per_ml * 24 * 32 * 40 / (17 * 25 * 33) > 1.2 * apart.protein_mg_per_ml
    with pytest.raises(BadInput, match=r"tetris\.centre_margin_angstrom = 192: no room for a centre"):
        pack(library, TetrisSettings(**own, centre_margin_angstrom=192.0), np.random.default_rng(1))
    with pytest.raises(BadInput, match=r"molecule 'ball'.*tetris\.grey_level|molecule .*tetris\.grey_level"):
        pack(library, TetrisSettings(**own, excluded_volume="released", grey_level=1e6), np.random.default_rng(1))


def test_touching_molecules_are_near_the_distance_asked(packing_library: Path, tmp_path: Path) -> None:
    # the guard costs at most a voxel's diagonal: a packing that kept everything far apart would pass the test above
    particles, metadata = pack_and_check(
        packing_library, tmp_path, excluded_volume="atoms", packing_voxel_size_angstrom=4.0, minimum_distance_angstrom=10
    )
    assert 10.0 <= metadata["closest_approach_angstrom"] <= 10.0 + 4.0 * np.sqrt(3)
    assert len(particles) > 60


@pytest.mark.parametrize("ratio", [0.5, 2.0, 5.0])
def test_templates_and_species_keep_their_shares(packing_library: Path, tmp_path: Path, ratio: float) -> None:
    particles, metadata = pack_and_check(packing_library, tmp_path, distractors_per_template=ratio, retries=3)
    count = Counter(row.class_id for row in particles)
    assert abs(count[0] - ratio * count[1]) <= max(1.0, ratio)
    species = Counter(row.species for row in particles)
    assert abs(species["ball"] - 2 * species["rod"]) <= 2
    assert abs(species["rod"] - species["chip"]) <= 1
    assert metadata["molecules_by_species"] == dict(sorted(species.items()))
    assert {row.molecule for row in particles} == {"disc_0", "disc_1", "ball", "rod", "chip"}
    assert [row.particle for row in particles] == list(range(1, len(particles) + 1))


def test_no_distractors_when_none_are_asked_for(packing_library: Path, tmp_path: Path) -> None:
    particles, _ = pack_and_check(packing_library, tmp_path, distractors_per_template=0.0)
    assert {row.species for row in particles} == {"disc"}


def test_count_limit_and_the_first_in_the_centre(packing_library: Path, tmp_path: Path) -> None:
    particles, metadata = pack_and_check(packing_library, tmp_path, seed=5, stop_at={"molecules": 7})
    assert (metadata["stage"], metadata["seed"]) == ("tetris", 5)  # the root
    assert len(particles) == 7
    first = np.array([particles[0].x_angstrom, particles[0].y_angstrom, particles[0].z_angstrom])
    centre = Grid(shape=(24, 32, 40), voxel_size_angstrom=VOXEL_ANGSTROM).centre_angstrom
    assert np.abs(first - centre).max() <= VOXEL_ANGSTROM


@pytest.mark.parametrize("options", [{}, {"excluded_volume": "atoms", "packing_voxel_size_angstrom": 8.0}])
def test_orientations_are_uniform(packing_library: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    particles, _ = pack_and_check(packing_library, tmp_path, shape_voxels=(64, 64, 64), stop_at={"molecules": 400}, **options)
    rotation = rotation_from_angles([angles_of(row) for row in particles])
    # each entry of a uniform rotation's matrix is uniform in [-1, 1] (Archimedes)
    for entry in rotation.as_matrix().reshape(-1, 9).T:
        assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_orientations_are_uniform_where_most_tries_are_refused(packing_library: Path) -> None:
    # a box that is filled to the end: if refusals chose orientations, for the box's faces or for the gaps, it would show here
    library = read_library([packing_library])
    dense = TetrisSettings(shape_voxels=(24, 24, 24), keep_shares=False)
    turned: dict[str, list[np.ndarray]] = {}
    refused = 0
    for seed in range(25):
        packing = pack(library, dense, np.random.default_rng(seed))
        refused += packing.misfits
        for row, rotation in zip(packing.rows, packing.rotation, strict=True):
            turned.setdefault(row.species, []).append(rotation.as_matrix())
    assert refused > 3 * sum(map(len, turned.values()))
    for species in ("disc", "rod", "chip"):
        matrix = np.array(turned[species]).reshape(-1, 9)
        assert len(matrix) > 100
        for entry in matrix.T:  # its size too: an axis that prefers a direction is as often against it
            assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3
            assert kstest(np.abs(entry), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "ended"),
    [
        ({"stop_at": {"templates": 4}}, "templates as asked"),
        ({"stop_at": {"molecules": 9}}, "molecules as asked"),
        ({"stop_at": {"protein_mg_per_ml": 20.0}}, "concentration as asked"),
        ({"stop_at": {"occupancy": 0.2}}, "occupancy as asked"),
        ({"maximum_counts": ["disc=3", "ball=5", "rod=0", "chip=2"]}, "all that was asked for is placed"),
    ],
)
def test_packing_ends_where_it_was_told_to(packing_library: Path, tmp_path: Path, options: dict[str, Any], ended: str) -> None:
    particles, metadata = pack_and_check(packing_library, tmp_path, **options)
    assert metadata["ended"] == ended
    species = Counter(row.species for row in particles)
    stop = options.get("stop_at", {})
    if "templates" in stop:
        assert species["disc"] == 4
    if "maximum_counts" in options:
        assert species == {"disc": 3, "ball": 5, "chip": 2}
    if "protein_mg_per_ml" in stop:
        assert 20 <= metadata["protein_mg_per_ml"] < 22
        dalton = sum(14.0 * len(atoms) for atoms in placed_atoms(particles, read_library([packing_library])))
        millilitre = 24 * 32 * 40 * VOXEL_ANGSTROM**3 * 1e-24
        assert metadata["protein_mg_per_ml"] == pytest.approx(dalton * 1.66054e-21 / millilitre, rel=1e-4)
    if "occupancy" in stop:
        assert 0.2 <= metadata["filled_fraction"] < 0.22


def test_more_distractors_fill_what_the_largest_species_leaves(packing_library: Path, tmp_path: Path) -> None:
    kept, _ = pack_and_check(packing_library, tmp_path / "a", keep_shares=True)
    filled, _ = pack_and_check(packing_library, tmp_path / "b", keep_shares=False)
    assert len(filled) > len(kept)


def test_a_slab_keeps_its_thickness(packing_library: Path, tmp_path: Path) -> None:
    particles, _ = pack_and_check(packing_library, tmp_path, slab_thickness_angstrom=200.0)
    height = np.concatenate(placed_atoms(particles, read_library([packing_library])))[:, 2]
    middle = 11.5 * VOXEL_ANGSTROM
    assert len(particles) > 10
    assert np.abs(height - middle).max() <= 100.0 + VOXEL_ANGSTROM / 2


def test_samples_are_filled_to_their_own_depths(packing_library: Path, tmp_path: Path) -> None:
    depths = set()
    for number in range(3):
        particles, metadata = pack_and_check(
            packing_library, tmp_path / str(number), seed=number, filled_thickness_fraction=(0.4, 0.8)
        )
        height = np.concatenate(placed_atoms(particles, read_library([packing_library])))[:, 2]
        depths.add(metadata["slab_thickness_angstrom"])
        assert 0.4 * 24 * VOXEL_ANGSTROM <= metadata["slab_thickness_angstrom"] <= 0.8 * 24 * VOXEL_ANGSTROM
        assert np.abs(height - 11.5 * VOXEL_ANGSTROM).max() <= (metadata["slab_thickness_angstrom"] + VOXEL_ANGSTROM) / 2
    assert len(depths) == 3
    with pytest.raises(ValidationError, match="the least first was expected"):
        TetrisSettings(filled_thickness_fraction=(0.8, 0.4))


def test_the_density_falls_along_x_when_asked(packing_library: Path, tmp_path: Path) -> None:
    particles, metadata = pack_and_check(packing_library, tmp_path, shape_voxels=(24, 48, 128), density_gradient=0.8)
    x = np.array([row.x_angstrom for row in particles]) / (128 * VOXEL_ANGSTROM)
    left, middle, right = np.histogram(x, bins=3, range=(0, 1))[0]
    assert left > 1.15 * middle
    assert middle > 1.25 * right
    even, even_facts = pack_and_check(packing_library, tmp_path, shape_voxels=(24, 48, 128))
    assert 0.4 < len(particles) / len(even) < 0.8
    filled = np.array([metadata["filled_fraction"], even_facts["filled_fraction"]], float)
    assert filled[0] / filled[1] == pytest.approx(len(particles) / len(even), rel=0.1)


def test_random_placement_is_looser(packing_library: Path, tmp_path: Path) -> None:
    tight, _ = pack_and_check(packing_library, tmp_path / "a", shape_voxels=(32, 48, 48))
    loose, _ = pack_and_check(packing_library, tmp_path / "b", shape_voxels=(32, 48, 48), placer="random")
    assert len(loose) < 0.8 * len(tight)
