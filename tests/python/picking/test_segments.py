import gzip
import io

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MeanShift
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.common.tables import PickRow
from template_learning.picking.annotations import read_annotations
from template_learning.picking.assignment import match
from template_learning.picking.calibration import choose_minimum_size
from template_learning.picking.meanshift import assign_to_nearest, mean_shift
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings, EvaluateSettings, SegmentSettings
from template_learning.stages.cluster import cluster_segmentation


def balls(shape, centres, radius):
    z, y, x = np.indices(shape)
    volume = np.zeros(shape, dtype=np.uint8)
    for c in centres:
        volume[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 <= radius**2] = 1
    return volume


def centres_apart(generator, count, shape, least, margin=0):
    centres = []
    while len(centres) < count:
        candidate = generator.uniform(margin, np.array(shape) - 1 - margin)
        if all(np.linalg.norm(candidate - other) > least for other in centres):
            centres.append(candidate)
    return np.array(centres)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([3.0, 4.5, 6.0]))
def test_mean_shift_has_the_modes_of_scikit_learn(seed, radius):
    generator = np.random.default_rng(seed)
    shape = (24, 36, 40)
    mask = balls(shape, centres_apart(generator, 6, shape, radius), radius) > 0
    mask ^= (generator.random(shape) < 0.1) & mask
    mask |= generator.random(shape) < 0.0005
    voxels = np.argwhere(mask)
    peer = MeanShift(bandwidth=radius, bin_seeding=True).fit(voxels)
    modes = mean_shift(voxels, radius)
    assert len(modes) == len(peer.cluster_centers_)
    apart = np.linalg.norm(modes[:, None] - peer.cluster_centers_[None], axis=2)
    assert apart.min(axis=1).max() < 0.5
    assert apart.min(axis=0).max() < 0.5
    assert (assign_to_nearest(voxels, modes, radius) == peer.labels_).mean() > 0.999


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([2.0, 7.3]))
def test_nearest_of_scattered_centres(seed, radius):
    generator = np.random.default_rng(seed)
    voxels = np.argwhere(generator.random((12, 20, 25)) < 0.1) + generator.integers(-5, 300, 3)
    centres = generator.uniform(voxels.min(axis=0) - 4, voxels.max(axis=0) + 4, (generator.integers(1, 12), 3))
    distance = np.linalg.norm(voxels[:, None] - centres[None], axis=2)
    np.testing.assert_array_equal(assign_to_nearest(voxels, centres, radius), distance.argmin(axis=1))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_mean_shift_of_next_to_nothing(count):
    voxels = np.array([(3, 4, 5), (9, 9, 90)])[:count]
    np.testing.assert_array_equal(np.sort(mean_shift(voxels, 6.0), axis=0), np.sort(voxels, axis=0))


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
    probability = np.full(volume.shape, 0.8, dtype=np.float32)
    probability[15:18, 15:18, 15:17] = 0.4
    picks = find_picks(volume, probability, 10.0, ClusterSettings(radius_voxels=3), {1: 50, 2: 27})
    found = {(p.class_id, p.size_voxels): p for p in picks}
    assert set(found) == {(1, 125), (2, 125), (2, 27), (1, 9)}
    assert not found[1, 9].selected
    assert found[2, 27].selected
    assert found[2, 27].touches_edge
    assert not found[1, 125].touches_edge
    one = found[2, 125]
    assert (one.x_angstrom, one.y_angstrom, one.z_angstrom) == pytest.approx((120, 70, 70))
    assert [p.pick for p in picks] == [1, 2, 3, 4]


def test_files_and_the_threshold_carried_along(tmp_path):
    volume = balls((20, 24, 28), [(8, 8, 8), (8, 15, 20)], 3)
    volume[18:20, 20:22, 3:5] = 1
    likely = np.full(volume.shape, 0.9, np.float32)
    likely[:, 12:, 16:] = 0.7  # the second ball
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.probability.mrc", likely, 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.probability.mrc")
    for facts, asked, selected, origin in [
        ({}, None, 3, "none"),
        ({"minimum_size_voxels": {1: 20}}, None, 2, "model"),
        ({"minimum_size_voxels": {1: 20}}, 500, 0, "settings"),
        ({"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}}, None, 2, "model"),
        ({"minimum_size_voxels": {1: 20}, "minimum_score": {1: 0.8}}, None, 1, "model"),
        ({"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}}, 20, 2, "settings"),
    ]:
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **facts)
        cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, minimum_size_voxels=asked), tmp_path)
        picks = read_table(tmp_path / "a.picks.csv", PickRow)
        assert len(picks) == 3
        assert sum(pick.selected for pick in picks) == selected
        beside = read_sidecar(tmp_path / "a.picks.csv")
        assert beside["selected"] == selected
        assert beside["minimum_size_from"].startswith(origin)
        assert beside["shape_voxels"] == [20, 24, 28]


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({}, None, None),
        ({"probability": 0.5}, None, "with cluster.probability = 0.1, and here is cluster.probability = 0.5;"),
        ({"method": "meanshift"}, None, "with cluster.method = watershed, and here is cluster.method = meanshift;"),
        ({"probability": 0.5}, 20, None),
    ],
)
def test_a_models_threshold_is_for_segments_found_as_it_was_chosen(tmp_path, changes, size, words):
    volume = balls((20, 20, 20), [(10, 10, 10)], 3)
    write_mrc(tmp_path / "s.mrc", volume, 5.0)
    write_mrc(tmp_path / "p.mrc", volume * np.float32(0.7), 5.0)
    by = {"segment.target_probability": 0.1, "cluster.method": "watershed", "cluster.probability": 0.1}
    facts = {"minimum_size_voxels": {"1": 5}, "segments_by": by}
    chosen = ClusterSettings(**{"probability": 0.1, "minimum_size_voxels": size, **changes})

    def cluster(segment):
        write_sidecar(tmp_path / "s.mrc", stage="segment", item="a", seed=None, settings=segment, **facts)
        cluster_segmentation(tmp_path / "s.mrc", tmp_path / "p.mrc", "a", chosen, tmp_path)

    if words is None:
        cluster(SegmentSettings(target_probability=0.1))
        (tmp_path / "a.picks.csv").unlink()
    else:
        with pytest.raises(BadInput, match="s.mrc: the model's threshold was chosen " + words):
            cluster(SegmentSettings(target_probability=0.1))
    if size is None:
        with pytest.raises(BadInput, match=r"segment\.target_probability = none"):
            cluster(SegmentSettings())
        assert not (tmp_path / "a.picks.csv").exists()


