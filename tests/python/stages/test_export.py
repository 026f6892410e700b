import csv
import json
from xml.etree import ElementTree

import copick
import imodmodel
import numpy as np
import pandas as pd
import pytest
import starfile
from template_learning.cli import main
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_json, write_sidecar
from template_learning.common.tables import PickRow
from template_learning.export.copick import CONFIG, merge_configs
from template_learning.picking.annotations import read_annotations
from template_learning.settings import ExportSettings
from template_learning.stages.export import export_picks

from ..builders import pick

GRID = Grid(shape=(40, 60, 81), voxel_size_angstrom=13.48)
VOXELS = np.array([(10.25, 20.5, 30.0), (0.0, 0.0, 0.0), (80.0, 59.0, 39.0), (40.0, 29.5, 19.5)])
CLASSES = [1, 2, 1, 1]


@pytest.fixture
def picks(tmp_path):
    rows = [
        pick(position, 100 * number, class_id, number=number).model_copy(update={"score": 0.875})
        for number, (position, class_id) in enumerate(zip(VOXELS * GRID.voxel_size_angstrom, CLASSES, strict=True), start=1)
    ]
    rows.append(rows[0].model_copy(update={"pick": 5, "selected": False}))
    path = tmp_path / "TS_1.picks.csv"
    write_table(path, PickRow, rows)
    write_sidecar(
        path,
        stage="cluster",
        item="TS_1",
        seed=None,
        settings={},
        shape_voxels=list(GRID.shape),
        voxel_size_angstrom=13.48,
        minimum_size_voxels={"1": 50, "2": 60, "3": 70},
    )
    return path


