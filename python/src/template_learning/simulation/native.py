"""The native engine: one tilt at a time, from molecules to the noise-free image.

Atoms are rotated, deposited on slabs a few resolution elements thick, and the wave goes through the slabs' phase objects
with Fresnel propagation between them (multislice: Cowley and Moodie 1957), or through the sum of all (projection).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.geometry import tilt_matrix
from template_learning.simulation.ice import grain_amplitude, hole_factor
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import (
    ICE_DENSITY_G_PER_CM3,
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    wavelength_angstrom,
)
from template_learning.simulation.potential import PointCloud, Sample, deposit, point_cloud

Float32 = NDArray[np.float32]
# Largest error of the Fresnel phase, in radian, of an atom at a slab's face.
SLAB_PHASE = 0.05
# Memory for the slabs of one tilt that are held at one time.
SLAB_BYTES = 400_000_000


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a sample is imaged.

    Images are ``shape`` [y, x] pixels of ``pixel_angstrom`` about the tilt axis's place on the image; the wave is computed on
    pixels ``oversampling`` times smaller, with a border of ``padding_angstrom``.
    """

    sample: Sample
    shape: tuple[int, int]
    pixel_angstrom: float
    lens: Lens
    oversampling: int = 2
    padding_angstrom: float = 96.0
    propagation: Literal["multislice", "projection"] = "multislice"
    slab_angstrom: float | None = None
    ice_density_g_per_cm3: float = ICE_DENSITY_G_PER_CM3
    grain: bool = True
    damage_angstrom2_per_dose: float = 0.08

    @cached_property
    def working_pixel_angstrom(self) -> float:
        """Pixel on which the wave is computed."""
        return self.pixel_angstrom / self.oversampling

    @cached_property
    def working_shape(self) -> tuple[int, int]:
        """The wave's grid [y, x], border included, of a size that transforms fast."""
        border = 2 * int(np.ceil(self.padding_angstrom / self.working_pixel_angstrom))
        height, width = (fft.next_fast_len(count * self.oversampling + border, real=True) for count in self.shape)
        return height, width

    @cached_property
    def border(self) -> tuple[int, int]:
        """Working pixels [y, x] before the first image pixel's centre."""
        height, width = (
            (working - (count - 1) * self.oversampling) // 2
            for working, count in zip(self.working_shape, self.shape, strict=True)
        )
        return height, width

    @cached_property
    def slab_thickness_angstrom(self) -> float:
        """The given thickness, or one thin enough for the images' highest frequency."""
        if self.slab_angstrom is not None:
            return self.slab_angstrom
        nyquist = 0.5 / self.pixel_angstrom
        return 2 * SLAB_PHASE / (np.pi * wavelength_angstrom(self.lens.voltage_kv) * nyquist**2)

    @cached_property
    def cloud(self) -> PointCloud:
        """The sample's points."""
        return point_cloud(self.sample, 0.5 / self.working_pixel_angstrom)

    @cached_property
    def frequency_squared(self) -> Float32:
        """Squared spatial frequencies (1/Å^2) of the wave's grid, [y, x]."""
        y, x = (fft.fftfreq(count, self.working_pixel_angstrom) for count in self.working_shape)
        return (y[:, None] ** 2 + x[None, :] ** 2).astype(np.float32)

    @cached_property
    def half(self) -> int:
        """Columns of a real image's transform."""
        return self.working_shape[1] // 2 + 1

    @cached_property
    def half_frequency(self) -> Float32:
        """Spatial frequencies (1/Å) of a real image's transform, [y, x]."""
        return np.sqrt(self.frequency_squared[:, : self.half])

    @cached_property
    def deposit_pass(self) -> Float32:
        """What the bilinear deposit does to each frequency."""
        y = np.sinc(fft.fftfreq(self.working_shape[0])) ** 2
        x = np.sinc(fft.rfftfreq(self.working_shape[1])) ** 2
        return (y[:, None] * x[None, :]).astype(np.float32)

    @cached_property
    def wave_pass(self) -> Float32:
        """1 up to two thirds of the highest frequency, 0 beyond: products of waves must not alias (Kirkland 2010, 6.8)."""
        return (self.frequency_squared < (2 / 3 * 0.5 / self.working_pixel_angstrom) ** 2).astype(np.float32)

    @cached_property
    def lens_transfer(self) -> NDArray[np.complex64]:
        """The microscope's transfer function on the wave's grid."""
        return transfer_function(self.lens, self.frequency_squared)

    def fresnel(self, distance_angstrom: float) -> NDArray[np.complex64]:
        """Transfer function of free space over a distance along the beam."""
        phase = -np.pi * wavelength_angstrom(self.lens.voltage_kv) * distance_angstrom * self.frequency_squared
        return np.exp(1j * phase).astype(np.complex64)

    def channel_factors(self, dose_e_per_angstrom2: float) -> Float32:
        """Phase, in radian times area over pixel area, of each channel's points at each frequency, [channel, y, x].

        Damage is a random displacement of the atoms with a variance proportional to the dose; the ice that they displace
        stays as it is.
        """
        channels = self.cloud.channels
        variance = self.damage_angstrom2_per_dose * dose_e_per_angstrom2
        factor = channels.factor * np.exp(-2 * np.pi**2 * variance * channels.frequency**2)
        factor[0] -= hole_factor(self.ice_density_g_per_cm3, channels.frequency)
        scale = interaction_radian_per_volt_angstrom(self.lens.voltage_kv) * VOLT_ANGSTROM2 / self.working_pixel_angstrom**2
        frequency = np.minimum(self.half_frequency, channels.frequency[-1])
        table = [np.interp(frequency, channels.frequency, scale * row).astype(np.float32) for row in factor]
        return np.asarray(np.stack(table) / self.deposit_pass, dtype=np.float32)

    def grain_phase(self, tilt_deg: float, generator: np.random.Generator) -> Float32:
        """A draw of the projected ice's phase in radian, [y, x]."""
        path = self.sample.thickness_angstrom / np.cos(np.deg2rad(tilt_deg))
        noise = generator.standard_normal(self.working_shape, dtype=np.float32)
        scale = interaction_radian_per_volt_angstrom(self.lens.voltage_kv) / self.working_pixel_angstrom
        shaped = fft.rfft2(noise) * (scale * grain_amplitude(self.ice_density_g_per_cm3, path, self.half_frequency))
        return np.asarray(fft.irfft2(shaped.astype(np.complex64), s=self.working_shape), dtype=np.float32)

    def exit_wave(
        self, tilt_deg: float, dose_e_per_angstrom2: float, generator: np.random.Generator | None
    ) -> tuple[NDArray[np.complex64], float]:
        """The transform [y, x] of the wave behind the sample, and its distance in ångström from the tilt axis's plane.

        ``dose_e_per_angstrom2``: received by the end of the exposure.  Without a generator the ice has no grain.
        """
        pixel, cloud, sample = self.working_pixel_angstrom, self.cloud, self.sample
        height, width = self.working_shape
        tilt = tilt_matrix(tilt_deg)
        centre = sample.position_angstrom @ tilt.T
        radius = cloud.radius_angstrom[sample.kind] if len(sample.kind) else np.zeros(0)
        middle = np.array(
            [
                self.border[1] + (self.shape[1] - 1) / 2 * self.oversampling,
                self.border[0] + (self.shape[0] - 1) / 2 * self.oversampling,
            ]
        )
        at = centre[:, :2] / pixel + middle
        reach = radius[:, None] / pixel + 1
        seen = ((at + reach > 0) & (at - reach < np.array([width, height]))).all(axis=1)
        low = float((centre[seen, 2] - radius[seen]).min(initial=0.0))
        high = float((centre[seen, 2] + radius[seen]).max(initial=0.0))
        thickness = self.slab_thickness_angstrom if self.propagation == "multislice" else max(high - low, 1.0)
        count = max(1, int(np.ceil((high - low) / thickness)))
        first = (low + high) / 2 - (count - 1) / 2 * thickness  # centre of the first slab
        factors = self.channel_factors(dose_e_per_angstrom2)
        between = self.fresnel(thickness) * self.wave_pass
        held = max(1, int(SLAB_BYTES / (len(factors) * height * width * 4)))
        rotation = np.einsum("ij,njk->nik", tilt, sample.rotation[seen]) / np.array([pixel, pixel, thickness])[:, None]
        shift = np.column_stack([at[seen], (centre[seen, 2] - first) / thickness])
        extent = radius[seen] / thickness + 0.5
        wave = np.ones((height, width), np.complex64)
        spectrum = np.zeros_like(wave)
        for start in range(0, count, held):
            slabs = np.zeros((min(held, count - start), len(factors), height, width), np.float32)
            inside = (shift[:, 2] + extent > start - 0.5) & (shift[:, 2] - extent < start + len(slabs) - 0.5)
            deposit(
                slabs,
                cloud.position,
                cloud.weight,
                cloud.start,
                sample.kind[seen][inside],
                rotation[inside].astype(np.float32),
                (shift[inside] - np.array([0, 0, start])).astype(np.float32),
            )
            for index, slab in enumerate(slabs, start=start):
                shaped = fft.rfft2(slab[0]) * factors[0]
                for channel, factor in zip(slab[1:], factors[1:], strict=True):
                    shaped += fft.rfft2(channel) * factor
                phase = fft.irfft2(shaped, s=self.working_shape, overwrite_x=True)
                if generator is not None and self.grain and index == count // 2:
                    phase += self.grain_phase(tilt_deg, generator)
                wave *= np.cos(phase) + 1j * np.sin(phase)
                spectrum = fft.fft2(wave, overwrite_x=True)
                if index < count - 1:
                    spectrum *= between
                    wave = fft.ifft2(spectrum, overwrite_x=True)
        return spectrum * self.wave_pass, first + (count - 1) * thickness

    def image_wave(self, spectrum: NDArray[np.complex64], exit_angstrom: float) -> Float32:
        """Intensity [y, x] on the working grid from an exit wave's transform; 1 = vacuum."""
        # The lens's defocus is counted from the tilt axis's plane: go back to it.
        wave = fft.ifft2(spectrum * (self.lens_transfer * self.fresnel(-exit_angstrom)), overwrite_x=True)
        return wave.real**2 + wave.imag**2

    def sample_pixels(self, intensity: Float32, transfer: NDArray[np.floating] | None = None) -> Float32:
        """The image's pixels [y, x]: means of the intensity over each pixel's area, after ``transfer`` (half plane)."""
        y = np.sinc(fft.fftfreq(self.working_shape[0]) * self.oversampling)
        x = np.sinc(fft.rfftfreq(self.working_shape[1]) * self.oversampling)
        shaped = fft.rfft2(intensity) * (y[:, None] * x[None, :]).astype(np.float32)
        if transfer is not None:
            shaped *= transfer.astype(np.float32)
        smooth = fft.irfft2(shaped, s=self.working_shape, overwrite_x=True)
        (top, left), (height, width), step = self.border, self.shape, self.oversampling
        return np.ascontiguousarray(smooth[top : top + height * step : step, left : left + width * step : step])
