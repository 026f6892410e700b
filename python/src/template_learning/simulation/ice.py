"""Vitreous ice: a slab that goes on beyond the field, pushed aside by molecules, and grainy.

The mean potential shifts the phase of the whole wave and is left out.  What is seen of ice is where it is missing, and its
grain: density fluctuations, projected along the beam.
"""

import numpy as np
from numpy.typing import NDArray

from template_learning.simulation.physics import (
    DISPLACED_ANGSTROM3,
    VOLT_ANGSTROM2,
    ice_potential_volt,
    water_per_angstrom3,
    water_scattering_factor,
)

# Standard deviation of the Gaussian hole that an atom leaves: as wide as a ball of the displaced volume.
HOLE_SIGMA_ANGSTROM = float((3 * DISPLACED_ANGSTROM3 / (4 * np.pi)) ** (1 / 3) / np.sqrt(5))
# Structure factor of water at small angles: density times compressibility times temperature.
STRUCTURE_FACTOR = 0.062


def hole_factor(density_g_per_cm3: float, frequency: NDArray[np.floating]) -> NDArray[np.float64]:
    """The displaced ice of one heavy atom as a scattering factor in ångström, to be subtracted from the atom's."""
    volume = DISPLACED_ANGSTROM3 * np.exp(-2 * (np.pi * HOLE_SIGMA_ANGSTROM * np.asarray(frequency)) ** 2)
    return ice_potential_volt(density_g_per_cm3) / VOLT_ANGSTROM2 * volume


def grain_amplitude(density_g_per_cm3: float, path_angstrom: float, frequency: NDArray[np.floating]) -> NDArray[np.float64]:
    """Square root of the power spectrum of the ice's projected potential, in V Å^2, for a path through the slab."""
    power = water_per_angstrom3(density_g_per_cm3) * path_angstrom * STRUCTURE_FACTOR
    return VOLT_ANGSTROM2 * water_scattering_factor(frequency) * np.sqrt(power)
