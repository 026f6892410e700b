"""The report's section on the domain gap: spectra and grey values of training and experimental tomograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE, resample
from template_learning.learning.spectrum import GREY_BINS, grey_histogram, match_spectrum
from template_learning.report.blocks import Illustration, ReportSection, counted
from template_learning.report.figures import CLASS_COLOURS, INK, Panel, Trace, line_figure
from template_learning.report.run import Run
from template_learning.settings import SegmentSettings

TOMOGRAMS = 3
CROP_VOXELS = 128
SHELLS = 32


@dataclass(frozen=True)
class Look:
    """How a tomogram looks: spatial frequencies in 1/Å with their power, and its grey values' shares (see ``GREY_BINS``).

    Either is empty where nobody says it.
    """

    frequency: Sequence[float]
    power: Sequence[float]
    share: Sequence[float]


def domain_gap_section(run: Run) -> ReportSection | None:
    """How the training's and the user's tomograms differ, where both are known: the training's from the run or the model."""
    simulated = {row.id for row in run.design}
    paths = [run.tomogram(row.id) for row in run.design if row.split == "train"]
    training = [look_of(*central_crop(path, None)) for path in [path for path in paths if path is not None][:TOMOGRAMS]]
    items = [item for item in run.picks if item not in simulated and run.tomogram(item)][:TOMOGRAMS]
    whose = counted(len(training), "simulated tomogram")
    if not training:
        training, whose = [look for item in items[:1] if (look := training_look(run, item))], "the model's training tomograms"
    if not training or not items:
        return None
    target = [look_of(*as_the_network_sees(run, item)) for item in items]
    spectra: list[Trace] = []
    greys: list[Trace] = []
    middles = ((GREY_BINS[1:] + GREY_BINS[:-1]) / 2).tolist()
    for looks, label, colour in ((training, "simulated", INK), (target, "experimental", CLASS_COLOURS[0])):
        for number, look in enumerate(looks):
            name = label if number == 0 else None
            spectra.append(Trace(name, [10 * frequency for frequency in look.frequency], look.power, colour))
            if look.share:
                greys.append(Trace(name, middles, look.share, colour))
    panels = [
        Panel("power (1 = white noise)", spectra, "spatial frequency (1/nm)", logarithmic=True),
        Panel("share of voxels", greys, "grey value"),
    ]
    counts = f"{whose} and {counted(len(items), 'experimental tomogram')}"
    source = line_figure(panels)
    return ReportSection(
        "domain-gap",
        "Domain gap",
        [Illustration(source, f"Spectra and grey values of {counts}.", caption(run, counts, items[0]))],
    )


def caption(run: Run, counts: str, item: str) -> str:
    """What the figure shows; ``item`` is one of the experimental tomograms."""
    text = (
        f"{counts[0].upper()}{counts[1:]}, a cube of up to {CROP_VOXELS} voxels in the middle of each, brought to zero mean and "
        "unit deviation (training tomograms that the model's card stands for: their mean, whole); the experimental ones as the "
        "network sees them, at its voxel size"
    )
    settings = _settings(run)
    text += ", inverted" * (_contrast(run, item) == "protein_bright") + ", their spectrum matched" * settings.match_spectrum
    if _segment_facts(run, item).get("model_band_pass_angstrom"):
        text += "; all before the filter that the model was trained with (train.band_pass_angstrom)"
    return (
        f"{text}. Left: mean power of each shell of spatial frequencies. Right: distribution of the grey values. "
        "The nearer the lines, the smaller the gap."
    )


def training_look(run: Run, item: str) -> Look | None:
    """How the training tomograms of the model looked that segmented ``item``, as its card says; None where it does not."""
    metadata = _segment_facts(run, item)
    spectrum = metadata.get("training_spectrum")
    if not spectrum:
        return None
    frequency = (np.arange(len(spectrum)) + 0.5) / (2 * len(spectrum)) / metadata["model_voxel_size_angstrom"]
    return Look(frequency.tolist(), [value**2 for value in spectrum], metadata.get("training_grey_histogram") or [])


def as_the_network_sees(run: Run, item: str) -> tuple[NDArray[np.float32], float]:
    """The middle of a user's tomogram as SEGMENT gives it to the network, and its voxel size in ångström."""
    path, settings = run.tomogram(item), _settings(run)
    assert path is not None
    crop, voxel_size = central_crop(path, run.voxel_size(item))
    if _contrast(run, item) == "protein_bright":
        crop = -crop
    metadata = _segment_facts(run, item)
    wanted = metadata.get("model_voxel_size_angstrom", voxel_size)
    if abs(wanted / voxel_size - 1) > VOXEL_SIZE_TOLERANCE:
        crop, voxel_size = normalised(resample(crop, wanted / voxel_size)), wanted
    if settings.match_spectrum and metadata.get("training_spectrum"):
        crop = match_spectrum(crop, metadata["training_spectrum"])
    return crop, voxel_size


def _contrast(run: Run, item: str) -> str:
    """What SEGMENT found or was told; its settings in results of before it said so."""
    return str(_segment_facts(run, item).get("contrast", _settings(run).contrast))


def _segment_facts(run: Run, item: str) -> dict[str, Any]:
    return read_sidecar(run.folder / f"segment/{item}.segmentation.mrc")


def _settings(run: Run) -> SegmentSettings:
    return run.settings.segment if run.settings else SegmentSettings()


def central_crop(path: Path, voxel_size_angstrom: float | None) -> tuple[NDArray[np.float32], float]:
    """The middle of a tomogram, normalised, and the voxel size in ångström: the given one, else the header's."""
    volume, header = read_mrc(path, memory_map=True, need_voxel_size=False)
    window = tuple(slice((n - min(n, CROP_VOXELS)) // 2, (n + min(n, CROP_VOXELS)) // 2) for n in volume.shape)
    return normalised(np.asarray(volume[window], dtype=np.float32)), voxel_size_angstrom or header or 1.0


def normalised(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """A volume with zero mean and unit deviation."""
    return (volume - volume.mean()) / max(float(volume.std()), 1e-20)


def look_of(volume: NDArray[np.float32], voxel_size_angstrom: float) -> Look:
    """How a normalised volume looks."""
    frequency, power = radial_power_spectrum(volume, voxel_size_angstrom)
    return Look(frequency.tolist(), power.tolist(), grey_histogram(volume).tolist())


def radial_power_spectrum(volume: NDArray[Any], voxel_size_angstrom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
