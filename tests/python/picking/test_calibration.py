"""Thresholds and probabilities that are chosen on tomograms whose truth is known."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from template_learning.common.geometry import Grid
from template_learning.picking.calibration import choose_minimum_size, choose_selection, score_probability
from template_learning.settings import EvaluateSettings

from ..builders import GRID, pick, truth_row


def test_choice_of_the_minimum_size():
    generator = np.random.default_rng(4)
    grids, picks, truth = {}, {}, {}
    for name in "ab":
        places = [(50.0 + 100 * i, 50.0 + 100 * j, 200.0) for i in range(10) for j in range(9)]
        truth[name] = [truth_row(p) for p in places[:40]] + [truth_row(places[-1], 0)]
        picks[name] = [pick(p, int(s)) for p, s in zip(places[:40], generator.integers(200, 400, 40), strict=True)]
        picks[name] += [pick(p, int(s)) for p, s in zip(places[40:80], generator.integers(1, 101, 40), strict=True)]
        grids[name] = GRID
    chosen = choose_minimum_size(picks, truth, grids, EvaluateSettings(match_radius_voxels=3))
    assert set(chosen) == {1}
    assert 110 < chosen[1] < 200
    assert choose_minimum_size({"a": []}, {"a": truth["a"]}, grids, EvaluateSettings()) == {}


def test_how_often_a_score_is_right_rises_with_the_score():
    """Against scikit-learn's isotonic regression, on two tomograms whose picks are right as often as their score says."""
    generator = np.random.default_rng(0)
    picks, truth, grids, outcome = {}, {}, {}, []
    for name in ("a", "b"):
        score = generator.random(400)
        right = generator.random(400) < score
        places = 200.0 * np.stack(np.unravel_index(np.arange(400), (8, 8, 8)), axis=1) + 8
        picks[name] = [pick(place).model_copy(update={"score": s}) for place, s in zip(places, score, strict=True)]
        # Those that are wrong have a particle too far away.
        truth[name] = [truth_row(place + (0 if ok else 50)) for place, ok in zip(places, right, strict=True)]
        grids[name] = Grid(shape=(200, 200, 200), voxel_size_angstrom=8.0)
        outcome.extend(right)
    steps = score_probability(picks, truth, grids, EvaluateSettings(match_radius_voxels=3))[1]
    start, probability = np.array(steps).T
    assert (np.diff(start) > 0).all()
    assert (np.diff(probability) > 0).all()
    scores = np.array([one.score for found in picks.values() for one in found])
    peer = IsotonicRegression().fit(scores, outcome).predict(scores)
    ours = np.concatenate([[0.0], probability])[np.searchsorted(start, scores, side="right")]
    np.testing.assert_allclose(ours, peer, atol=1e-6)


def test_confidence_tells_crumbs_from_whole_molecules():
    """Crumbs as sure as the molecules are wrong: by confidence they are told apart, by the mean probability they are not."""
    places = 200.0 * np.stack(np.unravel_index(np.arange(60), (4, 4, 4)), axis=1) + 8
    sizes = [90 + n for n in range(20)] + [40] * 20 + [5] * 20
    scores = [0.8] * 20 + [0.6] * 20 + [0.8] * 20
    picks = {
        "a": [
            pick(place, size).model_copy(update={"score": score})
            for place, size, score in zip(places, sizes, scores, strict=True)
        ]
    }
    truth = {"a": [truth_row(place) for place in places[:40]] + [truth_row(places[0] + 60, 2)]}
    grids = {"a": Grid(shape=(120, 120, 120), voxel_size_angstrom=8.0)}
    by_score = EvaluateSettings(rank="score", match_radius_voxels=3)
    selection = choose_selection([1, 2], picks, truth, grids, by_score)
    # The surer half of the right ones are the large ones.
    assert selection.whole_size_voxels == {1: 99.5}
    assert selection.minimum_score[1] < 0.6
    steps = selection.score_probability[1]
    assert [probability for _, probability in steps] == [0, 1]
    assert steps[1][0] == pytest.approx(0.6 * 40 / 99.5)
    by_size = choose_selection([1], picks, truth, grids, EvaluateSettings(match_radius_voxels=3))
    assert (by_size.minimum_score, by_size.whole_size_voxels) == ({}, {1: 99.5})
    assert by_size.score_probability == selection.score_probability  # what is expected of picks, whatever selects them
    assert selection.segment_recall == {1: 1.0}
    assert selection.score_quartiles == {1: (0.6, 0.7, 0.8)}
    assert choose_selection([1], {"a": []}, truth, grids, by_score).whole_size_voxels == {}
