"""Ice that several molecules displace: it is missing once, and molecules that lie in each other are as bright as they should be."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from template_learning.simulation import overlaps
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.overlaps import REACH_ANGSTROM, displaced_again, with_ice_put_back
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_scattering
from template_learning.structures.atoms import bare_atoms


def globule(seed, radius=18.0):
    """Atoms as dense as a protein's: one heavy atom for 17.4 Å^3, and as many hydrogens, in places of their own."""
    generator = np.random.default_rng(seed)
    step = 17.4 ** (1 / 3)
    axis = np.arange(-radius, radius, step)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    heavy = lattice[np.linalg.norm(lattice, axis=1) < radius] + generator.uniform(-0.6, 0.6, 3)
    heavy += generator.normal(0, 0.2, heavy.shape)
    element = generator.choice(np.array([6, 7, 8], dtype=np.uint8), len(heavy), p=[0.64, 0.17, 0.19])
    return bare_atoms(
        np.concatenate([heavy, heavy + 0.6]).astype(np.float32),
        np.concatenate([element, np.ones(len(heavy), dtype=np.uint8)]),
    )


def sample_of(atoms, places, seed=0):
    turns = Rotation.random(len(places), random_state=seed).as_matrix()
    return Sample(
        atoms=atoms,
        kind=np.arange(len(places)) % len(atoms),
        rotation=turns,
        position_angstrom=np.array(places, dtype=float).reshape(-1, 3),
        ice=Slab(400.0),
    )


def heavy_in_sample(sample, molecule):
    atoms = sample.atoms[sample.kind[molecule]]
    return atoms.position_angstrom[atoms.element > 1] @ sample.rotation[molecule].T + sample.position_angstrom[molecule]


PLACES = [(0, 0, 0), (22, 5, -3), (30, -14, 8), (-60, 10, 0), (-60, 46, 4), (150, 0, 0)]


def test_shares_are_those_of_a_search_among_all_atoms(monkeypatch):
    sample = sample_of([globule(1), globule(2, 12.0)], PLACES)
    heavy = [heavy_in_sample(sample, molecule) for molecule in range(len(PLACES))]
    too_much = 0.0
    for one, points in enumerate(heavy):
        others = sum(
            np.isfinite(cKDTree(other).query(points, distance_upper_bound=REACH_ANGSTROM)[0]).astype(int)
            for number, other in enumerate(heavy)
            if number != one
        )
        too_much += (others / (1 + others)).sum()
    place, volume = displaced_again(sample)
    assert too_much > 100
    assert len(place) == pytest.approx(too_much, rel=0.05)
    np.testing.assert_array_equal(volume, np.full(len(place), np.float32(17.4)))
    # Each is one of the atoms that another molecule reaches, give or take half the diagonal of a voxel.
    owner = np.concatenate([np.full(len(points), number) for number, points in enumerate(heavy)])
    everything = np.concatenate(heavy)
    away, index = cKDTree(everything).query(place)
    assert away.max() < 1e-3
    for point, number in zip(place, owner[index], strict=True):
        assert cKDTree(everything[owner != number]).query(point)[0] < REACH_ANGSTROM + np.sqrt(3) / 2
    # In thin blocks the same ones are found.
    monkeypatch.setattr(overlaps, "BLOCK_BYTES", 3000)
    np.testing.assert_array_equal(displaced_again(sample)[0], place)


def test_molecules_apart_and_none_at_all_stay_as_they_are():
    apart = sample_of([globule(1)], [(0, 0, 0), (60, 0, 0)])
    assert with_ice_put_back(apart) == (apart, 0)
    nothing = sample_of([], [])
    assert with_ice_put_back(nothing) == (nothing, 0)
    hydrogen = bare_atoms(np.zeros((2, 3), np.float32), np.ones(2, np.uint8))
    assert with_ice_put_back(sample_of([hydrogen], [(0, 0, 0), (0, 0, 0)]))[1] == 0


def with_hydrogens(atoms):
    """The same matter, hydrogens riding on their heavy atoms, and every atom with a volume of its own."""
    heavy = atoms.kept(atoms.element > 1)
    volume = np.random.default_rng(5).uniform(10, 25, len(heavy.element)).astype(np.float32)
    return heavy._replace(hydrogens=np.ones(len(heavy.element), np.float32), displaced_angstrom3=volume)


@pytest.mark.parametrize("copies", [2, 4])
@pytest.mark.parametrize("made", [globule, lambda seed: with_hydrogens(globule(seed))], ids=["bare", "with hydrogens"])
def test_in_one_place_molecules_displace_the_ice_of_one(copies, made):
    """Phase of the exit wave: ``copies`` potentials of atoms, and one hole in the ice."""
    atoms = made(3)
    lens = Lens(voltage_kv=300.0, defocus_angstrom=-20000.0)

    def phase(sample, displaced=17.4):
        scattering = replace(physical_scattering(), displaced_angstrom3=displaced)
        engine = Engine(
            sample=sample, scattering=scattering, lens=lens, shape=(24, 24), pixel_angstrom=4.0, propagation="projection"
        )
        wave, _ = engine.exit_wave(0.0, 0.0, None)
        return float(np.angle(wave).sum())

    one = replace(sample_of([atoms], [(0, 0, 0)]), rotation=np.eye(3)[None])
    many = replace(
        one,
        kind=np.zeros(copies, dtype=int),
        rotation=np.tile(np.eye(3), (copies, 1, 1)),
        position_angstrom=np.zeros((copies, 3)),
    )
    hole = phase(one) - phase(one, displaced=0.0)
    right = copies * phase(one, displaced=0.0) + hole
    again, volume = with_ice_put_back(many)
    assert volume == pytest.approx((copies - 1) * atoms.displaced_angstrom3.sum(), rel=0.02)
    put_back = phase(again) - phase(many)
    assert put_back == pytest.approx(-(copies - 1) * hole, rel=0.02)
    assert abs(phase(again) - right) < 0.03 * abs(phase(many) - right)
