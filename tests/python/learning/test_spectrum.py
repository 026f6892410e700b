"""The band that tomograms are filtered to before the network sees them, the same in TRAIN and in SEGMENT."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import fft, ndimage
from scipy.special import expit
from template_learning.common.errors import BadInput
from template_learning.common.files import write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.deepfinder import program as deepfinder_program
from template_learning.learning.inference import classes_and_log_odds, segment_volume
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model
from template_learning.learning.patches import Patches, TrainingTomogram
from template_learning.learning.spectrum import band_pass, band_pass_inside, match_spectrum, radial_spectrum
from template_learning.reconstruction.back_projection import back_project
from template_learning.settings import SegmentSettings, TrainSettings
from template_learning.stages import segment
from template_learning.stages.segment import segment_tomogram
from template_learning.stages.train import train_network

from ..toy_tomograms import VOXEL

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


BAND = (8.0, 25.0)


CHOSEN = TrainSettings(
    epochs=2,
    steps_per_epoch=3,
    batch_size=4,
    patch_voxels=16,
    augmentation={"random_shift_voxels": 4, "rotation": "none"},
    validation_steps=1,
    filters=4,
    background_fraction=0.0,
    band_pass_angstrom=BAND,
)


def tomogram(data: NDArray[np.float32], dose: float = 100.0) -> TrainingTomogram:
    """``data`` as a training tomogram with particles all over it."""
    centre = np.argwhere(np.ones([count // 12 for count in data.shape])) * 12 + 6
    return TrainingTomogram(
        identifier="t",
        data=data,
        labels=np.zeros(data.shape, np.uint8),
        voxel_size_angstrom=VOXEL,
        mean=float(data.mean()),
        std=float(data.std()),
        centre=centre,
        class_id=np.ones(len(centre), np.int64),
        along_beam=np.full(len(centre), np.nan),
        species=("one",) * len(centre),
        class_names={},
        tilt_range_deg=60.0,
        tilt_step_deg=3.0,
        total_dose_e_per_angstrom2=dose,
    )


def noise(shape: tuple[int, int, int], seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(24, 30, 27), (40, 33, 48)])
def test_the_band_is_what_two_gaussians_differ_by(shape: tuple[int, int, int]) -> None:
    volume = noise(shape) + 3
    narrow, wide = (ndimage.gaussian_filter(volume, sigma, mode="reflect", truncate=6) for sigma in (1.5, 4.0))
    np.testing.assert_allclose(band_pass(volume, (1.5, 4.0)), narrow - wide, atol=2e-3)
    assert np.abs(band_pass(np.full(shape, 7.0, np.float32), (1.5, 4.0))).max() < 1e-4
    response = fft.dctn(band_pass(noise(shape), (1.5, 4.0)), norm="ortho") / fft.dctn(noise(shape), norm="ortho")
    assert abs(response[0, 0, 0]) < 1e-4
    assert -1e-3 < response.min() < response.max() < 1
    window = (slice(3, 20), slice(0, 24), slice(11, shape[2]))
    inside = band_pass_inside(volume, (1.5, 4.0), window)
    np.testing.assert_allclose(inside, band_pass(volume, (1.5, 4.0))[window], atol=1e-4)


def test_patches_are_those_of_the_filtered_tomogram() -> None:
    data = ndimage.gaussian_filter(noise((48, 52, 56)), 0.6).astype(np.float32) * 5 + 2
    grey, labels = Patches([tomogram(data)], CHOSEN, 3, split="train", first=0, count=5)[1]
    assert labels.shape == grey.shape[:-1]
    whole = band_pass(data, (0.8, 2.5))
    whole = whole / whole.std()
    windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16, 16))
    for patch in grey[..., 0]:
        difference = np.abs(windows[..., 8, 8, 8] - patch[8, 8, 8])
        nearest = [tuple(place) for place in np.argwhere(difference < 0.03)]
        assert min(np.abs(windows[place] - patch).max() for place in nearest) < 0.05


@pytest.mark.parametrize("least", [None, 5.0])
def test_patches_have_unit_deviation_in_the_band_at_every_dose(least: float | None) -> None:
    """Of a reconstruction of noise, to which the noise of lower doses is added."""
    images = np.random.default_rng(2).standard_normal((41, 64, 130), dtype=np.float32)
    data = back_project(images, np.arange(-60.0, 61.0, 3.0), (56, 60, 64))
    chosen = CHOSEN.changed({"augmentation": {"minimum_dose_e_per_angstrom2": least}, "batch_size": 20})
    grey, _ = Patches([tomogram(data)], chosen, 3, split="train", first=0, count=2)[0]
    assert grey.std() == pytest.approx(1, rel=0.1)
    assert grey.std(axis=(1, 2, 3, 4)).max() < 1.35


def test_scales_vary_and_offsets_do_not() -> None:
    data = noise((40, 40, 40))
    plain, _ = Patches([tomogram(data)], CHOSEN, 3, split="train", first=0, count=1)[0]
    varied, _ = Patches(
        [tomogram(data)], CHOSEN.changed({"augmentation": {"contrast_jitter": 0.3}}), 3, split="train", first=0, count=1
    )[0]
    # The first patch of both is the same one.
    scale = float((varied[0] * plain[0]).sum() / (plain[0] ** 2).sum())
    assert 0.01 < abs(scale - 1) <= 0.3
    np.testing.assert_allclose(varied[0], scale * plain[0], atol=1e-4)


def test_the_model_carries_its_band_and_segments_in_it(tmp_path: Path) -> None:
    data = {name: noise((24, 40, 48), seed) for seed, name in enumerate(("t0", "t1"))}
    for name, volume in data.items():
        labels = np.zeros(volume.shape, np.uint8)
        labels[10:14, 18:22, 20:24] = 1
        volume[labels == 1] -= 3
        write_mrc(tmp_path / f"{name}.mrc", volume, VOXEL)
        write_mrc(tmp_path / f"{name}.labels.mrc", labels, VOXEL)
        place = {"z_angstrom": 12 * VOXEL, "y_angstrom": 20 * VOXEL, "x_angstrom": 22 * VOXEL}
        write_table(
            tmp_path / f"{name}.particles.csv", ParticleRow, [ParticleRow(particle=1, species="one", class_id=1, **place)]
        )
    how = {"total_dose_e_per_angstrom2": 100, "defocus_um": -3, "ice_density_g_per_cm3": 0.94}
    rows = [DesignRow(id=name, tilt_range_deg=60, tilt_step_deg=3, **how) for name in data]
    write_table(tmp_path / "design.csv", DesignRow, rows)
    train_network(tmp_path / "design.csv", tmp_path, CHOSEN, 1, tmp_path)
    network, card = load_model(tmp_path / "trained.keras")
    assert card.band_pass_angstrom == BAND
    assert card.band_voxels == pytest.approx((0.8, 2.5))

    # A slope across the field changes what a network without the band sees; in the band it is gone.
    sloped = data["t0"] + np.linspace(-2, 2, 48, dtype=np.float32)
    found = {
        band: [segment_volume(network, volume, SegmentSettings(), None, band) for volume in (data["t0"], sloped)]
        for band in (None, card.band_voxels)
    }
    change = {band: np.abs(one - other)[..., 8:-8, :].mean() for band, (one, other) in found.items()}
    assert change[card.band_voxels] < 0.2 * change[None]
    write_mrc(tmp_path / "sloped.mrc", sloped, VOXEL)
    segment_tomogram(tmp_path / "trained.keras", tmp_path / "sloped.mrc", "s", SegmentSettings(), tmp_path)
    log_odds, _ = read_mrc(tmp_path / "s.log_odds.mrc")
    np.testing.assert_allclose(expit(log_odds), found[card.band_voxels][1][..., 1], atol=1e-5)


def test_voxels_count_from_the_probability_asked_for() -> None:
    probability = np.array([[0.6, 0.3, 0.1], [0.4, 0.15, 0.45], [0.85, 0.05, 0.1]], np.float32)[None, None]
    classes, log_odds = classes_and_log_odds(probability, SegmentSettings())
    assert classes.ravel().tolist() == [0, 2, 0]
    np.testing.assert_allclose(expit(log_odds).ravel(), [0.3, 0.45, 0.1], rtol=1e-5)
    assert classes_and_log_odds(probability, SegmentSettings(probability_threshold=0.2))[0].ravel().tolist() == [1, 2, 0]
    assert classes_and_log_odds(probability, SegmentSettings(probability_threshold=0.5))[0].ravel().tolist() == [0, 0, 0]


def test_log_odds_tell_apart_what_probabilities_do_not() -> None:
    """Two and three classes: the odds are the logits' own, however sure, and finite where nothing else is left."""
    logits = np.array([5.0, 17.0, 18.0, 40.0, 80.0, -30.0, 300.0])
    for others in (1, 2):
        scores = np.zeros((1, 1, len(logits), 1 + others), np.float64)
        scores[..., 1] = logits + np.log(others)  # as likely as all others together at 0
        shifted = scores - scores.max(axis=-1, keepdims=True)
        probability = (np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)).astype(np.float32)
        assert (probability[0, 0, 1:5, 1] == probability[0, 0, 4, 1]).sum() > 1  # saturated
        classes, log_odds = classes_and_log_odds(probability, SegmentSettings())
        found = log_odds.ravel()
        sure = logits > 0
        assert (classes.ravel()[sure] == 1).all()
        np.testing.assert_allclose(found[sure], np.minimum(logits, 87.34)[sure], atol=0.01)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("band", [(20.0, 10.0), (-1.0, 10.0), (10.0, 10.0)])
