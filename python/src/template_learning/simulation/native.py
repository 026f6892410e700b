"""The native engine: one tilt at a time, from molecules to the noise-free image.

Atoms are rotated, deposited on slabs a few resolution elements thick, and the wave goes through the slabs' phase objects
with Fresnel propagation between them (multislice: Cowley and Moodie 1957), or through the sum of all (projection).  The wave
keeps all frequencies of its grid: a slab's phases are small, so that their products alias little, while what is scattered
to high angles returns to the image's low frequencies through the square.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.geometry import tilt_matrix
from template_learning.simulation.ice import Cuboid
from template_learning.simulation.matter import Matter
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import (
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    wavelength_angstrom,
)
from template_learning.simulation.potential import PointCloud, Sample, deposit, deposit_shadow, point_cloud

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
# Largest error of the Fresnel phase, in radian, of an atom at a slab's face.
SLAB_PHASE = 0.1
# Memory for the slabs of one tilt that are held at one time.
SLAB_BYTES = 400_000_000
# Width over which the ice's grain fades where molecules displace it.
FADE_SIGMA_ANGSTROM = 6.0


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

    def box_pass(self, pixels: float) -> Float32:
        """What the mean over a square of so many pixels does to each frequency of a real image's transform."""
        y, x = np.sinc(fft.fftfreq(self.shape[0]) * pixels), np.sinc(fft.rfftfreq(self.shape[1]) * pixels)
        return (y[:, None] * x[None, :]).astype(np.float32)

    def fresnel(self, wavelength_angstrom: float, distance_angstrom: float) -> Complex64:
        """Transfer function of free space over a distance along the beam."""
        x, y = self.frequencies
        row, column = (
            np.exp(-1j * np.pi * wavelength_angstrom * distance_angstrom * axis.astype(float) ** 2) for axis in (x, y)
        )
        return row.astype(np.complex64) * column.astype(np.complex64)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a sample is imaged.

    Images are ``shape`` [y, x] pixels of ``pixel_angstrom``, the tilt axis and the sample's centre at ``centre_pixel``
    (y, x), by default the image's middle.  The wave is computed on pixels ``oversampling`` times smaller, with a border of
    ``padding_angstrom``, of which ``lens_padding_angstrom`` (none: all) is kept through the microscope.
    """

    sample: Sample
    matter: Matter
    lens: Lens
    shape: tuple[int, int]
    pixel_angstrom: float
    centre_pixel: tuple[float, float] | None = None
    oversampling: int = 2
    padding_angstrom: float = 96.0
    lens_padding_angstrom: float | None = None
    propagation: Literal["multislice", "projection"] = "multislice"
    slab_angstrom: float | None = None
    damage_angstrom2_per_dose: float = 0.08

    @cached_property
    def working_pixel_angstrom(self) -> float:
        """Pixel on which the wave is computed."""
        return self.pixel_angstrom / self.oversampling

    def _grid(self, padding_angstrom: float) -> WaveGrid:
        pixel, step = self.working_pixel_angstrom, self.oversampling
        border = 2 * int(np.ceil(padding_angstrom / pixel))
        height, width = (
            fft.next_fast_len(count * step + border, real=True) if border else count * step for count in self.shape
        )
        top, left = ((working - count * step) // 2 for working, count in zip((height, width), self.shape, strict=True))
        return WaveGrid((height, width), (top, left), pixel)

    @cached_property
    def grid(self) -> WaveGrid:
        """The wave's pixels in the sample, border included, in a number that transforms fast."""
        return self._grid(self.padding_angstrom)

    @cached_property
    def lens_grid(self) -> WaveGrid:
        """The wave's pixels in the microscope."""
        return self.grid if self.lens_padding_angstrom is None else self._grid(self.lens_padding_angstrom)

    @cached_property
    def wavelength_angstrom(self) -> float:
        """The electrons' wavelength."""
        return wavelength_angstrom(self.lens.voltage_kv)

    @cached_property
    def middle(self) -> NDArray[np.float64]:
        """The tilt axis and sample's centre (x, y) on the wave's grid, in pixels."""
        centre = self.centre_pixel or ((self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2)
        first = np.array(self.grid.border[::-1]) + (self.oversampling - 1) / 2  # image pixel (0, 0)
        return first + np.array(centre[::-1]) * self.oversampling

    @cached_property
    def slab_thickness_angstrom(self) -> float:
        """The given thickness, or one thin enough for the images' highest frequency."""
        if self.slab_angstrom is not None:
            return self.slab_angstrom
        nyquist = 0.5 / self.pixel_angstrom
        return 2 * SLAB_PHASE / (np.pi * self.wavelength_angstrom * nyquist**2)

    @cached_property
    def cloud(self) -> PointCloud:
        """The sample's points."""
        return point_cloud(self.sample, self.matter, 0.5 / self.working_pixel_angstrom)

    @cached_property
    def lens_transfer(self) -> Complex64:
        """The microscope's transfer function."""
        return transfer_function(self.lens, *self.lens_grid.frequencies)

    @cached_property
    def phase_per_volt_angstrom(self) -> float:
        """Phase in radian that a projected potential of 1 V Å gives."""
        return interaction_radian_per_volt_angstrom(self.lens.voltage_kv)

    def damage(self, dose_e_per_angstrom2: float, frequency_squared: NDArray[np.floating]) -> NDArray[np.floating]:
        """Loss of each frequency by displacements with a variance that grows with the dose (Debye-Waller)."""
        return np.exp(-2 * np.pi**2 * self.damage_angstrom2_per_dose * dose_e_per_angstrom2 * frequency_squared)

    def channel_factors(self, dose_e_per_angstrom2: float) -> Float32:
        """Phase in radian that each channel's points make at each frequency, [channel, y, x]."""
        channels, matter = self.cloud.channels, self.matter
        missing = (1 - matter.ice_inside) * matter.ice_volt / VOLT_ANGSTROM2  # of a displaced Å^3
        factor = channels.factor.copy()
        if matter.shadow is None:
            spread = np.exp(-2 * (np.pi * matter.displaced_sigma_angstrom * channels.frequency) ** 2)
            factor[0] -= missing * matter.displaced_angstrom3 * spread
        factor *= self.damage(dose_e_per_angstrom2, channels.frequency**2)
        scale = self.phase_per_volt_angstrom * VOLT_ANGSTROM2 / self.working_pixel_angstrom**2
        table = [np.interp(self.grid.half_frequency, channels.frequency, scale * row).astype(np.float32) for row in factor]
        deposit_pass = self.grid.box_pass(1)
        shaped = np.stack(table) / deposit_pass**3
        if matter.shadow is not None:
            hole = -scale * missing * self.damage(dose_e_per_angstrom2, self.grid.half_frequency**2) / deposit_pass**2
            shaped = np.concatenate([shaped, hole[None]])
        return np.asarray(shaped, dtype=np.float32)

    def grain_wave(
        self,
        tilt_deg: float,
        dose_e_per_angstrom2: float,
        displaced: Float32,
        distance_angstrom: float,
        generator: np.random.Generator,
    ) -> Complex64:
        """What a draw of the ice's grain multiplies the wave with, after it went some distance from the tilt axis's plane.

        ``displaced``: volume of ice in Å^3 that is missing from each pixel's column, [y, x].
        """
        matter, ice, area = self.matter, self.sample.ice, self.working_pixel_angstrom**2
        path = ice.path_angstrom(tilt_deg)
        there = fft.rfft2(displaced / np.float32(-area * path * (1 - matter.ice_inside**2) ** -1))
        there *= np.exp(-2 * (np.pi * FADE_SIGMA_ANGSTROM * self.grid.half_frequency) ** 2)
        share = 1 + fft.irfft2(there, s=self.grid.shape, overwrite_x=True)
        if isinstance(ice, Cuboid):
            share = np.minimum(share, ice.path_between(tilt_deg, *self.axes(), -np.inf, np.inf) / path)
        white = generator.standard_normal(self.grid.shape, dtype=np.float32) * np.sqrt(np.clip(share, 0, None))
        frequency = np.linspace(0, np.sqrt(self.grid.frequency_squared.max()), 512)
        amplitude = np.sqrt(matter.grain_power(frequency) * path) * self.damage(dose_e_per_angstrom2, frequency**2)
        amplitude *= self.phase_per_volt_angstrom / self.working_pixel_angstrom
        shaped = np.interp(np.sqrt(self.grid.frequency_squared), frequency, amplitude).astype(np.float32)
        screen = fft.ifft2(
            fft.fft2(white.astype(np.float32)) * (shaped * self.grid.fresnel(self.wavelength_angstrom, distance_angstrom)),
            overwrite_x=True,
        )
        # The grain's phase is a few hundredths of a radian: three terms of the exponential are exact to float32.
        return 1 + screen * (1j - screen / 2)

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y) of the wave's pixels in ångström from the tilt axis."""
        x, y = (
            (np.arange(count) - middle) * self.working_pixel_angstrom
            for count, middle in zip(self.grid.shape[::-1], self.middle, strict=True)
        )
        return x, y

    def exit_wave(
        self, tilt_deg: float, dose_e_per_angstrom2: float, generator: np.random.Generator | None
    ) -> tuple[Complex64, float]:
        """The wave [y, x] behind the sample, and its distance in ångström from the tilt axis's plane.

        ``dose_e_per_angstrom2``: received by the end of the exposure.  Without a generator the ice has no grain.
        """
        pixel, cloud, sample = self.working_pixel_angstrom, self.cloud, self.sample
        height, width = self.grid.shape
        tilt = tilt_matrix(tilt_deg)
        centre = sample.position_angstrom @ tilt.T
        radius = cloud.radius_angstrom[sample.kind] if len(sample.kind) else np.zeros(0)
        at = centre[:, :2] / pixel + self.middle
        reach = radius[:, None] / pixel + 4
        seen = ((at + reach > 0) & (at - reach < np.array([width, height]))).all(axis=1)
        low = float((centre[seen, 2] - radius[seen]).min(initial=0.0))
        high = float((centre[seen, 2] + radius[seen]).max(initial=0.0))
        thickness = self.slab_thickness_angstrom if self.propagation == "multislice" else max(high - low, 1.0)
        count = max(1, int(np.ceil((high - low) / thickness)))
        first = (low + high) / 2 - (count - 1) / 2 * thickness  # centre of the first slab
        last = first + (count - 1) * thickness
        factors = self.channel_factors(dose_e_per_angstrom2)
        cuboid_blur = (
            self.matter.ice_volt * self.phase_per_volt_angstrom * self.damage(dose_e_per_angstrom2, self.grid.half_frequency**2)
        )
        between = self.grid.fresnel(self.wavelength_angstrom, thickness)
        held = max(1, int(SLAB_BYTES / (len(factors) * height * width * 4)))
        kind, rotation = sample.kind[seen], np.einsum("ij,njk->nik", tilt, sample.rotation[seen])
        unit = np.array([pixel, pixel, thickness])
        shift = np.column_stack([at[seen], (centre[seen, 2] - first) / thickness])
        extent = radius[seen] / thickness + 0.5
        displaced = np.zeros((height, width), np.float32)
        wave = np.ones((height, width), np.complex64)
        for start in range(0, count, held):
            slabs = np.zeros((min(held, count - start), len(factors), height, width), np.float32)
            inside = (shift[:, 2] + extent > start - 0.5) & (shift[:, 2] - extent < start + len(slabs) - 0.5)
            deposit(
                slabs,
                cloud.position,
                cloud.weight,
                cloud.start,
                kind[inside],
                (rotation[inside] / unit[:, None]).astype(np.float32),
                (shift[inside] - np.array([0, 0, start])).astype(np.float32),
            )
            if self.matter.shadow is not None:
                deposit_shadow(
                    slabs,
                    cloud.position,
                    cloud.shadow_angstrom,
                    cloud.radius_angstrom.astype(np.float32),
                    cloud.start,
                    kind[inside],
                    rotation[inside].astype(np.float32),
                    centre[seen][inside].astype(np.float32),
                    np.column_stack([1 / unit, [*self.middle, -first / thickness - start]]).astype(np.float32),
                    self.matter.shadow.pixel_angstrom,
                    self.matter.shadow.slice_angstrom,
                )
                displaced += slabs[:, -1].sum(axis=0)
            else:
                displaced += slabs[:, 0].sum(axis=0) * np.float32(self.matter.displaced_angstrom3)
            for index, slab in enumerate(slabs, start=start):
                shaped = fft.rfft2(slab[0]) * factors[0]
                for channel, factor in zip(slab[1:], factors[1:], strict=True):
                    shaped += fft.rfft2(channel) * factor
                if isinstance(sample.ice, Cuboid):
                    start_z = first + (index - 0.5) * thickness if index else -np.inf
                    end_z = first + (index + 0.5) * thickness if index < count - 1 else np.inf
                    path = sample.ice.path_between(tilt_deg, *self.axes(), start_z, end_z)
                    shaped += fft.rfft2(path.astype(np.float32)) * cuboid_blur
                phase = fft.irfft2(shaped, s=self.grid.shape, overwrite_x=True)
                wave *= np.cos(phase) + 1j * np.sin(phase)
                if index < count - 1:
                    spectrum = fft.fft2(wave, overwrite_x=True)
                    spectrum *= between
                    wave = fft.ifft2(spectrum, overwrite_x=True)
        if generator is not None:
            wave *= self.grain_wave(tilt_deg, dose_e_per_angstrom2, displaced, last, generator)
        return wave, last

    def intensity(self, wave: Complex64, exit_angstrom: float, defocus_offset_angstrom: float = 0.0) -> Float32:
        """Intensity [y, x] on the microscope's grid from an exit wave; 1 = vacuum."""
        grid = self.lens_grid
        top, left = (before - after for before, after in zip(self.grid.border, grid.border, strict=True))
        spectrum = fft.fft2(wave[top : top + grid.shape[0], left : left + grid.shape[1]])
        # The lens's defocus is counted from the tilt axis's plane: go back to it.
        spectrum *= self.lens_transfer
        spectrum *= grid.fresnel(self.wavelength_angstrom, defocus_offset_angstrom - exit_angstrom)
        wave = fft.ifft2(spectrum, overwrite_x=True)
        return wave.real**2 + wave.imag**2

    def image(self, intensity: Float32, transfer: Float32 | None = None) -> Float32:
        """The image's pixels [y, x]: means of the intensity over each pixel's area, after ``transfer`` (half plane)."""
        grid, step = self.lens_grid, self.oversampling
        shaped = fft.rfft2(intensity) * grid.box_pass(1)
        if transfer is not None:
            shaped *= transfer
        smooth = fft.irfft2(shaped, s=grid.shape, overwrite_x=True)
        (top, left), (height, width) = grid.border, self.shape
        field = smooth[top : top + height * step, left : left + width * step]
        return np.asarray(field.reshape(height, step, width, step).mean(axis=(1, 3)))
