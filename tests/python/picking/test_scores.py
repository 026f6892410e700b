import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.isotonic import IsotonicRegression
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import CurveRow, ParticleRow, PickRow, TomogramScoreRow
from template_learning.picking.annotations import read_annotations
from template_learning.picking.assignment import Curve, expected_f1_count, match, matched_after, threshold_curve
from template_learning.picking.calibration import choose_minimum_size, choose_selection, score_probability
from template_learning.picking.scores import recall_by_angle, recall_on_sphere
from template_learning.settings import EvaluateSettings
from template_learning.stages.evaluate import evaluate_picks

GRID = Grid(shape=(40, 100, 120), voxel_size_angstrom=10.0)


def largest_matching(near):
    """By trying every choice."""
    if len(near) == 0:
        return 0
    best = largest_matching(near[1:])
    for column in np.flatnonzero(near[0]):
        rest = near[1:].copy()
        rest[:, column] = False
        best = max(best, 1 + largest_matching(rest))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 6))
def test_matching_against_brute_force(seed, picks, truth):
    generator = np.random.default_rng(seed)
    position, particles = generator.uniform(0, 3, (picks, 3)), generator.uniform(0, 3, (truth, 3))
    near = np.linalg.norm(position[:, None] - particles[None], axis=2) <= 1.2
    counts = matched_after(position, particles, 1.2)
    assert [largest_matching(near[:k]) for k in range(picks + 1)] == list(counts)
    pairs = match(position, particles, 1.2)
    assert len(pairs) == counts[-1]
    assert len({p for p, _, _ in pairs}) == len({t for _, t, _ in pairs}) == len(pairs)
    assert all(near[p, t] for p, t, _ in pairs)
    # Of all matchings of that size none has a smaller sum of distances.
    distance = np.linalg.norm(position[:, None] - particles[None], axis=2)
    sums = [
        sum(distance[p, t] for p, t in zip(chosen, order, strict=True))
        for chosen in itertools.combinations(range(picks), len(pairs))
        for order in itertools.permutations(range(truth), len(pairs))
        if all(near[p, t] for p, t in zip(chosen, order, strict=True))
    ]
    assert sum(d for _, _, d in pairs) == pytest.approx(min(sums, default=0))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_curve_against_the_hungarian_method_threshold_by_threshold(seed):
    generator = np.random.default_rng(seed)
    tomograms = []
    for _ in range(3):
        n, m = generator.integers(0, 40, 2)
        tomograms.append((generator.uniform(0, 8, (n, 3)), generator.integers(1, 15, n), generator.uniform(0, 8, (m, 3))))
    curve = threshold_curve(tomograms, 1.5)
    assert (np.diff(curve.threshold) < 0).all()
    for index, threshold in enumerate(curve.threshold):
        picks = matched = 0
        for position, value, truth in tomograms:
            kept = position[value >= threshold]
            near = np.linalg.norm(kept[:, None] - truth[None], axis=2) <= 1.5
            rows, columns = linear_sum_assignment(~near)
            picks += len(kept)
            matched += near[rows, columns].sum()
        assert (curve.picks[index], curve.matched[index]) == (picks, matched)
    total = sum(len(truth) for _, _, truth in tomograms)
    precision = curve.matched / np.maximum(curve.picks, 1)
    recall = curve.matched / max(total, 1)
    np.testing.assert_allclose(curve.f1, [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)])
    steps = zip([0.0, *recall[:-1]], recall, precision, strict=True)
    assert curve.average_precision == pytest.approx(sum((b - a) * p for a, b, p in steps))


def test_crossing_and_best():
    curve = Curve(np.array([9.0, 5.0, 4.0, 2.0]), np.array([2, 4, 8, 20]), np.array([2, 4, 5, 6]), 6)
    threshold, value = curve.crossing
    # Precision 1 and 5/8, recall 4/6 and 5/6 at thresholds 5 and 4: they meet 1/3 / (1/3 + 5/24) of the way.
    share = (1 / 3) / (1 / 3 + 5 / 24)
    assert threshold == pytest.approx(5 - share)
    assert value == pytest.approx(1 - share * 3 / 8)
    assert curve.best == 1
    assert Curve(np.array([9.0]), np.array([2]), np.array([2]), 6).crossing is None
    assert Curve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 6).best is None


def pick(position, size=100, class_id=1, selected=True, number=1):
    x, y, z = position
    return PickRow(
        pick=number,
        class_id=class_id,
        x_angstrom=x,
        y_angstrom=y,
        z_angstrom=z,
        score=0.9,
        size_voxels=size,
        touches_edge=False,
        selected=selected,
    )


def truth_row(position, class_id=1, axis=None, number=1):
    x, y, z = position
    axis = (None, None, None) if axis is None else axis
    return ParticleRow(
        particle=number,
        class_id=class_id,
        x_angstrom=x,
        y_angstrom=y,
        z_angstrom=z,
        axis_x=axis[0],
        axis_y=axis[1],
        axis_z=axis[2],
    )


