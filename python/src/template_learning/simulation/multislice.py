"""The native engine: one tilt at a time, from molecules to the noise-free image.

Atoms are rotated, deposited on slabs a few resolution elements thick, and the wave goes through the slabs' phase objects
with Fresnel propagation between them (multislice: Cowley and Moodie 1957), or through the sum of all (projection).  The wave
keeps all frequencies of its grid: a slab's phases are small, so that their products alias little, while what is scattered
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
from template_learning.simulation.potential import PointCloud, Sample, deposit, deposit_shadow, point_cloud
from template_learning.simulation.scattering import Matter
from template_learning.simulation.wave import Float32, WaveGrid

Array = NDArray[np.float64]
# Largest error of the Fresnel phase, in radian, of an atom at a slab's face.
SLAB_PHASE = 0.1
# Memory for the slabs of one tilt that are held at one time.
SLAB_BYTES = 400_000_000
# Width over which the ice's grain fades where molecules displace it.
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
class Screen:
    """Something besides molecules and ice that the wave passes: phase in radian and loss (exponent) of each pixel."""

    depth_angstrom: float
    phase: Float32
    loss: Float32


@dataclass(frozen=True)
class Layers:
    """The slabs of one tilt, and the molecules in them: ``centre`` (N, 3) in ångström from the tilt axis."""

    kind: NDArray[np.int64]
    rotation: Array
    centre: Array
    radius: Array
    first_angstrom: float
    thickness_angstrom: float
    count: int

    @property
    def last_angstrom(self) -> float:
        """Depth of the last slab's middle."""
        return self.first_angstrom + (self.count - 1) * self.thickness_angstrom

    def depth(self, z_angstrom: NDArray[np.floating] | float) -> Any:
        """Number of the slab at a depth, with its fraction."""
        return (z_angstrom - self.first_angstrom) / self.thickness_angstrom

    def faces(self, index: int) -> tuple[float, float]:
        """Where a slab begins and ends; the outermost have no end."""
        middle = self.first_angstrom + index * self.thickness_angstrom
        begin = middle - self.thickness_angstrom / 2 if index else -np.inf
        return begin, middle + self.thickness_angstrom / 2 if index < self.count - 1 else np.inf


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
    def lens_transfer(self) -> Any:
        """The microscope's transfer function, on the device."""
        return self.device.put(transfer_function(self.lens, *self.lens_grid.frequencies))

    def damage(self, dose_e_per_angstrom2: float, frequency: NDArray[np.floating]) -> NDArray[np.floating]:
        """Loss of each frequency by displacements with a variance that grows with the dose (Debye-Waller)."""
        return np.exp(-2 * np.pi**2 * self.damage_angstrom2_per_dose * dose_e_per_angstrom2 * frequency**2)

    def channel_factors(self, dose_e_per_angstrom2: float) -> Float32:
        """Phase in radian that each channel's points make at each frequency, [channel, y, x]."""
        channels, matter, frequency = self.cloud.channels, self.matter, self.grid.half_frequency
        missing = (1 - matter.ice_inside) * matter.ice_volt / VOLT_ANGSTROM2  # of a displaced Å^3
        factor = channels.factor.copy()
        if matter.shadow is None:
            spread = np.exp(-2 * (np.pi * matter.displaced_sigma_angstrom * channels.frequency) ** 2)
            factor[0] -= missing * matter.displaced_angstrom3 * spread
        factor *= self.damage(dose_e_per_angstrom2, channels.frequency)
        scale = self.phase_per_volt_angstrom * VOLT_ANGSTROM2 / self.working_pixel_angstrom**2
        deposit_pass = self.grid.box_pass(1)
        table = [np.interp(frequency, channels.frequency, scale * row) / deposit_pass**3 for row in factor]
        if matter.shadow is not None:
            table.append(-scale * missing * self.damage(dose_e_per_angstrom2, frequency) / deposit_pass**2)
        return np.stack(table, dtype=np.float32, casting="same_kind")

    def layers(self, view: View) -> Layers:
        """The slabs that hold the molecules seen in a view."""
        sample, pixel = self.sample, self.working_pixel_angstrom
        centre = view.seen(sample.position_angstrom)
        radius = self.cloud.radius_angstrom[sample.kind] if len(sample.kind) else np.zeros(0)
        at, reach = centre[:, :2] / pixel + self.middle, radius[:, None] / pixel + 4
        seen = ((at + reach > 0) & (at - reach < np.array(self.grid.shape[::-1]))).all(axis=1)
        centre, radius = centre[seen], radius[seen]
        low, high = float((centre[:, 2] - radius).min(initial=0.0)), float((centre[:, 2] + radius).max(initial=0.0))
        thickness = self.slab_thickness_angstrom if self.propagation == "multislice" else max(high - low, 1.0)
        count = max(1, int(np.ceil((high - low) / thickness)))
        first = (low + high - (count - 1) * thickness) / 2
        rotation = np.einsum("ij,njk->nik", view.matrix, sample.rotation[seen])
        return Layers(sample.kind[seen], rotation, centre, radius, first, thickness, count)

    def slabs(self, layers: Layers) -> Iterator[Float32]:
        """The points of each slab, [slab, channel, y, x], as many slabs at a time as memory allows."""
        cloud, shadow = self.cloud, self.matter.shadow
        channels = cloud.weight.shape[1] + (shadow is not None)
        unit = np.array([self.working_pixel_angstrom, self.working_pixel_angstrom, layers.thickness_angstrom])
        held = max(1, int(SLAB_BYTES / (channels * self.grid.shape[0] * self.grid.shape[1] * 4)))
        depth, extent = layers.depth(layers.centre[:, 2]), layers.radius / layers.thickness_angstrom + 0.5
        for start in range(0, layers.count, held):
            slabs = np.zeros((min(held, layers.count - start), channels, *self.grid.shape), np.float32)
            inside = (depth + extent > start - 0.5) & (depth - extent < start + len(slabs) - 0.5)
            offset = np.array([*self.middle, -layers.first_angstrom / layers.thickness_angstrom - start])
            centre, rotation = layers.centre[inside], layers.rotation[inside]
            deposit(
                slabs,
                cloud.position,
                cloud.weight,
                cloud.start,
                layers.kind[inside],
                (rotation / unit[:, None]).astype(np.float32),
                (centre / unit + offset).astype(np.float32),
            )
            if shadow is not None:
                deposit_shadow(
                    slabs,
                    cloud.position,
                    cloud.shadow_angstrom,
                    cloud.radius_angstrom.astype(np.float32),
                    cloud.start,
                    layers.kind[inside],
                    rotation.astype(np.float32),
                    centre.astype(np.float32),
                    np.column_stack([1 / unit, offset]).astype(np.float32),
                    shadow.pixel_angstrom,
                    shadow.slice_angstrom,
                )
            yield slabs

    def exit_wave(
        self,
        view: View | float,
        dose_e_per_angstrom2: float,
        generator: np.random.Generator | None,
        screens: Sequence[Screen] = (),
    ) -> tuple[Any, float]:
        """The wave [y, x] behind the sample, on the device, and its distance in ångström from the tilt axis's plane.

        ``dose_e_per_angstrom2``: received by the end of the exposure.  Without a generator the ice has no grain.
        """
        view = view if isinstance(view, View) else View(view)
        device, ice = self.device, self.sample.ice
        xp, ft = device.xp, device.fft
        layers = self.layers(view)
        factors = device.put(self.channel_factors(dose_e_per_angstrom2))
        row, column = map(device.put, self.grid.fresnel(self.wavelength_angstrom, layers.thickness_angstrom))
        slab_of = [int(np.clip(np.round(layers.depth(screen.depth_angstrom)), 0, layers.count - 1)) for screen in screens]
        displaced = np.zeros(self.grid.shape, np.float32)
        wave = xp.ones(self.grid.shape, np.complex64)
        index = 0
        for slabs in self.slabs(layers):
            displaced += self.displaced_angstrom3(slabs)
            for slab in device.put(slabs):
                shaped = ft.rfft2(slab[0]) * factors[0]
                for channel, factor in zip(slab[1:], factors[1:], strict=True):
                    shaped += ft.rfft2(channel) * factor
                if isinstance(ice, Cuboid):
                    path = ice.path_between(view.tilt_deg, *self.axes_angstrom, *layers.faces(index)).astype(np.float32)
                    volt = self.matter.ice_volt * self.phase_per_volt_angstrom
                    blurred = volt * self.damage(dose_e_per_angstrom2, self.grid.half_frequency)
                    shaped += ft.rfft2(device.put(path)) * device.put(blurred)
                phase = ft.irfft2(shaped, s=self.grid.shape, overwrite_x=True)
                for screen in (s for s, at in zip(screens, slab_of, strict=True) if at == index):
                    phase = phase + device.put(screen.phase)
                    wave *= device.put(np.exp(-screen.loss))
                wave *= xp.cos(phase) + 1j * xp.sin(phase)
                if index < layers.count - 1:
                    wave = ft.fft2(wave, overwrite_x=True)
                    wave *= row
                    wave *= column
                    wave = ft.ifft2(wave, overwrite_x=True)
                index += 1
        if generator is not None:
            wave *= self.grain_wave(view.tilt_deg, dose_e_per_angstrom2, displaced, layers.last_angstrom, generator)
        return wave, layers.last_angstrom

    def displaced_angstrom3(self, slabs: Float32) -> Float32:
        """Volume of ice that is missing from each pixel's column, [y, x]."""
        if self.matter.shadow is not None:
            return np.asarray(slabs[:, -1].sum(axis=0))
        return np.asarray(slabs[:, 0].sum(axis=0) * np.float32(self.matter.displaced_angstrom3))

    def grain_wave(
        self,
        tilt_deg: float,
        dose_e_per_angstrom2: float,
        displaced_angstrom3: Float32,
        distance_angstrom: float,
        generator: np.random.Generator,
    ) -> Any:
        """What a draw of the ice's grain multiplies the wave with, after it went some distance from the tilt axis's plane."""
        matter, ice, grid, device = self.matter, self.sample.ice, self.grid, self.device
        xp, ft = device.xp, device.fft
        path = ice.path_angstrom(tilt_deg)
        faded = (1 - matter.ice_inside**2) / (path * self.working_pixel_angstrom**2)
        fade = np.exp(-2 * (np.pi * FADE_SIGMA_ANGSTROM * grid.half_frequency) ** 2).astype(np.float32)
        missing = ft.irfft2(ft.rfft2(device.put(displaced_angstrom3 * np.float32(faded))) * device.put(fade), s=grid.shape)
        share = 1 - missing
        if isinstance(ice, Cuboid):
            whole = ice.path_between(tilt_deg, *self.axes_angstrom, -np.inf, np.inf) / path
            share = xp.minimum(share, device.put(whole.astype(np.float32)))
        white = device.put(generator.standard_normal(grid.shape, dtype=np.float32)) * xp.sqrt(xp.clip(share, 0, None))
        frequency = np.linspace(0, float(np.sqrt(grid.frequency_squared.max())), 512)
        amplitude = np.sqrt(matter.grain_power(frequency) * path) * self.damage(dose_e_per_angstrom2, frequency)
        amplitude *= self.phase_per_volt_angstrom / self.working_pixel_angstrom
        screen = ft.fft2(white)
        screen *= device.put(np.interp(np.sqrt(grid.frequency_squared), frequency, amplitude).astype(np.float32))
        for axis in grid.fresnel(self.wavelength_angstrom, distance_angstrom):
            screen *= device.put(axis)
        screen = ft.ifft2(screen, overwrite_x=True)
        # The grain's phase is a few hundredths of a radian: three terms of the exponential are exact to float32.
        return 1 + screen * (1j - screen / 2)

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

    def image(self, intensity: Any, transfer: Float32 | None = None) -> Float32:
        """The image's pixels [y, x]: means of the intensity over each pixel's area, after ``transfer`` (half plane)."""
        grid, step, device = self.lens_grid, self.oversampling, self.device
        passed = grid.box_pass(1) if transfer is None else grid.box_pass(1) * transfer
        shaped = device.fft.rfft2(intensity) * device.put(passed)
        smooth = device.get(device.fft.irfft2(shaped, s=grid.shape, overwrite_x=True))
        (top, left), (height, width) = grid.border, self.shape
        field = smooth[top : top + height * step, left : left + width * step]
        return np.asarray(field.reshape(height, step, width, step).mean(axis=(1, 3)))