def test_relion5_by_starfile(picks, tmp_path):
    (path,) = export_picks(picks, "TS_1", ExportSettings(formats=["relion5"], tilt_series_pixel_size_angstrom=3.37), tmp_path)
    tables = starfile.read(path)
    assert tables["optics"]["rlnTomoTiltSeriesPixelSize"].tolist() == [3.37]
    particles = tables["particles"]
    found = particles[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    # RELION 5 adds half the size of the tomogram, in pixels of the tilt series, and has the position from voxel 0.
    size = np.array(GRID.shape[::-1]) * GRID.voxel_size_angstrom
    np.testing.assert_allclose(found + size / 2, VOXELS * 13.48, atol=1e-3)
    assert particles["rlnTomoName"].tolist() == ["TS_1"] * 4
    assert particles["rlnClassNumber"].tolist() == CLASSES


def test_relion4_by_starfile(picks, tmp_path):
    (path,) = export_picks(picks, "TS_1", ExportSettings(formats=["relion4"], tilt_series_pixel_size_angstrom=3.37), tmp_path)
    particles = starfile.read(path)["particles"]
    found = particles[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(found, VOXELS * 4, atol=1e-3)


def test_copick_by_copick(picks, tmp_path, monkeypatch):
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[3:7, 10:20, 30:33] = 2
    write_mrc(tmp_path / "s.mrc", labels, 13.48)
    asked = ExportSettings(formats=["copick"], class_names=["80S ribosome", "FAS"])
    for _ in range(2):  # a second time over the first
        export_picks(picks, "TS_1", asked, tmp_path, tmp_path / "s.mrc")
    monkeypatch.chdir(tmp_path / "copick")
    root = copick.from_file("copick_config.json")
    assert {o.name: o.label for o in root.pickable_objects} == {"80S-ribosome": 1, "FAS": 2, "class-3": 3}
    run = root.get_run("TS_1")
    for name, class_id in (("80S-ribosome", 1), ("FAS", 2)):
        (found,) = run.get_picks(object_name=name)
        points = np.array([(p.location.x, p.location.y, p.location.z) for p in found.points])
        np.testing.assert_allclose(points, VOXELS[np.array(CLASSES) == class_id] * 13.48, atol=1e-3)
        assert found.points[0].score == pytest.approx(0.875)
    (segmentation,) = run.get_segmentations()
    assert segmentation.is_multilabel
    assert segmentation.voxel_size == pytest.approx(13.48)
    np.testing.assert_array_equal(segmentation.numpy(), labels)


def test_the_order_of_scores_is_kept_and_a_figure_of_merit_is_from_0_to_1(tmp_path):
    scores = [-3.0, 4.0, 16.0, 22.0]
    rows = [
        pick(position, number=number).model_copy(update={"score": score, "mean_probability": 1.0})
        for number, (position, score) in enumerate(zip(VOXELS * GRID.voxel_size_angstrom, scores, strict=True), start=1)
    ]
    path = tmp_path / "TS_1.picks.csv"
    write_table(path, PickRow, rows)
    where = {"shape_voxels": list(GRID.shape), "voxel_size_angstrom": 13.48}
    write_sidecar(path, stage="cluster", item="TS_1", seed=None, settings={}, **where)
    relion, copick_folder, xml, table = export_picks(
        path, "TS_1", ExportSettings(formats=["relion5", "copick", "deepfinder", "csv"]), tmp_path
    )
    assert starfile.read(relion)["particles"]["rlnAutopickFigureOfMerit"].tolist() == pytest.approx(scores)
    (picks_file,) = copick_folder.glob("ExperimentRuns/*/Picks/*.json")
    merits = [point["score"] for point in json.loads(picks_file.read_text())["points"]]
    assert merits == sorted(set(merits))
    assert 0 < merits[0] < merits[-1] < 1
    assert [float(o.get("score")) for o in ElementTree.parse(xml).getroot().findall("object")] == pytest.approx(scores)
    assert [row.score for row in read_table(table, PickRow)] == scores


def test_deepfinder_xml(picks, tmp_path):
    (path,) = export_picks(picks, "TS_1", ExportSettings(formats=["deepfinder"]), tmp_path)
    objects = ElementTree.parse(path).getroot().findall("object")
    np.testing.assert_allclose([[float(o.get(axis)) for axis in "xyz"] for o in objects], VOXELS, atol=1e-3)
    assert [int(o.get("class_label")) for o in objects] == CLASSES
    assert [int(o.get("cluster_size")) for o in objects] == [100, 200, 300, 400]


def test_imod_points_and_csv(picks, tmp_path):
    points, table = export_picks(picks, "TS_1", ExportSettings(formats=["imod", "csv"], unselected=True), tmp_path)
    lines = np.loadtxt(points)
    assert sorted(lines[:, 0]) == [1, 1, 1, 1, 2]
    np.testing.assert_allclose(lines[-1, 2:], VOXELS[1] + (0.5, 0.5, 0.0))
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 5
    assert float(rows[0]["x_angstrom"]) == pytest.approx(10.25 * 13.48, abs=1e-3)


@pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")  # imodmodel's own writing
def test_points_in_an_imod_model_lie_on_the_voxels_that_3dmod_shows_them_on(picks, tmp_path):
    (points,) = export_picks(picks, "TS_1", ExportSettings(formats=["imod"]), tmp_path)
    table = pd.read_csv(points, sep=" ", names=["object_id", "contour_id", "x", "y", "z"])
    imodmodel.write(table.assign(object_id=table.object_id - 1, contour_id=0), tmp_path / "m.mod")  # as point2model does
    model = imodmodel.read(tmp_path / "m.mod").sort_values("x")
    # 3dmod shows a point on the section nearest to its z, and there on the pixel whose square holds x and y.
    shown = np.column_stack([np.floor(model.x), np.floor(model.y), np.round(model.z)])
    nearest = np.column_stack([np.floor(VOXELS[:, :2] + 0.5), np.round(VOXELS[:, 2])])
    np.testing.assert_array_equal(shown, nearest[np.argsort(nearest[:, 0])])


def test_our_own_reader_takes_every_export(picks, tmp_path):
    written = export_picks(picks, "TS_1", ExportSettings(), tmp_path)
    readable = [path for path in written if path.suffix in (".star", ".xml", ".csv")]
    assert len(readable) == 4
    for path in readable:
        rows = read_annotations(path, "TS_1", GRID)
        found = [(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows]
        np.testing.assert_allclose(found, VOXELS * 13.48, atol=0.01, err_msg=path.name)
    found = tmp_path / "copick/ExperimentRuns/TS_1/Picks/template-learning_0_class-1.json"
    assert len(read_annotations(found, "TS_1", GRID)) == 3


def test_no_picks_at_all(picks, tmp_path):
    write_table(picks, PickRow, [])
    for path in export_picks(picks, "TS_1", ExportSettings(class_names=["one"]), tmp_path / "none"):
        assert path.exists()
    assert len(starfile.read(tmp_path / "none/TS_1.relion5.star", always_dict=True)["particles"]) == 0


def test_command_line_and_a_missing_sidecar(picks, tmp_path, monkeypatch, capsys):
    write_json(tmp_path / "settings.json", {"formats": ["csv", "imod"]})
    call = ["template-learning", "export", "--picks", str(picks), "--id", "TS_1", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*call, "--settings", str(tmp_path / "settings.json")])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"TS_1.csv", "TS_1.imod.txt"}
    picks.with_name(picks.name + ".json").unlink()
    with pytest.raises(BadInput, match="shape_voxels"):
        export_picks(picks, "TS_1", ExportSettings(), tmp_path)


def test_tomograms_exported_one_by_one_are_one_copick_project(picks, tmp_path, monkeypatch):
    """Into one folder, or each into its own, merged as the pipeline does it: every run and every class is there."""
    asked = ExportSettings(formats=["copick"], class_names=["80S ribosome"])
    other = tmp_path / "TS_2.picks.csv"
    write_table(other, PickRow, [pick((10, 20, 30), 100, 7)])
    write_sidecar(other, stage="cluster", item="TS_2", seed=None, settings={}, shape_voxels=[9, 9, 9], voxel_size_angstrom=10)
    for name, table in (("TS_1", picks), ("TS_2", other)):
        export_picks(table, name, asked, tmp_path / "one")
        export_picks(table, name, asked, tmp_path / "each" / name)
    configs = [tmp_path / "each" / name / "copick" / CONFIG for name in ("TS_1", "TS_2")]
    assert [len(json.loads(path.read_text())["pickable_objects"]) for path in configs] == [3, 2]
    merge_configs(configs, tmp_path / CONFIG)
    assert json.loads((tmp_path / CONFIG).read_text()) == json.loads((tmp_path / "one/copick" / CONFIG).read_text())
    monkeypatch.chdir(tmp_path / "one/copick")
    project = copick.from_file(CONFIG)
    assert {one.name: one.label for one in project.pickable_objects} == {
        "80S-ribosome": 1,
        "class-2": 2,
        "class-3": 3,
        "class-7": 7,
    }
    assert sorted(one.name for one in project.runs) == ["TS_1", "TS_2"]
    assert len(project.get_run("TS_2").get_picks(object_name="class-7")[0].points) == 1


@pytest.mark.parametrize("names", [["a b", "a_b"], ["same", "same"], ["a/b", "a-b", "a b"], ["a b", "a_b", "a-b-1"]])
def test_classes_whose_copick_names_would_be_the_same_keep_files_of_their_own(picks, tmp_path, names):
    export_picks(picks, "TS_1", ExportSettings(formats=["copick"], class_names=names), tmp_path)
    files = sorted((tmp_path / "copick/ExperimentRuns/TS_1/Picks").iterdir())
    assert len(files) == 3
    counted = {one["pickable_object_name"]: len(one["points"]) for one in (json.loads(path.read_text()) for path in files)}
    assert sorted(counted.values()) == [0, 1, 3]


def test_projects_that_name_their_classes_otherwise_are_not_merged(picks, tmp_path):
    for number, names in enumerate((["a"], ["b"], ["c", "a"])):
        export_picks(picks, "TS_1", ExportSettings(formats=["copick"], class_names=names), tmp_path / str(number))
    first, *others = (tmp_path / str(number) / "copick" / CONFIG for number in range(3))
    for other in others:
        with pytest.raises(BadInput, match="a project of its own was expected"):
            merge_configs([first, other], tmp_path / "merged.json")
    first.write_text("{}")
    with pytest.raises(BadInput, match=r"copick_config\.json: no copick configuration"):
        merge_configs([first], tmp_path / "merged.json")
    assert not (tmp_path / "merged.json").exists()
