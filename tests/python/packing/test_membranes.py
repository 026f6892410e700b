"""Vesicles, the molecules set in them, and filaments: from their geometry to the packed, simulated and labelled sample."""

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import rotation_from_angles
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.tables import LibraryRow, ParticleRow
from template_learning.packing.filaments import MICROTUBULE, Lattice, chain, unit_frame
from template_learning.packing.membranes import (
    CHAIN_CARBONS,
    HALF_THICKNESS_ANGSTROM,
    HEADS_APART_ANGSTROM,
    Vesicle,
    bilayer_profile,
    given_way,
    patches,
)
from template_learning.packing.packed_sample import read_placed
from template_learning.packing.prediction import plan_sample
from template_learning.settings import LabelSettings, TetrisSettings
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.physics import VOLT_ANGSTROM2, scattering_factor
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_matter
from template_learning.simulation.series import placed_sample
from template_learning.stages.label import label_sample
from template_learning.stages.tetris import pack_sample
from template_learning.structures.library import read_library

VOXEL_ANGSTROM = 16.0


@pytest.fixture(scope="module")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template, a globule, a channel that is long along z, and an elongated unit of filaments."""
    folder = tmp_path_factory.mktemp("library")
    generator = np.random.default_rng(3)
    rows = []
    role: Literal["template", "distractor"]
    for name, axes, role in (
        ("disc", (50, 50, 25), "template"),
        ("ball", (35, 35, 35), "distractor"),
        ("channel", (20, 25, 50), "distractor"),
        ("unit", (22, 15, 27), "distractor"),
    ):
        atom = generator.uniform(-1, 1, (3000, 3))
        atom = (atom[(atom**2).sum(axis=1) < 1] * axes).astype(np.float32)
        atom -= atom.mean(axis=0)
        density = np.zeros((15,) * 3, np.float32)
        np.add.at(density, tuple(np.rint(atom[:, ::-1] / VOXEL_ANGSTROM).astype(int).T + 7), 1.0)
        write_mrc(folder / f"{name}.mrc", density, VOXEL_ANGSTROM)
        np.savez(folder / f"{name}.npz", position_angstrom=atom, element=np.full(len(atom), 6, np.uint8))
        files = {"density": f"{name}.mrc", "atoms": f"{name}.npz"}
        rows.append(
            LibraryRow(
                molecule=name,
                species=name,
                role=role,
                class_id=int(role == "template"),
                share=1.0,
                mass_dalton=14.0 * len(atom),
                atom_count=len(atom),
                **files,
            )
        )
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


def _rotation(row: ParticleRow) -> Rotation:
    return rotation_from_angles(np.array([row.rot_deg, row.tilt_deg, row.psi_deg], dtype=float))


def _position(row: ParticleRow) -> np.ndarray:
    return np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom])


def test_a_leaflet_holds_whole_lipids_and_two_heads_stand_out() -> None:
    depth = np.linspace(-40, 40, 8001)
    profile = bilayer_profile(depth)
    area = 64.0
    for element, count in ((6, 10 + 0.51 * 30), (7, 1), (8, 8), (15, 1)):  # DPPC: C40 H80 N O8 P
        assert np.trapezoid(profile[element], depth) * area == pytest.approx(2 * count, rel=0.01)
    apart = 2 * depth[depth > 0][np.argmax(profile[15][depth > 0])]
    assert apart == pytest.approx(HEADS_APART_ANGSTROM, abs=0.1)
    np.testing.assert_allclose(profile[6], profile[6][::-1], atol=1e-12)
    total = np.sum(list(profile.values()), axis=0)
    at = {d: float(np.interp(d, depth, total)) for d in (0.0, 10.0, HEADS_APART_ANGSTROM / 2, 30.0)}
    assert at[HEADS_APART_ANGSTROM / 2] > 1.8 * at[10.0] > 1.8 * 1.5 * at[0.0]
    assert at[30.0] < 1e-12


def test_heads_and_chains_stand_out_of_the_ice_as_their_potentials_say() -> None:
    def volt(element: int) -> float:
        return VOLT_ANGSTROM2 * float(scattering_factor(element, np.zeros(1))[0])

    matter = physical_matter()

    def true(atoms: dict[int, float], volume_angstrom3: float) -> float:
        return sum(count * volt(element) for element, count in atoms.items()) - volume_angstrom3 * matter.ice_volt

    def simulated(atoms: dict[int, float]) -> float:
        return sum(n * (volt(z) - matter.displaced_angstrom3 * matter.ice_volt) for z, n in atoms.items() if z > 1)

    protein = {6: 4.94, 7: 1.36, 8: 1.48, 16: 0.04, 1: 7.76}  # the mean residue, 111.2 Da at 0.73 mL/g
    scale = simulated(protein) / true(protein, 111.2 * 1.212)
    head, chains = {6: 10.0, 7: 1, 8: 8, 15: 1}, {6: CHAIN_CARBONS}
    assert simulated(head) == pytest.approx(scale * true({**head, 1: 18}, 319.0), rel=0.03)
    assert simulated(chains) == pytest.approx(scale * true({6: 30, 1: 62}, 913.0), rel=0.03)


@settings(derandomize=True, deadline=None, max_examples=4)
@given(radius=st.integers(60, 110), seed=st.integers(0, 2**31))
def test_a_vesicle_is_a_closed_even_shell_of_the_profile(radius: int, seed: int) -> None:
    vesicle = Vesicle(float(radius), seed)
    assert Vesicle.named(vesicle.name) == vesicle
    position, element = vesicle.atoms()
    again = vesicle.atoms()
    np.testing.assert_array_equal(position, again[0])
    distance = np.linalg.norm(position, axis=1)
    assert np.abs(distance - radius).max() <= HALF_THICKNESS_ANGSTROM + 1e-3
    assert distance.max() <= vesicle.outer_radius_angstrom + 1e-3
    # by depth, each shell holds what the profile says, chains and heads
    edges = np.arange(-24, 25, 4.0)
    fine = np.linspace(-24, 24, 4801)
    for number in (6, 15):
        found = np.histogram(distance[element == number] - radius, edges)[0]
        density = bilayer_profile(fine)[number] * 4 * np.pi * (radius + fine) ** 2
        wanted = np.histogram(fine, edges, weights=density * 0.01)[0]
        np.testing.assert_allclose(found, wanted, atol=6 * np.sqrt(wanted.max()), rtol=0.05)
    # evenly about the centre: no direction of 2 % of the sphere is emptier than another
    direction = position / distance[:, None]
    for axis in np.random.default_rng(0).normal(size=(30, 3)):
        share = (direction @ (axis / np.linalg.norm(axis)) > 0.96).mean()
        assert share == pytest.approx(0.02, rel=0.06)
    # closed: on a grid its inside is cut off from its outside
    half = radius // 8 + 6
    wall = np.zeros((2 * half + 1,) * 3, bool)
    wall[tuple(np.rint(position / 8.0).astype(int).T + half)] = True
    parts, _ = label(~wall)
    assert parts[half, half, half] > 0
    assert parts[half, half, half] != parts[0, 0, 0]


def test_patches_are_the_whole() -> None:
    atom = Vesicle(150.0, 4).atoms()[0]
    pieces = [piece + middle for piece, middle in patches(atom)]
    assert len(pieces) > 8
    whole = np.concatenate(pieces)
    assert len(whole) == len(atom)
    assert cKDTree(whole).query(atom)[0].max() < 1e-3


def test_two_leaflets_are_dark_in_projection() -> None:
    radius = 160.0
    position, element = Vesicle(radius, 1).atoms()
    sample = Sample(
        atoms=[(position, element)],
        kind=np.zeros(1, np.int64),
        rotation=np.eye(3)[None],
        position_angstrom=np.zeros((1, 3)),
        ice=Slab(400.0),
    )
    common = {
        "sample": sample,
        "matter": physical_matter(),
        "shape": (128, 128),
        "pixel_angstrom": 4.0,
        "padding_angstrom": 0.0,
    }
    engine = Engine(**common, lens=Lens(defocus_angstrom=-8000.0), propagation="projection", damage_angstrom2_per_dose=0.0)
    wave, behind = engine.exit_wave(0.0, 0.0, None)
    x, y = engine.axes_angstrom
    distance = np.hypot(x[None, :], y[:, None])

    def around(image: np.ndarray, r: float) -> float:
        return float(image[np.abs(distance - r) < 2.0].mean())

    phase = np.angle(wave)
    outside = around(phase, radius + 60)
    inner, middle = (around(phase, radius + d) - outside for d in (-20.0, 2.0))
    assert inner > 1.5 * middle > 0
    image = engine.image(engine.intensity(wave, behind))
    pixel = (np.arange(128) - 63.5) * 4.0
    distance = np.hypot(pixel[None, :], pixel[:, None])
    inner, middle, outer, outside = (around(image, radius + d) for d in (-21.0, 0.0, 17.0, 60.0))
    assert inner < outside - 0.015
    assert outer < outside - 0.015
    assert middle > outside - 0.005


def test_lipids_give_way_and_no_more() -> None:
    atoms = Vesicle(80.0, 2).atoms()
    other = np.random.default_rng(0).normal(size=(400, 3)) * 8 + [80.0, 0, 0]
    position, element = given_way(atoms, [other], 3.0)
    assert len(position) == len(element)
    assert cKDTree(other).query(position)[0].min() >= 3.0
    gone = len(atoms[1]) - len(element)
    assert gone == (cKDTree(other).query(atoms[0])[0] < 3.0).sum() > 50


@settings(derandomize=True, deadline=None, max_examples=20)
@given(rise=st.floats(10, 80), twist=st.floats(-179, 179), radius=st.floats(0, 60))
def test_helical_parameters_come_back(rise: float, twist: float, radius: float) -> None:
    lattice = Lattice(step_angstrom=rise, twist_deg=twist, radius_angstrom=radius)
    position, rotation = chain(lattice, 12.5 * rise, 1e18, np.random.default_rng(0))
    assert len(position) == 12
    assert np.hypot(*position[:, :2].T) == pytest.approx(radius, abs=1e-2)
    np.testing.assert_allclose(np.diff(position[:, 2]), rise, atol=1e-3)
    for one, other in pairwise(rotation):
        np.testing.assert_allclose((other * one.inv()).as_rotvec(degrees=True), [0, 0, twist], atol=1e-3)


def test_the_microtubule_is_a_left_handed_three_start_lattice_with_a_seam() -> None:
    position, _ = chain(MICROTUBULE, 410.0, 1e18, np.random.default_rng(0))
    assert len(position) == 5 * 13
    azimuth = np.unwrap(np.arctan2(position[:13, 1], position[:13, 0]))
    np.testing.assert_allclose(np.diff(azimuth), 2 * np.pi / 13, atol=1e-6)
    climb = np.diff(position[:13, 2])
    np.testing.assert_allclose(climb, climb[0], atol=1e-6)
    assert climb[0] < 0  # up is clockwise seen from above: left-handed
    # once round is three monomers of 41 Å, so that the fourteenth unit faces the boundary of two dimers
    assert 13 * climb[0] == pytest.approx(-3 * 41.0)
    np.testing.assert_allclose(position[13:26] - position[:13], np.tile([0, 0, 82.0], (13, 1)), atol=1e-6)


def test_worm_like_chains_bend_as_their_persistence_length_says() -> None:
    lattice = Lattice(step_angstrom=20.0, twist_deg=-166.7, radius_angstrom=0.0)
    generator = np.random.default_rng(5)
    ends = []
    for _ in range(150):
        position, _ = chain(lattice, 1000.0, 500.0, generator)
        along = np.diff(position, axis=0)
        ends.append(along[0] @ along[25] / 400)
    assert np.mean(ends) == pytest.approx(np.exp(-25 * 20 / 500), abs=0.1)


def test_a_unit_stands_with_its_long_axis_along_the_filament() -> None:
    generator = np.random.default_rng(1)
    turn = Rotation.random(rng=generator)
    atom = turn.apply(generator.normal(size=(4000, 3)) * [18, 10, 30])
    spread = unit_frame(atom).apply(atom).std(axis=0)
    np.testing.assert_allclose(spread, [18, 10, 30], rtol=0.06)
    ring = turn.apply(generator.normal(size=(4000, 3)) * [60, 60, 20])
    assert unit_frame(ring, on_axis=True).apply(ring).std(axis=0)[2] == pytest.approx(20, rel=0.06)


OPTIONS: dict[str, Any] = {
    "shape_voxels": (30, 44, 44),
    "vesicles": 2,
    "vesicle_radius_angstrom": (70, 110),
    "membrane_molecules": ["channel=8@12"],
    "filaments": ["unit=2"],
    "filament_length_angstrom": 300,
    "minimum_distance_angstrom": 3.0,
    "body": "atoms",
    "packing_voxel_size_angstrom": 8.0,
    "molecules": 60,
}


def _packed(folder: Path, output: Path, seed: int = 1, **options: Any) -> tuple[list[ParticleRow], dict[str, Any]]:
    """The table and sidecar of a packing, its distance checked from the atoms of the table."""
    path = pack_sample([folder], "s1", TetrisSettings.model_validate({**OPTIONS, **options}), seed, output)
    rows, facts = read_table(path, ParticleRow), json.loads((output / "s1.placed.csv.json").read_text())
    least, _ = _closest_and_all_atoms(rows, facts, path, folder)
    assert least >= 3.0 - 2e-3  # the table is rounded
    return rows, facts


def _closest_and_all_atoms(
    rows: list[ParticleRow], facts: dict[str, Any], placed: Path, library_folder: Path
) -> tuple[float, np.ndarray]:
    """Least distance (10 Å where none are nearer) of atoms of two rows, not of one filament, and all atoms (N, 3)."""
    library = read_placed(placed, [library_folder]).library
    trees = [cKDTree(_rotation(row).apply(library[row.molecule].atoms()[0].astype(float)) + _position(row)) for row in rows]
    filament = {
        unit: number
        for number, one in enumerate(facts["filaments"])
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
def packed(library_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ParticleRow], dict[str, Any], Path]:
    output = tmp_path_factory.mktemp("packed")
    return *_packed(library_folder, output), output


def test_all_is_placed_and_keeps_its_distance(
    packed: tuple[list[ParticleRow], dict[str, Any], Path], library_folder: Path
) -> None:
    rows, facts, folder = packed
    species = [row.species for row in rows]
    assert [row.particle for row in rows] == list(range(1, len(rows) + 1))
    assert species.count("vesicle") == 2
    assert species.count("channel") == 8
    assert len(facts["filaments"]) == 2
    units = [range(f["first_particle"], f["last_particle"] + 1) for f in facts["filaments"]]
    assert species.count("unit") == sum(map(len, units)) >= 10
    assert species.count("disc") + species.count("ball") == 60
    least, everything = _closest_and_all_atoms(rows, facts, folder / "s1.placed.csv", library_folder)
    assert facts["closest_approach_angstrom"] == pytest.approx(least, abs=2e-3)
    assert (everything > -VOXEL_ANGSTROM / 2 - 1e-2).all()
    assert (everything < np.array([44, 44, 30]) * VOXEL_ANGSTROM - VOXEL_ANGSTROM / 2 + 1e-2).all()


def test_membrane_molecules_stand_along_the_normal(packed: tuple[list[ParticleRow], dict[str, Any], Path]) -> None:
    rows, facts, _ = packed
    seen = 0
    for vesicle in facts["vesicles"]:
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
    packed: tuple[list[ParticleRow], dict[str, Any], Path], library_folder: Path
) -> None:
    rows, facts, _ = packed
    atom = read_library([library_folder])["unit"].atoms()[0]
    frame = unit_frame(atom)
    for filament in facts["filaments"]:
        units = rows[filament["first_particle"] - 1 : filament["last_particle"]]
        for one, other in pairwise(units):
            before, after = (_rotation(row) * frame.inv() for row in (one, other))
            step = before.inv().apply(_position(other) - _position(one))
            assert step[2] == pytest.approx(27.5, abs=0.6)  # bends a little
            twist = (before.inv() * after).as_rotvec(degrees=True)
            assert np.linalg.norm(twist) == pytest.approx(166.7, abs=1.0)
            assert twist[2] < 0


def test_the_sample_is_simulated_and_labelled_through_the_same_door(
    packed: tuple[list[ParticleRow], dict[str, Any], Path], library_folder: Path, tmp_path: Path
) -> None:
    rows, facts, folder = packed
    sample, grid = placed_sample(folder / "s1.placed.csv", [library_folder])
    assert len(sample.kind) == len(rows)
    centre = sample.position_angstrom[0] + grid.centre_angstrom
    np.testing.assert_allclose(centre, _position(rows[0]), atol=1e-9)
    assert set(np.unique(sample.atoms[sample.kind[0]][1])) == {6, 7, 8, 15}
    write_mrc(tmp_path / "s1.mrc", np.zeros((30, 44, 44), np.float32), VOXEL_ANGSTROM)
    label_sample(folder / "s1.placed.csv", [library_folder], tmp_path / "s1.mrc", "s1", LabelSettings(), tmp_path)
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
    assert facts["vesicles"][0]["particle"] == 1


def test_seeds_and_nothing_where_nothing_is_asked_for(library_folder: Path, tmp_path: Path) -> None:
    small = {"shape_voxels": (24, 30, 30), "vesicles": 1, "membrane_molecules": ["channel=2"], "molecules": 5}
    one, again, other = (
        _packed(library_folder, tmp_path / name, seed, **small)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == again != other
    off = {"vesicles": 0, "membrane_molecules": [], "filaments": []}
    bare, facts = _packed(library_folder, tmp_path / "d", **small | off)
    other_radii, _ = _packed(library_folder, tmp_path / "e", **small | off, vesicle_radius_angstrom=(60, 61))
    assert bare == other_radii
    assert facts["vesicles"] == facts["filaments"] == []
    assert len(bare) == 5


def test_a_microtubule_in_the_box(library_folder: Path, tmp_path: Path) -> None:
    off = {"vesicles": 0, "membrane_molecules": [], "filaments": []}
    rows, facts = _packed(library_folder, tmp_path, **off, microtubules=["unit=1"], shape_voxels=(40, 44, 44), molecules=3)
    assert facts["filaments"][0]["units"] == 13 * 3
    units = np.array([_position(row) for row in rows if row.species == "unit"])
    if len(units) == 39:
        around = units - units.mean(axis=0)
        axis = (units[13] - units[0]) / 82.0
        assert np.linalg.norm(axis) == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(around - np.outer(around @ axis, axis), axis=1) == pytest.approx(105.0, abs=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"membrane_molecules": ["nothing=3"]}, "tetris.membrane_molecules 'nothing=3'"),
        ({"membrane_molecules": ["channel=3@high"]}, "species=count"),
        ({"filaments": ["unit"]}, "tetris.filaments 'unit'"),
        ({"vesicles": 0}, "vesicles to set them in were expected"),
        ({"vesicle_radius_angstrom": (300, 400)}, "does not fit into the box"),
    ],
)
def test_what_cannot_be_is_named(library_folder: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        _packed(library_folder, tmp_path, **options)


def test_radii_come_in_order() -> None:
    with pytest.raises(ValueError, match="the least first"):
        TetrisSettings(vesicle_radius_angstrom=(300, 200))


def test_the_plan_leaves_out_what_goes_elsewhere(library_folder: Path) -> None:
    chosen = TetrisSettings.model_validate({**OPTIONS, "molecules": None, "templates": 4})
    plan = plan_sample([library_folder], chosen, 1)
    assert plan.templates == 4
    assert set(plan.molecules_by_species) == {"disc", "ball"}
