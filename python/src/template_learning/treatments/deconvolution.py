"""Deconvolution of whole tomograms, as Warp and IsoNet do it: a Wiener filter whose signal-to-noise ratio falls with frequency."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.simulation.optics import COHERENT, Lens, contrast_transfer

WARP_HIGH_PASS_ANGSTROM = 300.0
"""Warp's default."""
ISONET_HIGH_PASS_NYQUIST = 0.02
"""IsoNet's default, as a share of Nyquist's frequency."""
INTENSE = 1000.0
"""Signal to noise at zero frequency where the strength is 1."""


def deconvolution_gain(
    frequency_per_angstrom: NDArray[np.floating],
    voxel_size_angstrom: float,
    lens: Lens,
    amplitude_contrast: float,
    *,
    strength: float = 1.0,
    falloff: float = 1.0,
    high_pass_nyquist: float,
    phases_flipped: bool = False,
) -> NDArray[np.float32]:
    """T / (T^2 + 1 / s), s = 1000^strength exp(-100 falloff k / voxel size) (1 - cos(pi min(1, k / high pass))), k of Nyquist's frequency.

    Tegunov and Cramer, Nat. Methods 16 (2019) 1146, and their published program tom_deconv.
    """
    frequency = np.asarray(frequency_per_angstrom, dtype=float)
    share = frequency * 2 * voxel_size_angstrom
    ideal = replace(lens, astigmatism_angstrom=0.0, **COHERENT)  # the formula knows no envelopes
    transfer = contrast_transfer(ideal, frequency, np.zeros(1), amplitude_contrast)
    if phases_flipped:
        transfer = np.abs(transfer)
    high_pass = 1 - np.cos(np.pi * np.minimum(1, share / high_pass_nyquist))
    signal_to_noise = INTENSE**strength * np.exp(-100 * falloff / voxel_size_angstrom * share) * high_pass
    # T / (T^2 + 1 / s), without a division by zero.
    return (transfer * signal_to_noise / (transfer**2 * signal_to_noise + 1)).astype(np.float32)


def deconvolve(
    volume: NDArray[Any],
    voxel_size_angstrom: float,
    lens: Lens,
    amplitude_contrast: float,
    *,
    strength: float = 1.0,
    falloff: float = 1.0,
    high_pass_angstrom: float | None = None,
    phases_flipped: bool = False,
) -> NDArray[np.float32]:
    """A tomogram deconvolved by the contrast transfer of one defocus; its mean stays.

    Parameters
    ----------
    volume : (z, y, x) array
        Grey values; their sign is kept.
    voxel_size_angstrom : float
        Å.
    lens : Lens
        The microscope, with its defocus.
    amplitude_contrast : float
        Share of the transfer that is amplitude.
    strength, falloff : float, optional
        Of the signal-to-noise ratio: see ``deconvolution_gain``.
    high_pass_angstrom : float, optional
        Period from which on lower frequencies are left out; Warp has 300 Å, without it IsoNet's 0.02 of Nyquist's frequency.
    phases_flipped : bool, optional
        The contrast transfer's signs have been corrected before.

    Returns
    -------
    (z, y, x) array of float32
        The deconvolved tomogram.

    References
    ----------
    Tegunov and Cramer, Nat. Methods 16 (2019) 1146.  Liu et al. (IsoNet), Nat. Commun. 13 (2022) 6482.
    """
    high_pass = ISONET_HIGH_PASS_NYQUIST if high_pass_angstrom is None else 2 * voxel_size_angstrom / high_pass_angstrom
    grey = np.asarray(volume, dtype=np.float32)
    mean = grey.mean(dtype=np.float64)
    depth, height, width = grey.shape
    gz, gy, gx = (
        of(count, voxel_size_angstrom) for of, count in zip((fft.fftfreq, fft.fftfreq, fft.rfftfreq), grey.shape, strict=True)
    )
    radius = np.sqrt(gz[:, None, None] ** 2 + gy[:, None] ** 2 + gx**2)
    # One curve for all voxels: twice as fine as the volume's shells, and no finer than the formula's own 2048 steps need.
    curve = np.linspace(0, radius.max(), max(2048, 4 * max(depth, height, width)))
    gain = deconvolution_gain(
        curve,
        voxel_size_angstrom,
        lens,
        amplitude_contrast,
        strength=strength,
        falloff=falloff,
        high_pass_nyquist=high_pass,
        phases_flipped=phases_flipped,
    )
    transform = fft.rfftn(grey - np.float32(mean), workers=-1) * np.interp(radius, curve, gain).astype(np.float32)
    return np.asarray(fft.irfftn(transform, grey.shape, workers=-1) + np.float32(mean), dtype=np.float32)
