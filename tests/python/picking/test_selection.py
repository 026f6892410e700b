"""Which picks are taken: by a threshold and by the highest expected F1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.common.tables import PickRow
from template_learning.picking.assignment import expected_f1_count
from template_learning.picking.selection import Selection, expected_figures
from template_learning.settings import ClusterSettings
from template_learning.stages.cluster import cluster_segmentation

from ..builders import balls, pick


def test_selection_by_the_expected_f1(tmp_path):
    volume = balls((20, 24, 40), [(8, 8, 8), (8, 15, 20), (8, 10, 32)], 3)
    likely = np.full(volume.shape, 0.9, np.float32)
    likely[..., 14:26] = 0.7
    likely[..., 26:] = 0.6
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", logit(likely), 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.log_odds.mrc")
    chosen = ClusterSettings(radius_voxels=3, chosen_by="expected_f1")
    for steps, selected in [
        ([(0.5, 0.1), (0.65, 0.2), (0.8, 0.9)], 1),  # 0.9 / 1.1 before 1.1 / 1.6
        ([(0.5, 0.1), (0.65, 0.6), (0.8, 0.9)], 2),
        ([(0.5, 0.3)], 3),  # a tomogram where nothing is surer than that
        ([(0.5, 0.2)], 0),  # nor even that
        ([(0.5, 0.2), (0.65, 0.26)], 2),
        ([(0.95, 0.9)], 0),
    ]:
        metadata = {"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.8}, "score_probability": {1: steps}}
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **metadata)
        cluster_segmentation(*files, "a", chosen, tmp_path)
        picks = read_table(tmp_path / "a.picks.csv", PickRow)
        assert sum(pick.selected for pick in picks) == selected
        assert all(pick.selected == (rank < selected) for rank, pick in enumerate(sorted(picks, key=lambda one: -one.score)))
        beside = read_sidecar(tmp_path / "a.picks.csv")
        assert "expected F1" in beside["minimum_size_from"]
        assert beside["score_kind"] == "mean_probability"  # of a model that does not say otherwise
        least = beside["minimum_score"].get("1", np.inf)
        assert sum(pick.mean_probability >= least - 1e-6 for pick in picks) == selected
    write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, minimum_size_voxels={1: 20})
    with pytest.raises(BadInput, match=r"evaluate.rank = score was expected"):
        cluster_segmentation(*files, "a", chosen, tmp_path)


def test_a_crumb_is_less_likely_right_than_a_whole_molecule_where_the_model_knows_what_is_whole(tmp_path):
    """Three balls as sure as each other, of radius 5, 3 and 2: the volume of the second is whole."""
    volume = balls((20, 24, 40), [(8, 8, 8)], 5) | balls((20, 24, 40), [(8, 10, 24)], 3) | balls((20, 24, 40), [(8, 10, 34)], 2)
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", np.full(volume.shape, logit(0.8), np.float32), 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.log_odds.mrc")
    metadata = {"minimum_size_voxels": {1: 1}, "minimum_score": {1: 0.5}, "score_probability": {1: [(0.1, 0.1), (0.7, 0.9)]}}
    large, whole, crumb = (len(np.argwhere(balls((20, 24, 24), [(8, 10, 10)], radius))) for radius in (5, 3, 2))
    for size, taken in ((None, 3), (whole, 2), (large, 1)):
        more = {} if size is None else {"whole_size_voxels": {1: size}}
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **metadata, **more)
        for select, count in (("threshold", 3), ("expected_f1", taken)):
            cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, chosen_by=select), tmp_path)
            picks = read_table(tmp_path / "a.picks.csv", PickRow)
            assert [pick.size_voxels for pick in picks] == [large, whole, crumb]
            assert [pick.mean_probability for pick in picks] == pytest.approx([0.8] * 3, abs=1e-4)
            assert [pick.selected for pick in picks] == [number < count for number in range(3)]
            assert read_sidecar(tmp_path / "a.picks.csv")["minimum_score"]["1"] == pytest.approx(
                0.8 if select == "expected_f1" else 0.5
            )


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_the_count_of_the_highest_expected_f1(probability):
    count = expected_f1_count(np.array(probability))
    ranked, there = sorted(probability, reverse=True), sum(probability)
    expected = [2 * sum(ranked[:k]) / (k + there) if k + there else 0.0 for k in range(len(ranked) + 1)]
    assert expected[count] == pytest.approx(max(expected))
    # The last one taken is right more often than half of the F1 (the rule of Lipton et al. 2014), the next one is not.
    assert all(p >= max(expected) / 2 - 1e-9 for p in ranked[:count])
    assert all(p <= max(expected) / 2 + 1e-9 for p in ranked[count:])
    for least in (0.25, 0.5):
        assert expected_f1_count(np.array(probability), least) == sum(p >= least for p in ranked[:count])
        if max(expected) > 2 * least:
            assert expected_f1_count(np.array(probability), least) == count


def test_what_is_expected_of_the_selected_picks() -> None:
    steps = {1: [(-1.0, 0.2), (2.0, 0.5), (4.0, 0.9)]}
    rows = [
        pick((0, 0, 0), 100, number=number, selected=taken).model_copy(update={"score": score})
        for number, (score, taken) in enumerate([(9.0, True), (5.0, True), (2.5, True), (0.0, False), (-3.0, False)], start=1)
    ]
    every = Selection(minimum_size_voxels={}, minimum_score={}, score_probability=steps, segment_recall={1: 0.8})
    figures = expected_figures(rows, every)[1]
    right, there = 0.9 + 0.9 + 0.5, (0.9 + 0.9 + 0.5 + 0.2) / 0.8
    assert figures["precision"] == pytest.approx(right / 3)
    assert figures["recall"] == pytest.approx(right / there)
    assert figures["f1"] == pytest.approx(2 * right / (3 + there))
    assert expected_figures([], every)[1] == {"precision": None, "recall": None, "f1": None}
    assert expected_figures(rows, Selection(minimum_size_voxels={}, minimum_score={}, score_probability=None)) == {}


def test_the_surest_picks_keep_their_order_where_probabilities_are_all_one(tmp_path):
    """Three balls at log-odds of 20, 30 and 40: to float32 each is certain."""
    volume = balls((20, 24, 40), [(8, 8, 8), (8, 15, 20), (8, 10, 32)], 3)
    odds = np.where(volume > 0, np.float32(20), np.float32(-20))
    odds[..., 14:26] *= 1.5
    odds[..., 26:] *= 2
    write_mrc(tmp_path / "a.segmentation.mrc", volume, 8.0)
    write_mrc(tmp_path / "a.log_odds.mrc", odds, 8.0)
    files = (tmp_path / "a.segmentation.mrc", tmp_path / "a.log_odds.mrc")
    known = {"score_kind": "log_odds", "minimum_size_voxels": {1: 1}, "score_probability": {1: [(0.0, 0.3), (25.0, 0.9)]}}
    for minimum, carried, selected in [({}, None, 3), ({}, 35.0, 1), ({"minimum_log_odds": 25}, 35.0, 2)]:
        more = {} if carried is None else {"minimum_score": {1: carried}}
        write_sidecar(files[0], stage="segment", item="a", seed=None, settings={}, **known, **more)
        cluster_segmentation(*files, "a", ClusterSettings(radius_voxels=3, **minimum), tmp_path)
        picks = sorted(read_table(tmp_path / "a.picks.csv", PickRow), key=lambda one: -one.score)
        assert [one.score for one in picks] == [40, 30, 20]
        assert [one.selected for one in picks] == [number < selected for number in range(3)]
        assert picks[0].figure_of_merit > picks[1].figure_of_merit or picks[0].figure_of_merit == 1.0
    assert read_sidecar(tmp_path / "a.picks.csv")["expected"]["1"]["precision"] == pytest.approx(0.9)
    with pytest.raises(ValueError, match="one of the two was expected"):
        ClusterSettings(minimum_log_odds=1, minimum_mean_probability=0.5)
