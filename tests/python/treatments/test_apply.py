"""A way to make a tomogram, chosen by settings: each does what the single treatments do."""

import numpy as np
import pytest
from pydantic import ValidationError
from template_learning.reconstruction.back_projection import back_project, resample_images
from template_learning.settings import ReconstructSettings, TreatmentSettings
from template_learning.simulation.optics import Lens
from template_learning.treatments.apply import TiltSeries, kept_views, needs_optics, treated_tomogram

from ..builders import TILT_ANGLES

SHAPE = (12, 24, 24)
CHANGES = [
    {"lowest_tilt_deg": -45, "highest_tilt_deg": 30},
    {"every_nth_tilt": 2},
    {"shift_error_angstrom": 8.0},
    {"rotation_error_deg": 1.0},
    {"ctf_correction": "phase_flip"},
    {"ctf_correction": "wiener", "wiener_signal_to_noise": 2.0},
    {"ctf_correction": "phase_flip", "ctf_strip_angstrom": 40.0},
    {"dose_weighting": True},
    {"binning": "plain"},
    {"method": "sirt", "iterations": 3},
    {"radial_filter": "hamming_like"},
    {"radial_filter": "sirt_like", "iterations": 20},
    {"deconvolution": "warp"},
    {"deconvolution": "isonet"},
    {"gaussian_voxels": 1.0},
    {"median_voxels": 3},
    {"total_variation_sigma": 0.5},
    {"diffusion_iterations": 3},
    {"non_local_means_sigma": 0.8},
    {"slope_sigma": 2.0},
    {"cut_percent": 2.0},
    {"border_voxels": 2},
    {"grey_values": "uint8"},
    {"grey_values": "int16"},
]


def series() -> TiltSeries:
    images = np.random.default_rng(1).poisson(50, (len(TILT_ANGLES), 48, 48)).astype(np.float32)
    return TiltSeries(images, TILT_ANGLES, 4.0, Lens(defocus_angstrom=-25000.0), 0.07, np.arange(len(TILT_ANGLES)) * 3.0)


def treated(**changes):
    return treated_tomogram(series(), SHAPE, 24, 8.0, TreatmentSettings(**changes), np.random.default_rng(5))


def test_without_treatment_it_is_plain_back_projection():
    binned = resample_images(series().images, 4.0, (24, 24), 8.0)
    np.testing.assert_array_equal(treated(), back_project(binned, TILT_ANGLES, SHAPE))


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_setting_changes_the_tomogram_and_it_stays_usable(changes):
    plain, found = treated(), treated(**changes)
    assert found.shape == tuple(count + 2 * changes.get("border_voxels", 0) for count in SHAPE)
    assert found.dtype == changes.get("grey_values", "float32")
    assert np.isfinite(found).all()
    assert found.std() > 0
    assert found.shape != plain.shape or np.abs(found - plain).max() > 1e-3 * plain.std()
    np.testing.assert_array_equal(found, treated(**changes))


def test_every_setting_is_tried():
    tried = {name for changes in CHANGES for name in changes}
    by_others = {"defocus_error_um", "deconvolution_strength", "deconvolution_falloff", "border"}
    assert tried | by_others == set(TreatmentSettings.model_fields)


@pytest.mark.parametrize("changes", [{"ctf_correction": "phase_flip"}, {"deconvolution": "isonet"}])
def test_a_wrong_defocus_is_believed(changes):
    assert np.abs(treated(**changes, defocus_error_um=0.8) - treated(**changes)).max() > 0.01 * treated().std()


def test_the_tilts_that_are_kept():
    angles = np.array([10.0, -30.0, 0.0, 50.0, -10.0])
    assert kept_views(angles, TreatmentSettings()).tolist() == [0, 1, 2, 3, 4]
    assert kept_views(angles, TreatmentSettings(lowest_tilt_deg=-15, highest_tilt_deg=20)).tolist() == [0, 2, 4]
    # By angle: -30, -10, 0, 10, 50.
    assert kept_views(angles, TreatmentSettings(every_nth_tilt=2)).tolist() == [1, 2, 3]


def test_only_what_needs_the_microscope_asks_for_it():
    asking = [changes for changes in CHANGES if needs_optics(TreatmentSettings.model_validate(changes))]
    assert all({"ctf_correction", "deconvolution", "dose_weighting"} & set(changes) for changes in asking)
    assert len(asking) == 6


def test_settings_that_cannot_be():
    with pytest.raises(ValidationError, match="a lower one first"):
        TreatmentSettings(lowest_tilt_deg=10, highest_tilt_deg=-10)
    with pytest.raises(ValidationError, match="engine = native was expected"):
        ReconstructSettings(engine="imod", treatment=TreatmentSettings(gaussian_voxels=1))
