"""What scatters."""

import numpy as np
import pytest
from template_learning.simulation.physics import (
    scattering_factor,
)
from template_learning.simulation.scattering import atom_radius_angstrom, cored_factor


def test_cored_atoms_are_parakeets() -> None:
    """What is left of water's mean potential at a pixel: MULTEM's own table, made by simulation, has these values."""
    for pixel, left in ((0.5, 0.840), (1.0, 0.488), (1.5, 0.207), (2.0, 0.083)):
        whole = sum(n * scattering_factor(z, np.zeros(1))[0] for z, n in ((8, 1), (1, 2)))
        cored = sum(n * cored_factor(z, np.zeros(1), pixel)[0] for z, n in ((8, 1), (1, 2)))
        assert cored / whole == pytest.approx(left, abs=0.012)
    frequency = np.array([[0.0, 0.1], [0.2, 0.3]])
    np.testing.assert_allclose(cored_factor(6, frequency, 1e-3), 1.011 * scattering_factor(6, frequency), rtol=0.01)
    assert atom_radius_angstrom(6) == pytest.approx(2.51, abs=0.01)
