"""Constants of electrons."""

import pytest
from template_learning.simulation.physics import (
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    wavelength_angstrom,
)
from template_learning.simulation.scattering import physical_scattering


def test_electron_constants() -> None:
    # Kirkland 2010, tables of wavelength and interaction
    assert wavelength_angstrom(300.0) == pytest.approx(0.0196875, rel=1e-5)
    assert wavelength_angstrom(200.0) == pytest.approx(0.0250793, rel=1e-5)
    assert interaction_radian_per_volt_angstrom(300.0) == pytest.approx(6.5262e-4, rel=1e-4)
    assert pytest.approx(47.878, rel=1e-4) == VOLT_ANGSTROM2
    assert physical_scattering(0.91).ice_volt == pytest.approx(4.43, abs=0.01)
