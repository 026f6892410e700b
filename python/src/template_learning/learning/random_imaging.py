"""Training tomograms as other microscopes, doses and programs would have given them: transfer, noise and filters drawn anew.

All that is laid on is linear, so that a tomogram of the training serves as any number of them, at the cost of two Fourier
transforms each.  What comes of it passes the same normalisation and band pass as a user's tomogram in SEGMENT.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from template_learning.common.geometry import Grid
from template_learning.common.tables import DesignRow
from template_learning.learning.noise import noise_power, seen_frequencies
from template_learning.settings import RandomImagingSettings
from template_learning.simulation.acquisition import Tilts
from template_learning.simulation.optics import COHERENT, Lens, contrast_transfer

AMPLITUDE_CONTRAST = 0.08
KNOTS = 10
"""Of the filters' bumps, between zero and the corner of the spectrum."""
CORNER = math.sqrt(3) / 2
"""The highest frequency of a volume, cycles a voxel."""
POWER_EDGE_VOXELS = 64
IN_FOCUS_UM = 0.01
LEAST_FREQUENCY = 0.01
"""Slopes are level below it (cycles a voxel)."""


def passes_all(row: DesignRow) -> bool:
    """Whether that row's series passes all frequencies alike: in focus, with a phase plate of 90 degrees."""
    return abs(row.phase_shift_deg) == 90 and abs(row.defocus_um) < IN_FOCUS_UM


def imaged_anew(
    volume: NDArray[np.float32],
    grid: Grid,
    tilts: Tilts,
    passes_all: bool,
    settings: RandomImagingSettings,
    generator: np.random.Generator,
    band_voxels: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """A tomogram [z, y, x], protein dark, with transfer, gold, noise and filters drawn from ``settings``; its scale is any.

    Parameters
    ----------
    volume : (z, y, x) array of float32
        Grey values of zero mean.
    grid : Grid
        Its shape and voxel size.
    tilts : Tilts
        Of its tilt series about y: what is laid on has the same missing wedge.
    passes_all : bool
        Its series had a transfer of 1 (in focus, with a phase plate of 90 degrees): one with a defocus is drawn.
    settings : RandomImagingSettings
        Bounds.
    generator : numpy.random.Generator
        What is drawn from.
    band_voxels : (float, float), optional
        What comes of it is passed through this band (see ``spectrum.band_pass``).
    """
    z, y, x = fft.fftfreq(grid.shape[0]), fft.fftfreq(grid.shape[1]), fft.rfftfreq(grid.shape[2])
    square = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).astype(np.float32)
    frequency = np.sqrt(square)
    across = np.sqrt(z[:, None] ** 2 + x**2)[:, None, :].astype(np.float32)  # to the tilt axis
    signal = fft.rfftn(np.asarray(volume, dtype=np.float32))
    if generator.random() < settings.gold_fraction:
        beads = fft.rfftn(gold_beads(grid, float(volume.std()), generator))
        signal -= beads * seen_frequencies(z[:, None, None], x, tilts.range_deg, tilts.offset_deg)
    if passes_all:
        signal *= _by_frequency(frequency, drawn_transfer(grid.voxel_size_angstrom, settings, generator))
    if generator.random() >= settings.noiseless_fraction:
        low, high = settings.noise_to_signal
        amount = low * (high / low) ** generator.random()
        noise = fft.rfftn(generator.standard_normal(grid.shape, dtype=np.float32))
        noise *= np.sqrt(_noise_power(grid.shape[0], grid.shape[2], tilts))[:, None, :]
        # Compared where molecules are seen: the lowest frequencies are left out by every band pass.
        seen = (frequency > 1 / 40) & (frequency < 1 / 4)
        noise *= amount * math.sqrt(_power(signal, seen) / _power(noise, seen))
        signal += noise
    signal *= _by_frequency(frequency, drawn_filter(settings, generator))
    if generator.random() < 0.5:  # what SIRT-like and Hamming-like filters do: across the tilt axis alone
        corner = LEAST_FREQUENCY * (20 ** generator.random())
        signal *= (np.maximum(across, corner) / corner) ** np.float32(-generator.uniform(0, settings.largest_slope_across))
    if band_voxels is not None:
        narrow, wide = (np.exp(-2 * (math.pi * sigma) ** 2 * square) for sigma in band_voxels)
        signal *= narrow - wide
    signal[0, 0, 0] = 0
    return np.asarray(fft.irfftn(signal, grid.shape), dtype=np.float32)


