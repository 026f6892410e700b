"""Template matching: templates, peaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from scipy import ndimage
from template_learning.settings import MatchCommandSettings
from template_learning.structures.library import read_library
from template_learning.template_matching.search import TiltSeriesOptics, chosen_templates, find_peaks, template_in_box

from ..builders import IMAGED, MATCHED_VOXEL, rods_of_two_classes


@checks(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31), st.floats(8, 40), st.integers(1, 60))
def test_peaks_are_the_best_of_their_surroundings_and_no_maximum_is_lost(seed, radius, most):
    generator = np.random.default_rng(seed)
    scores = ndimage.gaussian_filter(generator.standard_normal((9, 12, 15)), 0.8).astype(np.float32)
    classes = generator.integers(1, 3, scores.shape).astype(np.int16)
    picks = find_peaks(scores, classes, MATCHED_VOXEL, radius, most, 0.1)
    position = np.array([(pick.z_angstrom, pick.y_angstrom, pick.x_angstrom) for pick in picks])
    value = np.array([pick.score for pick in picks])
    assert (np.diff(value) <= 0).all()
    apart = np.linalg.norm(position[:, None] - position[None], axis=2)[np.triu_indices(len(picks), 1)]
    assert (apart > radius).all()
    voxel = tuple((position / MATCHED_VOXEL).round().astype(int).T)
    assert [pick.class_id for pick in picks] == list(classes[voxel])
    assert value == pytest.approx(scores[voxel])
    assert [pick.selected for pick in picks] == list(value >= 0.1)
    if len(picks) < most:
        maxima = np.argwhere(scores == ndimage.maximum_filter(scores, 3)) * MATCHED_VOXEL
        near = np.linalg.norm(maxima[:, None] - position[None], axis=2) <= radius
        best = np.where(near, value[None], -np.inf).max(axis=1)
        assert (best >= scores[tuple((maxima / MATCHED_VOXEL).astype(int).T)]).all()


def test_the_template_lies_in_the_middle_of_an_odd_box_that_holds_what_defocus_spreads():
    position = np.random.default_rng(1).uniform(-50, 50, (300, 3))
    position -= position.mean(axis=0)
    element = np.full(300, 6, np.uint8)
    density, mask = template_in_box(position, element, MATCHED_VOXEL, IMAGED, MatchCommandSettings())
    edge = density.shape[0]
    assert density.shape == mask.shape == (edge,) * 3
    assert edge % 2 == 1
    assert ndimage.center_of_mass(density) == pytest.approx([(edge - 1) / 2] * 3, abs=0.05)
    assert mask[density > 0.05 * density.max()].min() == 1
    assert np.array_equal(mask, mask.transpose(2, 0, 1))
    assert np.array_equal(mask, mask[::-1])
    spread = 0.0197 * 25000 / 16  # wavelength times defocus over Nyquist's period
    assert edge * MATCHED_VOXEL / 2 > np.linalg.norm(position, axis=1).max() + spread
    sharp = template_in_box(
        position, element, MATCHED_VOXEL, TiltSeriesOptics(**{**vars(IMAGED), "defocus_um": None}), MatchCommandSettings()
    )[0]
    assert sharp.shape[0] < edge


def test_tilts_of_settings():
    taken = TiltSeriesOptics.of_settings(MatchCommandSettings(tilt_range_deg=60, tilt_step_deg=4, defocus_um=-3))
    assert len(taken.angles_deg) == 31
    assert (taken.angles_deg[0], taken.angles_deg[-1], taken.defocus_um) == (-60, 60, -3)
    assert TiltSeriesOptics.of_settings(MatchCommandSettings(tilt_range_deg=50, tilt_step_deg=3)).angles_deg[-1] == 48


def test_first_templates_of_every_class_in_their_first_conformers(tmp_path):
    library = read_library([rods_of_two_classes(tmp_path)])
    assert [entry.row.molecule for entry in chosen_templates(library, 1)] == ["b_c000", "a"]
    assert [entry.row.molecule for entry in chosen_templates(library, 5)] == ["b_c000", "c", "a"]
