"""The contrast transfer function taken out of tilt images: phases flipped, or a Wiener filter.

Correction is for one defocus an image, or strip by strip along x, as the tilted specimen's height changes.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.simulation.optics import Lens, contrast_transfer

CtfCorrection = Literal["none", "phase_flip", "wiener"]


def correction_gain(method: CtfCorrection, transfer: NDArray[np.floating], signal_to_noise: float) -> NDArray[np.float32]:
    """What an image's transform is multiplied with, from its contrast transfer (positive: matter is dark).

    phase_flip: its sign.  wiener: T / (T^2 + 1 / signal_to_noise), in units of what it is where T = 1.
    """
    if method == "none":
        return np.ones(transfer.shape, dtype=np.float32)
    if method == "phase_flip":
        return np.where(transfer < 0, -1, 1).astype(np.float32)
    return (transfer / (transfer**2 + 1 / signal_to_noise) * (1 + 1 / signal_to_noise)).astype(np.float32)


def correct_contrast_transfer(
    images: NDArray[np.floating],
    angles_deg: NDArray[np.float64],
    pixel_angstrom: float,
    lens: Lens,
    amplitude_contrast: float,
    method: CtfCorrection,
    *,
    signal_to_noise: float = 10.0,
    strip_angstrom: float | None = None,
) -> NDArray[np.float32]:
    """Tilt images with the contrast transfer corrected; their means stay.

    Parameters
    ----------
    images : (T, y, x) array
        The tilt series; the tilt axis is y.
    angles_deg : (T,) array
        Tilt angles, degrees.
    pixel_angstrom : float
        Å.
    lens : Lens
        The microscope, with the defocus at the tilt axis; negative = underfocus.
    amplitude_contrast : float
        Share of the transfer that is amplitude.
    method : {"none", "phase_flip", "wiener"}
        See ``correction_gain``.
    signal_to_noise : float, optional
        Of the Wiener filter, the same at all frequencies.
    strip_angstrom : float, optional
        Width of strips along x, each corrected for its own defocus; without it the whole image for one.

    Returns
    -------
    (T, y, x) array of float32
        The corrected images.
    """
    if method == "none":
        return np.asarray(images, dtype=np.float32)
    height, width = images.shape[1:]
    gy, gx = fft.fftfreq(height, pixel_angstrom)[:, None], fft.rfftfreq(width, pixel_angstrom)[None]
    edges = [0, width] if strip_angstrom is None else _edges(width, max(1, round(strip_angstrom / pixel_angstrom)))
    result = np.empty(images.shape, dtype=np.float32)
    for index, (image, angle) in enumerate(zip(images, angles_deg, strict=True)):
        transform = fft.rfft2(np.asarray(image, dtype=np.float32))
        for begin, end in pairwise(edges):
            from_axis = ((begin + end - 1) / 2 - (width - 1) / 2) * pixel_angstrom
            local = replace(lens, defocus_angstrom=lens.defocus_angstrom + raised_angstrom(from_axis, float(angle)))
            gain = correction_gain(method, contrast_transfer(local, gx, gy, amplitude_contrast), signal_to_noise)
            gain[0, 0] = 1.0
            result[index, :, begin:end] = fft.irfft2(transform * gain, image.shape)[:, begin:end]
    return result


def raised_angstrom(from_axis_angstrom: float, tilt_deg: float) -> float:
    """How much is added to the defocus where a tilted image's pixel lies so far from the tilt axis, in the specimen's plane.

    A point (x, z) is seen at u = x cos t + z sin t and lies -x sin t + z cos t down the beam, nearer to the lens: what is at z = 0
    there is u tan t less underfocused.
    """
    return float(from_axis_angstrom * np.tan(np.deg2rad(tilt_deg)))


def _edges(width: int, strip: int) -> list[int]:
    return [*range(0, width, strip), width]
