"""The rules of packing, checked from the atoms and from the tables, never from the grid that was packed on."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree
from scipy.stats import kstest
from template_learning.common.compute import compiled
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid, random_rotations, rotation_from_angles
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import LibraryRow, ParticleRow
from template_learning.packing.atom_distances import closest_approach_angstrom
from template_learning.packing.prediction import plan_sample
from template_learning.packing.tetris import pack
from template_learning.packing.voxel_box import Box, Shape
from template_learning.settings import TetrisSettings, VolumeSettings
from template_learning.stages.tetris import pack_sample
from template_learning.stages.volume import build_library
from template_learning.structures.library import LibraryEntry, read_library

from ..strict_device import STRICT

VOXEL_ANGSTROM = 16.0


def _molecule(
    folder: Path,
    name: str,
    *,
    role: Literal["template", "distractor"],
    axes_angstrom: tuple[float, float, float],
    share: float = 1.0,
) -> LibraryRow:
    """A molecule of atoms spread evenly in an ellipsoid, and its density."""
    generator = np.random.default_rng(len(name) + int(sum(axes_angstrom)))
    atom = generator.uniform(-1, 1, (6000, 3))
    atom = (atom[(atom**2).sum(axis=1) < 1] * axes_angstrom).astype(np.float32)
    edge = 2 * (int(max(axes_angstrom) / VOXEL_ANGSTROM) + 3) + 1
    density = np.zeros((edge,) * 3, np.float32)
    np.add.at(density, tuple(np.rint(atom[:, ::-1] / VOXEL_ANGSTROM).astype(int).T + edge // 2), 1.0)
    write_mrc(folder / f"{name}.mrc", gaussian_filter(density, 0.5), VOXEL_ANGSTROM)
    np.savez(folder / f"{name}.npz", position_angstrom=atom, element=np.full(len(atom), 6, np.uint8))
    return LibraryRow(
        molecule=name,
        species=name.split("_")[0],
        role=role,
        class_id=int(role == "template"),
        share=share,
        mass_dalton=14.0 * len(atom),
        atom_count=len(atom),
        density=f"{name}.mrc",
        atoms=f"{name}.npz",
    )


@pytest.fixture(scope="module")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    rows = [
        _molecule(folder, "disc_0", role="template", axes_angstrom=(55, 55, 25)),
        _molecule(folder, "disc_1", role="template", axes_angstrom=(50, 60, 28)),
        _molecule(folder, "ball", role="distractor", axes_angstrom=(40, 40, 40), share=2.0),
        _molecule(folder, "rod", role="distractor", axes_angstrom=(20, 20, 90)),
        _molecule(folder, "chip", role="distractor", axes_angstrom=(15, 35, 45)),
    ]
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


def _angles(row: ParticleRow) -> tuple[float, float, float]:
    assert row.rot_deg is not None
    assert row.tilt_deg is not None
    assert row.psi_deg is not None
    return row.rot_deg, row.tilt_deg, row.psi_deg


def placed_atoms(particles: list[ParticleRow], library: dict[str, LibraryEntry]) -> list[np.ndarray]:
    """The atoms (N, 3) of every particle of a table, where its row puts them."""
    atoms = {name: entry.atoms()[0].astype(float) for name, entry in library.items()}
    return [
        rotation_from_angles(_angles(row)).apply(atoms[row.molecule])
        + np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom])
        for row in particles
    ]


def closest_atoms(molecules: list[np.ndarray], within_angstrom: float) -> float:
    """Least distance of atoms of different molecules (``within_angstrom`` if none are nearer), from k-d trees."""
    middle = np.array([(atoms.min(axis=0) + atoms.max(axis=0)) / 2 for atoms in molecules])
    half = np.array([np.ptp(atoms, axis=0) / 2 for atoms in molecules])
    trees = [cKDTree(atoms) for atoms in molecules]
    least = within_angstrom
    for first, second in cKDTree(middle).query_pairs(2 * half.max() + within_angstrom, p=np.inf, output_type="ndarray"):
        if (np.abs(middle[first] - middle[second]) < half[first] + half[second] + least).all():
            distance, _ = trees[first].query(molecules[second], distance_upper_bound=least)
            least = min(least, float(np.min(distance)))
    return least


def _packed(folder: Path, output: Path, seed: int = 1, **options: Any) -> tuple[list[ParticleRow], dict[str, Any]]:
    """The table and sidecar of a packing, its distance checked from the atoms of the table."""
    chosen = TetrisSettings.model_validate({"shape_voxels": (24, 32, 40), **options})
    path = pack_sample([folder], "s1", chosen, seed, output)
    particles, facts = read_table(path, ParticleRow), json.loads((output / "s1.placed.csv.json").read_text())
    closest = closest_atoms(placed_atoms(particles, read_library([folder])), chosen.minimum_distance_angstrom + 1.0)
    assert closest >= chosen.minimum_distance_angstrom - 2e-3  # the table is rounded
    return particles, facts


@pytest.mark.parametrize(
    ("distance_angstrom", "options"),
    [
        (3.0, {}),
        (45.0, {}),
        (0.5, {"body": "atoms"}),
        (3.0, {"body": "atoms", "packing_voxel_size_angstrom": 7.0}),
        (12.0, {"body": "atoms", "packing_voxel_size_angstrom": 8.0, "shell_voxels": 3}),
        (3.0, {"placer": "random"}),
        (3.0, {"keep_shares": False, "retries": 2}),
    ],
)
def test_atoms_keep_the_distance_and_stay_in_the_box(
    library_folder: Path, tmp_path: Path, distance_angstrom: float, options: dict[str, Any]
) -> None:
    particles, facts = _packed(
        library_folder, tmp_path, minimum_distance_angstrom=distance_angstrom, margin_angstrom=16, **options
    )
    assert len(particles) > 20
    atoms = placed_atoms(particles, read_library([library_folder]))
    closest = closest_atoms(atoms, 100.0)
    assert closest >= distance_angstrom
    assert facts["closest_approach_angstrom"] == pytest.approx(closest, abs=2e-3)  # the table is rounded
    everything = np.concatenate(atoms)
    assert (everything > 16 - VOXEL_ANGSTROM / 2).all()
    assert (everything < np.array([40, 32, 24]) * VOXEL_ANGSTROM - VOXEL_ANGSTROM / 2 - 16).all()
    assert facts["shape_voxels"] == [24, 32, 40]
    assert facts["voxel_size_angstrom"] == VOXEL_ANGSTROM
    assert facts["molecules"] == len(particles)


def test_the_papers_bodies_share_no_voxel(library_folder: Path, tmp_path: Path) -> None:
    particles, facts = _packed(library_folder, tmp_path, minimum_distance_angstrom=0.0, smoothing_voxels=1.65, threshold=0.25)
    library = read_library([library_folder])
    voxel = np.stack(np.meshgrid(*map(np.arange, (24, 32, 40)), indexing="ij"), axis=-1)[..., ::-1]  # x, y, z
    bodies = np.zeros((24, 32, 40), int)
    for row in particles:
        smooth = gaussian_filter(np.pad(library[row.molecule].density()[0], 6), 1.65, mode="constant")
        own = (voxel - np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom]) / VOXEL_ANGSTROM).reshape(-1, 3)
        index = rotation_from_angles(_angles(row)).inv().apply(own)[:, ::-1] + (smooth.shape[0] - 1) / 2
        value = map_coordinates(smooth, index.T, order=1).reshape(bodies.shape)
        bodies += value > 1.001 * 0.25 * smooth.max()  # the table is rounded
    assert len(particles) > 60
    assert bodies.max() == 1
    assert facts["filled_fraction"] == pytest.approx(bodies.mean(), rel=0.01)


def test_touching_molecules_are_near_the_distance_asked(library_folder: Path, tmp_path: Path) -> None:
    # the guard costs at most a voxel's diagonal: a packing that kept everything far apart would pass the test above
    particles, facts = _packed(
        library_folder, tmp_path, body="atoms", packing_voxel_size_angstrom=4.0, minimum_distance_angstrom=10
    )
    assert 10.0 <= facts["closest_approach_angstrom"] <= 10.0 + 4.0 * np.sqrt(3)
    assert len(particles) > 60


@pytest.mark.parametrize("ratio", [0.5, 2.0, 5.0])
def test_templates_and_species_keep_their_shares(library_folder: Path, tmp_path: Path, ratio: float) -> None:
    particles, facts = _packed(library_folder, tmp_path, distractors_per_template=ratio, retries=3)
    count = Counter(row.class_id for row in particles)
    assert abs(count[0] - ratio * count[1]) <= max(1.0, ratio)
    species = Counter(row.species for row in particles)
    assert abs(species["ball"] - 2 * species["rod"]) <= 2
    assert abs(species["rod"] - species["chip"]) <= 1
    assert facts["molecules_by_species"] == dict(sorted(species.items()))
    assert {row.molecule for row in particles} == {"disc_0", "disc_1", "ball", "rod", "chip"}
    assert [row.particle for row in particles] == list(range(1, len(particles) + 1))


def test_no_distractors_when_none_are_asked_for(library_folder: Path, tmp_path: Path) -> None:
    particles, _ = _packed(library_folder, tmp_path, distractors_per_template=0.0)
    assert {row.species for row in particles} == {"disc"}


def test_same_seed_same_bytes_and_another_seed_another_packing(library_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _packed(library_folder, tmp_path / name, seed, shape_voxels=(24, 24, 24))
    first, again, other = ((tmp_path / name / "s1.placed.csv").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_count_limit_and_the_first_in_the_centre(library_folder: Path, tmp_path: Path) -> None:
    particles, _ = _packed(library_folder, tmp_path, molecules=7)
    assert len(particles) == 7
    first = np.array([particles[0].x_angstrom, particles[0].y_angstrom, particles[0].z_angstrom])
    centre = Grid(shape=(24, 32, 40), voxel_size_angstrom=VOXEL_ANGSTROM).centre_angstrom
    assert np.abs(first - centre).max() <= VOXEL_ANGSTROM


@pytest.mark.parametrize(
    "options", [{}, {"body": "atoms", "packing_voxel_size_angstrom": 7.0, "shell_voxels": 3, "molecules": 150}]
)
def test_a_device_places_the_same_molecules(
    library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    host, facts = _packed(library_folder, tmp_path / "host", **options)
    monkeypatch.setattr("template_learning.packing.tetris.choose_device", lambda asked, stage: STRICT)
    there, same = _packed(library_folder, tmp_path / "device", **options)
    assert len(host) > 60
    assert there == host
    assert same["misfits"] == facts["misfits"]


def test_a_gpu_that_is_not_there_is_named(library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BadInput, match=r"tetris\.device: a GPU was asked for"):
        _packed(library_folder, tmp_path, device="gpu")


def test_a_molecule_larger_than_the_box_is_refused(library_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="larger than the box"):
        _packed(library_folder, tmp_path, shape_voxels=(10, 10, 10))
    assert not list(tmp_path.iterdir())


@settings(derandomize=True, deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_the_place_is_the_maximum_of_the_papers_correlation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    atom = (generator.standard_normal((300, 3)) * [15, 22, 10]).astype(np.float32)
    box = Box(Grid(shape=(26, 30, 28), voxel_size_angstrom=10.0), shell_voxels=2.0, candidates=10**9)
    shape = Shape.from_atoms(atom)
    for rotation in random_rotations(3, generator):
        pose = box.pose(shape, rotation, np.zeros(3))
        low, high = box.limits(pose)
        box.put(pose, generator.integers(low, high + 1))
    pose = box.pose(shape, random_rotations(1, generator)[0], generator.uniform(-0.5, 0.5, 3))
    half = max(np.abs(pose.shell).max(), np.abs(pose.body).max())
    body, shell = (np.zeros((2 * half + 1,) * 3) for _ in range(2))
    body[tuple((pose.body + half).T)] = 1
    shell[tuple((pose.shell + half).T)] = 1
    occupied = (box.taken[tuple(slice(edge, -edge) for edge in box.padding)] > 0).astype(float)
    kernel = shell - 1e4 * body
    correlation = fftconvolve(occupied, kernel[::-1, ::-1, ::-1], mode="same")
    low, high = box.limits(pose)
    allowed = correlation[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    position, touched = box.best(pose, box.free(pose, low, high), low, int(generator.integers(2**31)))
    if allowed.max() < -0.5:
        assert touched == -1
    else:
        assert touched == round(float(allowed.max()))
        assert round(float(correlation[tuple(position)])) == touched


@pytest.mark.parametrize("options", [{}, {"body": "atoms", "packing_voxel_size_angstrom": 8.0}])
def test_orientations_are_uniform(library_folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    particles, _ = _packed(library_folder, tmp_path, shape_voxels=(64, 64, 64), molecules=400, **options)
    rotation = rotation_from_angles([_angles(row) for row in particles])
    # each entry of a uniform rotation's matrix is uniform in [-1, 1] (Archimedes)
    for entry in rotation.as_matrix().reshape(-1, 9).T:
        assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_orientations_are_uniform_where_most_tries_are_refused(library_folder: Path) -> None:
    # a box that is filled to the end: if refusals chose orientations, for the box's faces or for the gaps, it would show here
    library = read_library([library_folder])
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
        ({"templates": 4}, "templates as asked"),
        ({"molecules": 9}, "molecules as asked"),
        ({"protein_mg_per_ml": 20.0}, "concentration as asked"),
        ({"occupancy": 0.2}, "occupancy as asked"),
        ({"at_most": ["disc=3", "ball=5", "rod=0", "chip=2"]}, "all that was asked for is placed"),
    ],
)
def test_packing_ends_where_it_was_told_to(library_folder: Path, tmp_path: Path, options: dict[str, Any], ended: str) -> None:
    particles, facts = _packed(library_folder, tmp_path, **options)
    assert facts["ended"] == ended
    species = Counter(row.species for row in particles)
    if "templates" in options:
        assert species["disc"] == 4
    if "at_most" in options:
        assert species == {"disc": 3, "ball": 5, "chip": 2}
    if "protein_mg_per_ml" in options:
        assert 20 <= facts["protein_mg_per_ml"] < 22
        dalton = sum(14.0 * len(atoms) for atoms in placed_atoms(particles, read_library([library_folder])))
        millilitre = 24 * 32 * 40 * VOXEL_ANGSTROM**3 * 1e-24
        assert facts["protein_mg_per_ml"] == pytest.approx(dalton * 1.66054e-21 / millilitre, rel=1e-4)
    if "occupancy" in options:
        assert 0.2 <= facts["filled_fraction"] < 0.22


def test_more_distractors_fill_what_the_largest_species_leaves(library_folder: Path, tmp_path: Path) -> None:
    kept, _ = _packed(library_folder, tmp_path / "a", keep_shares=True)
    filled, _ = _packed(library_folder, tmp_path / "b", keep_shares=False)
    assert len(filled) > len(kept)


def test_a_slab_keeps_its_thickness(library_folder: Path, tmp_path: Path) -> None:
    particles, _ = _packed(library_folder, tmp_path, slab_thickness_angstrom=200.0)
    height = np.concatenate(placed_atoms(particles, read_library([library_folder])))[:, 2]
    middle = 11.5 * VOXEL_ANGSTROM
    assert len(particles) > 10
    assert np.abs(height - middle).max() <= 100.0 + VOXEL_ANGSTROM / 2


def test_samples_are_filled_to_their_own_depths(library_folder: Path, tmp_path: Path) -> None:
    depths = set()
    for number in range(3):
        particles, facts = _packed(library_folder, tmp_path / str(number), seed=number, filled_depth=(0.4, 0.8))
        height = np.concatenate(placed_atoms(particles, read_library([library_folder])))[:, 2]
        depths.add(facts["slab_thickness_angstrom"])
        assert 0.4 * 24 * VOXEL_ANGSTROM <= facts["slab_thickness_angstrom"] <= 0.8 * 24 * VOXEL_ANGSTROM
        assert np.abs(height - 11.5 * VOXEL_ANGSTROM).max() <= (facts["slab_thickness_angstrom"] + VOXEL_ANGSTROM) / 2
    assert len(depths) == 3
    with pytest.raises(ValidationError, match="the least first was expected"):
        TetrisSettings(filled_depth=(0.8, 0.4))


def test_the_density_falls_along_x_when_asked(library_folder: Path, tmp_path: Path) -> None:
    particles, facts = _packed(library_folder, tmp_path, shape_voxels=(24, 48, 128), density_gradient=0.8)
    x = np.array([row.x_angstrom for row in particles]) / (128 * VOXEL_ANGSTROM)
    left, middle, right = np.histogram(x, bins=3, range=(0, 1))[0]
    assert left > 1.15 * middle
    assert middle > 1.25 * right
    even, even_facts = _packed(library_folder, tmp_path, shape_voxels=(24, 48, 128))
    assert 0.4 < len(particles) / len(even) < 0.8
    filled = np.array([facts["filled_fraction"], even_facts["filled_fraction"]], float)
    assert filled[0] / filled[1] == pytest.approx(len(particles) / len(even), rel=0.1)


def test_random_placement_is_looser(library_folder: Path, tmp_path: Path) -> None:
    tight, _ = _packed(library_folder, tmp_path / "a", shape_voxels=(32, 48, 48))
    loose, _ = _packed(library_folder, tmp_path / "b", shape_voxels=(32, 48, 48), placer="random")
    assert len(loose) < 0.8 * len(tight)


def test_a_species_that_is_not_there_is_named(library_folder: Path, tmp_path: Path) -> None:
    for text in ("cube=3", "disc=x", "disc"):
        with pytest.raises(BadInput, match="species=count"):
            _packed(library_folder, tmp_path, at_most=[text])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), count=st.integers(2, 8))
def test_closest_approach_agrees_with_trees(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    atoms = {name: (generator.standard_normal((200, 3)) * 15).astype(np.float32) for name in "ab"}
    names = [str(name) for name in generator.choice(["a", "b"], count)]
    position, rotation = generator.uniform(-120, 120, (count, 3)), random_rotations(count, generator)
    found = closest_approach_angstrom(atoms, names, position, rotation, within_angstrom=60.0)
    moved = [turn.apply(atoms[name]) + shift for name, turn, shift in zip(names, rotation, position, strict=True)]
    assert found == pytest.approx(closest_atoms(moved, 60.0), abs=1e-4)


def test_the_plan_comes_true(library_folder: Path, tmp_path: Path) -> None:
    shape = (24, 110, 130)
    particles, facts = _packed(library_folder, tmp_path, shape_voxels=shape)
    templates = sum(row.class_id for row in particles)
    plan = plan_sample([library_folder], TetrisSettings(shape_voxels=shape), 1, templates)
    assert plan.templates == pytest.approx(templates, rel=0.08)
    assert plan.templates_that_fit == pytest.approx(templates, rel=0.08)
    assert plan.protein_mg_per_ml == pytest.approx(facts["protein_mg_per_ml"], rel=0.08)
    assert plan.edge_for_templates_voxels == pytest.approx(np.sqrt(110 * 130), rel=0.05)
    few = plan_sample([library_folder], TetrisSettings(shape_voxels=shape, templates=5), 1)
    assert few.templates == 5
    assert sum(few.molecules_by_species.values()) == few.templates + few.distractors


def test_machine_code_without_a_folder_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*args, **options)

    original = numba.njit
    monkeypatch.setattr(numba, "njit", refuse)
    assert compiled(lambda value: value + 1)(2) == 3


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
    particles, facts = _packed(
        tmp_path / "library",
        tmp_path,
        shape_voxels=(40, 40, 40),
        body="atoms",
        packing_voxel_size_angstrom=4.0,
        minimum_distance_angstrom=3.0,
        distractors_per_template=4.0,
    )
    species = Counter(row.species for row in particles)
    assert max(species.values()) - min(species.values()) <= 1
    assert len(species) == 10
    assert facts["protein_mg_per_ml"] > 180
    assert closest_atoms(placed_atoms(particles, read_library([tmp_path / "library"])), 10.0) >= 3.0
