"""What atoms and ice do to the wave: scattering factors, displaced ice, solvent noise.  Two kinds: physical, and as Parakeet has it.

Parakeet 0.6.8 (Parkhurst et al. 2021) on MULTEM takes projected potentials on a grid of the detector's pixels, continued
inside one pixel's radius by their third-order Taylor polynomial in R^2, and so loses a part of each atom (at 1 Å: 38 % of
carbon, 59 % of oxygen).  Its ice is a Gaussian random field, 3 Å slice by slice, of which a third remains in each pixel
within reach of an atom of the slice.  Facts from its source and MULTEM's; the numbers here are calculated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import j0

from template_learning.simulation.physics import (
    DISPLACED_SIGMA_ANGSTROM,
    ICE_DENSITY_G_PER_CM3,
    VOLT_ANGSTROM2,
    mean_potential_volt,
    scattering_factor,
    water_per_angstrom3,
)
from template_learning.structures.atoms import HEAVY_ATOM_ANGSTROM3

Array = NDArray[np.float64]
# An atom ends where its potential has fallen to this (MULTEM's cut-off).
CUT_OFF_VOLT = 0.015
# Outside 1 Å MULTEM's atoms (Lobato and Van Dyck 2014) are a little stronger than the five Gaussians: the potentials' ratio.
OUTSIDE_RATIO = {1: 0.986, 6: 1.011, 7: 1.017, 8: 1.013, 15: 1.001, 16: 1.010}
# Parakeet's ice: power spectrum of a slice as two Gaussians (amplitude, mean, sigma in 1/Å), by its defaults in version
# 0.6.8, and as the configuration that the paper's authors released for version 0.4 has them.
SOLVENT_NOISE = {
    "parakeet_0.6": ((0.199, 0.0, 0.731), (0.801, 1 / 2.88, 0.081)),
    "parakeet_0.4": ((0.72, 0.0, 0.1), (0.28, 1 / 2.88, 0.5)),
}
SOLVENT_NOISE_GAUSSIANS = SOLVENT_NOISE["parakeet_0.6"]
# Variance in (V Å)^2 of a slice's pixel for one water molecule per Å^2, and what remains of it at a pixel's area in Å^2.
SOLVENT_NOISE_VARIANCE = 10195.82
SOLVENT_NOISE_AREA = (
    0.0,
    0.01,
    0.04,
    0.09,
    0.16,
    0.25,
    0.36,
    0.49,
    0.64,
    0.81,
    1.0,
    1.21,
    1.44,
    1.69,
    1.96,
    2.25,
    2.56,
    2.89,
    3.24,
    3.61,
    4.0,
)
SOLVENT_NOISE_LEFT = (1.0, 0.970, 0.880, 0.681, 0.555, 0.437, 0.303, 0.204, 0.1415, 0.0977, 0.0654, 0.0400, 0.0240, 0.0143, 0.00862, 0.00517, 0.00294, 0.00195, 0.00111, 0.000756, 0.000384)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SolventExclusion:
    """Ice displaced within discs about the atoms of each slice, counted once where discs overlap."""

    pixel_angstrom: float
    slice_angstrom: float
    radius_angstrom: Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class ScatteringModel:
    """How atoms and ice scatter.

    ``factor(element, frequency)``: scattering factor in ångström at 1/Å.  ``ice_volt``: mean potential of the ice.
    ``solvent_exclusion``: where atoms displace ice; without one each atom displaces its own volume, a Gaussian of
    ``displaced_sigma_angstrom``, counted in units of ``displaced_angstrom3``.  ``ice_inside``: the part of the ice, mean and noise, that remains where it is displaced.
    ``solvent_noise_power(frequency)``: power spectrum of the projected ice in V^2 Å^4 for each Å^3 of it.
    """

    factor: Callable[[int, Array], Array]
    ice_volt: float
    displaced_angstrom3: float = HEAVY_ATOM_ANGSTROM3
    displaced_sigma_angstrom: float = DISPLACED_SIGMA_ANGSTROM
    solvent_exclusion: SolventExclusion | None = None
    ice_inside: float = 0.0
    solvent_noise_power: Callable[[Array], Array]


def physical_scattering(
    ice_density_g_per_cm3: float = ICE_DENSITY_G_PER_CM3,
    solvent_noise_pixel_angstrom: float = 1.0,
    gaussians: tuple[tuple[float, float, float], ...] = SOLVENT_NOISE_GAUSSIANS,
) -> ScatteringModel:
    """Whole atoms in ice of its own mean potential, with the solvent noise of Parakeet's ice at a pixel of 1 Å."""
    return ScatteringModel(
        factor=scattering_factor,
        ice_volt=mean_potential_volt({8: 1, 1: 2}, 1 / water_per_angstrom3(ice_density_g_per_cm3)),
        solvent_noise_power=lambda frequency: solvent_noise_power(
            frequency, ice_density_g_per_cm3, solvent_noise_pixel_angstrom, gaussians
        ),
    )


