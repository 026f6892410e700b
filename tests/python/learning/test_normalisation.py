"""Levels and spreads of tomograms, with what should not count in the box and without."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.learning.inference import network_input
from template_learning.learning.model_card import read_card
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.normalisation import constant_voxels, grey_statistics
from template_learning.learning.patches import Patches, open_tomogram
from template_learning.settings import SegmentSettings
from template_learning.stages.segment import segment_tomogram
from template_learning.stages.train import train_network

from ..toy_tomograms import SMALL, VOXEL

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SHAPE = (40, 60, 64)

DARK = SegmentSettings(contrast="protein_dark")


def bodies_in_noise(kind: str) -> NDArray[np.generic]:
    """Noise with dark bodies far from zero, as floats or as bytes."""
    generator = np.random.default_rng(5)
    grey = ndimage.gaussian_filter(generator.standard_normal(SHAPE), 0.6)
    for place in generator.integers(4, 36, (40, 3)):
        grey[tuple(slice(at - 2, at + 2) for at in place)] -= 2
    return (1000 + 50 * grey).astype(np.float32) if kind == "float" else np.clip(128 + 15 * grey, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["float", "byte"])
@pytest.mark.parametrize("fill", ["zeros", "mean"])
@pytest.mark.parametrize("added", [(1, 0), (10, 10), (60, 40)])
@pytest.mark.parametrize("band", [None, (0.5, 3.0)])
def test_padding_in_z_does_not_move_the_networks_input_inside(
    kind: str, fill: str, added: tuple[int, int], band: tuple[float, float] | None
) -> None:
    data = bodies_in_noise(kind)
    value = 0 if fill == "zeros" else data.dtype.type(data.mean())
    padded = np.pad(data, [added, (0, 0), (0, 0)], constant_values=value)
    inside = slice(added[0], added[0] + SHAPE[0])
    core = slice(16, -16)  # a wide filter sees the border that is none

    def change(normalisation: str) -> float:
        seen = [network_input(volume, SegmentSettings(), None, band, normalisation) for volume in (data, padded)]  # type: ignore[arg-type]
        difference = (seen[1][inside] - seen[0])[core] if band else seen[1][inside] - seen[0]
        return float(np.sqrt(np.mean(difference**2)) / seen[0].std())

    assert change("robust") < 0.01
    if added == (60, 40):
        assert change("tomogram") > 0.1


def test_level_and_spread_are_those_of_the_normal_distribution() -> None:
    grey = np.random.default_rng(1).normal(7.0, 3.0, (40, 60, 64))
    assert grey_statistics(grey, "robust") == pytest.approx((7.0, 3.0), rel=0.01)
    assert grey_statistics(grey) == pytest.approx((grey.mean(), grey.std()))
    assert not constant_voxels(grey).any()
    level, spread = grey_statistics(np.full((8, 9, 10), 3.0), "robust")
    assert np.isnan(level)
    assert spread == 0


def test_what_is_masked_to_one_value_does_not_count() -> None:
    data = bodies_in_noise("float")
    masked = data.copy()
    y, x = np.indices(SHAPE[1:])
    masked[:, (y - 30) ** 2 + (x - 32) ** 2 > 25**2] = 0
    assert grey_statistics(masked, "robust") == pytest.approx(grey_statistics(data, "robust"), rel=0.02)


def test_a_network_trained_so_finds_the_same_in_a_padded_tomogram_and_its_card_says_how(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    train_network(*toy, SMALL.changed({"normalisation": "robust", "epochs": 1}), 7, tmp_path, without=["t1"])
    assert read_card(tmp_path / "trained.keras").normalisation == "robust"
    assert read_card(tmp_path / "trained.keras").training["tomograms"] == 2  # of three, one of which could not be made
    assert read_card(tmp_path / "trained.keras").training["left_out"] == ["t1"]
    assert read_card(trained / "trained.keras").normalisation == "tomogram"
    data, _ = read_mrc(toy[1] / "t3.mrc")
    write_mrc(tmp_path / "padded.mrc", np.pad(data, [(0, 40), (0, 0), (0, 0)]), VOXEL)
    segment_tomogram(tmp_path / "trained.keras", toy[1] / "t3.mrc", "plain", DARK, tmp_path)
    segment_tomogram(tmp_path / "trained.keras", tmp_path / "padded.mrc", "padded", DARK, tmp_path)
    plain, padded = (read_mrc(tmp_path / f"{name}.log_odds.mrc")[0] for name in ("plain", "padded"))
    np.testing.assert_allclose(padded[:12], plain[:12], atol=0.02)  # away from the border


def test_the_choice_changes_next_to_nothing_where_grey_values_are_normal(trained: Path, tmp_path: Path) -> None:
    _, card = load_model(trained / "trained.keras")
    copy_model(trained / "trained.keras", tmp_path / "robust.keras", card.model_copy(update={"normalisation": "robust"}))
    shutil.copy(trained / "trained.keras", tmp_path / "tomogram.keras")
    write_mrc(tmp_path / "noise.mrc", np.random.default_rng(3).normal(50, 9, SHAPE).astype(np.float32), VOXEL)
    for name in ("robust", "tomogram"):
        segment_tomogram(tmp_path / f"{name}.keras", tmp_path / "noise.mrc", name, DARK, tmp_path)
    robust, tomogram = (read_mrc(tmp_path / f"{name}.log_odds.mrc")[0] for name in ("robust", "tomogram"))
    np.testing.assert_allclose(robust, tomogram, atol=0.01)


def test_patches_are_on_the_scale_that_was_chosen(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed({"normalisation": "robust", "augmentation": {"rotation": "none"}})
    plain, robust = (open_tomogram(toy[1], "t0", None, name) for name in ("tomogram", "robust"))
    first = Patches([robust], chosen, 3, split="train", first=0, count=1)[0][0]
    second = Patches([plain], chosen.changed({"normalisation": "tomogram"}), 3, split="train", first=0, count=1)[0][0]
    np.testing.assert_allclose(first * robust.std + robust.mean, second * plain.std + plain.mean, atol=1e-4)
