"""Slices, spectra and pictures of tomograms."""

import numpy as np
import pytest
from template_learning.report.slices import Picture, cut, slab


def test_planes():
    volume = np.random.default_rng(2).normal(size=(9, 11, 13)).astype(np.float32)
    xy = slab(volume, 5.0, "xy", 20.0, 15.0)
    np.testing.assert_allclose(xy.pixels, volume[3:6].mean(axis=0), rtol=1e-5)
    xz = cut(volume, 5.0, "xz", 33.0)
    np.testing.assert_array_equal(xz.pixels, volume[:, 7])
    places, distance = xz.split(np.array([[10.0, 30.0, 40.0]]))
    np.testing.assert_allclose(places, [[10.0, 40.0]])
    np.testing.assert_allclose(distance, [-5.0])
    assert cut(np.zeros((4, 5, 6), np.int16), 1.0, "xy", 99.0).pixels.dtype == np.int16


def test_binned_pictures_stay_where_they_were():
    pixels = np.zeros((12, 12), np.float32)
    pixels[4:6, 8:10] = 1.0  # about x = 8.5, y = 4.5 pixels
    small = Picture(pixels, 3.0, "xy", 0.0).at_most(6)
    y, x = (int(index[0]) for index in np.nonzero(small.pixels))
    assert small.origin_angstrom[0] + x * small.pixel_size_angstrom == pytest.approx(8.5 * 3)
    assert small.origin_angstrom[1] + y * small.pixel_size_angstrom == pytest.approx(4.5 * 3)
    assert small.extent_angstrom == Picture(pixels, 3.0, "xy", 0.0).extent_angstrom
