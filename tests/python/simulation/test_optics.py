"""The contrast transfer function."""

from dataclasses import replace

import numpy as np
import pytest
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import (
    wavelength_angstrom,
)


def test_zeros_of_the_transfer_function() -> None:
    wavelength, defocus = wavelength_angstrom(300.0), 25000.0
    lens = Lens(defocus_angstrom=-defocus, spherical_aberration_mm=0.0)
    order = np.arange(1, 8)
    zeros = np.sqrt(order / (wavelength * defocus))
    between = np.sqrt((order - 0.5) / (wavelength * defocus))
    y = np.zeros(1)
    assert np.abs(transfer_function(lens, zeros, y).imag).max() < 1e-5
    signs = np.sign(transfer_function(lens, between, y).imag)
    np.testing.assert_array_equal(signs, [1, -1, 1, -1, 1, -1, 1])
    plate = replace(lens, phase_shift_deg=90.0)
    assert np.abs(transfer_function(plate, between, y).imag[2:]).max() < 1e-3  # far outside the cut-on
    assert transfer_function(plate, y, y)[0] == pytest.approx(1.0)


def test_astigmatism_turns_with_its_angle() -> None:
    lens = Lens(defocus_angstrom=-10000.0, astigmatism_angstrom=1500.0, astigmatism_deg=20.0)
    along, across = np.deg2rad(20.0), np.deg2rad(110.0)
    for angle, defocus in ((along, -8500.0), (across, -11500.0)):
        g = np.array([0.05])
        round_lens = Lens(defocus_angstrom=defocus)
        np.testing.assert_allclose(
            transfer_function(lens, g * np.cos(angle), g * np.sin(angle)), transfer_function(round_lens, g, 0 * g), rtol=1e-6
        )
