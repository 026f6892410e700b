"""Vesicles: closed, even shells of a bilayer's profile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.spatial import cKDTree
from template_learning.packing.membranes import (
    BARE_CHAIN_CARBONS,
    HALF_THICKNESS_ANGSTROM,
    HEADS_APART_ANGSTROM,
    Vesicle,
    bilayer_profile,
    patches,
    remove_clashing_lipids,
)
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.physics import VOLT_ANGSTROM2, scattering_factor
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_scattering


def profile_of(depth: np.ndarray) -> dict[int, np.ndarray]:
    """Atoms of each element in an Å^3, heads and chains together."""
    heads, chains = bilayer_profile(depth)
    return {**heads, 6: heads[6] + chains}


def test_a_leaflet_holds_whole_lipids_and_two_heads_stand_out() -> None:
    depth = np.linspace(-40, 40, 8001)
    profile = profile_of(depth)
    area = 64.0
    for element, count in ((6, 10 + 30), (7, 1), (8, 8), (15, 1)):  # DPPC: C40 H80 N O8 P
        assert np.trapezoid(profile[element], depth) * area == pytest.approx(2 * count, rel=0.01)
    apart = 2 * depth[depth > 0][np.argmax(profile[15][depth > 0])]
    assert apart == pytest.approx(HEADS_APART_ANGSTROM, abs=0.1)
    np.testing.assert_allclose(profile[6], profile[6][::-1], atol=1e-12)
    total = np.sum(list(profile.values()), axis=0)
    at = {d: float(np.interp(d, depth, total)) for d in (0.0, 10.0, HEADS_APART_ANGSTROM / 2, 30.0)}
    assert at[HEADS_APART_ANGSTROM / 2] > at[10.0] > 1.5 * at[0.0]
    assert at[30.0] < 1e-12


def test_heads_and_chains_without_hydrogens_stand_out_of_the_ice_as_their_potentials_say() -> None:
    def volt(element: int) -> float:
        return VOLT_ANGSTROM2 * float(scattering_factor(element, np.zeros(1))[0])

    scattering = physical_scattering()

    def true(atoms: dict[int, float], volume_angstrom3: float) -> float:
        return sum(count * volt(element) for element, count in atoms.items()) - volume_angstrom3 * scattering.ice_volt

    def simulated(atoms: dict[int, float]) -> float:
        return sum(n * (volt(z) - scattering.displaced_angstrom3 * scattering.ice_volt) for z, n in atoms.items() if z > 1)

    protein = {6: 4.94, 7: 1.36, 8: 1.48, 16: 0.04, 1: 7.76}  # the mean residue, 111.2 Da at 0.73 mL/g
    scale = simulated(protein) / true(protein, 111.2 * 1.212)
    head, chains = {6: 10.0, 7: 1, 8: 8, 15: 1}, {6: BARE_CHAIN_CARBONS}
    assert simulated(head) == pytest.approx(scale * true({**head, 1: 18}, 319.0), rel=0.03)
    assert simulated(chains) == pytest.approx(scale * true({6: 30, 1: 62}, 913.0), rel=0.03)


@settings(derandomize=True, deadline=None, max_examples=4)
@given(radius=st.integers(60, 110), seed=st.integers(0, 2**31))
def test_a_vesicle_is_a_closed_even_shell_of_the_profile(radius: int, seed: int) -> None:
    vesicle = Vesicle(float(radius), seed)
    assert Vesicle.named(vesicle.name) == vesicle
    atoms, again = vesicle.atoms(), vesicle.atoms()
    position, element = atoms.position_angstrom, atoms.element
    for column, other in zip(atoms, again, strict=True):
        np.testing.assert_array_equal(column, other)
    # hydrogens and volumes go with heads (C10 H18 N O8 P in 319 Å^3) and chains (C30 H62 in 913 Å^3)
    heads = (element == 15).sum()
    chains = ((element == 6).sum() - 10 * heads) / 30
    assert atoms.hydrogens.sum() == pytest.approx(18 * heads + 62 * chains, rel=0.02)
    assert atoms.displaced_angstrom3.sum() == pytest.approx(319 * heads + 913 * chains, rel=0.02)
    bare = vesicle.atoms(hydrogens=False)
    assert not bare.hydrogens.any()
    assert (bare.element == 6).sum() == pytest.approx(10 * heads + 0.51 * 30 * chains, rel=0.02)
    distance = np.linalg.norm(position, axis=1)
    assert np.abs(distance - radius).max() <= HALF_THICKNESS_ANGSTROM + 1e-3
    assert distance.max() <= vesicle.outer_radius_angstrom + 1e-3
    # by depth, each shell holds what the profile says, chains and heads
    edges = np.arange(-24, 25, 4.0)
    fine = np.linspace(-24, 24, 4801)
    for number in (6, 15):
        found = np.histogram(distance[element == number] - radius, edges)[0]
        density = profile_of(fine)[number] * 4 * np.pi * (radius + fine) ** 2
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
    sample = Sample(
        atoms=[Vesicle(radius, 1).atoms()],
        kind=np.zeros(1, np.int64),
        rotation=np.eye(3)[None],
        position_angstrom=np.zeros((1, 3)),
        ice=Slab(400.0),
    )
    common = {
        "sample": sample,
        "scattering": physical_scattering(),
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
    position, element, *rest = remove_clashing_lipids(atoms, [other], 3.0)
    assert len(position) == len(element) == len(rest[0]) == len(rest[1])
    assert cKDTree(other).query(position)[0].min() >= 3.0
    gone = len(atoms[1]) - len(element)
    assert gone == (cKDTree(other).query(atoms[0])[0] < 3.0).sum() > 50
