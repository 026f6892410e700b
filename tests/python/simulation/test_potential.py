"""Potentials of atoms, and the ice that they displace."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.geometry import tilt_matrix
from template_learning.simulation.physics import (
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    scattering_factor,
)
from template_learning.simulation.potential import atom_channels, deposit, deposit_excluded_solvent
from template_learning.simulation.scattering import physical_scattering
from template_learning.structures.atoms import bare_atoms

from ..builders import atom_blob, engine_of, one_molecule


@pytest.mark.parametrize("element", [6, 8, 15])
def test_potential_of_one_atom_is_its_closed_form(element: int) -> None:
    """Phase of the exit wave against the five Gaussians of the table, broadened by a displacement of 1 Å^2."""
    at = np.array([1.3, -2.1])
    engine = engine_of(one_molecule([(*at, 0.0)], [element]), shape=(48, 48), pixel_angstrom=1.0, damage_angstrom2_per_dose=0.1)
    wave, _ = engine.exit_wave(0.0, 10.0, None)
    x, y = engine.axes_angstrom
    square = (x[None, :] - at[0]) ** 2 + (y[:, None] - at[1]) ** 2
    import gemmi

    table = gemmi.Element(element).c4322
    width = np.array(table.b) + 8 * np.pi**2 * 1.0
    volt_angstrom = VOLT_ANGSTROM2 * sum(
        a * 4 * np.pi / b * np.exp(-4 * np.pi**2 * square / b) for a, b in zip(table.a, width, strict=True)
    )
    expected = interaction_radian_per_volt_angstrom(300.0) * volt_angstrom
    # The channels hold the factors to 0.6 %; with one element they hold them exactly.
    np.testing.assert_allclose(np.angle(wave), expected, atol=2e-3 * expected.max())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(x=st.floats(-60, 60), y=st.floats(-60, 60), tilt=st.floats(-70, 70), element=st.sampled_from([6, 7, 8, 16]))
def test_the_phase_of_an_atom_sums_to_its_scattering_factor(x: float, y: float, tilt: float, element: int) -> None:
    engine = engine_of(one_molecule([(x, y, 0.0)], [element]), propagation="projection", damage_angstrom2_per_dose=1.0)
    wave, _ = engine.exit_wave(tilt, 4.0, None)
    total = np.angle(wave).sum() * engine.working_pixel_angstrom**2
    expected = engine.phase_per_volt_angstrom * VOLT_ANGSTROM2 * scattering_factor(element, np.zeros(1))[0]
    assert total == pytest.approx(expected, rel=2e-3)


def test_channels_hold_the_scattering_factors() -> None:
    count = {0: 20, 1: 300, 6: 5000, 7: 1400, 8: 1500, 15: 80, 16: 40, 30: 2}
    generator = np.random.default_rng(0)
    bare = bare_atoms(np.zeros((sum(count.values()), 3)), np.repeat(list(count), list(count.values())))
    whole = bare._replace(
        hydrogens=np.where(bare.element > 1, generator.integers(0, 4, len(bare.element)), 0).astype(np.float32),
        displaced_angstrom3=generator.uniform(5, 30, len(bare.element)).astype(np.float32) * (bare.element > 1),
    )
    whole.displaced_angstrom3[bare.element == 0] = -12.0  # ice put back
    for atoms in (bare, whole):
        channels = atom_channels([atoms, bare], [3, 0], physical_scattering(), 0.2)
        of_element = np.zeros((256, len(channels.frequency)))
        for element in count:
            if element:
                of_element[element] = scattering_factor(element, channels.frequency)
        exact = of_element[atoms.element] + atoms.hydrogens[:, None] * of_element[1]
        weight = channels.weight(atoms)
        assert np.sqrt(((weight @ channels.factor - exact) ** 2).sum() / (exact**2).sum()) < 0.006
        assert len(channels.factor) <= 3
        np.testing.assert_allclose(weight[:, 0] * 17.4, atoms.displaced_angstrom3, atol=1e-4)
    assert set(channels.weight(bare)[bare.element > 1, 0].tolist()) == {1.0}
    assert not channels.weight(bare)[bare.element < 2, 0].any()


def test_hydrogens_that_ride_on_their_atoms_scatter_as_those_beside_them() -> None:
    """The phase of molecules with explicit hydrogens and of those with the same number in the heavy atoms' weights."""
    generator = np.random.default_rng(8)
    heavy = bare_atoms(atom_blob(generator, 9.0, 200), generator.choice([6, 7, 8], 200).astype(np.uint8))
    number = generator.integers(0, 4, 200)
    beside = bare_atoms(
        np.concatenate([heavy.position_angstrom, heavy.position_angstrom.repeat(number, axis=0)]),
        np.concatenate([heavy.element, np.ones(number.sum(), np.uint8)]),
    )
    sample = one_molecule([], [])
    waves = [
        engine_of(replace(sample, atoms=[atoms]), scattering=physical_scattering()).exit_wave(20.0, 0.0, None)[0]
        for atoms in (heavy._replace(hydrogens=number.astype(np.float32)), beside, heavy)
    ]
    riding, apart, none = (np.angle(wave) for wave in waves)
    np.testing.assert_allclose(riding, apart, atol=0.01 * apart.max())
    assert riding.sum() > 1.2 * none.sum()


