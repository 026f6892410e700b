"""The microscope: aberrations, partial coherence, phase plate.

Sign: the transfer function is ``exp(-i chi(g))`` with ``chi = pi w g^2 (defocus + Cs w^2 g^2 / 2)`` (w: wavelength), so a
negative defocus is underfocus, as in Parakeet's ``c_10``, and matter is dark in it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from template_learning.simulation.physics import wavelength_angstrom


@dataclass(frozen=True, kw_only=True)
class Lens:
    """What a microscope does to the wave; spreads are 1/e half-widths relative to their means."""

    voltage_kv: float = 300.0
    defocus_angstrom: float
    spherical_aberration_mm: float = 2.7
    chromatic_aberration_mm: float = 2.7
    energy_spread: float = 2.66e-6
    voltage_spread: float = 8e-7
    current_spread: float = 3.3e-7
    illumination_semiangle_mrad: float = 0.02
    phase_shift_deg: float = 0.0
    phase_plate_cut_on_per_angstrom: float = 0.005

    @property
    def defocus_spread_angstrom(self) -> float:
        """1/e half-width of the defocus (Kirkland 2010, eq. 3.41)."""
        relative = np.sqrt(self.energy_spread**2 + (2 * self.current_spread) ** 2 + self.voltage_spread**2)
        return float(self.chromatic_aberration_mm * 1e7 * relative)


def aberration_phase(lens: Lens, frequency_squared: NDArray[np.floating]) -> NDArray[np.floating]:
    """chi(g) in radian at squared spatial frequencies in 1/Å^2."""
    wavelength = wavelength_angstrom(lens.voltage_kv)
    spherical = lens.spherical_aberration_mm * 1e7
    return (
        np.pi * wavelength * frequency_squared * (lens.defocus_angstrom + 0.5 * spherical * wavelength**2 * frequency_squared)
    )


def envelope(lens: Lens, frequency_squared: NDArray[np.floating]) -> NDArray[np.floating]:
    """Loss of contrast by partial coherence in time and space (Frank 1973; Wade and Frank 1977)."""
    wavelength = wavelength_angstrom(lens.voltage_kv)
    spherical = lens.spherical_aberration_mm * 1e7
    temporal = 0.5 * np.pi * wavelength * lens.defocus_spread_angstrom * frequency_squared
    slope = lens.defocus_angstrom + spherical * wavelength**2 * frequency_squared
    spatial_squared = (np.pi * lens.illumination_semiangle_mrad * 1e-3 * slope) ** 2 * frequency_squared
    return np.exp(-(temporal**2) - spatial_squared)


def transfer_function(lens: Lens, frequency_squared: NDArray[np.floating]) -> NDArray[np.complex64]:
    """What the exit wave's transform is multiplied with, phase plate included.

    The phase plate shifts all but the unscattered beam: ``phase (1 - exp(-g^2 / 2 cut-on^2))``.
    """
    phase = -aberration_phase(lens, frequency_squared)
    if lens.phase_shift_deg:
        spot = np.exp(-frequency_squared / (2 * lens.phase_plate_cut_on_per_angstrom**2))
        phase = phase + np.deg2rad(lens.phase_shift_deg) * (1 - spot)
    return (envelope(lens, frequency_squared) * np.exp(1j * phase)).astype(np.complex64)
