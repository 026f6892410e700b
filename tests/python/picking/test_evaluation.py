"""Picks' scores beside the truth: curves, orientations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from template_learning.picking.assignment import ThresholdCurve, threshold_curve
from template_learning.picking.evaluation import recall_by_angle, recall_on_sphere

from ..builders import truth_row


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_curve_against_the_hungarian_method_threshold_by_threshold(seed):
    generator = np.random.default_rng(seed)
    tomograms = []
    for _ in range(3):
        n, m = generator.integers(0, 40, 2)
        tomograms.append((generator.uniform(0, 8, (n, 3)), generator.integers(1, 15, n), generator.uniform(0, 8, (m, 3))))
    curve = threshold_curve(tomograms, 1.5)
    assert (np.diff(curve.threshold) < 0).all()
    for index, threshold in enumerate(curve.threshold):
        picks = matched = 0
        for position, value, truth in tomograms:
            kept = position[value >= threshold]
            near = np.linalg.norm(kept[:, None] - truth[None], axis=2) <= 1.5
            rows, columns = linear_sum_assignment(~near)
            picks += len(kept)
            matched += near[rows, columns].sum()
        assert (curve.picks[index], curve.matched[index]) == (picks, matched)
    total = sum(len(truth) for _, _, truth in tomograms)
    precision = curve.matched / np.maximum(curve.picks, 1)
    recall = curve.matched / max(total, 1)
    np.testing.assert_allclose(curve.f1, [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)])
    steps = zip([0.0, *recall[:-1]], recall, precision, strict=True)
    assert curve.average_precision == pytest.approx(sum((b - a) * p for a, b, p in steps))


def test_crossing_and_best():
    curve = ThresholdCurve(np.array([9.0, 5.0, 4.0, 2.0]), np.array([2, 4, 8, 20]), np.array([2, 4, 5, 6]), 6)
    threshold, value = curve.crossing
    # Precision 1 and 5/8, recall 4/6 and 5/6 at thresholds 5 and 4: they meet 1/3 / (1/3 + 5/24) of the way.
    share = (1 / 3) / (1 / 3 + 5 / 24)
    assert threshold == pytest.approx(5 - share)
    assert value == pytest.approx(1 - share * 3 / 8)
    assert curve.best == 1
    assert ThresholdCurve(np.array([9.0]), np.array([2]), np.array([2]), 6).crossing is None
    assert ThresholdCurve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 6).best is None


def test_recall_by_angle_counts_both_ends():
    particles = [(truth_row((0, 0, 0), axis=(0, 0, 1)), True), (truth_row((0, 0, 0), axis=(1, 0, 0)), False)]
    assert [b["recall"] for b in recall_by_angle(particles)] == [1.0, None, 0.0]
    assert recall_by_angle([(truth_row((0, 0, 0)), True)]) is None


def test_recall_on_the_sphere_tells_directions_apart_all_round():
    cap = (0.3, 0.0, np.sqrt(1 - 0.09))
    axes = [cap, (1, 0.1, 0.01), (-1, -0.1, -0.01), (0.1, 1, 0.2), (-1, 0.2, 0.1), (0.0, -0.7, 0.7), (0.0, 0.7, -0.7)]
    unit = [np.array(axis) / np.linalg.norm(axis) for axis in axes]
    found = [True, True, False, True, False, False, True]
    rows = [truth_row((0, 0, 0), axis=tuple(one)) for one in unit]
    cells = recall_on_sphere(list(zip(rows, found, strict=True)))
    there = {(c["polar_from_deg"], c["azimuth_from_deg"]): (c["particles"], c["recall"]) for c in cells if c["particles"]}
    # Of the two ends of an axis the one that points up counts, so that opposite axes are one direction.
    assert there == {(0, -180): (1, 1.0), (60, -45): (2, 0.5), (60, 45): (1, 1.0), (60, 135): (1, 0.0), (30, 225): (2, 0.5)}
    area = [
        (np.cos(np.deg2rad(c["polar_from_deg"])) - np.cos(np.deg2rad(c["polar_to_deg"])))
        * (c["azimuth_to_deg"] - c["azimuth_from_deg"]) / 360
        for c in cells
    ]  # fmt: skip
    assert sum(area) == pytest.approx(1)
    assert max(area) < 1.5 * min(area)
    assert recall_on_sphere([(truth_row((0, 0, 0)), True)]) is None
