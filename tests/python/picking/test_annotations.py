"""Annotations in the formats of other programs."""

import json

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.picking.annotations import read_annotations

from ..builders import GRID


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
