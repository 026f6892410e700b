"""CLUSTER: its files, and the threshold that the model carries along."""

import numpy as np
import pytest
from scipy.special import logit
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.common.tables import PickRow
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings, SegmentSettings
from template_learning.stages.cluster import cluster_segmentation

from ..builders import balls


def test_files_and_the_threshold_carried_along(tmp_path):
    volume = balls((20, 24, 28), [(8, 8, 8), (8, 15, 20)], 3)
    volume[18:20, 20:22, 3:5] = 1
    likely = np.full(volume.shape, 0.9, np.float32)
    likely[:, 12:, 16:] = 0.7  # the second ball
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", logit(likely), 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.log_odds.mrc")
    for metadata, asked, selected, origin in [
        ({}, None, 3, "none"),
        ({"minimum_size_voxels": {1: 20}}, None, 2, "model"),
        ({"minimum_size_voxels": {1: 20}}, 500, 0, "settings"),
        ({"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}}, None, 2, "model"),
        ({"minimum_size_voxels": {1: 20}, "minimum_score": {1: 0.8}}, None, 1, "model"),
        ({"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}}, 20, 2, "settings"),
    ]:
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **metadata)
        cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, minimum_size_voxels=asked), tmp_path)
        picks = read_table(tmp_path / "a.picks.csv", PickRow)
        assert len(picks) == 3
        assert sum(pick.selected for pick in picks) == selected
        beside = read_sidecar(tmp_path / "a.picks.csv")
        assert beside["selected"] == selected
        assert beside["minimum_size_from"].startswith(origin)
        assert beside["shape_voxels"] == [20, 24, 28]


def test_probabilities_as_0_1_0_wrote_them_give_the_same_picks(tmp_path):
    volume = balls((20, 24, 28), [(8, 8, 8), (8, 15, 20)], 3)
    likely = np.where(np.arange(28) < 14, np.float32(0.9), np.float32(1.0)) * np.ones(volume.shape, np.float32)
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_sidecar(tmp_path / "a.segmentation.mrc", stage="segment", item="a", seed=None, settings={})
    write_mrc(tmp_path / "a.probability.mrc", likely, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", logit(np.minimum(likely, np.float32(1 - 2.0**-24))), 8.0)
    for name in ("probability", "log_odds"):
        files = tmp_path / "a.segmentation.mrc", tmp_path / f"a.{name}.mrc"
        cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3), tmp_path / name)
    old, new = (read_table(tmp_path / name / "a.picks.csv", PickRow) for name in ("probability", "log_odds"))
    assert len(old) == 2
    for one, other in zip(old, new, strict=True):
        assert one.model_dump() == pytest.approx(other.model_dump(), rel=1e-5)


def test_a_score_given_by_hand_stands_in_for_what_the_model_selects_by(tmp_path):
    """Three balls of falling score and size; the model would take the first alone."""
    volume = balls((20, 24, 40), [(8, 8, 8)], 5) | balls((20, 24, 40), [(8, 10, 24)], 3) | balls((20, 24, 40), [(8, 10, 34)], 2)
    likely = np.full(volume.shape, 0.9, np.float32)
    likely[..., 16:] = 0.7
    likely[..., 30:] = 0.6
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", logit(likely), 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.log_odds.mrc")
    by = {"segment.probability_threshold": 0.4, "cluster.method": "meanshift"}  # for segments found otherwise
    metadata = {"minimum_size_voxels": {1: 400}, "minimum_score": {1: 0.8}, "score_probability": {1: [(0.1, 0.9)]}}
    write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, segments_by=by, **metadata)
    whole = len(np.argwhere(balls((20, 24, 24), [(8, 10, 10)], 3)))
    for asked, taken in (
        ({"minimum_mean_probability": 0.95}, 0),
        ({"minimum_mean_probability": 0.8}, 1),
        ({"minimum_mean_probability": 0.65}, 2),
        ({"minimum_mean_probability": 0.0}, 3),
        ({"minimum_mean_probability": 0.5, "minimum_size_voxels": whole}, 2),
        ({"minimum_mean_probability": 0.8, "minimum_size_voxels": 1}, 1),
        ({"minimum_mean_probability": 0.65, "chosen_by": "expected_f1"}, 2),
    ):
        cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, **asked), tmp_path)
        picks = read_table(tmp_path / "a.picks.csv", PickRow)
        assert [pick.selected for pick in picks] == [number < taken for number in range(3)], asked
        beside = read_sidecar(tmp_path / "a.picks.csv")
        assert beside["minimum_size_from"] == "settings"
        assert beside["minimum_score"] == {"1": asked["minimum_mean_probability"]}
        assert beside["minimum_size_voxels"] == {"1": asked.get("minimum_size_voxels", 1)}


