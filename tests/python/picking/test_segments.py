"""Segments of the network's classes: one for each particle, also where they touch."""

import gzip
import io

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from template_learning.common.geometry import Grid
from template_learning.picking.annotations import read_annotations
from template_learning.picking.assignment import match
from template_learning.picking.calibration import choose_minimum_size
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings, EvaluateSettings

from ..builders import balls, centres_apart


@pytest.mark.parametrize("method", ["watershed", "meanshift"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_balls_that_touch_are_found_one_by_one(method, seed):
    generator = np.random.default_rng(seed)
    shape, radius = (40, 60, 70), 6.0
    centres = centres_apart(generator, 12, shape, 1.75 * radius, margin=radius)
    volume = balls(shape, centres, radius)
    picks = find_picks(volume, volume * 0.9, 2.0, ClusterSettings(method=method, radius_voxels=radius), {1: 1})
    assert len(picks) == len(centres)
    found = np.array([(p.z_angstrom, p.y_angstrom, p.x_angstrom) for p in picks]) / 2.0
    apart = np.linalg.norm(found[:, None] - centres[None], axis=2)
    assert (apart.min(axis=0) < radius / 2).all()
    assert sum(p.size_voxels for p in picks) == volume.sum()
    assert all(abs(p.score - 0.9) < 1e-6 for p in picks)
    assert all(abs(p.mean_probability - expit(0.9)) < 1e-6 for p in picks)


def test_a_disc_or_rod_longer_than_the_radius_stays_one():
    z, y, x = np.indices((30, 50, 50)) - np.array([15, 25, 25])[:, None, None, None]
    generator = np.random.default_rng(2)
    disc = (np.hypot(y, x) < 9 + generator.normal(0, 0.6, z.shape)) & (abs(z) <= 3)
    rod = (np.hypot(z, y) < 4 + generator.normal(0, 0.4, z.shape)) & (abs(x) <= 18)
    for volume in (disc, rod):
        picks = find_picks(volume.astype(np.uint8), volume * 1.0, 1.0, ClusterSettings(radius_voxels=6), {})
        assert sum(p.size_voxels > 50 for p in picks) == 1


def test_classes_probability_edges_and_threshold():
    volume = np.zeros((20, 20, 30), dtype=np.int8)
    volume[5:10, 5:10, 5:10] = 1
    volume[5:10, 5:10, 10:15] = 2
    volume[0:3, 0:3, 20:23] = 2
    volume[15:18, 15:18, 15:18] = 1
    log_odds = np.full(volume.shape, 1.4, dtype=np.float32)
    log_odds[15:18, 15:18, 15:17] = -0.4
    picks = find_picks(volume, log_odds, 10.0, ClusterSettings(radius_voxels=3), {1: 50, 2: 27})
    found = {(p.class_id, p.size_voxels): p for p in picks}
    assert set(found) == {(1, 125), (2, 125), (2, 27), (1, 9)}
    assert not found[1, 9].selected
    assert found[2, 27].selected
    assert found[2, 27].touches_edge
    assert not found[1, 125].touches_edge
    one = found[2, 125]
    assert (one.x_angstrom, one.y_angstrom, one.z_angstrom) == pytest.approx((120, 70, 70))
    assert [p.pick for p in picks] == [1, 2, 3, 4]


@pytest.mark.shared
def test_objects_of_published_label_maps(shared_data):
    """DeepFinder's predictions of 2019: nine kinds of molecules, some of several lobes, many touching."""
    folder = shared_data / "tomograms/deepfinder_2019"
    grid = Grid(shape=(100, 100, 100), voxel_size_angstrom=1.0)
    picks, truth = {}, {}
    for name in ("tomo1", "tomo2", "tomo3"):
        truth[name] = read_annotations(folder / f"{name}_objlist.xml", name, grid)
        with h5py.File(io.BytesIO(gzip.open(folder / f"result_{name}_labelmap.h5.gz").read())) as stored:
            # These files hold [x, y, z].
            labels = np.ascontiguousarray(stored["dataset"][:].transpose(2, 1, 0))
        picks[name] = find_picks(labels, np.ones(labels.shape, np.float32), 1.0, ClusterSettings(radius_voxels=6), {})
    minimum = choose_minimum_size(picks, truth, dict.fromkeys(picks, grid), EvaluateSettings(match_radius_voxels=6))
    matched = selected = 0
    for name, found in picks.items():
        for class_id in range(1, 10):
            kept = [p for p in found if p.class_id == class_id and p.size_voxels >= minimum[class_id]]
            there = [t for t in truth[name] if t.class_id == class_id]
            places = [
                np.array([(r.x_angstrom, r.y_angstrom, r.z_angstrom) for r in rows]).reshape(-1, 3) for rows in (kept, there)
            ]
            matched += len(match(*places, 6.0))
            selected += len(kept)
    assert 2 * matched / (selected + sum(map(len, truth.values()))) > 0.97
