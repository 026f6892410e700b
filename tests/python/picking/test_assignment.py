"""Matching of picks and particles, beside brute force and the Hungarian method."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.picking.assignment import match, matched_after


def largest_matching(near):
    """By trying every choice."""
    if len(near) == 0:
        return 0
    best = largest_matching(near[1:])
    for column in np.flatnonzero(near[0]):
        rest = near[1:].copy()
        rest[:, column] = False
        best = max(best, 1 + largest_matching(rest))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 6))
def test_matching_against_brute_force(seed, picks, truth):
    generator = np.random.default_rng(seed)
    position, particles = generator.uniform(0, 3, (picks, 3)), generator.uniform(0, 3, (truth, 3))
    near = np.linalg.norm(position[:, None] - particles[None], axis=2) <= 1.2
    counts = matched_after(position, particles, 1.2)
    assert [largest_matching(near[:k]) for k in range(picks + 1)] == list(counts)
    pairs = match(position, particles, 1.2)
    assert len(pairs) == counts[-1]
    assert len({p for p, _, _ in pairs}) == len({t for _, t, _ in pairs}) == len(pairs)
    assert all(near[p, t] for p, t, _ in pairs)
    # Of all matchings of that size none has a smaller sum of distances.
    distance = np.linalg.norm(position[:, None] - particles[None], axis=2)
    sums = [
        sum(distance[p, t] for p, t in zip(chosen, order, strict=True))
        for chosen in itertools.combinations(range(picks), len(pairs))
        for order in itertools.permutations(range(truth), len(pairs))
        if all(near[p, t] for p, t in zip(chosen, order, strict=True))
    ]
    assert sum(d for _, _, d in pairs) == pytest.approx(min(sums, default=0))
