"""Electrons and matter: wavelength, interaction, scattering factors, vitreous ice.

Units: ångström, volt, electrons per Å^2, spatial frequencies in 1/Å.
"""

from collections.abc import Mapping

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy import constants

REST_ENERGY_EV = constants.physical_constants["electron mass energy equivalent in MeV"][0] * 1e6
# h^2 / (2 pi m e): the projected potential's transform per ångström of scattering factor (Kirkland 2010, eq. C.14).
VOLT_ANGSTROM2 = constants.h**2 / (2 * np.pi * constants.m_e * constants.e) * 1e20
WATER_DALTON = 18.01528
ICE_DENSITY_G_PER_CM3 = 0.91
# Over which distance from an atom ice is pushed aside: inside a molecule it is gone between the atoms as well as at them.
# With this width the contrast in each band is that of Parakeet's images.
DISPLACED_SIGMA_ANGSTROM = 1.4


def wavelength_angstrom(voltage_kv: float) -> float:
    """The relativistic wavelength of electrons (Kirkland 2010, eq. 2.5)."""
    energy_ev = voltage_kv * 1e3
    momentum = np.sqrt(energy_ev * (2 * REST_ENERGY_EV + energy_ev)) * constants.e / constants.c
    return float(constants.h / momentum * 1e10)


def interaction_radian_per_volt_angstrom(voltage_kv: float) -> float:
    """Phase that a projected potential of 1 V Å gives the wave (Kirkland 2010, eq. 5.6)."""
    energy_ev = voltage_kv * 1e3
    return float(
        2
        * np.pi
        / (wavelength_angstrom(voltage_kv) * energy_ev)
        * (REST_ENERGY_EV + energy_ev)
        / (2 * REST_ENERGY_EV + energy_ev)
    )


def scattering_factor(element: int, frequency: NDArray[np.floating]) -> NDArray[np.float64]:
    """An atom's electron scattering factor in ångström at spatial frequencies in 1/Å, for electrons at rest.

    Five Gaussians (International Tables C, table 4.3.2.2; Peng et al. 1996), as gemmi has them.
    """
    coefficients = gemmi.Element(int(element)).c4322
    s_squared = (np.asarray(frequency, dtype=float) / 2) ** 2
    total = np.zeros_like(s_squared)
    for a, b in zip(coefficients.a, coefficients.b, strict=True):
        total += a * np.exp(-b * s_squared)
    return total


def mean_potential_volt(atoms: Mapping[int, float], volume_angstrom3: float) -> float:
    """Mean inner potential in volt of so many atoms of each atomic number in a volume, as if they were not bound."""
    return float(VOLT_ANGSTROM2 * sum(n * scattering_factor(z, np.zeros(1))[0] for z, n in atoms.items()) / volume_angstrom3)


def atoms_per_angstrom3(element: int, density_g_per_cm3: float) -> float:
    """Atoms of a pure substance per Å^3."""
    return density_g_per_cm3 * 1e-24 / float(gemmi.Element(int(element)).weight) * constants.Avogadro


def water_per_angstrom3(density_g_per_cm3: float) -> float:
    """Water molecules per Å^3."""
    return density_g_per_cm3 * 1e-24 / WATER_DALTON * constants.Avogadro