def drawn_transfer(
    voxel_size_angstrom: float, settings: RandomImagingSettings, generator: np.random.Generator
) -> NDArray[np.float64]:
    """A contrast transfer, as it is or corrected, at ``_steps`` of frequency: what protein's dark contrast is multiplied with."""
    frequency = _steps() / voxel_size_angstrom
    envelope = np.exp(-generator.uniform(0, settings.largest_b_factor_angstrom2) / 4 * frequency**2)
    defocus = generator.uniform(*sorted(np.abs(settings.defocus_um))) * 1e4
    transfer = _transfer(frequency, defocus)
    kind = generator.choice(["none", "plain", "flipped", "wiener", "wrongly", "weighted"], p=[0.2, 0.3, 0.15, 0.2, 0.1, 0.05])
    if kind == "none":
        transfer = np.ones_like(frequency)
    elif kind == "flipped":
        transfer = np.abs(transfer)
    elif kind == "weighted":
        transfer = transfer**2
    elif kind in ("wiener", "wrongly"):
        believed = transfer if kind == "wiener" else _transfer(frequency, defocus * generator.uniform(0.85, 1.15))
        constant = 10 ** generator.uniform(-2, 0)
        transfer = transfer * believed / (believed**2 + constant)
    return np.asarray(transfer * envelope)


def drawn_filter(settings: RandomImagingSettings, generator: np.random.Generator) -> NDArray[np.float64]:
    """A smooth positive filter at ``_steps`` of frequency: Gaussian low pass, a slope, bumps."""
    frequency = _steps()
    sigma = generator.uniform(*settings.low_pass_voxels) if generator.random() < 0.6 else 0.0
    slope = np.maximum(frequency, LEAST_FREQUENCY) ** -generator.uniform(*settings.slope)
    bumps = np.interp(frequency, np.linspace(0, CORNER, KNOTS), generator.normal(0, settings.bumps, KNOTS))
    return np.asarray(np.exp(-2 * (math.pi * sigma * frequency) ** 2 + bumps) * slope)


def gold_beads(grid: Grid, deviation: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """A few balls of 5 to 15 nm, several to many deviations of the tomogram strong, [z, y, x]."""
    volume = np.zeros(grid.shape, dtype=np.float32)
    radius = generator.uniform(25, 75) / grid.voxel_size_angstrom
    reach = math.ceil(radius) + 1
    strength = deviation * 10 ** generator.uniform(0.5, 1.5)
    for _ in range(generator.integers(1, 13)):
        centre = generator.uniform(0, grid.shape)
        first = np.maximum(0, np.floor(centre).astype(int) - reach)
        last = np.minimum(grid.shape, np.floor(centre).astype(int) + reach + 1)
        window = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        z, y, x = (np.arange(a, b) - c for a, b, c in zip(first, last, centre, strict=True))
        distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
        volume[window] += strength * np.clip(radius - distance + 0.5, 0, 1)
    return volume


@cache
def _steps() -> NDArray[np.float64]:
    return np.linspace(0, CORNER, 513)


def _by_frequency(frequency: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values given at ``_steps`` at each frequency of a transform, by the nearest step."""
    return np.asarray(values, dtype=np.float32)[np.rint(frequency * np.float32((len(values) - 1) / CORNER)).astype(np.int16)]


def _transfer(frequency_per_angstrom: NDArray[np.float64], underfocus_angstrom: float) -> NDArray[np.float32]:
    """The contrast transfer without envelopes, positive where protein is dark."""
    lens = Lens(defocus_angstrom=-underfocus_angstrom, **COHERENT)
    return contrast_transfer(lens, frequency_per_angstrom, np.zeros(1), AMPLITUDE_CONTRAST)


def _power(transform: NDArray[Any], chosen: NDArray[np.bool_]) -> float:
    return float(np.mean(np.abs(transform[chosen]) ** 2)) + 1e-30


@cache
def _noise_power(depth: int, width: int, tilts: Tilts) -> NDArray[np.float32]:
    """``noise_power`` at the frequencies of a volume, over z and x."""
    table = noise_power(POWER_EDGE_VOXELS, tilts)
    z, x = fft.fftfreq(depth) * POWER_EDGE_VOXELS, fft.rfftfreq(width) * POWER_EDGE_VOXELS
    if tilts.offset_deg:  # one side of the wedge is not the other's mirror image
        table, z = np.concatenate([fft.fftshift(table, axes=0), table[[POWER_EDGE_VOXELS // 2]]]), z + POWER_EDGE_VOXELS // 2
    else:
        table, z = table[: POWER_EDGE_VOXELS // 2 + 1], np.abs(z)
    places = np.meshgrid(z, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(table, places, order=1, mode="nearest"), dtype=np.float32)
