"""Whether protein is dark or bright in a tomogram: found by its grey values and by the network, on blocks of it."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from template_learning.common.log import tell
from template_learning.learning.fit import blob_skewness, object_radius_voxels
from template_learning.learning.inference import classes_and_log_odds, segment_resampled
from template_learning.learning.model_card import ModelCard
from template_learning.settings import SegmentSettings

Sign = Literal["protein_dark", "protein_bright"]
SIGNS: tuple[Sign, Sign] = ("protein_dark", "protein_bright")
BLOCK_VOXELS = 64
BLOCKS_ALONG = 3
"""Blocks that the network looks at along y and along x, in the middle of z; a tomogram no larger than they is seen whole."""
SKEWNESS_WEIGHT = 2.0
"""What a skewness of 1 counts, in units of the logarithm of what the network finds.  Simulated dark tomograms of 15 to 120 e/Å^2 had
skewnesses of -0.3 to -0.8 and logarithms of 0.4 to 2, real bright chromatin 2.4 to 5.0 and, with a network that never saw the
like, 2.7 (for dark) to -0.5."""
LEAST_EVIDENCE = 0.5
"""Less of it for bright protein, as noise gives, inverts nothing: dark is the custom."""
LARGEST_LOG_RATIO = 3.0
LEAST_FOUND = 1e-5
"""Mean of the positive log-odds, a voxel, that counts as nothing found."""


@dataclass(frozen=True, kw_only=True)
class FoundContrast:
    """What speaks for dark and for bright.

    ``skewness`` is that of the grey values at the molecule's size, negative where bodies are dark; ``found_dark`` and
    ``found_bright`` are the means over the voxels of the network's log-odds, where they are positive, with either sign.
    """

    skewness: float
    found_dark: float
    found_bright: float

    @property
    def log_ratio(self) -> float:
        """What the network finds in dark as against bright bodies: its logarithm, within +-3."""
        ratio = math.log((self.found_dark + LEAST_FOUND) / (self.found_bright + LEAST_FOUND))
        return min(max(ratio, -LARGEST_LOG_RATIO), LARGEST_LOG_RATIO)

    @property
    def evidence(self) -> float:
        """Positive where protein is dark."""
        return self.log_ratio - SKEWNESS_WEIGHT * self.skewness

    @property
    def sign(self) -> Sign:
        """The contrast that more speaks for; dark where next to nothing does."""
        return "protein_bright" if self.evidence < -LEAST_EVIDENCE else "protein_dark"

    def words(self) -> str:
        """What was found, in a line."""
        bright = self.sign == "protein_bright"
        grey, network = ("bright" if one < 0 else "dark" for one in (-self.skewness, self.log_ratio))
        doubt = "" if grey == network else "; the two do not agree: look at the picks, or set segment.contrast"
        return (
            f"segment.contrast = auto: protein is {'bright, and inverted for the network' if bright else 'dark'}"
            f" (grey values say {grey}, skewness {self.skewness:.2f}; the network finds more where it is {network}{doubt})"
        )

    def metadata(self) -> dict[str, float]:
        """The figures, for a sidecar."""
        return {
            "skewness": self.skewness,
            "found_dark": self.found_dark,
            "found_bright": self.found_bright,
            "evidence_for_dark": self.evidence,
        }


def find_contrast(
    network: Any, card: ModelCard, data: NDArray[Any], voxel_size_angstrom: float, settings: SegmentSettings
) -> FoundContrast:
    """The sign of a tomogram's contrast, from the skewness of its grey values and from what the network finds with either sign.

    Neither is enough.  Noise hides the skewness at low dose, and a network that was shown nothing like the tomogram finds as much
    in the wrong sign.  A tomogram without grey values gives no evidence.

    Parameters
    ----------
    network : keras.Model
        As ``load_model`` gives it.
    card : ModelCard
        The model's.
    data : (z, y, x) array
        Grey values.
    voxel_size_angstrom : float
        Theirs, Å.
    settings : SegmentSettings
        Tiles, and whether the spectrum is matched; the contrast that they name does not count.

    Returns
    -------
    FoundContrast
        The evidence and what it says.
    """
    edge = max(BLOCK_VOXELS, round(BLOCK_VOXELS * card.voxel_size_angstrom / voxel_size_angstrom))
    found, voxels = dict.fromkeys(SIGNS, 0.0), 0
    for block in _blocks(data, edge):
        voxels += block.size
        for sign in SIGNS:
            asked = settings.model_copy(update={"contrast": sign, "test_time_augmentation": False})
            probability = segment_resampled(network, card, block, voxel_size_angstrom, asked)
            log_odds = classes_and_log_odds(probability, asked)[1]
            found[sign] += float(np.maximum(log_odds, 0.0).sum(dtype=np.float64))
    if not voxels:
        return FoundContrast(skewness=0.0, found_dark=0.0, found_bright=0.0)
    dark, bright = (found[sign] / voxels for sign in SIGNS)
    skewness = blob_skewness(data, object_radius_voxels(card, voxel_size_angstrom))
    return FoundContrast(skewness=skewness, found_dark=dark, found_bright=bright)


def with_sign(
    network: Any, card: ModelCard, data: NDArray[Any], voxel_size_angstrom: float, settings: SegmentSettings, name: str
) -> tuple[SegmentSettings, FoundContrast | None]:
    """The settings with the tomogram's contrast, found where they say ``auto``, and what it was found by; both signs are told of."""
    if settings.contrast == "auto":
        found = find_contrast(network, card, data, voxel_size_angstrom, settings)
        tell(f"{name}: {found.words()}")
        return settings.model_copy(update={"contrast": found.sign}), found
    if settings.contrast == "protein_bright":
        tell(f"{name}: inverted for the network, as segment.contrast = protein_bright says")
    return settings, None


def _blocks(data: NDArray[Any], edge: int) -> Iterator[NDArray[Any]]:
    """Blocks of a volume [z, y, x] evenly spaced in the middle of z, those of one grey value (or none) left out."""
    starts = []
    for axis, count in enumerate(data.shape):
        along = 1 if axis == 0 else min(BLOCKS_ALONG, -(-count // edge))
        room = max(0, count - edge)
        starts.append([room // 2] if along == 1 else [round(room * number / (along - 1)) for number in range(along)])
    if data.size <= BLOCKS_ALONG**2 * edge**3:
        starts, edge = [[0], [0], [0]], max(data.shape)
    for corner in itertools.product(*starts):
        block = data[tuple(slice(begin, begin + edge) for begin in corner)]
        if np.isfinite(block).all() and np.ptp(block) > 0:
            yield block
