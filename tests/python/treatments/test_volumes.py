"""Treatments of volumes: linear ones are linear, denoisers denoise, grey values and fields are what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage
from template_learning.simulation.optics import Lens
from template_learning.treatments.deconvolution import WARP_HIGH_PASS_ANGSTROM, deconvolution_gain, deconvolve
from template_learning.treatments.denoising import (
    anisotropic_diffusion,
    gaussian,
    median,
    noise_sigma,
    non_local_means,
    total_variation,
)
from template_learning.treatments.field import add_border, crop, turn_about_z, turned_position
from template_learning.treatments.grey_values import add_slope, as_bytes, as_words, cut_percentiles, invert

LENS = Lens(defocus_angstrom=-25000.0)


def noise(seed=0, shape=(20, 24, 28)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def noisy_ball(seed=0):
    z, y, x = np.indices((24, 24, 24)) - 11.5
    ball = (z**2 + y**2 + x**2 < 36) * -4.0
    return ball, (ball + noise(seed, ball.shape)).astype(np.float32)


def variation(volume):
    return sum(float(np.abs(np.diff(volume, axis=axis)).sum()) for axis in range(3))


def deconvolved(volume):
    return deconvolve(volume, 8.0, LENS, 0.07)


LINEAR = {
    "gaussian": lambda volume: gaussian(volume, 1.3),
    "warp": lambda volume: deconvolve(volume, 8.0, LENS, 0.07, high_pass_angstrom=WARP_HIGH_PASS_ANGSTROM),
    "isonet": deconvolved,
    "invert": invert,
    "turn": lambda volume: turn_about_z(volume, 20.0),
    "border": lambda volume: add_border(volume, 3),
    "crop": lambda volume: crop(volume, 3),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_treatments_are_linear(name):
    one, other = noise(1), noise(2)
    treat = LINEAR[name]
    expected = 2 * treat(one) - 3 * treat(other)
    np.testing.assert_allclose(treat(2 * one - 3 * other), expected, atol=2e-4 * np.abs(expected).max())


DENOISERS = {
    "gaussian": lambda volume: gaussian(volume, 1.0),
    "median": lambda volume: median(volume, 3),
    "total variation": lambda volume: total_variation(volume, 0.5),
    "diffusion": lambda volume: anisotropic_diffusion(volume, 8, edge_sigma=2.0),
    "non-local means": lambda volume: non_local_means(volume, 0.8),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_bring_a_noisy_ball_nearer_to_the_ball_whatever_its_grey_values(name):
    ball, noisy = noisy_ball()
    denoise = DENOISERS[name]
    better = denoise(noisy)
    assert ((better - ball) ** 2).mean() < 0.5 * ((noisy - ball) ** 2).mean()
    assert variation(better) < 0.7 * variation(noisy)
    assert better.mean() == pytest.approx(noisy.mean(), abs=0.1)
    np.testing.assert_allclose(denoise(30 * noisy + 1000), 30 * better + 1000, atol=0.6)


def test_edges_are_kept_better_than_by_a_gaussian_that_removes_as_much_noise():
    ball, noisy = noisy_ball()
    for denoise in (DENOISERS["total variation"], DENOISERS["diffusion"]):
        better = denoise(noisy)
        far = ball == 0
        sigma = next(s for s in np.arange(0.3, 4, 0.1) if gaussian(noisy - ball, s)[far].std() <= (better - ball)[far].std())
        assert ((better - ball) ** 2).mean() < ((gaussian(noisy, sigma) - ball) ** 2).mean()


def test_no_strength_changes_nothing():
    _, noisy = noisy_ball()
    for same in (total_variation(noisy, 0), anisotropic_diffusion(noisy, 0), non_local_means(noisy, 0), median(noisy, 1)):
        np.testing.assert_array_equal(same, noisy)
    flat = np.full((9, 9, 9), 3, np.float32)
    for denoise in DENOISERS.values():
        np.testing.assert_allclose(denoise(flat), flat)


def test_noise_is_told_from_a_slow_slope():
    assert noise_sigma(noise(0, (40, 40, 40)) * 7 + np.linspace(0, 300, 40)) == pytest.approx(7, rel=0.6)
    assert noise_sigma(noise(0, (40, 40, 40)) * 7) == pytest.approx(7, rel=0.05)


def test_deconvolution_is_the_published_formula():
    # tom_deconv written out by hand: 300 kV, Cs 2.7 mm, 7 %, at half of Nyquist's frequency of 8 Å voxels.
    wavelength, k = 0.0196875, 0.5 / 16
    chi = np.pi / 2 * (wavelength**3 * 2.7e7 * k**4 - 2 * wavelength * 25000.0 * k**2)
    transfer = -np.sqrt(1 - 0.07**2) * np.sin(chi) + 0.07 * np.cos(chi)
    ratio = np.exp(-0.5 * 100 / 8) * 1000 * (1 - np.cos(np.pi))
    expected = transfer / (transfer**2 + 1 / ratio)
    found = deconvolution_gain(np.array([k]), 8.0, LENS, 0.07, high_pass_nyquist=0.02)
    assert found[0] == pytest.approx(expected, rel=1e-3)
    assert deconvolution_gain(np.zeros(1), 8.0, LENS, 0.07, high_pass_nyquist=0.02)[0] == 0


def test_deconvolution_keeps_the_mean_and_dark_matter_dark_and_restores_low_frequencies():
    z, y, x = np.indices((32, 64, 64)) - np.array([15.5, 31.5, 31.5])[:, None, None, None]
    body = -np.exp(-(z**2 + y**2 + x**2) / (2 * 4.0**2)) + 10
    found = deconvolved(body)
    assert found.mean() == pytest.approx(body.mean(), abs=1e-3)
    assert found[15, 31, 31] < found.mean()
    white = noise(shape=(8, 8, 128))
    gain = np.abs(fft.fftn(deconvolved(white))[0, 0] / fft.fftn(white)[0, 0])
    assert gain[4] > 5 * gain[60]


def test_phases_that_were_flipped_are_not_flipped_again():
    frequency = np.linspace(0.001, 1 / 16, 200)
    plain = deconvolution_gain(frequency, 8.0, LENS, 0.07, high_pass_nyquist=0.02)
    flipped = deconvolution_gain(frequency, 8.0, LENS, 0.07, high_pass_nyquist=0.02, phases_flipped=True)
    assert (plain < 0).any()
    np.testing.assert_allclose(flipped, np.abs(plain), atol=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(1e-3, 1e5), st.floats(-1e4, 1e4))
def test_whole_numbers_keep_the_order_and_use_the_range(scale, offset):
    volume = noise() * np.float32(scale) + np.float32(offset)
    for found, (low, high) in ((as_bytes(volume), (0, 255)), (as_words(volume), (-32000, 32000))):
        assert (found.min(), found.max()) == (low, high)
        order = np.argsort(volume.ravel(), kind="stable")
        assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()
    assert as_bytes(np.full((4, 4, 4), scale)).max() == 0


def test_percentiles_are_cut_and_slopes_are_as_high_as_they_say():
    volume = noise(shape=(10, 40, 40))
    cut = cut_percentiles(volume, 2.0)
    assert (cut != volume).mean() == pytest.approx(0.04, abs=0.003)
    sloped = add_slope(volume, 3.0) - volume
    assert sloped[:, :, -1].mean() - sloped[:, :, 0].mean() == pytest.approx(3 * volume.std(), rel=1e-4)
    assert np.ptp(sloped, axis=1).max() < 1e-5
    across = add_slope(volume, 3.0, 90.0) - volume
    assert across[:, -1].mean() - across[:, 0].mean() == pytest.approx(3 * volume.std(), rel=1e-4)


def test_inverting_twice_gives_the_volume_back():
    volume = noise() + 7
    np.testing.assert_allclose(invert(invert(volume)), volume, atol=1e-5)
    assert np.corrcoef(invert(volume).ravel(), volume.ravel())[0, 1] == pytest.approx(-1)


def test_a_border_is_cropped_off_again():
    volume = noise() + 5
    assert (add_border(volume, 4)[0] == 0).all()
    assert add_border(volume, 4, "mean")[0, 0, 0] == pytest.approx(volume.mean(), rel=1e-5)
    np.testing.assert_array_equal(crop(add_border(volume, 4), 4), volume)
    np.testing.assert_array_equal(crop(volume, 0), volume)
    with pytest.raises(ValueError, match="fewer were expected"):
        crop(volume, 10)


@pytest.mark.parametrize("angle", [30.0, 90.0, -45.0])
def test_turned_volumes_have_their_bodies_where_turned_positions_say(angle):
    shape, place = (20, 60, 64), np.array([41.0, 22.0, 8.0])
    volume = np.zeros(shape, np.float32)
    volume[tuple(place[::-1].astype(int))] = 1.0
    turned = turn_about_z(ndimage.gaussian_filter(volume, 2.0), angle)
    expected = turned_position(place[None] * 8.0, angle, shape, 8.0)[0] / 8.0
    np.testing.assert_allclose(ndimage.center_of_mass(turned)[::-1], expected, atol=0.1)
    np.testing.assert_allclose(turned_position(expected[None] * 8, -angle, shape, 8.0)[0] / 8, place, atol=1e-9)
