"""RECONSTRUCT: its files and what it refuses."""

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.settings import ReconstructSettings
from template_learning.stages.reconstruct import read_angles, reconstruct_series

from ..builders import TILT_ANGLES, blobs_projected, write_tilt_series


def test_the_tomogram_shares_the_samples_box(tmp_path):
    sample = Grid(shape=(10, 20, 24), voxel_size_angstrom=16.0)
    pixel_grid = sample.resampled(6.5)
    point = np.array([60.0, -50.0, 35.0])
    images = blobs_projected([point / 6.5], TILT_ANGLES, pixel_grid.shape[1:], 25 / 6.5)
    series = write_tilt_series(
        tmp_path, images, TILT_ANGLES, 6.5, sample_shape_voxels=sample.shape, sample_voxel_size_angstrom=16.0
    )
    for voxel in (13.0, 10.0, 6.5):
        reconstruct_series(*series, "a", ReconstructSettings(voxel_size_angstrom=voxel), tmp_path / "out")
        tomogram, size = read_mrc(tmp_path / "out" / "a.mrc")
        grid = sample.resampled(voxel)
        assert (tomogram.shape, tomogram.dtype, size) == (grid.shape, np.float32, voxel)
        found = np.array(np.unravel_index(tomogram.argmin(), tomogram.shape))[::-1] * voxel
        assert np.abs(found - (grid.centre_angstrom + point)).max() <= voxel
        assert read_sidecar(tmp_path / "out" / "a.mrc")["shape_voxels"] == list(grid.shape)
    thick = ReconstructSettings(voxel_size_angstrom=13.0, thickness_angstrom=260.0)
    reconstruct_series(*series, "a", thick, tmp_path / "out")
    assert read_mrc(tmp_path / "out" / "a.mrc")[0].shape == (20, *sample.resampled(13.0).shape[1:])


def test_bad_series(tmp_path):
    images = np.zeros((len(TILT_ANGLES), 20, 20), np.float32)
    tilts, angles = write_tilt_series(tmp_path, images, TILT_ANGLES, 5.0)
    wide = ReconstructSettings(voxel_size_angstrom=10.0)
    with pytest.raises(BadInput, match="thickness_angstrom"):
        reconstruct_series(tilts, angles, "a", wide, tmp_path)
    with pytest.raises(BadInput, match="at least the pixel"):
        reconstruct_series(tilts, angles, "a", ReconstructSettings(voxel_size_angstrom=4.0), tmp_path)
    (tmp_path / "a.tlt").write_text("1\n2\n")
    with pytest.raises(BadInput, match="2 angles for the 41 images"):
        reconstruct_series(tilts, angles, "a", wide, tmp_path)
    for text in ("1\nx\n", "1\n120\n", "nan\n"):
        (tmp_path / "a.tlt").write_text(text)
        with pytest.raises(BadInput, match=r"a\.tlt"):
            read_angles(angles)
