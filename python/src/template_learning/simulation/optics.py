"""The microscope: aberrations, partial coherence, phase plate.

Sign: the transfer function is ``exp(-i chi(g))`` with ``chi = pi w g^2 (defocus + Cs w^2 g^2 / 2)`` (w: wavelength), so a
negative defocus is underfocus, as in Parakeet's ``c_10``, and matter is dark in it.  Astigmatism adds ``astigmatism
cos(2 (angle of g - astigmatism_deg))`` to the defocus.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from template_learning.simulation.physics import wavelength_angstrom


@dataclass(frozen=True, kw_only=True)
class Lens:
    """What a microscope does to the wave; spreads are 1/e half-widths relative to their means.

    Attributes
    ----------
    voltage_kv : float
        Acceleration voltage.
    defocus_angstrom : float
        Negative = underfocus.
    astigmatism_angstrom, astigmatism_deg : float
        Half the difference of the two principal defoci, and the direction in which the defocus is raised, from x.
    spherical_aberration_mm, chromatic_aberration_mm : float
        Cs and Cc.
    energy_spread, voltage_spread, current_spread : float
        What the defocus spreads by.
    illumination_semiangle_mrad : float
        Of the source.
    phase_shift_deg : float
        Of the phase plate; 0 = none.
    phase_plate_cut_on_per_angstrom : float
        Where the phase plate begins, 1/Å.
    aperture_per_angstrom : float
        Radius of the objective aperture, 1/Å.
    """

    voltage_kv: float = 300.0
    defocus_angstrom: float
    astigmatism_angstrom: float = 0.0
    astigmatism_deg: float = 0.0
    spherical_aberration_mm: float = 2.7
    chromatic_aberration_mm: float = 2.7
    energy_spread: float = 2.66e-6
    voltage_spread: float = 8e-7
    current_spread: float = 3.3e-7
    illumination_semiangle_mrad: float = 0.02
    phase_shift_deg: float = 0.0
    phase_plate_cut_on_per_angstrom: float = 0.005
    aperture_per_angstrom: float = math.inf

    @property
    def defocus_spread_angstrom(self) -> float:
        """1/e half-width of the defocus (Kirkland 2010, eq. 3.41)."""
        relative = np.sqrt(self.energy_spread**2 + (2 * self.current_spread) ** 2 + self.voltage_spread**2)
        return float(self.chromatic_aberration_mm * 1e7 * relative)


COHERENT = {
    "energy_spread": 0.0,
    "voltage_spread": 0.0,
    "current_spread": 0.0,
    "illumination_semiangle_mrad": 0.0,
    "phase_plate_cut_on_per_angstrom": 1e-9,
}
"""Of a lens: its transfer has no envelopes."""


def defocus_angstrom(lens: Lens, gx: NDArray[np.floating], gy: NDArray[np.floating]) -> NDArray[np.floating] | float:
    """Defocus in the direction of each spatial frequency."""
    if not lens.astigmatism_angstrom:
        return lens.defocus_angstrom
    angle = np.arctan2(gy, gx) - np.deg2rad(lens.astigmatism_deg)
    return lens.defocus_angstrom + lens.astigmatism_angstrom * np.cos(2 * angle)


def transfer_function(lens: Lens, gx: NDArray[np.floating], gy: NDArray[np.floating]) -> NDArray[np.complex64]:
    """What the exit wave's transform is multiplied with.

    Aberrations; loss of contrast by partial coherence in time and space; the phase plate, which shifts all but the
    unscattered beam: ``phase (1 - exp(-g^2 / 2 cut-on^2))``; the aperture.

    Parameters
    ----------
    lens : Lens
        The microscope.
    gx, gy : array
        Spatial frequencies in 1/Å, of shapes that broadcast.

    Returns
    -------
    array of complex64
        Of the shape that gx and gy give together.

    References
    ----------
    Frank, Optik 38 (1973) 519.  Wade and Frank, Optik 49 (1977) 81.
    """
    wavelength = wavelength_angstrom(lens.voltage_kv)
    spherical = lens.spherical_aberration_mm * 1e7 * wavelength**2
    square = gx**2 + gy**2
    defocus = defocus_angstrom(lens, gx, gy)
    phase = -np.pi * wavelength * square * (defocus + spherical / 2 * square)
    temporal = (0.5 * np.pi * wavelength * lens.defocus_spread_angstrom * square) ** 2
    spatial = (np.pi * lens.illumination_semiangle_mrad * 1e-3 * (defocus + spherical * square)) ** 2 * square
    if lens.phase_shift_deg:
        spot = np.exp(-square / (2 * lens.phase_plate_cut_on_per_angstrom**2))
        phase = phase + np.deg2rad(lens.phase_shift_deg) * (1 - spot)
    wave = np.exp(1j * phase - temporal - spatial)
    return np.where(square < lens.aperture_per_angstrom**2, wave, 0).astype(np.complex64)


def contrast_transfer(
    lens: Lens, gx: NDArray[np.floating], gy: NDArray[np.floating], amplitude_contrast: float
) -> NDArray[np.float32]:
    """The contrast that a weak object's projected potential gets at each spatial frequency (1/Å), 1 at most; positive = matter dark.

    ``amplitude_contrast`` is the share of it that is amplitude.
    """
    wave = transfer_function(lens, gx, gy)
    return np.asarray(np.sqrt(1 - amplitude_contrast**2) * wave.imag + amplitude_contrast * wave.real, dtype=np.float32)