def parakeet_scattering(
    ice_density_g_per_cm3: float,
    pixel_angstrom: float,
    slice_angstrom: float = 3.0,
    gaussians: tuple[tuple[float, float, float], ...] = SOLVENT_NOISE_GAUSSIANS,
) -> ScatteringModel:
    """Atoms and ice as Parakeet computes them on pixels of this size."""
    water = sum(n * cored_factor(element, np.zeros(1), pixel_angstrom)[0] for element, n in ((8, 1), (1, 2)))
    return ScatteringModel(
        factor=lambda element, frequency: cored_factor(element, frequency, pixel_angstrom),
        ice_volt=float(VOLT_ANGSTROM2 * water * water_per_angstrom3(ice_density_g_per_cm3)),
        solvent_exclusion=SolventExclusion(
            pixel_angstrom=pixel_angstrom,
            slice_angstrom=slice_angstrom,
            radius_angstrom=lambda element: max(atom_radius_angstrom(element), 2 * pixel_angstrom),
        ),
        ice_inside=1 / 3,
        solvent_noise_power=lambda frequency: solvent_noise_power(frequency, ice_density_g_per_cm3, pixel_angstrom, gaussians),
    )


def solvent_noise_power(
    frequency: Array, density_g_per_cm3: float, pixel_angstrom: float, gaussians: tuple[tuple[float, float, float], ...]
) -> Array:
    """Power spectrum of Parakeet's projected ice in V^2 Å^4 per Å^3, at frequencies in 1/Å."""

    def shape(g: Array) -> Array:
        return np.sum([a * np.exp(-0.5 * ((g - m) / s) ** 2) for a, m, s in gaussians], axis=0)

    axis = (np.arange(256) / 256 - 0.5) / pixel_angstrom
    mean = float(shape(np.hypot(axis[:, None], axis[None, :])).mean())
    left = float(np.interp(pixel_angstrom**2, SOLVENT_NOISE_AREA, SOLVENT_NOISE_LEFT))
    variance = SOLVENT_NOISE_VARIANCE * left * water_per_angstrom3(density_g_per_cm3)
    return variance * pixel_angstrom**2 * shape(np.asarray(frequency, dtype=float)) / mean


def _gaussians(element: int) -> tuple[Array, Array]:
    """The projected potential in volt ångström as ``sum a exp(-b R^2)``: a and b."""
    coefficients = gemmi.Element(int(element)).c4322
    width = 4 * np.pi**2 / np.array(coefficients.b)
    return VOLT_ANGSTROM2 * np.array(coefficients.a) * width / np.pi, width


def atom_radius_angstrom(element: int) -> float:
    """Where the atom's potential falls to CUT_OFF_VOLT."""
    a, b = _gaussians(element)
    depth = a * np.sqrt(b / np.pi)  # of the potential in space, along the line of sight
    return float(brentq(lambda r: float((depth * np.exp(-b * r * r)).sum()) - CUT_OFF_VOLT, 0.1, 25.0))


def cored_factor(element: int, frequency: Array, core_angstrom: float) -> Array:
    """Scattering factor in ångström of an atom whose projected potential is continued inside ``core_angstrom``.

    Inside it is the Taylor polynomial of third order in R^2; near the atom's radius it is tapered to zero.
    """
    a, b = _gaussians(element)
    end = max(atom_radius_angstrom(element), 2 * core_angstrom)
    edge = np.linspace(0, end, 2049)
    radius = (edge[1:] + edge[:-1]) / 2
    square, core = radius**2, core_angstrom**2
    potential = (a * np.exp(-b * square[:, None])).sum(axis=1)
    inner = a * np.exp(-b * core)
    away = square - core
    taylor = sum(term * away**n for n, term in enumerate((inner.sum(), -(inner * b).sum(), (inner * b**2).sum() / 2, -(inner * b**3).sum() / 6)))  # fmt: skip
    potential = np.where(radius < core_angstrom, taylor, potential)
    start = (core_angstrom + 0.85 * (end - core_angstrom)) ** 2
    potential = potential * OUTSIDE_RATIO.get(element, 1.01)
    taper = np.cos(np.pi / 2 * np.clip((square - start) / (end**2 - start), 0, 1))
    ring = potential * taper * 2 * np.pi * radius * np.diff(edge)
    unique, index = np.unique(np.asarray(frequency, dtype=float), return_inverse=True)
    return (j0(2 * np.pi * unique[:, None] * radius) @ ring / VOLT_ANGSTROM2)[index].reshape(np.shape(frequency))
