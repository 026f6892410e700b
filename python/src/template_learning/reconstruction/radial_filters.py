"""What weighted back-projection does to each frequency of a line besides the ramp: nothing, Hamming-like, SIRT-like.

Each takes frequencies in cycles per pixel, 0 to 0.5, and gives the factors that the ramp is multiplied with.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

RadialFilter = Literal["ramp", "hamming_like", "sirt_like"]
NYQUIST = 0.5
RELAXATION_PER_PIXEL = 0.00195
MATCHED_ITERATIONS = 0.3
"""The two constants that IMOD's SIRT-like filter was fitted to SIRT with."""


def radial_gain(name: RadialFilter, frequency: NDArray[np.floating], iterations: int = 1) -> NDArray[np.float32]:
    """The factors of the filter ``name``; ``iterations`` is the SIRT-like one's."""
    if name == "hamming_like":
        return hamming_like_gain(frequency)
    if name == "sirt_like":
        return sirt_like_gain(frequency, iterations)
    return np.ones(np.shape(frequency), dtype=np.float32)


def hamming_like_gain(frequency: NDArray[np.floating], start: float = 0.0) -> NDArray[np.float32]:
    """A Hamming window from the frequency ``start`` (cycles per pixel) to Nyquist, as IMOD's -HammingLikeFilter.

    1 up to ``start``, from there 0.54 + 0.46 cos(pi u) with u from 0 to 1 at Nyquist, where 0.08 is left.
    """
    along = np.clip((np.asarray(frequency) - start) / (NYQUIST - start), 0, 1)
    return (0.54 + 0.46 * np.cos(np.pi * along)).astype(np.float32)


def sirt_like_gain(frequency: NDArray[np.floating], iterations: int) -> NDArray[np.float32]:
    """The window that turns the ramp into the filter that so many iterations of SIRT amount to.

    1 - (1 - a / f)^n at frequencies f of at least a = 0.00195 cycles per pixel, 1 below: low frequencies are restored first.
    n is the number of iterations and 0.3; above 15, where SIRT is slower than the formula, 0.8 of what is more counts, and
    above 30 0.6.

    References
    ----------
    Zeng, Phys. Med. Biol. 57 (2012) 309.  IMOD's manual page of ``tilt``, -FakeSIRTiterations.
    """
    count = float(iterations)
    if iterations > 30:
        count = 27 + 0.6 * (iterations - 30)
    elif iterations > 15:
        count = 15 + 0.8 * (iterations - 15)
    least = np.maximum(np.asarray(frequency, dtype=float), RELAXATION_PER_PIXEL)
    return (1 - (1 - RELAXATION_PER_PIXEL / least) ** (count + MATCHED_ITERATIONS)).astype(np.float32)