def write_tomogram(folder, name, picks, truth):
    write_table(folder / f"{name}.picks.csv", PickRow, picks)
    write_sidecar(
        folder / f"{name}.picks.csv",
        stage="cluster",
        item=name,
        seed=None,
        settings={},
        shape_voxels=list(GRID.shape),
        voxel_size_angstrom=GRID.voxel_size_angstrom,
    )
    write_table(folder / f"{name}.particles.csv", ParticleRow, truth)


def test_files_with_classes_mask_and_border(tmp_path):
    places = [(100.0 + 150 * i, 500.0, 200.0) for i in range(7)]
    truth = [truth_row(p, axis=(0, 0, 1)) for p in places[:4]] + [truth_row(p, 2) for p in places[4:6]]
    truth.append(truth_row(places[6], 0))  # a distractor does not count
    found = [
        pick(places[0], 100),
        pick((places[1][0] + 30, 500, 200), 90),
        pick(places[2], 20, selected=False),
        pick(places[6], 80),  # on the distractor: wrong
        pick(places[4], 70, 2),
        pick(places[3], 60, 2),  # the wrong class
    ]
    write_tomogram(tmp_path, "a", found, truth)
    write_tomogram(tmp_path, "b", [], [truth_row(places[0])])
    mask = np.zeros(GRID.shape, dtype=np.uint8)
    mask[:, :, :30] = 1  # the first two places
    write_mrc(tmp_path / "mask.mrc", mask, 10.0)
    (tmp_path / "t.csv").write_text(
        "id,picks,truth,mask\na,a.picks.csv,a.particles.csv,mask.mrc\nb,b.picks.csv,b.particles.csv,\n"
    )
    evaluate_picks(tmp_path / "t.csv", "set", EvaluateSettings(match_radius_voxels=5), tmp_path)
    scores = json.loads((tmp_path / "set.evaluation.json").read_text())
    joint = scores["all"]["joint"]
    assert (joint["annotations"], joint["segments"]) == (7, 6)
    assert (joint["selected"]["picks"], joint["selected"]["matched"]) == (5, 3)
    assert joint["selected"]["f1"] == pytest.approx(2 * 3 / (5 + 7))
    assert joint["selected"]["f_beta_4"] == pytest.approx(17 * 3 / (5 + 16 * 7))
    assert joint["selected"]["mean_distance_angstrom"] == pytest.approx(10)
    low, high = joint["selected"]["f1_interval_95"]
    assert 0 <= low < joint["selected"]["f1"] < high < 1
    one = scores["all"]["classes"]["1"]
    assert (one["selected"]["matched"], one["selected"]["picks"], one["annotations"]) == (2, 3, 5)
    assert one["orientation"][0] == {"from_deg": 0, "to_deg": 30, "particles": 4, "found": 2, "recall": 0.5}
    assert scores["masked"]["classes"]["1"]["selected"]["f1"] == pytest.approx(2 * 2 / (2 + 3))
    rows = read_table(tmp_path / "set.per_tomogram.csv", TomogramScoreRow)
    assert {(r.id, r.region, r.class_id) for r in rows} >= {("a", "all", 0), ("b", "all", 1), ("a", "masked", 2)}
    assert next(r for r in rows if (r.id, r.region, r.class_id) == ("a", "all", 0)).matched == 3
    curve = [r for r in read_table(tmp_path / "set.curve.csv", CurveRow) if (r.region, r.class_id) == ("all", 1)]
    assert [(r.threshold, r.picks, r.matched) for r in curve] == [(100, 1, 1), (90, 2, 2), (80, 3, 2), (20, 4, 3)]

    before = (tmp_path / "set.evaluation.json").read_bytes()
    evaluate_picks(tmp_path / "t.csv", "set", EvaluateSettings(match_radius_voxels=5), tmp_path)
    assert (tmp_path / "set.evaluation.json").read_bytes() == before
    evaluate_picks(tmp_path / "t.csv", "rim", EvaluateSettings(match_radius_voxels=5, border_voxels=12), tmp_path)
    rim = json.loads((tmp_path / "rim.evaluation.json").read_text())["all"]["joint"]
    assert (rim["annotations"], rim["selected"]["picks"]) == (5, 4)


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
    assert by_size.whole_size_voxels == {}
    assert choose_selection([1], {"a": []}, truth, grids, by_score).whole_size_voxels == {}


def test_recall_by_angle_counts_both_ends():
    particles = [(truth_row((0, 0, 0), axis=(0, 0, 1)), True), (truth_row((0, 0, 0), axis=(1, 0, 0)), False)]
    assert [b["recall"] for b in recall_by_angle(particles)] == [1.0, None, 0.0]
    assert recall_by_angle([(truth_row((0, 0, 0)), True)]) is None


