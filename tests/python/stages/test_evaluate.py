"""EVALUATE: its files, with classes, a mask and a border."""

import json

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import CurveRow, ParticleRow, PickRow, TomogramScoreRow
from template_learning.settings import EvaluateSettings
from template_learning.stages.evaluate import evaluate_picks

from ..builders import GRID, pick, truth_row


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
    low, high = joint["selected"]["f1_interval_95_of_these"]
    assert 0 <= low < joint["selected"]["f1"] < high < 1
    wide = joint["selected"]["f1_interval_95"]  # of two tomograms
    assert 0 <= wide[0] < low < high < wide[1] <= 1
    assert scores["all"]["classes"]["2"]["selected"]["f1_interval_95"] is None  # only one of them has any
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


def test_the_papers_figure_is_the_median_at_the_joint_crossing(tmp_path):
    places = [(80.0 + 90 * i, 500.0, 200.0) for i in range(8)]
    away = [(80.0 + 90 * i, 100.0, 200.0) for i in range(8)]
    # Right picks lie on the places, wrong ones far from any.
    write_tomogram(
        tmp_path, "a", [pick(places[i], 90) for i in range(4)] + [pick(away[0], 40)], [truth_row(p) for p in places[:4]]
    )
    write_tomogram(
        tmp_path, "b", [pick(places[0], 70), pick(away[0], 60), pick(places[1], 50)], [truth_row(p) for p in places[:4]]
    )
    write_tomogram(tmp_path, "c", [pick(places[0], 80), pick(away[1], 30)], [truth_row(places[0])])
    (tmp_path / "t.csv").write_text("id,picks,truth\n" + "".join(f"{n},{n}.picks.csv,{n}.particles.csv\n" for n in "abc"))
    evaluate_picks(tmp_path / "t.csv", "set", EvaluateSettings(match_radius_voxels=2), tmp_path)
    crossing = json.loads((tmp_path / "set.evaluation.json").read_text())["all"]["joint"]["crossing"]
    # By size, nine particles: 4 of 4, 5 of 5, 6 of 6, 6 of 7, 7 of 8, 7 of 9 right.  Precision and recall are 7/8 and 7/9 at 50,
    # and 7/9 both at 40: there they meet.
    assert (crossing["threshold"], crossing["f1"]) == (pytest.approx(40), pytest.approx(7 / 9))
    # At 40: a has 4 right of 5 picks and 4 particles, b 2 of 3 and 4, c 1 of 1 and 1.
    assert crossing["f1_by_tomogram"] == pytest.approx([8 / 9, 4 / 7, 1.0])
    assert crossing["median_f1"] == pytest.approx(8 / 9)
    rows = {row.id: row for row in read_table(tmp_path / "set.per_tomogram.csv", TomogramScoreRow) if row.class_id == 0}
    assert [rows[name].f1_joint_crossing for name in "abc"] == pytest.approx(crossing["f1_by_tomogram"], abs=1e-4)
    # The right picks lie on their places, so that the second distance gives the same again; within 200 voxels all are right.
    evaluate_picks(tmp_path / "t.csv", "two", EvaluateSettings(match_radius_voxels=200, also_within_voxels=2), tmp_path)
    two = json.loads((tmp_path / "two.evaluation.json").read_text())["all"]["joint"]
    once = json.loads((tmp_path / "set.evaluation.json").read_text())["all"]["joint"]
    assert two["also_within"]["match_radius_voxels"] == 2
    assert two["also_within"]["selected"]["f1"] == once["selected"]["f1"] < two["selected"]["f1"]
    assert two["also_within"]["crossing"] == once["crossing"]
    # Each one's own crossing is something else: a's curves cross at its 4 sure ones.
    assert rows["a"].f1_crossing == pytest.approx(1.0)


def test_picks_without_a_sidecar(tmp_path):
    write_table(tmp_path / "a.picks.csv", PickRow, [])
    write_table(tmp_path / "a.particles.csv", ParticleRow, [])
    (tmp_path / "t.csv").write_text("id,picks,truth\na,a.picks.csv,a.particles.csv\n")
    with pytest.raises(BadInput, match="shape_voxels"):
        evaluate_picks(tmp_path / "t.csv", "set", EvaluateSettings(), tmp_path)


def test_a_plain_peer_stands_beside_the_picks_where_there_are_grey_values(tmp_path, capsys):
    """Dark balls in noise: two Gaussians find all of them, the network's picks but two."""
    generator = np.random.default_rng(0)
    centres = [(20.0, 20.0 + 20 * i, 20.0 + 25 * j) for i in range(4) for j in range(4)]
    data = generator.standard_normal(GRID.shape).astype(np.float32)
    z, y, x = np.indices(GRID.shape)
    for centre in centres:
        data[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= 16] -= 2
    places = [(x * 10, y * 10, z * 10) for z, y, x in centres]
    for name, sign, contrast in (("a", 1, "protein_dark"), ("b", -1, "protein_bright")):
        write_tomogram(tmp_path, name, [pick(place) for place in places[:2]], [truth_row(place) for place in places])
        sidecar = json.loads((tmp_path / f"{name}.picks.csv.json").read_text())
        more = {"contrast": contrast, "object_radius_angstrom": {"1": 40.0}}
        (tmp_path / f"{name}.picks.csv.json").write_text(json.dumps(sidecar | more))
        write_mrc(tmp_path / f"{name}.mrc", sign * data, 10.0)
    rows = "".join(f"{name},{name}.picks.csv,{name}.particles.csv,,{name}.mrc\n" for name in "ab")
    (tmp_path / "t.csv").write_text("id,picks,truth,mask,tomogram\n" + rows)
    settings = EvaluateSettings(match_radius_voxels=4)
    evaluate_picks(tmp_path / "t.csv", "set", settings, tmp_path)
    joint = json.loads((tmp_path / "set.evaluation.json").read_text())["all"]["joint"]
    assert joint["blobs"]["f1"] > 0.9
    assert joint["selected"]["f1"] == pytest.approx(2 * 4 / (4 + 32))
    assert "less than a difference of two Gaussians" in capsys.readouterr().err
    assert all(row.f1_best_blobs > 0.9 for row in read_table(tmp_path / "set.per_tomogram.csv", TomogramScoreRow))
    curve = [row for row in read_table(tmp_path / "set.blobs_curve.csv", CurveRow) if row.class_id == 0]
    assert max(row.f1 for row in curve) == pytest.approx(joint["blobs"]["f1"])
    # Without the grey values of one of them there is nothing to compare.
    (tmp_path / "t.csv").write_text("id,picks,truth,mask,tomogram\n" + rows.replace("a.mrc", ""))
    evaluate_picks(tmp_path / "t.csv", "few", settings, tmp_path)
    assert "blobs" not in json.loads((tmp_path / "few.evaluation.json").read_text())["all"]["joint"]
    assert not (tmp_path / "few.blobs_curve.csv").exists()
    (tmp_path / "t.csv").write_text("id,picks,truth,mask,tomogram\n" + rows)
    write_mrc(tmp_path / "a.mrc", data[1:], 10.0)
    with pytest.raises(BadInput, match=r"a\.mrc: shape \(39, 100, 120\)"):
        evaluate_picks(tmp_path / "t.csv", "set", settings, tmp_path)
