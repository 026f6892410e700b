"""RECONSTRUCT: its files and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.settings import ReconstructSettings, TreatmentSettings
from template_learning.stages.reconstruct import read_angles, reconstruct_series

from ..builders import TILT_ANGLES, blobs_projected, design_row, write_tilt_series


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


def simulated(folder: Path, **changes: object) -> tuple[Path, Path]:
    images = np.random.default_rng(1).poisson(40, (len(TILT_ANGLES), 40, 40)).astype(np.float32)
    metadata = {
        "row": design_row(defocus_um=-3.0).model_dump(),
        "dose_per_tilt": 3.0,
        "acquisition_order": [*range(len(TILT_ANGLES))],
    }
    return write_tilt_series(
        folder,
        images,
        TILT_ANGLES,
        5.0,
        **(metadata | changes),
        sample_shape_voxels=(10, 20, 20),
        sample_voxel_size_angstrom=10.0,
    )


def test_a_treatment_is_done_with_the_series_own_defocus_and_told(tmp_path):
    series = simulated(tmp_path)
    volumes = {}
    for name, treatment in {
        "plain": {},
        "right": {"ctf_correction": "phase_flip"},
        "wrong": {"ctf_correction": "phase_flip", "defocus_error_um": 1.0},
        "border": {"border_voxels": 3, "grey_values": "uint8", "shift_error_angstrom": 5.0},
    }.items():
        asked = ReconstructSettings(voxel_size_angstrom=10.0, treatment=TreatmentSettings(**treatment))
        reconstruct_series(*series, name, asked, tmp_path / "out", root_seed=3)
        volumes[name], _ = read_mrc(tmp_path / "out" / f"{name}.mrc")
        metadata = read_sidecar(tmp_path / "out" / f"{name}.mrc")
        assert (metadata["seed"], metadata["shape_voxels"]) == (3, list(volumes[name].shape))
        assert metadata["settings"]["treatment"] == asked.treatment.model_dump(mode="json")
    assert volumes["border"].shape == (16, 26, 26)
    assert volumes["border"].max() == 255
    assert np.abs(volumes["right"] - volumes["plain"]).max() > 0.1
    assert np.abs(volumes["right"] - volumes["wrong"]).max() > 0.1


def test_a_treatment_that_needs_what_the_sidecar_does_not_tell_is_refused(tmp_path):
    series = write_tilt_series(tmp_path, np.ones((len(TILT_ANGLES), 20, 20), np.float32), TILT_ANGLES, 5.0)
    for treatment, problem in (
        ({"dose_weighting": True}, r"a\.tilts\.mrc\.json: row, settings and doses"),
        ({"lowest_tilt_deg": 58}, r"1 tilts of .*a\.tilts\.mrc are left"),
    ):
        asked = ReconstructSettings(voxel_size_angstrom=10.0, thickness_angstrom=100, treatment=TreatmentSettings(**treatment))
        with pytest.raises(BadInput, match=problem):
            reconstruct_series(*series, "a", asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    series = simulated(tmp_path, acquisition_order=[0, 1])
    asked = ReconstructSettings(voxel_size_angstrom=10.0, treatment=TreatmentSettings(dose_weighting=True))
    with pytest.raises(BadInput, match="acquisition_order has 2 tilts, 41 were expected"):
        reconstruct_series(*series, "a", asked, tmp_path / "out")
