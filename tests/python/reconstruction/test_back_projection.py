"""Back-projection: phantoms come back, and volumes are those of IMOD's tilt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.reconstruction.back_projection import back_project, resample_images, view_weights
from template_learning.stages.reconstruct import read_angles

from ..builders import TILT_ANGLES, blobs_projected


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_phantom_comes_back_where_it_was(seed):
    generator = np.random.default_rng(seed)
    point = generator.uniform((-20, -20, -10), (20, 20, 10))
    volume = back_project(blobs_projected([point], TILT_ANGLES, (64, 70), 2.0), TILT_ANGLES, (40, 64, 70))
    dark = np.array(np.unravel_index(ndimage.gaussian_filter(volume, 1).argmin(), volume.shape))
    found = (dark - (np.array(volume.shape) - 1) / 2)[::-1]
    assert np.abs(found - point).max() < 1
    # Handedness: the mirror image in z, which the other sense of the tilts would give, is elsewhere.
    assert volume[tuple(dark)] < volume.mean() - 5 * volume.std()


def test_thin_and_even_and_odd_boxes():
    images = blobs_projected([(0, 0, 0)], TILT_ANGLES, (33, 40), 2.0)
    for shape in ((1, 33, 40), (21, 33, 40), (20, 33, 31)):
        volume = back_project(images, TILT_ANGLES, shape)
        assert volume.shape == shape
        middle = ndimage.center_of_mass(volume < volume.min() * 0.7)
        np.testing.assert_allclose(middle, (np.array(shape) - 1) / 2, atol=0.6)


def test_views_count_by_the_tilt_about_them():
    np.testing.assert_allclose(view_weights(TILT_ANGLES), 1)
    angles = np.array([0.0, 3, 6, 9, 10, 11, 12, 15])
    weights = view_weights(angles)
    assert weights[4] < weights[1]
    shuffled = np.random.default_rng(0).permutation(len(angles))
    np.testing.assert_allclose(view_weights(angles[shuffled]), weights[shuffled])
    np.testing.assert_allclose(view_weights(np.array([7.0])), 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(16, 60), st.integers(16, 60), st.floats(1.0, 4.0), st.floats(1.0, 8.0), st.integers(0, 10**6))
def test_resampling_keeps_waves_below_the_new_limit_and_the_mean(height, width, ratio, pixel, seed):
    voxel = pixel * ratio
    shape = Grid(shape=(2, height, width), voxel_size_angstrom=pixel).resampled(voxel).shape[1:]

    def image(shape, size):
        y, x = (np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2) * size
        extent = np.array((height, width)) * pixel
        generator = np.random.default_rng(seed)
        total = np.full(shape, 5.0)
        for _ in range(4):
            n, m = (generator.integers(0, max(1, int(0.9 * e / voxel))) for e in extent)
            along_y = np.clip(y / extent[0] + 0.5, 0, 1)
            along_x = np.clip(x / extent[1] + 0.5, 0, 1)
            total += np.cos(np.pi * n * along_y) * np.cos(np.pi * m * along_x)
        return total

    found = resample_images(image((height, width), pixel)[None], pixel, shape, voxel)[0]
    np.testing.assert_allclose(found, image(shape, voxel), atol=2e-4)


def test_resampling_removes_what_the_new_pixels_cannot_hold():
    noise = np.random.default_rng(1).standard_normal((3, 120, 120)).astype(np.float32)
    found = resample_images(noise, 4.0, (40, 40), 12.0)
    assert found.std() == pytest.approx(1 / 3, rel=0.1)
    # On a whole ratio, away from the borders, it is the Fourier crop of the same image.
    spectrum = np.fft.fftshift(np.fft.fft2(noise[0]))[40:80, 40:80]
    row = np.fft.fftshift(np.fft.fftfreq(40))
    centre = np.exp(2j * np.pi * (row[:, None] + row) * (1 / 3))  # from voxel corner to voxel centre
    crop = np.fft.ifft2(np.fft.ifftshift(spectrum * centre)).real / 9
    assert np.corrcoef(crop[6:-6, 6:-6].ravel(), found[0, 6:-6, 6:-6].ravel())[0, 1] > 0.95


@pytest.mark.shared
def test_agrees_with_imods_tilt(shared_data):
    folder = shared_data / "imod_reference"
    series, _ = read_mrc(folder / "series_8A.mrc.gz")
    expected, _ = read_mrc(folder / "tomogram_cosinterp0.mrc.gz")
    found = back_project(series.astype(np.float32), read_angles(folder / "tilts.tlt"), expected.shape)
    difference = found - expected
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99999
    # The scale is IMOD's own too.
    assert difference.std() < 0.002 * expected.std()
    assert abs(difference.mean()) < 0.001 * expected.std()
    default, _ = read_mrc(folder / "tomogram_default.mrc.gz")
    assert np.corrcoef(found.ravel(), default.ravel())[0, 1] > 0.99
