"""The detector: what it passes of each spatial frequency, and counting."""

import numpy as np
from numpy.typing import NDArray

# Pass of Parakeet's detector at 300 kV: cubics in cycles per pixel at 1.5 and 5 electrons a pixel and second (its table
# samples them; Parkhurst et al. 2021), between them linear.
RATES = (1.5, 5.0)
CUBICS = ((0.95, -0.1333, -0.8661, 0.3711), (0.8, -0.3, -0.56, 0.32))


def mtf_transfer(
    frequency: NDArray[np.floating], detector_pixel_angstrom: float, dose_e_per_angstrom2: float, exposure_s: float = 1.0
) -> NDArray[np.float32]:
    """Share of each spatial frequency (1/Å) that the detector passes to its counts; at 0 that of the electrons.

    Frequencies refer to the detector's own pixel, whatever the images are binned to afterwards.
    """
    rate = dose_e_per_angstrom2 * detector_pixel_angstrom**2 / exposure_s
    share = np.clip((rate - RATES[0]) / (RATES[1] - RATES[0]), 0.0, 1.0)
    cubic = (1 - share) * np.array(CUBICS[0]) + share * np.array(CUBICS[1])
    cycles = np.clip(np.asarray(frequency) * detector_pixel_angstrom, 0.0, 1.0)
    return np.polynomial.polynomial.polyval(cycles, cubic).astype(np.float32)


def count_electrons(
    intensity: NDArray[np.floating], electrons_per_pixel: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Electrons counted in each pixel, Poisson distributed.

    Parameters
    ----------
    intensity : array
        1 = that of the vacuum.
    electrons_per_pixel : float
        Counted in a pixel of the vacuum, on average.
    generator : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    array of float32
        Counts, of the intensity's shape.
    """
    return generator.poisson(np.clip(intensity, 0.0, None) * electrons_per_pixel).astype(np.float32)
