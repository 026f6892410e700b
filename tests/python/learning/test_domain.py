"""How far a tomogram is from the training tomograms."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from template_learning.learning.domain import DomainDistance, domain_distance
from template_learning.learning.model_card import ModelCard
from template_learning.learning.spectrum import grey_histogram, radial_spectrum
from template_learning.settings import SegmentSettings

VOXEL = 8.0
DARK = SegmentSettings(contrast="protein_dark")


def volume(seed: int) -> NDArray[np.float32]:
    """Coloured noise of skewed grey values, dark."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((40, 72, 64)), 1.0, mode="wrap")
    return np.asarray(-np.exp(1.5 * noise / noise.std() * 0.5), dtype=np.float32)


def card(**more: Any) -> ModelCard:
    """That of a network trained on such volumes."""
    grey = volume(0)
    grey = (grey - grey.mean()) / grey.std()
    looks = {"radial_spectrum": radial_spectrum(grey).tolist(), "grey_histogram": grey_histogram(grey).tolist()}
    fixed: dict[str, Any] = {"voxel_size_angstrom": VOXEL, "classes": {1: ["x"]}, "filters": 4, "patch_voxels": 48}
    return ModelCard(**{**fixed, **looks, **more})


@pytest.mark.parametrize("band", [None, (3.0, 40.0)])
def test_what_looks_like_the_training_is_near_whatever_its_scale(band: tuple[float, float] | None) -> None:
    ours = card(band_pass_angstrom=band)
    near = domain_distance(volume(1), VOXEL, ours, DARK)
    assert near.total is not None
    assert near.total < 0.2
    scaled = domain_distance(volume(1) * 40 - 7, VOXEL, ours, DARK)
    assert scaled.total == pytest.approx(near.total, rel=1e-3)


def test_filters_and_grey_values_are_told_apart() -> None:
    near = domain_distance(volume(1), VOXEL, card(), DARK)
    further = [domain_distance(gaussian_filter(volume(1), sigma), VOXEL, card(), DARK) for sigma in (0.7, 1.5)]
    assert near.spectrum < further[0].spectrum < further[1].spectrum  # type: ignore[operator]
    inverted = domain_distance(-volume(1), VOXEL, card(), DARK)
    assert inverted.spectrum == pytest.approx(near.spectrum, rel=1e-4)
    assert inverted.grey_values > 3 * near.grey_values  # type: ignore[operator]
    bright = domain_distance(-volume(1), VOXEL, card(), SegmentSettings(contrast="protein_bright"))
    assert bright.grey_values == pytest.approx(near.grey_values, abs=1e-4)
    matched = SegmentSettings(contrast="protein_dark", match_spectrum=True)
    assert domain_distance(gaussian_filter(volume(1), 1.5), VOXEL, card(), matched).spectrum == 0.0


def test_what_is_not_known_is_left_out() -> None:
    unknown = domain_distance(volume(1), VOXEL, card(radial_spectrum=None, grey_histogram=None), DARK)
    assert unknown == DomainDistance(spectrum=None, grey_values=None)
    assert unknown.total is None
    assert domain_distance(np.ones((20, 20, 20)), VOXEL, card(), DARK).total is None
    assert DomainDistance(spectrum=None, grey_values=0.3, scores=0.4).total == pytest.approx(0.5)