def test_recall_on_the_sphere_tells_directions_apart_all_round():
    cap = (0.3, 0.0, np.sqrt(1 - 0.09))
    axes = [cap, (1, 0.1, 0.01), (-1, -0.1, -0.01), (0.1, 1, 0.2), (-1, 0.2, 0.1), (0.0, -0.7, 0.7), (0.0, 0.7, -0.7)]
    unit = [np.array(axis) / np.linalg.norm(axis) for axis in axes]
    found = [True, True, False, True, False, False, True]
    rows = [truth_row((0, 0, 0), axis=tuple(one)) for one in unit]
    cells = recall_on_sphere(list(zip(rows, found, strict=True)))
    there = {(c["polar_from_deg"], c["azimuth_from_deg"]): (c["particles"], c["recall"]) for c in cells if c["particles"]}
    # Of the two ends of an axis the one that points up counts, so that opposite axes are one direction.
    assert there == {(0, -180): (1, 1.0), (60, -45): (2, 0.5), (60, 45): (1, 1.0), (60, 135): (1, 0.0), (30, 225): (2, 0.5)}
    area = [
        (np.cos(np.deg2rad(c["polar_from_deg"])) - np.cos(np.deg2rad(c["polar_to_deg"])))
        * (c["azimuth_to_deg"] - c["azimuth_from_deg"]) / 360
        for c in cells
    ]  # fmt: skip
    assert sum(area) == pytest.approx(1)
    assert max(area) < 1.5 * min(area)
    assert recall_on_sphere([(truth_row((0, 0, 0)), True)]) is None


def test_annotations_in_every_format(tmp_path):
    expected = [(100.0, 200.0, 300.0), (115.0, 25.0, 30.0)]
    (tmp_path / "angstrom.csv").write_text("x_angstrom,y_angstrom,z_angstrom,class_id\n100,200,300,2\n115,25,30,1\n")
    (tmp_path / "voxels.csv").write_text("X, Y, Z, remark\n10, 20, 30, good\n11.5, 2.5, 3,\n")
    points = [{"location": dict(zip("xyz", p, strict=True)), "transformation_": None} for p in expected]
    points[1]["transformation_"] = [[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]]
    points[1]["location"] = {"x": 110, "y": 25, "z": 32}
    (tmp_path / "copick.json").write_text(json.dumps({"pickable_object_name": "ribosome", "points": points}))
    (tmp_path / "objects.xml").write_text(
        '<objlist><object tomo_idx="0" class_label="2" x="10" y="20" z="30"/><object class_label="1" x="11.5" y="2.5" z="3"/></objlist>'
    )
    (tmp_path / "relion4.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 2.5\n\ndata_particles\n\nloop_\n_rlnTomoName #1\n"
        "_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n_rlnAngleRot #5\n_rlnAngleTilt #6\n_rlnAnglePsi #7\n"
        "t1 40 80 120 1 2 3\nother 1 1 1 0 0 0\nt1 46 10 12 1 2 3\n"
    )
    for name in ("angstrom.csv", "voxels.csv", "copick.json", "objects.xml", "relion4.star"):
        rows = read_annotations(tmp_path / name, "t1", GRID)
        found = [(r.x_angstrom, r.y_angstrom, r.z_angstrom) for r in rows]
        np.testing.assert_allclose(found, expected, err_msg=name)
    assert [r.class_id for r in read_annotations(tmp_path / "objects.xml", "t1", GRID)] == [2, 1]
    assert read_annotations(tmp_path / "relion4.star", "t1", GRID)[0].tilt_deg == 2
    first, second = read_annotations(tmp_path / "copick.json", "t1", GRID)
    assert first.rot_deg is None
    assert second.tilt_deg == pytest.approx(0)
    assert (second.rot_deg + second.psi_deg) % 360 == pytest.approx(270)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1 2 3", "DeepFinder"),
        ("a.csv", "i,j,k\n1,2,3\n", "columns"),
        ("a.csv", "x,y,z\n1,two,3\n", "three numbers"),
        ("a.csv", "x,y,z,class_id\n1,2,3,-4\n", "class_id"),
        ("a.json", "{}", "copick"),
        ("a.xml", "<objlist>", "DeepFinder"),
        ("a.star", "data_\nloop_\n_rlnTomoName #1\nx\n", "rlnCenteredCoordinateXAngst"),
    ],
)
def test_annotations_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=message):
        read_annotations(tmp_path / name, "t1", GRID)


@pytest.mark.shared
def test_annotations_of_a_real_tomogram(shared_data):
    path = shared_data / "annotations/czii_TS_5_4/ground_truth/ribosome.json"
    rows = read_annotations(path, "TS_5_4", Grid(shape=(184, 630, 630), voxel_size_angstrom=10.012))
    assert len(rows) == len(json.loads(path.read_text())["points"])
    assert {row.species for row in rows} == {"ribosome"}


def test_picks_without_a_sidecar(tmp_path):
    write_table(tmp_path / "a.picks.csv", PickRow, [])
    write_table(tmp_path / "a.particles.csv", ParticleRow, [])
    (tmp_path / "t.csv").write_text("id,picks,truth\na,a.picks.csv,a.particles.csv\n")
    with pytest.raises(BadInput, match="shape_voxels"):
        evaluate_picks(tmp_path / "t.csv", "set", EvaluateSettings(), tmp_path)
