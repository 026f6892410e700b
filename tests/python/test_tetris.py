"""The rules of packing, checked from the atoms and from the tables, never from the grid that was packed on."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree
from scipy.stats import kstest
from template_learning.errors import BadInput
from template_learning.files import read_table, write_mrc, write_table
from template_learning.geometry import Grid, random_rotations, rotation_from_angles
from template_learning.library import LibraryEntry, read_library
from template_learning.packing import Box, Shape
from template_learning.settings import TetrisSettings
from template_learning.tables import LibraryRow, ParticleRow
from template_learning.tetris import pack_sample

VOXEL_ANGSTROM = 16.0


def _molecule(
    folder: Path, name: str, *, role: str, axes_angstrom: tuple[float, float, float], share: float = 1.0
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
        role=role,  # type: ignore[arg-type]
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


def placed_atoms(particles: list[ParticleRow], library: dict[str, LibraryEntry]) -> list[np.ndarray]:
    """The atoms (N, 3) of every particle of a table, where its row puts them."""
    atoms = {name: entry.atoms()[0].astype(float) for name, entry in library.items()}
    return [
        rotation_from_angles([row.rot_deg, row.tilt_deg, row.psi_deg]).apply(atoms[row.molecule])
        + np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom])
        for row in particles
    ]


def closest_atoms(molecules: list[np.ndarray], within_angstrom: float) -> float:
    """Least distance of atoms of different molecules (``within_angstrom`` if none are nearer), from k-d trees."""
    low = np.array([atoms.min(axis=0) for atoms in molecules]) - within_angstrom
    high = np.array([atoms.max(axis=0) for atoms in molecules])
    trees = [cKDTree(atoms) for atoms in molecules]
    least = within_angstrom
    for first, second in itertools.combinations(range(len(molecules)), 2):
        if (low[first] < high[second]).all() and (low[second] < high[first]).all():
            distance, _ = trees[first].query(molecules[second], distance_upper_bound=least)
            least = min(least, float(distance.min()))
    return least


def _packed(folder: Path, output: Path, seed: int = 1, **options: object) -> tuple[list[ParticleRow], dict[str, object]]:
    chosen = TetrisSettings.model_validate({"shape_voxels": (24, 32, 40), **options})
    path = pack_sample([folder], "s1", chosen, seed, output)
    return read_table(path, ParticleRow), json.loads((output / "s1.placed.csv.json").read_text())


@pytest.mark.parametrize("distance_angstrom", [0.0, 7.0, 45.0])
def test_atoms_keep_the_distance_and_stay_in_the_box(library_folder: Path, tmp_path: Path, distance_angstrom: float) -> None:
    particles, facts = _packed(library_folder, tmp_path, minimum_distance_angstrom=distance_angstrom, margin_angstrom=16)
    assert len(particles) > 20
    atoms = placed_atoms(particles, read_library([library_folder]))
    assert closest_atoms(atoms, 100.0) >= max(distance_angstrom, 0.1)
    everything = np.concatenate(atoms)
    assert (everything > 16 - VOXEL_ANGSTROM / 2).all()
    assert (everything < np.array([40, 32, 24]) * VOXEL_ANGSTROM - VOXEL_ANGSTROM / 2 - 16).all()
    assert facts["shape_voxels"] == [24, 32, 40]
    assert facts["voxel_size_angstrom"] == VOXEL_ANGSTROM
    assert facts["molecules"] == len(particles)


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
    options = TetrisSettings(shape_voxels=(24, 24, 24))
    first, again, other = (
        pack_sample([library_folder], "s1", options, seed, tmp_path / folder).read_bytes()
        for folder, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first != other


def test_count_limit_and_the_first_in_the_centre(library_folder: Path, tmp_path: Path) -> None:
    particles, _ = _packed(library_folder, tmp_path, molecules=7)
    assert len(particles) == 7
    first = np.array([particles[0].x_angstrom, particles[0].y_angstrom, particles[0].z_angstrom])
    centre = Grid(shape=(24, 32, 40), voxel_size_angstrom=VOXEL_ANGSTROM).centre_angstrom
    assert np.abs(first - centre).max() <= VOXEL_ANGSTROM


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
    position, touched = box.best(pose, low, high, int(generator.integers(2**31)))
    if allowed.max() < -0.5:
        assert touched == -1
    else:
        assert touched == round(float(allowed.max()))
        assert round(float(correlation[tuple(position)])) == touched


def test_orientations_are_uniform(library_folder: Path, tmp_path: Path) -> None:
    particles, _ = _packed(library_folder, tmp_path, shape_voxels=(64, 64, 64), molecules=400)
    rotation = rotation_from_angles([(row.rot_deg, row.tilt_deg, row.psi_deg) for row in particles])
    # each entry of a uniform rotation's matrix is uniform in [-1, 1] (Archimedes)
    for entry in rotation.as_matrix().reshape(-1, 9).T:
        assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3
