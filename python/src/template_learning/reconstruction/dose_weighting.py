"""Dose weighting: frequencies of late tilts count less, as radiation has destroyed them."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

CRITICAL_A, CRITICAL_B, CRITICAL_C = 0.245, -1.665, 2.81
"""The critical dose of rotavirus VP6 in e/Å^2 at 300 kV: a k^b + c, k in 1/Å (Grant and Grigorieff 2015)."""
SHARE_AT_200_KV = 0.8


def critical_dose(frequency_per_angstrom: NDArray[np.floating], voltage_kv: float = 300.0) -> NDArray[np.float64]:
    """The dose in e/Å^2 after which 1/e of the signal's power is left at each frequency; infinite at zero frequency."""
    frequency = np.asarray(frequency_per_angstrom, dtype=float)
    with np.errstate(divide="ignore"):
        dose = CRITICAL_A * frequency**CRITICAL_B + CRITICAL_C
    return dose * (SHARE_AT_200_KV if voltage_kv < 250 else 1.0)


def weight_by_dose(
    images: NDArray[np.floating], pixel_angstrom: float, dose_e_per_angstrom2: NDArray[np.floating], voltage_kv: float = 300.0
) -> NDArray[np.float32]:
    """Tilt images [tilt, y, x], each frequency times exp(-dose / (2 critical dose)); means stay.

    ``dose_e_per_angstrom2`` (T,) is what the specimen has received when each image is taken.

    References
    ----------
    Grant and Grigorieff, eLife 4 (2015) e06980.
    """
    height, width = images.shape[1:]
    gy, gx = fft.fftfreq(height, pixel_angstrom)[:, None], fft.rfftfreq(width, pixel_angstrom)[None]
    critical = critical_dose(np.hypot(gx, gy), voltage_kv)
    result = np.empty(images.shape, dtype=np.float32)
    for index, (image, dose) in enumerate(zip(images, dose_e_per_angstrom2, strict=True)):
        transform = fft.rfft2(np.asarray(image, dtype=np.float32)) * np.exp(-dose / (2 * critical)).astype(np.float32)
        result[index] = fft.irfft2(transform, image.shape)
    return result
