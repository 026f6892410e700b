"""Segmentation: tiles, voxel sizes, contrast and spectra."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.resampling import resample
from template_learning.learning.inference import segment_volume, tile_layout, tile_weight
from template_learning.learning.model_file import copy_model, load_model
from template_learning.settings import (
    SegmentSettings,
)
from template_learning.stages.segment import segment_tomogram

from ..toy_tomograms import VOXEL

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DARK = SegmentSettings(contrast="protein_dark")


@given(quarter=st.integers(4, 300), largest=st.integers(8, 32), overlap=st.integers(0, 31))
@settings(derandomize=True, deadline=None)
def test_tiles_cover_an_axis_and_overlap(quarter: int, largest: int, overlap: int) -> None:
    count, largest = 4 * quarter, 4 * largest
    overlap = min(overlap, largest - 4)  # more would leave a tile nothing of its own
    tile, starts = tile_layout(count, largest, overlap)
    assert tile <= min(count, largest)
    assert starts[0] == 0
    assert starts[-1] == count - tile
    assert all(start % 4 == 0 for start in [tile, *starts])
    assert all(0 < after - before <= tile - overlap for before, after in itertools.pairwise(starts))


def test_weights_of_tiles_add_up_everywhere() -> None:
    whole = np.zeros((16, 16, 48, 1))
    edge, starts = tile_layout(48, 24, 8)
    for start in starts:
        whole[:, :, start : start + edge] += tile_weight((0, 0, start), (16, 16, edge), (16, 16, 48), 8)
    assert whole.min() > 0.7
    assert tile_weight((0, 0, 0), (16, 16, 48), (16, 16, 48), 8).min() == 1


def test_tiles_give_what_one_piece_gives(trained: Path) -> None:
    network, _ = load_model(trained / "trained.keras")
    volume = np.random.default_rng(2).standard_normal((21, 90, 102)).astype(np.float32)
    one = segment_volume(network, volume, SegmentSettings(tile_voxels=128))
    assert one.shape == (21, 90, 102, 2)
    assert np.allclose(one.sum(axis=-1), 1, atol=1e-5)
    tiled = segment_volume(network, volume, SegmentSettings(tile_voxels=80, overlap_voxels=60))
    assert np.abs(one - tiled).max() < 1e-3
    turned = segment_volume(network, volume, SegmentSettings(tile_voxels=128, test_time_augmentation=True))
    assert np.abs(one - turned).max() < 0.5
    bright = segment_volume(network, -volume, SegmentSettings(tile_voxels=128, contrast="protein_bright"))
    assert np.allclose(one, bright, atol=1e-5)


def test_an_inverted_tomogram_is_told_of(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, dark = trained / "trained.keras", toy[1] / "t3.mrc"
    write_mrc(tmp_path / "bright.mrc", -read_mrc(dark)[0], VOXEL)
    segment_tomogram(model, dark, "dark", SegmentSettings(contrast="protein_dark"), tmp_path)
    assert not capsys.readouterr().err
    segment_tomogram(model, tmp_path / "bright.mrc", "bright", SegmentSettings(contrast="protein_bright"), tmp_path)
    told = f"{tmp_path / 'bright.mrc'}: inverted for the network, as segment.contrast = protein_bright says"
    assert capsys.readouterr().err.splitlines() == [told]
    for path in (dark, tmp_path / "bright.mrc"):  # and when nobody says so
        name = f"found_{path.stem}"
        segment_tomogram(model, path, name, SegmentSettings(), tmp_path)
        metadata = read_sidecar(tmp_path / f"{name}.segmentation.mrc")
        sign = "bright" if path.stem == "bright" else "dark"
        assert metadata["contrast"] == f"protein_{sign}"
        assert metadata["contrast_found"]["evidence_for_dark"] * (1 if sign == "dark" else -1) > 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{path}: segment.contrast = auto: protein is {sign}")
    names = ("dark", "bright", "found_t3", "found_bright")
    first, *others = (read_mrc(tmp_path / f"{name}.segmentation.mrc")[0] for name in names)
    assert all(np.array_equal(first, other) for other in others)


def test_a_tomogram_of_other_voxels_is_resampled_there_and_back(toy: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    network, card = load_model(trained / "trained.keras")
    copy_model(trained / "trained.keras", tmp_path / "model.keras", card.model_copy(update={"minimum_size_voxels": {1: 40}}))
    data, _ = read_mrc(toy[1] / "t3.mrc")
    fine = ndimage.affine_transform(data, np.full(3, 0.5), output_shape=[2 * n - 1 for n in data.shape], order=1)
    write_mrc(tmp_path / "fine.mrc", fine, VOXEL / 2)
    segment_tomogram(tmp_path / "model.keras", tmp_path / "fine.mrc", "fine", SegmentSettings(), tmp_path)
    log_odds, voxel_size = read_mrc(tmp_path / "fine.log_odds.mrc")
    assert voxel_size == VOXEL / 2
    assert log_odds.shape == fine.shape
    assert read_sidecar(tmp_path / "fine.segmentation.mrc")["minimum_size_voxels"] == {"1": 320}
    coarse = segment_volume(network, resample(fine, 2.0), SegmentSettings())[..., 1]
    assert np.allclose(expit(log_odds)[::2, ::2, ::2], coarse, atol=1e-4)


@pytest.mark.parametrize("slices", [40, 17, 5])
@pytest.mark.parametrize("voxel", [VOXEL, VOXEL / 2])
def test_a_tomogram_thinner_than_the_patch_or_a_tile_is_picked_on_its_own_grid(
    trained: Path, tmp_path: Path, slices: int, voxel: float
) -> None:
    network, card = load_model(trained / "trained.keras")
    copy_model(trained / "trained.keras", tmp_path / "model.keras", card.model_copy(update={"patch_voxels": 52}))
    thin = np.random.default_rng(0).standard_normal((slices, 46, 44)).astype(np.float32)
    write_mrc(tmp_path / "thin.mrc", thin, voxel)
    segment_tomogram(tmp_path / "model.keras", tmp_path / "thin.mrc", "thin", DARK, tmp_path)
    for name in ("segmentation", "log_odds"):
        found, size = read_mrc(tmp_path / f"thin.{name}.mrc")
        assert (found.shape, size) == (thin.shape, voxel)
    if voxel == VOXEL:
        # The network is given the slices where they are, and their mirror image behind them.
        grey = (thin - thin.mean()) / thin.std()
        whole = np.pad(grey, [(0, -count % 4) for count in grey.shape], mode="reflect")
        expected = network.predict(whole[None, ..., None], verbose=0)[0, :slices, :46, :44, 1:].max(axis=-1)
        np.testing.assert_allclose(expit(found), expected, atol=1e-4)
