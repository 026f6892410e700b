"""Tilts: their order and their doses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.simulation.acquisition import acquire, tilt_angles, without_missing


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    count=st.integers(0, 40), step=st.floats(0.5, 5), dose=st.floats(1, 300), scheme=st.sampled_from(["dose-symmetric", "bidirectional", "continuous"])
)  # fmt: skip
def test_each_tilt_is_taken_once_and_doses_add_up(count: int, step: float, dose: float, scheme: str) -> None:
    angles = tilt_angles(min(89.0, count * step), step)
    taken = acquire(angles, dose, scheme)
    assert sorted(taken.order) == list(range(len(angles)))
    assert taken.dose_at_end.max() == pytest.approx(dose)
    assert taken.dose_at_end.min() == pytest.approx(dose / len(angles))
    assert np.diff(np.sort(taken.dose_at_end)) == pytest.approx(taken.dose_per_tilt)
    first = {"dose-symmetric": 0.0, "bidirectional": 0.0, "continuous": angles[0]}[scheme]
    assert angles[np.argmin(taken.order)] == pytest.approx(first)
    if scheme == "dose-symmetric":
        assert np.all(np.diff(np.abs(angles[np.argsort(taken.order)])) > -1e-9)


@pytest.mark.shared
def test_dose_symmetric_order_is_that_of_the_reference(shared_data) -> None:
    reference = shared_data / "parakeet_reference"
    listed = np.loadtxt(reference / "acquisition_order.txt", dtype=int)
    taken = acquire(np.loadtxt(reference / "tilts.tlt"), 120.0, "dose-symmetric")
    np.testing.assert_array_equal(np.argsort(taken.order), listed)


def test_tilt_angles_hold_zero_and_both_ends() -> None:
    np.testing.assert_allclose(tilt_angles(60, 4), np.arange(-60, 61, 4))
    np.testing.assert_allclose(tilt_angles(10, 3), [-9, -6, -3, 0, 3, 6, 9])
    np.testing.assert_allclose(tilt_angles(10, 4, -12.5), [-20.5, -16.5, -12.5, -8.5, -4.5])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(offset=st.floats(-20, 20), step=st.floats(0.5, 5))
def test_a_pretilted_series_begins_in_its_middle_and_is_otherwise_the_same(offset: float, step: float) -> None:
    plain, tilted = (acquire(tilt_angles(40, step, one), 100, "dose-symmetric", one) for one in (0.0, offset))
    np.testing.assert_array_equal(plain.order, tilted.order)
    np.testing.assert_allclose(tilted.angle_deg - plain.angle_deg, offset, atol=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    missing=st.floats(0, 0.8),
    seed=st.integers(0, 99),
    scheme=st.sampled_from(["dose-symmetric", "bidirectional", "continuous"]),
)
def test_missing_tilts_leave_the_others_with_their_doses(missing: float, seed: int, scheme: str) -> None:
    taken = acquire(tilt_angles(60, 3), 120, scheme)
    left = without_missing(taken, missing, np.random.default_rng(seed))
    assert len(left.angle_deg) == len(taken.angle_deg) - round(missing * 41)
    of = dict(zip(taken.angle_deg, taken.dose_at_end, strict=True))
    assert [of[angle] for angle in left.angle_deg] == list(left.dose_at_end)
    assert list(left.angle_deg) == sorted(left.angle_deg)
    assert left.order.min() == 0
