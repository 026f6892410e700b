"""Radial filters, contrast transfer, dose weighting, misalignment, SIRT and gold: what each must do and must leave alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage
from template_learning.reconstruction.alignment_errors import misalign, misalign_at_random
from template_learning.reconstruction.back_projection import back_project, bin_images, resample_images
from template_learning.reconstruction.contrast_transfer import correct_contrast_transfer, raised_angstrom
from template_learning.reconstruction.dose_weighting import critical_dose, weight_by_dose
from template_learning.reconstruction.gold_beads import put_gold_beads
from template_learning.reconstruction.radial_filters import hamming_like_gain, radial_gain, sirt_like_gain
from template_learning.reconstruction.sirt import sirt
from template_learning.simulation.ice import Slab
from template_learning.simulation.optics import Lens, contrast_transfer

from ..builders import TILT_ANGLES, blobs_projected, engine_of, one_molecule

FREQUENCY = np.linspace(0, 0.5, 101)
LENS = Lens(defocus_angstrom=-25000.0)
SHAPE = (32, 48, 48)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_filters_fall_and_sirt_like_ones_come_nearer_to_the_ramp_with_iterations():
    np.testing.assert_array_equal(radial_gain("ramp", FREQUENCY), 1)
    hamming = hamming_like_gain(FREQUENCY)
    assert hamming[0] == 1
    assert hamming[-1] == pytest.approx(0.08)
    np.testing.assert_allclose(hamming_like_gain(FREQUENCY, start=0.2)[FREQUENCY <= 0.2], 1)
    gains = [sirt_like_gain(FREQUENCY, count) for count in (5, 15, 16, 30, 31, 50, 1000)]
    for gain in [hamming, *gains]:
        assert (np.diff(gain) <= 1e-7).all()
    for fewer, more in pairwise(gains):
        assert (more >= fewer).all()


def test_sirt_like_filter_has_the_values_of_imods_formula():
    # By hand: 1 - (1 - 0.00195 / 0.1)^15.3, and 27 + 0.6 x 20 + 0.3 iterations for 50.
    assert sirt_like_gain(np.array([0.1]), 15)[0] == pytest.approx(1 - 0.9805**15.3, abs=1e-6)
    assert sirt_like_gain(np.array([0.25]), 50)[0] == pytest.approx(1 - 0.9922**39.3, abs=1e-6)
    assert sirt_like_gain(np.array([0.001]), 5)[0] == 1


@pytest.mark.parametrize("name", ["ramp", "hamming_like", "sirt_like"])
def test_back_projection_is_linear_with_every_filter(name):
    one, other = (noise(len(TILT_ANGLES), 20, 40, seed=seed) for seed in (1, 2))
    volume = [back_project(images, TILT_ANGLES, (10, 20, 40), 1, name, 10) for images in (one, other, 2 * one - 3 * other)]
    np.testing.assert_allclose(volume[2], 2 * volume[0] - 3 * volume[1], atol=1e-4 * np.abs(volume[2]).max())


def test_a_sirt_like_filter_is_like_sirt():
    shape = (32, 24, 96)
    images = noise(len(TILT_ANGLES), *shape[1:])
    inner = (slice(4, -4), slice(None), slice(12, -12))
    # Small volumes converge sooner than the formula's: a few iterations alone are alike here.
    for iterations in (1, 3):
        iterated = sirt(images, TILT_ANGLES, shape, iterations)[inner].ravel()
        plain = back_project(images, TILT_ANGLES, shape)[inner].ravel()
        filtered = back_project(images, TILT_ANGLES, shape, radial_filter="sirt_like", iterations=iterations)[inner].ravel()
        assert np.corrcoef(filtered, iterated)[0, 1] > 0.96
        assert np.corrcoef(plain, iterated)[0, 1] < 0.9


def test_sirt_comes_nearer_to_the_images_and_finds_the_blob():
    images = blobs_projected([(6.0, -5.0, 4.0)], TILT_ANGLES, SHAPE[1:], 2.0)
    volume = sirt(images, TILT_ANGLES, SHAPE, 20)
    found = np.array(np.unravel_index(volume.argmin(), volume.shape))[::-1] - (np.array(SHAPE[::-1]) - 1) / 2
    assert np.abs(found - (6, -5, 4)).max() <= 1
    middle = len(TILT_ANGLES) // 2
    errors = []
    for iterations in (1, 5, 20):
        projected = sirt(images, TILT_ANGLES, SHAPE, iterations).sum(axis=0)
        errors.append(float(((projected - (images[middle] - images[middle].mean())) ** 2).mean()))
    assert errors[0] > errors[1] > errors[2]
    assert not sirt(images, TILT_ANGLES, SHAPE, 0).any()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.floats(-50000, -8000), st.floats(0, 90), st.sampled_from(["phase_flip", "wiener"]))
def test_corrected_phases_are_positive_at_every_ring(defocus, phase_shift, method):
    lens = Lens(defocus_angstrom=defocus, phase_shift_deg=phase_shift)
    pixel, size = 4.0, 64
    point = np.zeros((1, size, size), np.float32)
    point[0, size // 2, size // 2] = 1.0
    gy, gx = fft.fftfreq(size, pixel)[:, None], fft.rfftfreq(size, pixel)[None]
    transfer = contrast_transfer(lens, gx, gy, 0.07)
    imaged = fft.irfft2(fft.rfft2(point[0]) * transfer, (size, size))[None]
    fixed = correct_contrast_transfer(imaged, np.zeros(1), pixel, lens, 0.07, method)
    ratio = (fft.rfft2(fixed[0]) / fft.rfft2(point[0])).real
    rings = np.abs(transfer) > 0.01
    rings[0, 0] = False
    assert (ratio[rings] > 0).all()
    assert fixed.mean() == pytest.approx(imaged.mean(), abs=1e-6)


def test_flipping_twice_gives_the_image_back_and_a_wrong_defocus_does_not_mend_it():
    images = noise(2, 40, 50)
    angles = np.array([0.0, 30.0])
    once = correct_contrast_transfer(images, angles, 4.0, LENS, 0.07, "phase_flip")
    assert np.abs(once - images).max() > 0.5
    np.testing.assert_allclose(correct_contrast_transfer(once, angles, 4.0, LENS, 0.07, "phase_flip"), images, atol=1e-4)
    np.testing.assert_array_equal(correct_contrast_transfer(images, angles, 4.0, LENS, 0.07, "none"), images)
    wrong = correct_contrast_transfer(once, angles, 4.0, Lens(defocus_angstrom=-20000.0), 0.07, "phase_flip")
    assert np.abs(wrong - images).max() > 0.5


def test_the_sign_of_contrast_is_kept_at_low_frequencies():
    blob = ndimage.gaussian_filter(np.pad(np.full((1, 1, 1), -100.0), ((0, 0), (40, 40), (40, 40))), (0, 6, 6))
    for method in ("phase_flip", "wiener"):
        fixed = correct_contrast_transfer(blob, np.zeros(1), 8.0, LENS, 0.07, method)
        assert fixed[0, 40, 40] < fixed[0, 0, 0]


def test_strips_agree_with_the_whole_image_where_nothing_is_tilted():
    images = noise(1, 40, 60)
    whole = correct_contrast_transfer(images, np.zeros(1), 4.0, LENS, 0.07, "phase_flip")
    strips = correct_contrast_transfer(images, np.zeros(1), 4.0, LENS, 0.07, "phase_flip", strip_angstrom=30.0)
    np.testing.assert_allclose(strips, whole, atol=1e-5)
    tilted = correct_contrast_transfer(images, np.full(1, 50.0), 4.0, LENS, 0.07, "phase_flip", strip_angstrom=30.0)
    assert np.abs(tilted - whole).max() > 0.1


@pytest.mark.parametrize(("x", "tilt"), [(900.0, 60.0), (900.0, -60.0), (-900.0, 60.0)])
def test_the_defocus_of_a_strip_is_that_of_the_simulator(x, tilt):
    """An atom off the tilt axis has fringes of the defocus that its strip is corrected for."""
    pixel, shape = 4.0, (64, 512)
    sample = one_molecule([(0.0, 0.0, 0.0)], [16], ice=Slab(400.0), centre=(x, 0.0, 0.0))
    engine = engine_of(sample, shape=shape, lens=Lens(defocus_angstrom=-10000.0))
    image = engine.image(engine.intensity(*engine.exit_wave(tilt, 0.0, None)))
    seen = x * np.cos(np.deg2rad(tilt))
    gy, gx = fft.fftfreq(shape[0], pixel)[:, None], fft.rfftfreq(shape[1], pixel)[None]
    to_the_atom = np.exp(2j * np.pi * pixel * (gx * (seen / pixel + (shape[1] - 1) / 2) + gy * (shape[0] - 1) / 2))
    contrast = -(fft.rfft2(image - image.mean()) * to_the_atom).real
    defoci = np.arange(-14000.0, -6000.0, 100.0)
    curves = [contrast_transfer(Lens(defocus_angstrom=defocus), gx, gy, 0.0) for defocus in defoci]
    likeness = [(contrast * curve).sum() / np.sqrt((curve**2).sum()) for curve in curves]
    assert defoci[int(np.argmax(likeness))] == pytest.approx(-10000 + raised_angstrom(seen, tilt), abs=250)


def test_dose_weights_are_the_published_ones_and_keep_means():
    assert critical_dose(np.array([0.1]))[0] == pytest.approx(0.245 * 0.1**-1.665 + 2.81)
    assert critical_dose(np.array([0.1]), 200)[0] == pytest.approx(0.8 * critical_dose(np.array([0.1]))[0])
    assert np.isinf(critical_dose(np.zeros(1))[0])
    images = noise(3, 32, 32) + 5
    weighted = weight_by_dose(images, 4.0, np.array([0.0, 20.0, 120.0]))
    np.testing.assert_allclose(weighted[0], images[0], atol=1e-5)
    np.testing.assert_allclose(weighted.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-4)
    assert weighted[0].std() > weighted[1].std() > weighted[2].std()


def test_misaligned_images_are_where_they_were_sent():
    y, x = np.indices((60, 70))
    blob = np.exp(-((x - 40) ** 2 + (y - 22) ** 2) / 18.0)
    moved = misalign(np.stack([blob, blob]), np.array([[3.5, -2.0], [0, 0]]), np.array([0.0, 90.0]))
    np.testing.assert_allclose(ndimage.center_of_mass(moved[0]), (20, 43.5), atol=0.05)
    # About the centre (29.5, 34.5): (x, y) = (5.5, -7.5) becomes (7.5, 5.5).
    np.testing.assert_allclose(ndimage.center_of_mass(moved[1]), (35, 42), atol=0.05)
    np.testing.assert_allclose(misalign(blob[None], np.zeros((1, 2)), np.zeros(1))[0], blob, atol=1e-5)


def test_random_misalignment_depends_on_the_generator_alone():
    images = ndimage.gaussian_filter(noise(6, 30, 30), (0, 2, 2))
    one, same, other = (misalign_at_random(images, 4.0, 8.0, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


@given(st.integers(1, 4), st.integers(8, 30), st.integers(8, 30))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_plain_binning_keeps_the_mean_and_antialiasing_keeps_less_noise(factor, rows, columns):
    images = noise(2, rows * factor, columns * factor)
    binned = bin_images(images, factor)
    assert binned.shape == (2, rows, columns)
    assert binned.mean() == pytest.approx(images.mean(), abs=1e-5)
    smooth = resample_images(images, 1.0, (rows, columns), float(factor))
    assert smooth.shape == binned.shape


def test_gold_is_a_dark_disc_where_the_bead_is_seen():
    images = np.full((2, 64, 64), 100, np.float32)
    lens = Lens(defocus_angstrom=-5000.0)
    beads = put_gold_beads(images, np.array([0.0, 60.0]), 8.0, lens, np.array([[0.0, 40.0, 100.0]]), 50.0)
    for image, x in zip(beads, (0.0, 100 * np.sin(np.pi / 3)), strict=True):
        disc = ndimage.gaussian_filter(100 - image, 2)
        row, column = np.unravel_index(disc.argmax(), disc.shape)
        assert abs((column - 31.5) * 8 - x) <= 8
        assert abs((row - 31.5) * 8 - 40) <= 8
        assert image.min() < 80
    np.testing.assert_allclose(put_gold_beads(images, np.zeros(2), 8.0, lens, np.zeros((0, 3)), 50.0), images, rtol=1e-5)
