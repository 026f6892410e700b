"""Annotations as other programs write them: each row at its own tomogram and place, or the file refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.picking.annotations import check_annotations, read_annotations, tomogram_name

from ..cases import Case

GRID = Grid(shape=(60, 100, 120), voxel_size_angstrom=10.0)
PLACES = np.array([(100.0, 200.0, 300.0), (115.0, 25.0, 30.0), (900.0, 640.0, 500.0)])
"""Ångström from voxel (0, 0, 0); what every case that is taken gives."""
AXES = [f"rlnCoordinate{axis}" for axis in "XYZ"]


def star(places=PLACES, pixel=10.0, names=("TS_1",) * 3, column="rlnTomoName", optics=None, **more):
    """A STAR file as starfile (an independent program) writes it."""
    particles = pd.DataFrame(np.asarray(places) / np.reshape(pixel, (-1, 1)), columns=AXES)
    if column:
        particles[column] = list(names)
    for name, values in more.items():
        particles[name] = values
    return {"optics": pd.DataFrame(optics), "particles": particles} if optics is not None else {"particles": particles}


def written(path: Path, content):
    if isinstance(content, dict):
        starfile.write(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def table(lines, header="x_angstrom,y_angstrom,z_angstrom"):
    return "\n".join([header, *lines, ""])


def angstrom(extra="", places=PLACES):
    return [f"{x},{y},{z}{extra}" for x, y, z in places]


def copick(places=PLACES, **changes):
    points = [{"location": dict(zip("xyz", place, strict=True)), "transformation_": np.eye(4).tolist()} for place in places]
    return json.dumps({"pickable_object_name": "ribosome", "run_name": "TS_1", "unit": "angstrom", "points": points, **changes})


def deepfinder(indices=("", "", ""), places=PLACES):
    objects = [
        f'<object {f"tomo_idx={chr(34)}{index}{chr(34)} " if index else ""}class_label="2" x="{x / 10}" y="{y / 10}" z="{z / 10}"/>'
        for index, (x, y, z) in zip(indices, places, strict=True)
    ]
    return f"<objlist>{''.join(objects)}</objlist>"


SHIFT = np.array([(30.0, -12.0, 5.0), (0.0, 8.0, 0.0), (-20.0, 4.0, 12.0)])
ORIGINS = {f"rlnOrigin{axis}Angst": SHIFT[:, n] for n, axis in enumerate("XYZ")}
TWO_OPTICS = {"rlnOpticsGroup": [1, 2], "rlnTomoTiltSeriesPixelSize": [2.5, 5.0]}
OTHERS = np.vstack([PLACES, PLACES + 50])
QUOTED = (
    "# version 50001\n\ndata_particles # all of them\n\nloop_ \n_rlnTomoName #1 \n_rlnCoordinateX #2 \n_rlnCoordinateY #3 \n"
    "_rlnCoordinateZ #4 \n_rlnRemark\n'TS_1' 10 20 30 \"a 'good' one\"\n\n# a remark\n\"TS_1\" 11.5 2.5 3 'two words'\n"
    "'TS 2' 1 1 1 ''\nTS_1 90 64 50 x#y\n\n"
)

# (what, file name, content, outcome, words); `taken` gives PLACES.
CASES = [
    Case("CSV in ångström (`x_angstrom`, ...)", lambda: ("a.csv", table(angstrom())), "taken"),
    Case("CSV in voxels (`x`, `y`, `z`)", lambda: ("a.csv", table(angstrom(places=PLACES / 10), "x,y,z")), "taken"),
    Case("CSV whose column `tomogram` names several tomograms", lambda: ("a.csv", table([*angstrom(",TS_1.mrc"), "1,2,3,TS_2"], "x_angstrom,y_angstrom,z_angstrom,tomogram")), "taken", note="only this one's rows"),
    Case("CSV whose column `id` names tomograms", lambda: ("a.csv", table([*angstrom(",TS_1"), "1,2,3,TS_2"], "x_angstrom,y_angstrom,z_angstrom,id")), "taken", note="only this one's rows"),
    Case("CSV whose column `id` numbers the rows", lambda: ("a.csv", table([f"{n},{line}" for n, line in enumerate(angstrom())], "id,x_angstrom,y_angstrom,z_angstrom")), "taken"),
    Case("CSV whose `run_name` (or `experiment`, `tomo`) is another tomogram's", lambda: ("a.csv", table(angstrom(",TS_9"), "x_angstrom,y_angstrom,z_angstrom,run_name")), "refused", "none of 'TS_1'"),
    Case("CSV with a row that names no tomogram", lambda: ("a.csv", table([*angstrom(",TS_1"), "1,2,3,"], "x_angstrom,y_angstrom,z_angstrom,tomogram")), "refused", "1 of 4 rows name no tomogram"),
    Case("CSV of several kinds of particles without `class_id`", lambda: ("a.csv", table([*angstrom(",ribosome"), "1,2,3,ferritin"], "x_angstrom,y_angstrom,z_angstrom,particle_type")), "refused", "no column class_id"),
    Case("this pipeline's own picks (`selected`)", lambda: ("a.csv", table([*angstrom(",0.9,True"), "50,60,70,0.1,False"], "x_angstrom,y_angstrom,z_angstrom,score,selected")), "warning", "3 of 4 rows are selected"),
    Case("CSV with a column of scores", lambda: ("a.csv", table(angstrom(",0.1"), "x_angstrom,y_angstrom,z_angstrom,score")), "warning", "'score' is not looked at"),
    Case("STAR of several `rlnClassNumber`", lambda: ("a.star", star(pixel=2.5, rlnTomoTiltSeriesPixelSize=[2.5] * 3, rlnClassNumber=[1, 2, 2])), "warning", "all are class 1"),
    Case("two annotations of one particle, less than a voxel apart", lambda: ("a.csv", table([*angstrom(), "101,201,300"])), "warning", "2 of 4 annotations lie within a voxel of another"),
    Case("angles in radians", lambda: ("a.csv", table(angstrom(",1.2,0.3,-2.9"), "x_angstrom,y_angstrom,z_angstrom,rot_deg,tilt_deg,psi_deg")), "warning", "in radians?"),
    Case("CSV without columns of positions", lambda: ("a.csv", "i,j,k\n1,2,3\n"), "refused", "columns x_angstrom"),
    Case("CSV with semicolons and decimal commas", lambda: ("a.csv", "x_angstrom;y_angstrom;z_angstrom\n100,0;200,0;300\n115;25;30\n900;640;500\n"), "taken"),
    Case("STAR of RELION 4, pixels of `rlnTomoTiltSeriesPixelSize`", lambda: ("a.star", star(pixel=2.5, optics={"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.5]}, rlnOpticsGroup=[1] * 3)), "taken"),
    Case("STAR without any pixel size", lambda: ("a.star", star()), "warning", "read as voxels of the tomogram"),
    Case("STAR whose optics groups have several pixel sizes", lambda: ("a.star", star(pixel=(2.5, 5.0, 2.5), optics=TWO_OPTICS, rlnOpticsGroup=[1, 2, 1])), "taken", note="each row in its own"),
    Case("the same without `rlnOpticsGroup` in the rows", lambda: ("a.star", star(pixel=2.5, optics=TWO_OPTICS)), "refused", "rlnOpticsGroup in the rows was expected"),
    Case("a row whose optics group is not in the file", lambda: ("a.star", star(pixel=2.5, optics=TWO_OPTICS, rlnOpticsGroup=[1, 2, 7])), "refused", "rlnOpticsGroup '7' is not in data_optics"),
    Case("STAR with `rlnDetectorPixelSize` and `rlnMagnification`", lambda: ("a.star", star(pixel=5.0, rlnDetectorPixelSize=[5.0] * 3, rlnMagnification=[10000.0] * 3)), "taken"),
    Case("STAR with `rlnDetectorPixelSize` alone", lambda: ("a.star", star(pixel=5.0, rlnDetectorPixelSize=[5.0] * 3)), "refused", "without rlnMagnification"),
    Case("STAR with `rlnImagePixelSize` in its optics", lambda: ("a.star", star(pixel=4.0, optics={"rlnOpticsGroup": [1], "rlnImagePixelSize": [4.0]}, rlnOpticsGroup=[1] * 3)), "taken"),
    Case("STAR with `rlnPixelSize`", lambda: ("a.star", star(pixel=4.0, rlnPixelSize=[4.0] * 3)), "taken"),
    Case("STAR of two pixel sizes that disagree", lambda: ("a.star", star(pixel=4.0, rlnPixelSize=[4.0] * 3, rlnImagePixelSize=[8.0] * 3)), "refused", "one size was expected", "`rlnTomoTiltSeriesPixelSize` decides"),
    Case("binned images (`rlnImagePixelSize`) of a tilt series (`rlnTomoTiltSeriesPixelSize`)", lambda: ("a.star", star(pixel=2.5, optics={"rlnOpticsGroup": [1], "rlnImagePixelSize": [10.0], "rlnTomoTiltSeriesPixelSize": [2.5]}, rlnOpticsGroup=[1] * 3)), "taken"),
    Case("STAR with a pixel size of another name alone (`rlnMicrographOriginalPixelSize`)", lambda: ("a.star", star(pixel=10.0, rlnMicrographOriginalPixelSize=[2.0] * 3)), "refused", "rlnTomoTiltSeriesPixelSize was expected"),
    Case("a pixel size of 0", lambda: ("a.star", star(rlnPixelSize=[0.0] * 3)), "refused", "a positive number was expected"),
    Case("STAR with `rlnOriginXAngst`", lambda: ("a.star", star(PLACES + SHIFT, **ORIGINS)), "taken", note="subtracted"),
    Case("STAR with `rlnOriginX` in pixels", lambda: ("a.star", star(PLACES + SHIFT, pixel=4.0, rlnPixelSize=[4.0] * 3, **{f"rlnOrigin{axis}": SHIFT[:, n] / 4 for n, axis in enumerate("XYZ")})), "taken", note="subtracted"),
    Case("STAR of RELION 5 (`rlnCenteredCoordinateXAngst`)", lambda: ("a.star", {"particles": pd.DataFrame({"rlnTomoName": ["TS_1"] * 3, **{f"rlnCenteredCoordinate{axis}Angst": PLACES[:, n] - np.array([600, 500, 300])[n] for n, axis in enumerate("XYZ")}})}), "taken"),
    Case("the same with `rlnOriginXAngst`", lambda: ("a.star", {"particles": pd.DataFrame({"rlnTomoName": ["TS_1"] * 3, **{f"rlnCenteredCoordinate{axis}Angst": (PLACES + SHIFT)[:, n] - np.array([600, 500, 300])[n] for n, axis in enumerate("XYZ")}, **ORIGINS})}), "taken"),
    Case("STAR of several tomograms by `rlnTomoName`", lambda: ("a.star", star(OTHERS, names=["TS_1"] * 3 + ["TS_2"] * 3)), "taken", note="only this one's rows"),
    Case("STAR of several tomograms by `rlnMicrographName` with paths and .tomostar", lambda: ("a.star", star(OTHERS, names=["tomostar/TS_1.tomostar"] * 3 + ["tomostar/TS_12.tomostar"] * 3, column="rlnMicrographName")), "taken"),
    Case("STAR by names as IMOD, Warp, AreTomo set them (rec_TS_1.mrc, TS_1_10.00Apx.mrc, TS_1_Vol.mrc)", lambda: ("a.star", star(OTHERS, names=["x/TS_1_10.00Apx.mrc"] * 3 + ["rec_TS_12.mrc"] * 3, column="rlnMicrographName")), "taken"),
    Case("two names that may both be this tomogram", lambda: ("a.star", star(names=["rec_TS_1.mrc", "TS_1_Vol.mrc", "rec_TS_1.mrc"])), "refused", "each of which may be 'TS_1'"),
    Case("STAR whose only tomogram is another", lambda: ("a.star", star(names=["TS_2"] * 3)), "refused", "rows of 'TS_2', none of 'TS_1'"),
    Case("STAR without names of tomograms", lambda: ("a.star", star(column=None)), "taken", note="the file stands for the tomogram it is given for"),
    Case("STAR with quoted names, remarks and blank lines", lambda: ("a.star", QUOTED), "taken"),
    Case("STAR with a byte-order mark", lambda: ("a.star", b"\xef\xbb\xbf" + QUOTED.encode()), "taken"),
    Case("STAR with Windows' line ends", lambda: ("a.star", QUOTED.replace("\n", "\r\n").encode()), "taken"),
    Case("STAR with a row cut short", lambda: ("a.star", QUOTED.rsplit(" x#y", 1)[0] + "\n"), "refused", "not a STAR file (Wrong number of values"),
    Case("STAR of particles in two dimensions", lambda: ("a.star", {"particles": pd.DataFrame({"rlnCoordinateX": [1.0], "rlnCoordinateY": [2.0]})}), "refused", "without rlnCoordinateZ"),
    Case("STAR with particles in two blocks", lambda: ("a.star", {"one": star()["particles"], "two": star()["particles"]}), "refused", "in several blocks"),
    Case("STAR without particles", lambda: ("a.star", "data_\nloop_\n_rlnTomoName #1\nx\n"), "refused", "no block with rlnCenteredCoordinateXAngst"),
    Case("copick picks", lambda: ("a.json", copick()), "taken"),
    Case("copick picks of another run", lambda: ("a.json", copick(run_name="TS_3")), "refused", "run_name has rows of 'TS_3', none of 'TS_1'"),
    Case("copick picks in another unit", lambda: ("a.json", copick(unit="pixel")), "refused", "unit 'pixel'"),
    Case("JSON that is no copick picks", lambda: ("a.json", "{}"), "refused", "not copick picks"),
    Case("a list in JSON", lambda: ("a.json", "[1, 2]"), "refused", "not copick picks"),
    Case("DeepFinder's object list", lambda: ("a.xml", deepfinder()), "taken"),
    Case("DeepFinder's object list of one `tomo_idx`", lambda: ("a.xml", deepfinder("444")), "taken"),
    Case("DeepFinder's object list of several `tomo_idx`", lambda: ("a.xml", deepfinder("012")), "refused", "which is 'TS_1' is not told"),
    Case("XML that is broken", lambda: ("a.xml", "<objlist>"), "refused", "not a DeepFinder object list"),
    Case("another ending", lambda: ("a.txt", "1 2 3"), "refused", "DeepFinder"),
    Case("positions that are no numbers", lambda: ("a.csv", table(["1,two,3"])), "refused", "line 2: position"),
    Case("a position of NaN", lambda: ("a.csv", table([*angstrom(), "nan,1,2"])), "refused", "1 of 4 annotations have NaN or infinite positions"),
    Case("an infinite position", lambda: ("a.star", star([*PLACES[:2], (np.inf, 1, 1)])), "refused", "1 of 3 annotations have NaN or infinite positions"),
    Case("an angle of NaN", lambda: ("a.csv", table(angstrom(",nan"), "x_angstrom,y_angstrom,z_angstrom,rot_deg")), "refused", "NaN or infinite angles"),
    Case("copick picks with a transformation of NaN", lambda: ("a.json", copick(points=[{"location": {"x": 1, "y": 1, "z": 1}, "transformation_": [[float("nan")] * 4] * 4}])), "refused", "NaN"),
    Case("a negative class", lambda: ("a.csv", table(angstrom(",-4"), "x_angstrom,y_angstrom,z_angstrom,class_id")), "refused", "class_id"),
    Case("ångström under `x`, `y`, `z`", lambda: ("a.csv", table(angstrom(), "x,y,z")), "refused", "ångström where voxels were expected?"),
    Case("voxels under `x_angstrom`, ...", lambda: ("a.csv", table(angstrom(places=np.vstack([PLACES / 10, PLACES[::-1] / 11])))), "refused", "look like voxels where ångström were expected"),
    Case("positions counted from the middle", lambda: ("a.csv", table(angstrom(places=PLACES - [600, 500, 300]))), "refused", "counted from the tomogram's middle?"),
    Case("x and z exchanged", lambda: ("a.csv", table([*angstrom(places=PLACES[:, ::-1]), "100,600,1100"])), "refused", "x and z exchanged?"),
    Case("positions in a tomogram of half the voxel size", lambda: ("a.csv", table(angstrom(places=PLACES * 2))), "refused", "half this voxel size"),
    Case("some annotations outside the tomogram", lambda: ("a.csv", table([*angstrom(), "100,5000,20", "-70,10,10"])), "refused", "2 of 5 annotations lie outside"),
    Case("all annotations outside the tomogram", lambda: ("a.csv", table(["1e6,1e6,1e6"])), "refused", "1 of 1 annotations lie outside"),
    Case("less than a voxel beyond the edge", lambda: ("a.csv", table([*angstrom(places=PLACES[:2]), "1203,500,300"])), "taken", note="refinement shifts particles at the edge"),
    Case("a header and no rows", lambda: ("a.csv", table([])), "refused", "no annotations in it"),
    Case("a STAR loop without rows", lambda: ("a.star", "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"), "refused", "no annotations in it"),
    Case("copick picks without points", lambda: ("a.json", copick(points=[])), "refused", "no annotations in it"),
    Case("rows that stand there twice", lambda: ("a.csv", table([*angstrom(), *angstrom()])), "refused", "6 of 6 annotations lie at the place of another"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_of_annotations(tmp_path, capsys, case):
    name, content = case.make()
    path = written(tmp_path / name, content)
    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            check_annotations(read_annotations(path, "TS_1", GRID), GRID, path)
        assert case.words in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
        return
    rows = read_annotations(path, "TS_1", GRID)
    check_annotations(rows, GRID, path)
    said = capsys.readouterr().err.splitlines()
    if case.outcome == "warning":
        assert any(case.words in line for line in said)
    else:  # a pixel size is told where a case is about it alone
        assert not [line for line in said if "read as voxels of the tomogram" not in line]
    expected = PLACES if "beyond the edge" not in case.what else [*PLACES[:2], (1203, 500, 300)]
    if "of one particle" in case.what:
        rows = rows[:3]
    np.testing.assert_allclose([(r.x_angstrom, r.y_angstrom, r.z_angstrom) for r in rows], expected, atol=1e-3)


def test_a_shift_of_origin_turns_with_the_subtomogram_it_was_found_in(tmp_path):
    # RELION: the position is the coordinate less the subtomogram's turn of the shift, the orientation the product of both.
    sub, own = (30.0, 50.0, -20.0), (10.0, 80.0, 5.0)
    active = [Rotation.from_euler("ZYZ", angles, degrees=True).inv() for angles in (sub, own)]
    more = {f"rlnTomoSubtomogram{name}": [value] * 3 for name, value in zip(("Rot", "Tilt", "Psi"), sub, strict=True)}
    more |= {f"rlnAngle{name}": [value] * 3 for name, value in zip(("Rot", "Tilt", "Psi"), own, strict=True)}
    path = written(tmp_path / "a.star", star(PLACES + active[0].apply(SHIFT), **ORIGINS, **more))
    rows = read_annotations(path, "TS_1", GRID)
    np.testing.assert_allclose([(r.x_angstrom, r.y_angstrom, r.z_angstrom) for r in rows], PLACES, atol=1e-3)
    found = Rotation.from_euler("ZYZ", [(r.rot_deg, r.tilt_deg, r.psi_deg) for r in rows], degrees=True).inv()
    assert ((found * (active[0] * active[1]).inv()).magnitude() < 1e-4).all()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b/TS_01.tomostar", "TS_01"),
        ("TS_01.mrc.tomostar", "TS_01"),
        ("C:\\data\\TS_01.MRC.gz", "TS_01"),
        ("TS_01.v2", "TS_01.v2"),
        ("TS_01", "TS_01"),
    ],
)
def test_paths_and_endings_are_not_of_the_name(text, name):
    assert tomogram_name(text) == name


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["TS_1", "TS_2", "TS_10", "TS 1"]), st.integers(1, 3), *[st.integers(0, 590)] * 3),
        min_size=1,
        max_size=12,
    ),
    st.permutations(["rlnTomoName", *AXES, "rlnOpticsGroup"]),
)
def test_every_row_is_at_its_tomogram_and_in_its_own_pixels(tmp_path_factory, rows, columns):
    path = tmp_path_factory.mktemp("any") / "a.star"
    sizes = {1: 2.5, 2: 4.0, 3: 10.0}
    frame = pd.DataFrame(
        {
            "rlnTomoName": [row[0] for row in rows],
            "rlnOpticsGroup": [row[1] for row in rows],
            **{name: [row[2 + n] / sizes[row[1]] for row in rows] for n, name in enumerate(AXES)},
        }
    )[columns]
    optics = pd.DataFrame({"rlnOpticsGroup": list(sizes), "rlnTomoTiltSeriesPixelSize": list(sizes.values())})
    starfile.write({"optics": optics, "particles": frame}, path)
    expected = [row[2:] for row in rows if row[0] == "TS_1"]
    if not expected:
        with pytest.raises(BadInput, match="none of 'TS_1'"):
            read_annotations(path, "TS_1", GRID)
        return
    found = [(r.x_angstrom, r.y_angstrom, r.z_angstrom) for r in read_annotations(path, "TS_1", GRID)]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".csv", ".star", ".json", ".xml"]), st.text(max_size=120) | st.binary(max_size=80))
def test_no_file_ends_in_a_traceback(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput):
        check_annotations(read_annotations(path, "TS_1", GRID), GRID, path)


@pytest.mark.shared
def test_annotations_of_a_real_tomogram(shared_data):
    path = shared_data / "annotations/czii_TS_5_4/ground_truth/ribosome.json"
    rows = read_annotations(path, "TS_5_4", Grid(shape=(184, 630, 630), voxel_size_angstrom=10.012))
    assert len(rows) == len(json.loads(path.read_text())["points"])
    assert {row.species for row in rows} == {"ribosome"}


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