def test_a_segmentation_of_0_1_0_is_checked_by_its_old_names(tmp_path):
    volume = balls((20, 20, 20), [(10, 10, 10)], 3)
    write_mrc(tmp_path / "s.mrc", volume, 5.0)
    write_mrc(tmp_path / "p.mrc", np.where(volume > 0, logit(np.float32(0.7)), np.float32(-9)), 5.0)
    by = {"segment.target_probability": 0.1, "cluster.method": "watershed", "cluster.probability": 0.1}
    metadata = {"minimum_size_voxels": {"1": 5}, "segments_by": by}
    write_sidecar(tmp_path / "s.mrc", stage="segment", item="a", seed=None, settings={"target_probability": 0.1}, **metadata)
    files = (tmp_path / "s.mrc", tmp_path / "p.mrc")
    cluster_segmentation(*files, "a", ClusterSettings(probability_threshold=0.1), tmp_path)
    assert [pick.selected for pick in read_table(tmp_path / "a.picks.csv", PickRow)] == [True]
    with pytest.raises(
        BadInput, match=r"with cluster\.probability_threshold = 0\.1, and here is cluster\.probability_threshold = 0\.5"
    ):
        cluster_segmentation(*files, "a", ClusterSettings(), tmp_path)
    write_sidecar(tmp_path / "s.mrc", stage="segment", item="a", seed=None, settings={"target_probability": None}, **metadata)
    with pytest.raises(
        BadInput, match=r"with segment\.probability_threshold = 0\.1, and here is segment\.probability_threshold = none"
    ):
        cluster_segmentation(*files, "a", ClusterSettings(probability_threshold=0.1), tmp_path)


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({}, None, None),
        (
            {"probability_threshold": 0.5},
            None,
            "with cluster.probability_threshold = 0.1, and here is cluster.probability_threshold = 0.5;",
        ),
        ({"method": "meanshift"}, None, "with cluster.method = watershed, and here is cluster.method = meanshift;"),
        ({"probability_threshold": 0.5}, 20, None),
    ],
)
def test_a_models_threshold_is_for_segments_found_as_it_was_chosen(tmp_path, changes, size, words):
    volume = balls((20, 20, 20), [(10, 10, 10)], 3)
    write_mrc(tmp_path / "s.mrc", volume, 5.0)
    write_mrc(tmp_path / "p.mrc", np.where(volume > 0, logit(np.float32(0.7)), np.float32(-9)), 5.0)
    by = {"segment.probability_threshold": 0.1, "cluster.method": "watershed", "cluster.probability_threshold": 0.1}
    metadata = {"minimum_size_voxels": {"1": 5}, "segments_by": by}
    chosen = ClusterSettings(**{"probability_threshold": 0.1, "minimum_size_voxels": size, **changes})

    def cluster(segment):
        write_sidecar(tmp_path / "s.mrc", stage="segment", item="a", seed=None, settings=segment, **metadata)
        cluster_segmentation(tmp_path / "s.mrc", tmp_path / "p.mrc", "a", chosen, tmp_path)

    if words is None:
        cluster(SegmentSettings(probability_threshold=0.1))
        (tmp_path / "a.picks.csv").unlink()
    else:
        with pytest.raises(BadInput, match="s.mrc: the model's threshold was chosen " + words):
            cluster(SegmentSettings(probability_threshold=0.1))
    if size is None:
        with pytest.raises(BadInput, match=r"segment\.probability_threshold = none"):
            cluster(SegmentSettings())
        assert not (tmp_path / "a.picks.csv").exists()


def test_an_empty_segmentation_and_one_of_another_shape(tmp_path):
    empty = np.zeros((8, 8, 8), dtype=np.uint8)
    for method in ("watershed", "meanshift"):
        assert find_picks(empty, empty * 1.0, 1.0, ClusterSettings(method=method), {}) == []
    write_mrc(tmp_path / "s.mrc", empty, 8.0)
    write_mrc(tmp_path / "p.mrc", np.zeros((8, 8, 9), np.float32), 8.0)
    with pytest.raises(BadInput, match=r"shape \(8, 8, 9\)"):
        cluster_segmentation(tmp_path / "s.mrc", tmp_path / "p.mrc", "a", ClusterSettings(), tmp_path)
