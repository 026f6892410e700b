"""The native engine: one tilt at a time, from molecules to the noise-free image.

Atoms are rotated, deposited on slices a few resolution elements thick, and the wave goes through the slices' phase objects
with Fresnel propagation between them (multislice: Cowley and Moodie 1957), or through the sum of all (projection).  The wave
keeps all frequencies of its grid: a slice's phases are small, so that their products alias little, while what is scattered
to high angles returns to the image's low frequencies through the square.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.common.device import CPU, Device
from template_learning.common.geometry import tilt_matrix
from template_learning.simulation.ice import Cuboid
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import (
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    wavelength_angstrom,
)
from template_learning.simulation.potential import PointCloud, Sample, deposit, deposit_excluded_solvent, point_cloud
from template_learning.simulation.scattering import ScatteringModel
from template_learning.simulation.wave import Float32, WaveGrid

Array = NDArray[np.float64]
# Largest error of the Fresnel phase, in radian, of an atom at a slice's face.
SLICE_PHASE = 0.1
# Memory for the slices of one tilt that are held at one time.
SLICE_BYTES = 400_000_000
# Width over which the solvent noise fades where molecules displace it.
FADE_SIGMA_ANGSTROM = 6.0


@dataclass(frozen=True)
class View:
    """How one tilt sees the sample: ``matrix`` (3, 3) takes it there, then ``shift_angstrom`` (x, y) on the image."""

    tilt_deg: float
    rotation_deg: float = 0.0
    shift_angstrom: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def matrix(self) -> Array:
        """Tilt about y, then rotation in the image plane."""
        cosine, sine = np.cos(np.deg2rad(self.rotation_deg)), np.sin(np.deg2rad(self.rotation_deg))
        return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ tilt_matrix(self.tilt_deg)

    def seen(self, position_angstrom: Array) -> Array:
        """Positions (N, 3) from the sample's centre as (x, y, z) from the tilt axis's place on the image."""
        return np.asarray(position_angstrom @ self.matrix.T + np.array([*self.shift_angstrom, 0.0]))


@dataclass(frozen=True)
class PhaseGrating:
    """Something besides molecules and ice that the wave passes: phase in radian and loss (exponent) of each pixel."""

    depth_angstrom: float
    phase: Float32
    loss: Float32


@dataclass(frozen=True)
class Slices:
    """The slices of one tilt, and the molecules in them: ``centre`` (N, 3) in ångström from the tilt axis."""

    kind: NDArray[np.int64]
    rotation: Array
    centre: Array
    radius: Array
    first_angstrom: float
    thickness_angstrom: float
    count: int

    @property
    def last_angstrom(self) -> float:
        """Depth of the last slice's middle."""
        return self.first_angstrom + (self.count - 1) * self.thickness_angstrom

    def depth(self, z_angstrom: NDArray[np.floating] | float) -> Any:
        """Number of the slice at a depth, with its fraction."""
        return (z_angstrom - self.first_angstrom) / self.thickness_angstrom

    def faces(self, index: int) -> tuple[float, float]:
        """Where a slice begins and ends; the outermost have no end."""
        middle = self.first_angstrom + index * self.thickness_angstrom
        begin = middle - self.thickness_angstrom / 2 if index else -np.inf
        return begin, middle + self.thickness_angstrom / 2 if index < self.count - 1 else np.inf


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a sample is imaged.

    Attributes
    ----------
    sample : Sample
        Molecules in ice.
    scattering : ScatteringModel
        How atoms and ice scatter.
    lens : Lens
        The microscope.
    shape : (int, int)
        Pixels [y, x] of an image.
    pixel_angstrom : float
        Of an image.
    centre_pixel : (float, float), optional
        Where the tilt axis and the sample's centre lie, (y, x); by default the image's middle.
    oversampling : int
        The wave is computed on pixels so many times smaller.
    padding_angstrom : float
        Border about the wave.
    lens_padding_angstrom : float, optional
        What of the border is kept through the microscope; none = all.
    propagation : {"multislice", "projection"}
        The wave goes through slices, or through their sum.
    slice_angstrom : float, optional
        Thickness of a slice; none = thin enough for the images' highest frequency.
    damage_angstrom2_per_dose : float
        Variance of the atoms' displacement, Å^2 for one e/Å^2.
    amplitude_contrast : float
        Share of a weak object's transfer that is amplitude: what stands out of the ice takes electrons out of the wave as its
        phase grows.
    device : Device
        Where waves are computed.

    References
    ----------
    Cowley and Moodie, Acta Cryst. 10 (1957) 609.  Kirkland, Advanced Computing in Electron Microscopy (2010).
    """

    sample: Sample
    scattering: ScatteringModel
    lens: Lens
    shape: tuple[int, int]
    pixel_angstrom: float
    centre_pixel: tuple[float, float] | None = None
    oversampling: int = 2
    padding_angstrom: float = 96.0
    lens_padding_angstrom: float | None = None
    propagation: Literal["multislice", "projection"] = "multislice"
    slice_angstrom: float | None = None
    damage_angstrom2_per_dose: float = 0.08
    amplitude_contrast: float = 0.0
    device: Device = CPU

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
    def phase_per_volt_angstrom(self) -> float:
        """Phase in radian that a projected potential of 1 V Å gives."""
        return interaction_radian_per_volt_angstrom(self.lens.voltage_kv)

    @cached_property
    def absorption_per_phase(self) -> float:
        """Exponent by which the wave's amplitude falls for a radian of phase."""
        return float(np.tan(np.arcsin(self.amplitude_contrast)))

    @cached_property
    def middle(self) -> Array:
        """The tilt axis and sample's centre (x, y) on the wave's grid, in pixels."""
        centre = self.centre_pixel or ((self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2)
        first = np.array(self.grid.border[::-1]) + (self.oversampling - 1) / 2  # image pixel (0, 0)
        return first + np.array(centre[::-1]) * self.oversampling

    @cached_property
    def axes_angstrom(self) -> tuple[Array, Array]:
        """(x, y) of the wave's pixels in ångström from the tilt axis."""
        x, y = (
            (np.arange(count) - middle) * self.working_pixel_angstrom
            for count, middle in zip(self.grid.shape[::-1], self.middle, strict=True)
        )
        return x, y

    @cached_property
    def slice_thickness_angstrom(self) -> float:
        """The given thickness, or one thin enough for the images' highest frequency."""
        if self.slice_angstrom is not None:
            return self.slice_angstrom
        nyquist = 0.5 / self.pixel_angstrom
        return 2 * SLICE_PHASE / (np.pi * self.wavelength_angstrom * nyquist**2)

    @cached_property
    def cloud(self) -> PointCloud:
        """The sample's points."""
        return point_cloud(self.sample, self.scattering, 0.5 / self.working_pixel_angstrom)

    @cached_property
    def lens_transfer(self) -> Any:
        """The microscope's transfer function, on the device."""
        return self.device.put(transfer_function(self.lens, *self.lens_grid.frequencies))

    def damage(self, dose_e_per_angstrom2: float, frequency: NDArray[np.floating]) -> NDArray[np.floating]:
        """Loss of each frequency by displacements with a variance that grows with the dose (Debye-Waller)."""
        return np.exp(-2 * np.pi**2 * self.damage_angstrom2_per_dose * dose_e_per_angstrom2 * frequency**2)

    def channel_factors(self, dose_e_per_angstrom2: float) -> Float32:
        """Phase in radian that each channel's points make at each frequency, [channel, y, x]."""
        channels, scattering, frequency = self.cloud.channels, self.scattering, self.grid.half_frequency
        missing = (1 - scattering.ice_inside) * scattering.ice_volt / VOLT_ANGSTROM2  # of a displaced Å^3
        factor = channels.factor.copy()
        if scattering.solvent_exclusion is None:
            spread = np.exp(-2 * (np.pi * scattering.displaced_sigma_angstrom * channels.frequency) ** 2)
            factor[0] -= missing * scattering.displaced_angstrom3 * spread
        factor *= self.damage(dose_e_per_angstrom2, channels.frequency)
        scale = self.phase_per_volt_angstrom * VOLT_ANGSTROM2 / self.working_pixel_angstrom**2
        deposit_transfer = self.grid.pixel_integration_transfer(1)
        table = [np.interp(frequency, channels.frequency, scale * row) / deposit_transfer**3 for row in factor]
        if scattering.solvent_exclusion is not None:
            table.append(-scale * missing * self.damage(dose_e_per_angstrom2, frequency) / deposit_transfer**2)
        return np.stack(table, dtype=np.float32, casting="same_kind")

    def slices(self, view: View) -> Slices:
        """The slices that hold the molecules seen in a view."""
        sample, pixel = self.sample, self.working_pixel_angstrom
        centre = view.seen(sample.position_angstrom)
        radius = self.cloud.radius_angstrom[sample.kind] if len(sample.kind) else np.zeros(0)
        at, reach = centre[:, :2] / pixel + self.middle, radius[:, None] / pixel + 4
        seen = ((at + reach > 0) & (at - reach < np.array(self.grid.shape[::-1]))).all(axis=1)
        centre, radius = centre[seen], radius[seen]
        low, high = float((centre[:, 2] - radius).min(initial=0.0)), float((centre[:, 2] + radius).max(initial=0.0))
        thickness = self.slice_thickness_angstrom if self.propagation == "multislice" else max(high - low, 1.0)
        count = max(1, int(np.ceil((high - low) / thickness)))
        first = (low + high - (count - 1) * thickness) / 2
        rotation = np.einsum("ij,njk->nik", view.matrix, sample.rotation[seen])
        return Slices(sample.kind[seen], rotation, centre, radius, first, thickness, count)

    def planes(self, slices: Slices) -> Iterator[Float32]:
        """The points of each slice, [slice, channel, y, x], as many slices at a time as memory allows."""
        cloud, solvent_exclusion = self.cloud, self.scattering.solvent_exclusion
        channels = cloud.weight.shape[1] + (solvent_exclusion is not None)
        unit = np.array([self.working_pixel_angstrom, self.working_pixel_angstrom, slices.thickness_angstrom])
        held = max(1, int(SLICE_BYTES / (channels * self.grid.shape[0] * self.grid.shape[1] * 4)))
        depth, extent = slices.depth(slices.centre[:, 2]), slices.radius / slices.thickness_angstrom + 0.5
        for start in range(0, slices.count, held):
            planes = np.zeros((min(held, slices.count - start), channels, *self.grid.shape), np.float32)
            inside = (depth + extent > start - 0.5) & (depth - extent < start + len(planes) - 0.5)
            offset = np.array([*self.middle, -slices.first_angstrom / slices.thickness_angstrom - start])
            centre, rotation = slices.centre[inside], slices.rotation[inside]
            deposit(
                planes,
                cloud.position,
                cloud.weight,
                cloud.start,
                slices.kind[inside],
                (rotation / unit[:, None]).astype(np.float32),
                (centre / unit + offset).astype(np.float32),
            )
            if solvent_exclusion is not None:
                deposit_excluded_solvent(
                    planes,
                    cloud.position,
                    cloud.exclusion_angstrom,
                    cloud.radius_angstrom.astype(np.float32),
                    cloud.start,
                    slices.kind[inside],
                    rotation.astype(np.float32),
                    centre.astype(np.float32),
                    np.column_stack([1 / unit, offset]).astype(np.float32),
                    solvent_exclusion.pixel_angstrom,
                    solvent_exclusion.slice_angstrom,
                )
            yield planes

    def exit_wave(
        self,
        view: View | float,
        dose_e_per_angstrom2: float,
        generator: np.random.Generator | None,
        gratings: Sequence[PhaseGrating] = (),
    ) -> tuple[Any, float]:
        """The wave [y, x] behind the sample, on the device, and its distance in ångström from the tilt axis's plane.

        ``dose_e_per_angstrom2``: received by the end of the exposure.  Without a generator there is no solvent noise.
        """
        view = view if isinstance(view, View) else View(view)
        device, ice = self.device, self.sample.ice
        xp, ft = device.xp, device.fft
        slices = self.slices(view)
        factors = device.put(self.channel_factors(dose_e_per_angstrom2))
        row, column = map(device.put, self.grid.fresnel(self.wavelength_angstrom, slices.thickness_angstrom))
        slice_of = [int(np.clip(np.round(slices.depth(grating.depth_angstrom)), 0, slices.count - 1)) for grating in gratings]
        displaced = np.zeros(self.grid.shape, np.float32)
        wave = xp.ones(self.grid.shape, np.complex64)
        index = 0
        for planes in self.planes(slices):
            displaced += self.displaced_angstrom3(planes)
            for plane in device.put(planes):
                shaped = ft.rfft2(plane[0]) * factors[0]
                for channel, factor in zip(plane[1:], factors[1:], strict=True):
                    shaped += ft.rfft2(channel) * factor
                if isinstance(ice, Cuboid):
                    if self.absorption_per_phase:
                        # Without the cuboid's ice: what that takes out of the wave is the same nearly everywhere.
                        wave *= xp.exp(-self.absorption_per_phase * ft.irfft2(shaped, s=self.grid.shape))
                    path = ice.path_between(view.tilt_deg, *self.axes_angstrom, *slices.faces(index)).astype(np.float32)
                    volt = self.scattering.ice_volt * self.phase_per_volt_angstrom
                    blurred = volt * self.damage(dose_e_per_angstrom2, self.grid.half_frequency)
                    shaped += ft.rfft2(device.put(path)) * device.put(blurred)
                phase = ft.irfft2(shaped, s=self.grid.shape, overwrite_x=True)
                if self.absorption_per_phase and not isinstance(ice, Cuboid):
                    wave *= xp.exp(-self.absorption_per_phase * phase)
                for grating in (s for s, at in zip(gratings, slice_of, strict=True) if at == index):
                    phase = phase + device.put(grating.phase)
                    wave *= device.put(np.exp(-grating.loss))
                wave *= xp.cos(phase) + 1j * xp.sin(phase)
                if index < slices.count - 1:
                    wave = ft.fft2(wave, overwrite_x=True)
                    wave *= row
                    wave *= column
                    wave = ft.ifft2(wave, overwrite_x=True)
                index += 1
        if generator is not None:
            wave *= self.solvent_noise_wave(view.tilt_deg, dose_e_per_angstrom2, displaced, slices.last_angstrom, generator)
        return wave, slices.last_angstrom

    def displaced_angstrom3(self, planes: Float32) -> Float32:
        """Volume of ice that is missing from each pixel's column, [y, x]."""
        if self.scattering.solvent_exclusion is not None:
            return np.asarray(planes[:, -1].sum(axis=0))
        return np.asarray(planes[:, 0].sum(axis=0) * np.float32(self.scattering.displaced_angstrom3))

    def solvent_noise_wave(
        self,
        tilt_deg: float,
        dose_e_per_angstrom2: float,
        displaced_angstrom3: Float32,
        distance_angstrom: float,
        generator: np.random.Generator,
    ) -> Any:
        """What a draw of the solvent noise multiplies the wave with, after it went some distance from the tilt axis's plane."""
        scattering, ice, grid, device = self.scattering, self.sample.ice, self.grid, self.device
        xp, ft = device.xp, device.fft
        path = ice.path_angstrom(tilt_deg)
        faded = (1 - scattering.ice_inside**2) / (path * self.working_pixel_angstrom**2)
        fade = np.exp(-2 * (np.pi * FADE_SIGMA_ANGSTROM * grid.half_frequency) ** 2).astype(np.float32)
        missing = ft.irfft2(ft.rfft2(device.put(displaced_angstrom3 * np.float32(faded))) * device.put(fade), s=grid.shape)
        remaining = 1 - missing
        if isinstance(ice, Cuboid):
            whole = ice.path_between(tilt_deg, *self.axes_angstrom, -np.inf, np.inf) / path
            remaining = xp.minimum(remaining, device.put(whole.astype(np.float32)))
        white = device.put(generator.standard_normal(grid.shape, dtype=np.float32)) * xp.sqrt(xp.clip(remaining, 0, None))
        frequency = np.linspace(0, float(np.sqrt(grid.frequency_squared.max())), 512)
        amplitude = np.sqrt(scattering.solvent_noise_power(frequency) * path) * self.damage(dose_e_per_angstrom2, frequency)
        amplitude *= self.phase_per_volt_angstrom / self.working_pixel_angstrom
        noise = ft.fft2(white)
        noise *= device.put(np.interp(np.sqrt(grid.frequency_squared), frequency, amplitude).astype(np.float32))
        for axis in grid.fresnel(self.wavelength_angstrom, distance_angstrom):
            noise *= device.put(axis)
        noise = ft.ifft2(noise, overwrite_x=True)
        noise *= np.complex64(1j - self.absorption_per_phase)
        # A few hundredths of a radian: three terms of the exponential are exact to float32.
        return 1 + noise * (1 + noise / 2)

    def intensity(self, wave: Any, exit_angstrom: float, defocus_offset_angstrom: float = 0.0) -> Any:
        """Intensity [y, x] on the microscope's grid, on the device, from an exit wave; 1 = vacuum."""
        grid, device = self.lens_grid, self.device
        top, left = (before - after for before, after in zip(self.grid.border, grid.border, strict=True))
        spectrum = device.fft.fft2(wave[top : top + grid.shape[0], left : left + grid.shape[1]])
        spectrum *= self.lens_transfer
        # The lens's defocus is counted from the tilt axis's plane: go back to it.
        for axis in grid.fresnel(self.wavelength_angstrom, defocus_offset_angstrom - exit_angstrom):
            spectrum *= device.put(axis)
        wave = device.fft.ifft2(spectrum, overwrite_x=True)
        return wave.real**2 + wave.imag**2

    def image(self, intensity: Any, transfer: Float32 | None = None, *, area_means: bool = True) -> Float32:
        """The image's pixels [y, x]: means of the intensity over each pixel's area, after ``transfer`` (half plane).

        Without ``area_means``: the intensity at each pixel's centre, cut to the frequencies that the pixels hold, as of a
        detector with far smaller pixels, binned by a crop in Fourier space.
        """
        grid, step, device = self.lens_grid, self.oversampling, self.device
        pixels = grid.pixel_integration_transfer(1)
        if not area_means:
            held = np.abs(fft.fftfreq(grid.shape[0])[:, None]) * step <= 0.5
            held = held & (fft.rfftfreq(grid.shape[1])[None, :] * step <= 0.5)
            pixels = np.where(held, pixels / grid.pixel_integration_transfer(step), 0).astype(np.float32)
        shaped = device.fft.rfft2(intensity) * device.put(pixels if transfer is None else pixels * transfer)
        smooth = device.get(device.fft.irfft2(shaped, s=grid.shape, overwrite_x=True))
        (top, left), (height, width) = grid.border, self.shape
        field = smooth[top : top + height * step, left : left + width * step]
        return np.asarray(field.reshape(height, step, width, step).mean(axis=(1, 3)))
