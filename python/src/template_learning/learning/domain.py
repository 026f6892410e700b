"""How far a tomogram is from those that a network was trained on, by its spectrum and its grey values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE, resample
from template_learning.learning.model_card import ModelCard
from template_learning.learning.normalisation import BUT_CONSTANTS, grey_statistics, without_constants
from template_learning.learning.spectrum import GREY_BINS, SHELLS, grey_histogram, radial_spectrum
from template_learning.settings import SegmentSettings

CROP_VOXELS = 128
"""A cube of so many of the model's voxels in the tomogram's middle is looked at."""
LEAST_EDGE_VOXELS = 8
FAR = 1.0
"""From this distance on a warning is due.  The shipped nucleosomes' network is 0.3 to 0.5 from another simulator's tomograms of 120 to
15 e/Å^2, where its F1 is high, 1.0 and 1.6 from them after low passes of 1 and 2 voxels, where it falls, and 1.0 to 1.2 from real,
denoised chromatin."""


@dataclass(frozen=True, kw_only=True)
class DomainDistance:
    """Parts of the distance, each 0 for a tomogram that looks like the mean training tomogram.

    ``spectrum``: root mean square of the natural logarithm of amplitude over the training's, over the shells that the network
    sees.  ``grey_values``: mean shift of the grey values' quantiles (Wasserstein-1), in standard deviations.  ``scores``: how far the median
    score of the picks is from that of validation picks, in interquartile ranges of those.  None where the model's card says
    nothing to compare with.
    """

    spectrum: float | None
    grey_values: float | None
    scores: float | None = None

    @property
    def total(self) -> float | None:
        """The root of the sum of the squares of what is known."""
        known = [one for one in (self.spectrum, self.grey_values, self.scores) if one is not None]
        return float(np.sqrt(np.sum(np.square(known)))) if known else None


def domain_distance(
    data: NDArray[Any], voxel_size_angstrom: float, card: ModelCard, settings: SegmentSettings
) -> DomainDistance:
    """The distance of a tomogram [z, y, x] from the card's training tomograms, its middle looked at.

    ``settings`` say which contrast it has, and whether its spectrum is matched, so that it does not count.
    """
    ratio = card.voxel_size_angstrom / voxel_size_angstrom
    reach = round(CROP_VOXELS * ratio) // 2
    crop = np.asarray(data[tuple(slice(max(0, n // 2 - reach), n // 2 + reach) for n in data.shape)], dtype=np.float32)
    if abs(ratio - 1) > VOXEL_SIZE_TOLERANCE:
        crop = resample(crop, ratio)
    mean, std = grey_statistics(crop, card.normalisation)
    if not np.isfinite(std) or std == 0 or min(crop.shape) < LEAST_EDGE_VOXELS:
        return DomainDistance(spectrum=None, grey_values=None)
    if card.normalisation in BUT_CONSTANTS:
        crop = without_constants(crop, mean)
    grey = (crop - np.float32(mean)) * np.float32((-1 if settings.contrast == "protein_bright" else 1) / std)
    spectrum = grey_values = None
    if card.radial_spectrum is not None:
        spectrum = (
            0.0 if settings.match_spectrum else spectrum_distance(radial_spectrum(grey), np.array(card.radial_spectrum), card)
        )
    if card.grey_histogram is not None:
        grey_values = histogram_distance(grey_histogram(grey), np.array(card.grey_histogram))
    return DomainDistance(spectrum=spectrum, grey_values=grey_values)


def spectrum_distance(own: NDArray[np.float64], trained: NDArray[np.float64], card: ModelCard) -> float:
    """Root mean square of ln(own / trained) over the shells, those counting most that the network's band lets through."""
    weight = np.ones(SHELLS)
    if card.band_voxels is not None:
        frequency = (np.arange(SHELLS) + 0.5) / (2 * SHELLS)
        narrow, wide = (np.exp(-2 * (np.pi * sigma * frequency) ** 2) for sigma in card.band_voxels)
        weight = (narrow - wide) ** 2
    least = 1e-3 * trained.max()
    ratio = np.log(np.maximum(own, least) / np.maximum(trained, least))
    return float(np.sqrt((weight * ratio**2).sum() / weight.sum()))


def histogram_distance(own: NDArray[np.float64], trained: NDArray[np.float64]) -> float:
    """The area between two cumulated histograms of ``GREY_BINS``: by how much grey values are shifted in the mean."""
    width = np.diff(GREY_BINS)
    one, other = (np.cumsum(share * width) / max(float((share * width).sum()), 1e-12) for share in (own, trained))
    return float((np.abs(one - other) * width).sum())