def test_a_band_that_is_none_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=r"narrow Gaussian|greater than or equal to 0"):
        TrainSettings(band_pass_angstrom=band)


def test_deepfinders_own_program_does_not_segment_in_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepfinder_program, "program", lambda section: {})
    card = ModelCard(voxel_size_angstrom=VOXEL, classes={1: ["one"]}, filters=4, patch_voxels=16, band_pass_angstrom=BAND)
    with pytest.raises(BadInput, match=r"noise\.mrc: the model was trained on filtered tomograms"):
        segment._by_deepfinder(None, card, noise((24, 24, 24)), VOXEL, SegmentSettings(engine="deepfinder"), "noise.mrc")


@pytest.mark.parametrize("shape", [(48, 60, 56), (45, 63, 51)])
def test_spectrum_matching_gives_the_spectrum_and_keeps_phases(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(3)
    white, other = generator.standard_normal((2, *shape)).astype(np.float32)
    assert np.allclose(radial_spectrum(white)[3:], 1, atol=0.1)
    target = radial_spectrum(ndimage.gaussian_filter(other, 0.7))
    matched = match_spectrum(white, target)
    assert np.allclose(radial_spectrum(matched)[3:], target[3:], rtol=0.05)
    again = match_spectrum(ndimage.gaussian_filter(white, 0.6, mode="wrap"), radial_spectrum(white))
    assert np.corrcoef(again.ravel(), white.ravel())[0, 1] > 0.95


def test_segmenting_with_the_models_spectrum(trained: Path, toy: tuple[Path, Path]) -> None:
    network, card = load_model(trained / "trained.keras")
    data, _ = read_mrc(toy[1] / "t0.mrc")
    chosen = SegmentSettings(match_spectrum=True)
    sharp = match_spectrum(data, radial_spectrum(data) * np.linspace(1, 3, 32))
    plain = segment_volume(network, data, SegmentSettings(), card.radial_spectrum)
    unmatched = segment_volume(network, sharp, SegmentSettings(), card.radial_spectrum)
    matched = segment_volume(network, sharp, chosen, card.radial_spectrum)
    assert np.abs(matched - plain).mean() < 0.5 * np.abs(unmatched - plain).mean()
    with pytest.raises(BadInput, match="holds no spectrum"):
        segment_volume(network, data, chosen)
