"""The electron wave: its pixels and frequencies, and free space."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]


@dataclass(frozen=True)
class WaveGrid:
    """Pixels of a wave: ``shape`` [y, x], and ``border`` (y, x) of them before the image's field."""

    shape: tuple[int, int]
    border: tuple[int, int]
    pixel_angstrom: float

    @cached_property
    def frequency_squared(self) -> Float32:
        """Squared spatial frequencies in 1/Å^2, [y, x]."""
        x, y = self.frequencies
        return np.asarray(x**2 + y**2)

    @cached_property
    def frequencies(self) -> tuple[Float32, Float32]:
        """Spatial frequencies (x, y) in 1/Å, as a row and a column."""
        y, x = (fft.fftfreq(count, self.pixel_angstrom).astype(np.float32) for count in self.shape)
        return x[None, :], y[:, None]

    @cached_property
    def half_frequency(self) -> Float32:
        """Spatial frequencies in 1/Å of a real image's transform, [y, x]."""
        return np.sqrt(self.frequency_squared[:, : self.shape[1] // 2 + 1])

    def pixel_integration_transfer(self, pixels: float) -> Float32:
        """What the mean over a square of so many pixels does to each frequency of a real image's transform."""
        y, x = np.sinc(fft.fftfreq(self.shape[0]) * pixels), np.sinc(fft.rfftfreq(self.shape[1]) * pixels)
        return (y[:, None] * x[None, :]).astype(np.float32)

    def fresnel(self, wavelength_angstrom: float, distance_angstrom: float) -> tuple[Complex64, Complex64]:
        """Transfer function of free space over a distance along the beam: a row (x) and a column (y), to be multiplied."""
        phase = -1j * np.pi * wavelength_angstrom * distance_angstrom
        row, column = (np.exp(phase * axis.astype(float) ** 2).astype(np.complex64) for axis in self.frequencies)
        return row, column
