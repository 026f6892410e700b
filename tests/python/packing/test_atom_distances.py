"""Distances of atoms beside k-d trees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.geometry import random_rotations
from template_learning.packing.atom_distances import closest_approach_angstrom

from ..builders import closest_atoms


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
