"""Spectra of tomograms."""

import numpy as np
import pytest
from template_learning.report.domain_gap import radial_power_spectrum


def test_spectra_of_noise_and_of_a_wave():
    random = np.random.default_rng(3)
    noise = random.normal(size=(32, 48, 64))
    frequency, power = radial_power_spectrum(noise, 4.0)
    np.testing.assert_allclose(power[8:], 1.0, atol=0.25)
    assert power[8:].mean() == pytest.approx(1.0, abs=0.03)
    assert frequency[-1] < 1 / 8
    x = np.arange(64) * 4.0
    wave = np.broadcast_to(np.sin(2 * np.pi * x / 20.0), noise.shape)
    frequency, power = radial_power_spectrum(wave, 4.0)
    assert frequency[power.argmax()] == pytest.approx(1 / 20, abs=1 / 8 / 32)
