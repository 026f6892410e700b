"""The detector: counts and pixels."""

import numpy as np
import pytest
from template_learning.simulation.detector import count_electrons, mtf_transfer


def test_counts_are_poisson() -> None:
    generator = np.random.default_rng(8)
    counts = count_electrons(np.full((400, 400), 0.8), 12.5, generator)
    assert counts.dtype == np.float32
    assert counts.mean() == pytest.approx(10.0, rel=0.01)
    assert counts.var() == pytest.approx(10.0, rel=0.02)
    third = ((counts - counts.mean()) ** 3).mean()
    assert third == pytest.approx(10.0, rel=0.1)
    assert count_electrons(np.array([-0.5]), 10.0, generator)[0] == 0


def test_detector_pass_is_referred_to_its_own_pixel() -> None:
    assert mtf_transfer(np.zeros(1), 1.0, 1.0)[0] == pytest.approx(0.95)
    assert mtf_transfer(np.zeros(1), 1.0, 50.0)[0] == pytest.approx(0.80)
    assert mtf_transfer(np.zeros(1), 1.0, 3.25)[0] == pytest.approx(0.875)
    frequency = np.linspace(0, 0.5, 20)
    passed = mtf_transfer(frequency, 1.0, 1.0)
    assert np.all(np.diff(passed) < 0)
    np.testing.assert_allclose(mtf_transfer(frequency / 2, 2.0, 0.25), passed, rtol=1e-6)
