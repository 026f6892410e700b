"""The report's section on the domain gap: spectra and grey values of simulated and experimental tomograms."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.files import read_mrc
from template_learning.report.blocks import Illustration, Section, counted
from template_learning.report.figures import CLASS_COLOURS, INK, Panel, Trace, line_figure
from template_learning.report.run import Run

TOMOGRAMS = 3
CROP_VOXELS = 128
SHELLS = 32
GREY_BINS = np.linspace(-5.0, 5.0, 81)


def domain_gap_section(run: Run) -> Section | None:
    """How the training's and the user's tomograms differ, where both are there."""
    simulated = {row.id for row in run.design}
    training = [run.tomogram(row.id) for row in run.design if row.split == "train"]
    target = [run.tomogram(item) for item in run.picks if item not in simulated]
    sets = [[path for path in paths if path is not None][:TOMOGRAMS] for paths in (training, target)]
    if not all(sets):
        return None
    spectra: list[Trace] = []
    greys: list[Trace] = []
    for paths, label, colour in zip(sets, ("simulated", "experimental"), (INK, CLASS_COLOURS[0]), strict=True):
        for number, path in enumerate(paths):
            crop, voxel_size_angstrom = central_crop(path)
            name = label if number == 0 else None
            frequency, power = radial_spectrum(crop, voxel_size_angstrom)
            spectra.append(Trace(name, (10 * frequency).tolist(), power.tolist(), colour))
            share, _ = np.histogram(crop, GREY_BINS, density=True)
            greys.append(Trace(name, ((GREY_BINS[1:] + GREY_BINS[:-1]) / 2).tolist(), share.tolist(), colour))
    counts = f"{counted(len(sets[0]), 'simulated tomogram')} and {counted(len(sets[1]), 'experimental tomogram')}"
    caption = (
        f"{counts}, a cube of up to {CROP_VOXELS} voxels in the middle of each, brought to zero mean and unit deviation. Left: mean "
        "power of each shell of spatial frequencies. Right: distribution of the grey values. The nearer the lines, the smaller the gap."
    )
    panels = [
        Panel("power (1 = white noise)", spectra, "spatial frequency (1/nm)", logarithmic=True),
        Panel("share of voxels", greys, "grey value"),
    ]
    source = line_figure(panels)
    return Section("domain-gap", "Domain gap", [Illustration(source, f"Spectra and grey values of {counts}.", caption)])


def central_crop(path: Path) -> tuple[NDArray[np.float32], float]:
    """The middle of a tomogram with zero mean and unit deviation, and the voxel size in ångström."""
    volume, voxel_size_angstrom = read_mrc(path, memory_map=True, need_voxel_size=False)
    window = tuple(slice((n - min(n, CROP_VOXELS)) // 2, (n + min(n, CROP_VOXELS)) // 2) for n in volume.shape)
    crop = np.asarray(volume[window], dtype=np.float32)
    return (crop - crop.mean()) / max(float(crop.std()), 1e-20), voxel_size_angstrom or 1.0


def radial_spectrum(volume: NDArray[Any], voxel_size_angstrom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power of shells up to Nyquist: spatial frequencies in 1/Å and power, 1 for white noise of unit deviation.

    The volume is faded out towards its borders (Hann) first, so that its edges do not show.
    """
    fade: list[NDArray[np.float64]] = [np.hanning(count + 2)[1:-1] for count in volume.shape]
    window = fade[0][:, None, None] * fade[1][:, None] * fade[2]
    power = np.abs(fft.rfftn(volume * window)) ** 2 / (window**2).sum()
    z, y, x = volume.shape
    radius = np.sqrt(fft.fftfreq(z)[:, None, None] ** 2 + fft.fftfreq(y)[:, None] ** 2 + fft.rfftfreq(x) ** 2)
    shell = np.minimum((radius * 2 * SHELLS).astype(int), SHELLS).ravel()
    total = np.bincount(shell, power.ravel(), SHELLS + 1)[:SHELLS]
    count = np.bincount(shell, minlength=SHELLS + 1)[:SHELLS]
    known = count > 0
    frequency = (np.arange(SHELLS) + 0.5) / (2 * SHELLS) / voxel_size_angstrom
    return frequency[known], (total[known] / count[known])