def test_selection_by_the_expected_f1(tmp_path):
    volume = balls((20, 24, 40), [(8, 8, 8), (8, 15, 20), (8, 10, 32)], 3)
    likely = np.full(volume.shape, 0.9, np.float32)
    likely[..., 14:26] = 0.7
    likely[..., 26:] = 0.6
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.probability.mrc", likely, 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.probability.mrc")
    chosen = ClusterSettings(radius_voxels=3, select="expected_f1")
    for steps, selected in [
        ([(0.5, 0.1), (0.65, 0.2), (0.8, 0.9)], 1),  # 0.9 / 1.1 before 1.1 / 1.6
        ([(0.5, 0.1), (0.65, 0.6), (0.8, 0.9)], 2),
        ([(0.5, 0.3)], 3),  # a tomogram where nothing is surer than that
        ([(0.5, 0.2)], 0),  # nor even that
        ([(0.5, 0.2), (0.65, 0.26)], 2),
        ([(0.95, 0.9)], 0),
    ]:
        facts = {"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}, "score_probability": {1: steps}}
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **facts)
        cluster_segmentation(*files, "a", chosen, tmp_path)
        picks = read_table(tmp_path / "a.picks.csv", PickRow)
        assert sum(pick.selected for pick in picks) == selected
        assert all(pick.selected == (rank < selected) for rank, pick in enumerate(sorted(picks, key=lambda one: -one.score)))
        beside = read_sidecar(tmp_path / "a.picks.csv")
        assert "expected F1" in beside["minimum_size_from"]
        least = beside["minimum_score"]["1"]
        assert sum(pick.score >= least - 1e-6 for pick in picks) == selected
    write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, minimum_size_voxels={1: 20})
    with pytest.raises(BadInput, match=r"evaluate.rank = score was expected"):
        cluster_segmentation(*files, "a", chosen, tmp_path)


def test_a_crumb_is_less_likely_right_than_a_whole_molecule_where_the_model_knows_what_is_whole(tmp_path):
    """Three balls as sure as each other, of radius 5, 3 and 2: the volume of the second is whole."""
    volume = balls((20, 24, 40), [(8, 8, 8)], 5) | balls((20, 24, 40), [(8, 10, 24)], 3) | balls((20, 24, 40), [(8, 10, 34)], 2)
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.probability.mrc", np.full(volume.shape, 0.8, np.float32), 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.probability.mrc")
    facts = {"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.5}, "score_probability": {1: [(0.1, 0.1), (0.7, 0.9)]}}
    large, whole, crumb = (len(np.argwhere(balls((20, 24, 24), [(8, 10, 10)], radius))) for radius in (5, 3, 2))
    for size, taken in ((None, 3), (whole, 2), (large, 1)):
        more = {} if size is None else {"whole_size_voxels": {1: size}}
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **facts, **more)
        for select, count in (("threshold", 3), ("expected_f1", taken)):
            cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, select=select), tmp_path)
            picks = read_table(tmp_path / "a.picks.csv", PickRow)
            assert [pick.size_voxels for pick in picks] == [large, whole, crumb]
            assert [pick.score for pick in picks] == pytest.approx([0.8] * 3, abs=1e-4)
            assert [pick.selected for pick in picks] == [number < count for number in range(3)]
            assert read_sidecar(tmp_path / "a.picks.csv")["minimum_score"]["1"] == pytest.approx(
                0.8 if select == "expected_f1" else 0.5
            )


def test_an_empty_segmentation_and_one_of_another_shape(tmp_path):
    empty = np.zeros((8, 8, 8), dtype=np.uint8)
    for method in ("watershed", "meanshift"):
        assert find_picks(empty, empty * 1.0, 1.0, ClusterSettings(method=method), {}) == []
    write_mrc(tmp_path / "s.mrc", empty, 8.0)
    write_mrc(tmp_path / "p.mrc", np.zeros((8, 8, 9), np.float32), 8.0)
    with pytest.raises(BadInput, match=r"shape \(8, 8, 9\)"):
        cluster_segmentation(tmp_path / "s.mrc", tmp_path / "p.mrc", "a", ClusterSettings(), tmp_path)


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