def test_deposit_against_an_independent_one() -> None:
    generator = np.random.default_rng(1)
    position = generator.uniform(-20, 20, (200, 3)).astype(np.float32)
    weight = generator.normal(size=(200, 2)).astype(np.float32)
    rotation = tilt_matrix(25.0).astype(np.float32)[None]
    shift = np.array([[15.0, 12.0, 1.5]], np.float32)
    rotation[:, 2] /= 10
    planes = np.zeros((4, 2, 24, 32), np.float32)
    deposit(planes, position, weight, np.array([0, 200]), np.zeros(1, np.int64), rotation, shift)
    expected = np.zeros_like(planes)
    for point, value in zip(position @ rotation[0].T + shift[0], weight, strict=True):
        (x, y), plane = np.round(point[:2]).astype(int), int(np.round(point[2]))
        if not (1 <= point[0] < 30 and 1 <= point[1] < 22 and -0.5 <= point[2] < 3.5):
            continue
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                share = spline(abs(y + row - point[1])) * spline(abs(x + column - point[0]))
                expected[plane, :, y + row, x + column] += value * share
    np.testing.assert_allclose(planes, expected, atol=2e-5)


def spline(distance: float) -> float:
    """The quadratic B-spline."""
    return 0.75 - distance**2 if distance < 0.5 else 0.5 * max(0.0, 1.5 - distance) ** 2


def test_what_a_molecule_displaces_is_a_union_of_discs() -> None:
    generator = np.random.default_rng(2)
    position = atom_blob(generator, 8.0, 150).astype(np.float32)
    reach = generator.uniform(2.0, 2.6, 150).astype(np.float32)
    planes = np.zeros((1, 1, 80, 80), np.float32)
    scale = np.array([[1.0, 40.0], [1.0, 40.0], [0.001, 0.0]], np.float32)
    centre = np.array([[1.2, -3.4, 0.7]], np.float32)
    radius = np.array([np.linalg.norm(position, axis=1).max()], np.float32)
    deposit_excluded_solvent(
        planes, position, reach, radius, np.array([0, 150]), np.zeros(1, np.int64), np.eye(3, dtype=np.float32)[None], centre, scale, 1.0, 3.0
    )  # fmt: skip
    at = position + centre
    y, x = np.mgrid[-40:40, -40:40]
    expected = np.zeros((80, 80))
    for story in range(-20, 20):
        inside = np.floor(at[:, 2] / 3.0) == story
        taken = np.zeros((80, 80), bool)
        for (u, v, _), r in zip(at[inside], reach[inside], strict=True):
            taken |= (x - u) ** 2 + (y - v) ** 2 <= r**2
        expected += 3.0 * taken
    assert np.abs(planes[0, 0] - expected).sum() < 0.01 * expected.sum()
