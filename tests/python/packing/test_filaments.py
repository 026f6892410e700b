"""Filaments: helical lattices and worm-like chains."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from template_learning.packing.filaments import MICROTUBULE, Lattice, chain, unit_frame


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
