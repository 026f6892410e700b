import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.log import listening
from template_learning.common.mrc import write_mrc
from template_learning.learning.model_card import CARD
from template_learning.stages.check import check_run, check_settings

from ..learning.test_fit import CASES as FITS

DEMO = Path(__file__).parents[3] / "data/demo"
GREY = np.random.default_rng(1).standard_normal((32, 40, 40)).astype(np.float32)


def group(**own):
    """Parameters with a group ``low`` beside the plain one."""
    return {"params": {"design": {"groups": {"plain": {}, "low": own}}}}


@pytest.fixture
def request_file(tmp_path):
    """Writes a request as the pipeline does and returns its path: one template, one distractor, one tomogram."""
    shutil.copy(DEMO / "templates/7pex.cif.gz", tmp_path / "t.cif.gz")
    shutil.copy(DEMO / "distractors/3qm1.cif.gz", tmp_path / "d.cif.gz")
    write_mrc(tmp_path / "tomogram.mrc", GREY, 13.0)

    def write(**changes):
        content = {
            "params": {"seed": 1},
            "templates": [{"id": "7pex", "path": "my/t.cif.gz", "file": "t.cif.gz"}],
            "distractors": [{"id": "3qm1", "path": "my/d.cif.gz", "file": "d.cif.gz"}],
            "tomograms": [{"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc"}],
        }
        content.update(changes)
        (tmp_path / "request.json").write_text(json.dumps(content))
        return tmp_path / "request.json"

    return write


def test_a_good_request_passes(request_file, tmp_path):
    check_run(request_file(params={"seed": 3, "reconstruct": {"voxel_size_angstrom": 10}}), tmp_path / "out")
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["seed"] == 3
    assert settings["simulate"]["pixel_size_angstrom"] == 5
    inputs = json.loads((tmp_path / "out/inputs.json").read_text())
    assert inputs["templates"] == [
        {"id": "7pex", "role": "template", "class_name": "target", "class_id": 1, "share": 1.0, "reading": {}}
    ]
    assert inputs["distractors"][0]["class_id"] == 0


def test_joined_presets_say_what_was_taken_from_which(request_file, tmp_path, capsys):
    presets = {
        "ribosome": "train: {patch_voxels: 48, epochs: 100}\nlabel: {kind: shape}\n",
        "deepfinder": "train: {patch_voxels: 56, epochs: 100}\n",
    }
    params = {"train": {"patch_voxels": 56, "epochs": 100}}
    check_run(request_file(params=params, presets=presets), tmp_path / "out")
    found = json.loads((tmp_path / "out/inputs.json").read_text())["presets"]
    assert found["joined"] == ["ribosome", "deepfinder"]
    assert found["differ"] == {"train.patch_voxels": {"presets": {"ribosome": 48, "deepfinder": 56}, "value": 56}}
    assert "train.patch_voxels: ribosome has 48, deepfinder has 56; this run has 56" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    "params",
    [
        {"evaluate": {"rank": "score"}},
        {"stop_after": "label"},
        {"model": "calibrated.keras"},
        {"cluster": {"chosen_by": "expected_f1", "minimum_size_voxels": 20}},
    ],
)
def test_picks_by_expected_f1_are_let_through_where_they_can_be_had_or_are_not_asked_for(request_file, tmp_path, params):
    check_run(request_file(params={"cluster": {"chosen_by": "expected_f1"}, **params}), tmp_path / "out")


def test_a_map_is_a_template_and_a_distractor(request_file, tmp_path):
    grid = np.indices((20, 20, 20)) - 9.5
    write_mrc(tmp_path / "ball.mrc", np.exp(-(grid**2).sum(axis=0) / 18).astype(np.float32), 10.0)
    row = {"id": "ball", "path": "my/ball.mrc", "file": "ball.mrc", "resolution_angstrom": "25", "mass_dalton": "2e5"}
    write_mrc(tmp_path / "other.mrc", np.exp(-(grid**2).sum(axis=0) / 30).astype(np.float32), 10.0)
    other = {**row, "id": "b2", "threshold": "0.3", "path": "my/other.mrc", "file": "other.mrc"}
    check_run(request_file(templates=[row], distractors=[other]), tmp_path / "out")
    inputs = json.loads((tmp_path / "out/inputs.json").read_text())
    assert inputs["templates"][0]["reading"] == {"resolution_angstrom": 25, "mass_dalton": 2e5}
    assert inputs["distractors"][0]["reading"] == {"resolution_angstrom": 25, "mass_dalton": 2e5, "threshold": 0.3}
    with pytest.raises(BadInput, match="the distractor 'b3' is the same molecule as the template 'ball'"):
        check_run(request_file(templates=[row], distractors=[{**row, "id": "b3"}]), tmp_path / "bad")
    for wrong, words in (
        ({"threshold": "7"}, "my/ball.mrc: no voxel is above the threshold 7"),
        ({"threshold": "inf"}, "threshold"),
        ({"resolution_angstrom": "-3"}, "resolution_angstrom"),
        ({"resolution_angstrom": "3"}, "at least the voxel size"),
        ({"mass_dalton": "heavy"}, "mass_dalton"),
        ({"assembly": "1"}, "a density map has none"),
    ):
        with pytest.raises(BadInput) as refusal:
            check_run(request_file(templates=[{**row, **wrong}]), tmp_path / "bad")
        assert words in str(refusal.value)


def test_classes_are_numbered_by_name(request_file, tmp_path):
    rows = [{"id": f"s{n}", "path": "t", "file": "t.cif.gz", "class": name} for n, name in enumerate(["b", "a", "b"])]
    check_run(request_file(templates=rows), tmp_path / "out")
    inputs = json.loads((tmp_path / "out/inputs.json").read_text())
    assert [row["class_id"] for row in inputs["templates"]] == [2, 1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {"flex": {"mode": 7}}}, "flex.mode = 7: there is no such parameter; allowed: conformers"),
        ({"params": {"flex": {"modes": 0}}}, "flex.modes = 0: input should be greater than or equal to 1"),
        ({"params": {"tempates": "x"}}, "tempates = 'x': there is no such parameter"),
        ({"params": {"design": {"scheme": "grid"}}}, "design.scheme = 'grid'"),
        ({"params": {"start_at": "train"}}, "from_results"),
        ({"params": {"start_at": "train", "stop_after": "flex", "from_results": "x"}}, "lies after stop_after"),
        ({"params": {"start_at": "match", "from_results": "x"}}, "--match.run true was expected"),
        ({"params": {"model": "m.keras", "match": {"run": True}}}, "run that has the templates"),
        ({"params": {"cluster": {"chosen_by": "expected_f1"}}}, "evaluate.rank = 'score' was expected with it"),
        ({"templates": []}, "parameter templates: none given"),
        ({"templates": [{"id": "a", "path": "gone.cif"}]}, "gone.cif: no such file"),
        ({"templates": [{"id": "a", "path": "pdb:1abc"}]}, "pdb:1abc: no such entry, or no network: nothing could be"),
        ({"templates": [{"id": "a", "path": "pdb:abcde"}]}, "pdb:abcde: not an id of the Protein Data Bank"),
        ({"templates": [{"id": "a", "path": "1abc"}]}, "1abc: no such file; pdb:1abc would fetch"),
        ({"templates": [{"id": "a", "path": "p.cif", "file": "t.cif.gz", "assembly": "9"}]}, "p.cif: no assembly '9'"),
        ({"templates": [{"id": "a", "path": "p.cif", "file": "t.cif.gz", "threshold": "1"}]}, "threshold is for density maps"),
        ({"params": {"pdb_address": "https://x.org/"}}, "pdb_address"),
        ({"params": {"tetris": {"centre_margin_angstrom": 512}}}, "tetris.centre_margin_angstrom = 512: no room for a centre"),
        ({"params": {"flex": {"modes": 9000}}}, "atoms named CA or P; too few for the 9000 modes"),
        ({"templates": [{"id": "a b", "path": "p", "file": "t.cif.gz"}]}, "only letters, digits"),
        ({"templates": [{"id": "$(reboot)", "path": "p", "file": "t.cif.gz"}]}, "only letters, digits"),
        ({"templates": [{"id": "../x", "path": "p", "file": "t.cif.gz"}]}, "only letters, digits"),
        ({"templates": [{"id": "a'\"b", "path": "p", "file": "t.cif.gz"}]}, "only letters, digits"),
        ({"templates": [{"id": "3qm1", "path": "p", "file": "t.cif.gz"}]}, "'3qm1' stands there twice"),
        ({"templates": [{"id": "a", "path": "p", "file": "t.cif.gz", "class": "x y"}]}, "class 'x y'"),
        ({"templates": [{"id": "a", "path": "p", "file": "t.cif.gz", "share": -1}]}, "share"),
        ({"templates": [{"id": "a", "path": "p", "file": "t.cif.gz", "colour": "red"}]}, "colour"),
        ({"params": {"tetris": {"shape_voxels": [4, 40, 40]}}}, "larger than the box"),
        (group(tetris={"shape_voxels": [4, 40, 40]}), "my/t.cif.gz: design.groups.low: 207 Å across"),
        (group(tetris={"centre_margin_angstrom": 512}), "design.groups.low: parameter tetris.centre_margin_angstrom = 512"),
        (group(tetris={"maximum_counts": ["gone=3"]}), "design.groups.low: "),
        (
            group(design={"ice_thickness_angstrom": 500}),
            "design.groups.low: design.ice_thickness_angstrom = 500: molecules are",
        ),
        (group(design={"validation_tomograms": 48}), "leave none of 48 rows for training; fewer of them, or more rows, were"),
        (group(label={"kind": "cube"}), "parameter design.groups.low.label.kind = 'cube'"),
        (
            {"tomograms": [{"id": "one", "path": "my/x.mrc", "file": "tomogram.mrc", "annotations": "a.csv"}]},
            "a.csv: no such file",
        ),
    ],
)
def test_bad_requests_are_one_clear_line(request_file, tmp_path, changes, words):
    with pytest.raises(BadInput) as caught:
        check_run(request_file(**changes), tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"data_x\nloop_\n", "not a structure"), (b"HELLO\n", "no atoms"), (b"REMARK 2\nEND\n", "no atoms")],
)
def test_bad_structures_carry_the_users_path(request_file, tmp_path, content, words):
    (tmp_path / "bad.pdb").write_bytes(content)
    rows = [{"id": "a", "path": "where/the user/put it.pdb", "file": "bad.pdb"}]
    with pytest.raises(BadInput, match=words) as caught:
        check_run(request_file(templates=rows), tmp_path / "out")
    assert "where/the user/put it.pdb" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_small_constant_and_nan_tomograms_are_refused(request_file, tmp_path):
    for small in (GREY[:3], GREY[:, :15]):
        write_mrc(tmp_path / "tomogram.mrc", small, 13.0)
        with pytest.raises(BadInput, match="at least 4 slices, and 16 voxels along y and x"):
            check_run(request_file(), tmp_path / "out")
    write_mrc(tmp_path / "tomogram.mrc", GREY * 0, 13.0)
    with pytest.raises(BadInput, match="every voxel is 0"):
        check_run(request_file(), tmp_path / "out")
    write_mrc(tmp_path / "tomogram.mrc", GREY, 13.0)
    with mrcfile.open(tmp_path / "tomogram.mrc", mode="r+") as opened:
        opened.data[3, 4, 5] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        check_run(request_file(), tmp_path / "out")


def test_a_model_is_looked_at_before_any_work(request_file, tmp_path):
    by = {"segment.probability_threshold": None, "cluster.method": "watershed", "cluster.probability_threshold": 0.5}
    card = {"format": 1, "voxel_size_angstrom": 8, "classes": {"1": ["x"]}, "filters": 4, "patch_voxels": 48, "segments_by": by}

    def check(**params):
        request = request_file(params={"model": "my/model.keras", **params}, model_file="model.keras")
        check_run(request, tmp_path / "out")

    for content, words in ((None, "not a .keras model file"), ({**card, "format": 9}, "the model's format is 9")):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr(CARD, json.dumps(content))
        if content is None:
            (tmp_path / "model.keras").write_bytes(b"weights")
        with pytest.raises(BadInput) as refusal:
            check()
        assert str(refusal.value).startswith(f"my/model.keras: {words}")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr(CARD, json.dumps(card))
    check()
    other = {"segment": {"probability_threshold": 0.2}, "cluster": {"probability_threshold": 0.2}}
    with pytest.raises(BadInput, match="start_at = 'finetune': no tomogram with annotations was given"):
        check(**other, start_at="finetune")
    (tmp_path / "particles.csv").write_text("x_angstrom,y_angstrom,z_angstrom\n100,120,90\n")
    annotated = {"path": "my/tomogram.mrc", "file": "tomogram.mrc", "annotations_file": "particles.csv"}
    params = {"model": "my/model.keras", **other, "start_at": "finetune"}  # chooses another threshold
    one = {"id": "one", "annotations": "p", **annotated}
    with pytest.raises(BadInput, match="1 of 1 tomograms have annotations"):
        check_run(request_file(params=params, model_file="model.keras", tomograms=[one]), tmp_path / "out")
    two = {"id": "two", "annotations": "q", **annotated}
    check_run(request_file(params=params, model_file="model.keras", tomograms=[one, two]), tmp_path / "out")
    check(segment=other["segment"], cluster={"probability_threshold": 0.2, "minimum_size_voxels": 30})
    for params, words in (
        (
            other,
            "its threshold was chosen with segment.probability_threshold = none, cluster.probability_threshold = 0.5, and here is",
        ),
        (
            {"cluster": {"chosen_by": "expected_f1"}},
            "parameter cluster.chosen_by = 'expected_f1', but the model carries no probabilities of scores",
        ),
    ):
        with pytest.raises(BadInput) as refusal:
            check(**params)
        assert words in str(refusal.value)


@pytest.fixture
def checked_with_model(request_file, tmp_path):
    """Checks one tomogram against a model of 8 Å and returns what was doubted."""

    def check(data, voxel, given=None, **params):
        card = {"format": 2, "voxel_size_angstrom": 8, "classes": {"1": ["x"]}, "filters": 4, "patch_voxels": 48}
        card["label_radius_angstrom"] = {"1": 20.0}
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr(CARD, json.dumps(card))
        write_mrc(tmp_path / "tomogram.mrc", data, voxel)
        row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc", "voxel_size_angstrom": given}
        params = {"model": "my/model.keras", **params}
        check_run(request_file(params=params, tomograms=[row], model_file="model.keras"), tmp_path / "out")
        return json.loads((tmp_path / "out/inputs.json").read_text())["notes"]

    return check


@pytest.mark.parametrize("case", FITS, ids=str)
def test_tomograms_are_set_beside_the_models_card(checked_with_model, case):
    data, voxel, given, contrast = case.make()

    def check():
        return checked_with_model(data, voxel, given, segment={"contrast": contrast})

    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            check()
        assert case.words in str(refusal.value)
        assert "column voxel_size_angstrom of the tomograms' table" in str(refusal.value)
    elif case.outcome == "warning":
        (note,) = check()
        assert note.startswith("my/tomogram.mrc: ")
        assert case.words in note
    else:
        assert check() == []


@pytest.mark.parametrize(
    ("voxel", "given", "words"),
    [
        (13.0, None, None),
        (9.0, None, None),
        (13.0, 1.3, "1.3 Å by the table and 13 Å by its header; this run's are 13 Å"),
        (6.5, None, "voxels of 6.5 Å by its header, a field of 150 x 150 nm; this run's are 13 Å. Is that so?"),
        (1.3, None, "In nanometres?"),
        (1.0, None, "1 Å is what programs write that were not told the size"),
        (1.0, 13.0, None),
        (26.0, None, "26 Å by its header"),
    ],
)
def test_tomograms_are_set_beside_what_a_run_trains_on(request_file, tmp_path, voxel, given, words):
    data = np.random.default_rng(1).standard_normal((32, 230, 230)).astype(np.float32)
    write_mrc(tmp_path / "tomogram.mrc", data, voxel)
    row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc", "voxel_size_angstrom": given}
    check_run(request_file(tomograms=[row]), tmp_path / "out")
    notes = json.loads((tmp_path / "out/inputs.json").read_text())["notes"]
    assert len(notes) == (words is not None), notes
    assert words is None or words in notes[0]


def test_a_header_is_doubted_where_there_is_nothing_to_set_it_beside(request_file, tmp_path):
    write_mrc(tmp_path / "tomogram.mrc", GREY, 1.0)
    params = {"start_at": "segment", "from_results": "r"}
    check_run(request_file(params=params, templates=[], distractors=[]), tmp_path / "out")
    (note,) = json.loads((tmp_path / "out/inputs.json").read_text())["notes"]
    assert "were not told the size" in note


DESIGN_HEAD = "id,split,total_dose_e_per_angstrom2,defocus_um,tilt_range_deg,tilt_step_deg,ice_density_g_per_cm3"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{DESIGN_HEAD}\na,train,90,-2,60,3,0.9\nb,validation,90,-2,60,3,0.9\n", None),
        (f"{DESIGN_HEAD}\r\na,train,90,-2,60,3,0.9\r\n", None),
        (f"{DESIGN_HEAD}\na,train,90,2,60,3,0.9\n", "line 2, column 'defocus_um'"),
        (f"{DESIGN_HEAD}\na,train,90,-2,60,inf,0.9\n", "line 2, column 'tilt_step_deg'"),
        (f"{DESIGN_HEAD}\na,train,90,-2,40,50,0.9\n", "a step of the range at most was expected"),
    ],
)
def test_a_design_table_is_read_as_the_pipeline_does(request_file, tmp_path, content, words):
    (tmp_path / "d.csv").write_bytes(content.encode("utf-8"))
    request = request_file(params={"design_table": "my/d.csv"}, design_table_file="d.csv")
    if words is None:
        check_run(request, tmp_path / "out")
        return
    with pytest.raises(BadInput) as refusal:
        check_run(request, tmp_path / "out")
    assert str(refusal.value).startswith("my/d.csv: ")
    assert words in str(refusal.value)


def test_a_class_that_the_model_does_not_know_is_told_before_any_work(checked_with_model, tmp_path, request_file):
    (tmp_path / "staged.csv").write_text("x_angstrom,y_angstrom,z_angstrom,class_id\n100,120,90,1\n200,20,100,2\n")
    checked_with_model(GREY, 8.0)  # writes the model
    row = {"id": "one", "path": "t.mrc", "file": "tomogram.mrc", "annotations": "a.csv", "annotations_file": "staged.csv"}

    def request(**params):
        return request_file(params={"model": "model.keras", **params}, tomograms=[row], model_file="model.keras")

    with pytest.raises(BadInput, match=r"a\.csv: class 2; the model knows 1"):
        check_run(request(start_at="finetune"), tmp_path / "bad")
    check_run(request(), tmp_path / "out")
    (note,) = json.loads((tmp_path / "out/inputs.json").read_text())["notes"]
    assert note == "a.csv: class 2, of which no pick can be; the model's are 1"


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (["1"], "1 of 1 tomograms have annotations; at least two were expected"),
        ([None, "1"], "1 of 2 tomograms have annotations"),
        (["0", "0"], "no annotation of a class above 0"),
        (["1", "0"], None),
    ],
)
def test_a_fine_tuning_without_something_to_teach_is_refused(request_file, tmp_path, checked_with_model, tables, words):
    checked_with_model(GREY, 8.0)  # writes the model
    rows = []
    for number, class_id in enumerate(tables):
        row = {"id": f"t{number}", "path": f"t{number}.mrc", "file": "tomogram.mrc"}
        if class_id is not None:
            head = "x_angstrom,y_angstrom,z_angstrom,class_id"
            (tmp_path / f"{number}.csv").write_text(f"{head}\n{100 + number},120,90,{class_id}\n")
            row |= {"annotations": f"{number}.csv", "annotations_file": f"{number}.csv"}
        rows.append(row)
    params = {"model": "model.keras", "start_at": "finetune"}
    request = request_file(params=params, tomograms=rows, model_file="model.keras")
    if words is not None:
        with pytest.raises(BadInput) as refusal:
            check_run(request, tmp_path / "bad")
        assert words in str(refusal.value)
        return
    check_run(request, tmp_path / "out")
    notes = json.loads((tmp_path / "out/inputs.json").read_text())["notes"]
    assert any(note.endswith("the same tomogram as that of 't0', under the id 't1'") for note in notes)


def test_a_column_that_is_not_known_is_answered_with_those_that_are(request_file, tmp_path):
    row = {"id": "a", "path": "p", "file": "t.cif.gz", "clas": "x"}
    with pytest.raises(BadInput, match=r"column 'clas': there is no such column; allowed: .*class"):
        check_run(request_file(templates=[row]), tmp_path / "out")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"design": {"test_tomograms": 40, "validation_tomograms": 8}}, "leave none of 48 rows for training"),
        ({"simulate": {"pixel_size_angstrom": 14}}, "at most reconstruct.voxel_size_angstrom, 13, was expected"),
    ],
)
def test_what_design_and_reconstruct_would_refuse_is_refused_before_any_work(request_file, tmp_path, params, words):
    with pytest.raises(BadInput) as refusal:
        check_run(request_file(params=params), tmp_path / "out")
    assert words in str(refusal.value)


def test_parameters_that_nothing_looks_at_get_a_word(checked_with_model):
    assert checked_with_model(GREY, 8.0, reconstruct={"voxel_size_angstrom": 8}) == []
    notes = checked_with_model(
        GREY, 8.0, reconstruct={"voxel_size_angstrom": 10}, match={"templates": 2, "angular_step_deg": 9}
    )
    assert notes[0].startswith("parameter reconstruct.voxel_size_angstrom = 10: not used with --model")
    assert notes[1] == "not used: parameter match.templates, match.angular_step_deg: counts only with match.run"


def test_a_mask_of_another_shape_is_refused(request_file, tmp_path):
    write_mrc(tmp_path / "mask.mrc", np.zeros((32, 40, 41), dtype=np.uint8), 13.0)
    row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc", "mask": "m.mrc", "mask_file": "mask.mrc"}
    with pytest.raises(BadInput, match=r"m\.mrc: the mask's shape"):
        check_run(request_file(tomograms=[row]), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x,y,z\n300,300,300\n100,120,90\n", "2 of 2 annotations lie outside the tomogram of 520 x 520 x 416 Å"),
        ("x_angstrom,y_angstrom,z_angstrom\n", "no annotations in it"),
        ("x_angstrom,y_angstrom,z_angstrom,tomogram\n1,2,3,two\n", "none of 'one'"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,2,inf\n", "1 of 1 annotations have NaN or infinite positions"),
    ],
)
def test_annotations_are_looked_at_before_any_work(request_file, tmp_path, content, words):
    (tmp_path / "staged.csv").write_text(content)
    row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc"}
    row |= {"annotations": "my/picks.csv", "annotations_file": "staged.csv"}
    with pytest.raises(BadInput) as caught:
        check_run(request_file(tomograms=[row]), tmp_path / "out")
    assert str(caught.value).startswith("my/picks.csv: ")
    assert words in str(caught.value)


def test_one_file_of_annotations_is_not_taken_for_two_tomograms(request_file, tmp_path):
    (tmp_path / "staged.csv").write_text("x_angstrom,y_angstrom,z_angstrom\n100,120,90\n300,20,200\n")
    row = {"path": "t.mrc", "file": "tomogram.mrc", "annotations": "all.csv", "annotations_file": "staged.csv"}
    with pytest.raises(BadInput, match=r"all\.csv: the same 2 annotations for 'one' and 'two'"):
        check_run(request_file(tomograms=[{**row, "id": "one"}, {**row, "id": "two"}]), tmp_path / "out")
    (tmp_path / "staged.csv").write_text("x_angstrom,y_angstrom,z_angstrom,tomo\n100,120,90,one\n300,20,200,two\n")
    check_run(request_file(tomograms=[{**row, "id": "one"}, {**row, "id": "two"}]), tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id,path\none,my/tomogram.mrc\n", None),
        ("\ufeffid,path\none,my/tomogram.mrc\n", None),
        ("id,path\none,my/tomogram.mrc,8.0\n", "a column without a name for '8.0'"),
        ("id,path,voxel_size_angstrom\none,my/tomogram.mrc,8.0\n", "which the pipeline reads as None; save it as UTF-8"),
        ("id,path\none,my/tomogram.mrc\ntwo,x.mrc\n", "2 rows, of which the pipeline reads 1"),
        ("id,path\n", "a header and no rows"),
        ("", "empty"),
    ],
)
def test_an_input_table_is_looked_at_as_it_was_written(request_file, tmp_path, table, words):
    (tmp_path / "t.csv").write_text(table)
    request = request_file(params={"tomograms": "my/t.csv"}, tables={"tomograms": "t.csv"})
    if words is None:
        check_run(request, tmp_path / "out")
        return
    with pytest.raises(BadInput) as caught:
        check_run(request, tmp_path / "out")
    assert str(caught.value).startswith("my/t.csv: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"export": {"class_names": ["a", "b"]}}, "export.class_names: 2 names for 1 class(es)"),
        ({"cluster": {"radius_voxels": 400}}, "my/tomogram.mrc: cluster.radius_voxels = 400, of a tomogram of 40 voxels"),
    ],
)
def test_what_no_pick_can_come_of_is_told(request_file, tmp_path, params, words):
    row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc"}
    with listening() as heard:
        check_run(request_file(tomograms=[row], params=params), tmp_path / "out")
    assert any(words in line for line in heard)


def test_an_empty_mask_is_refused_before_any_work(request_file, tmp_path):
    write_mrc(tmp_path / "mask.mrc", np.zeros((32, 40, 40), dtype=np.uint8), 13.0)
    row = {"id": "one", "path": "my/tomogram.mrc", "file": "tomogram.mrc", "mask": "m.mrc", "mask_file": "mask.mrc"}
    with pytest.raises(BadInput, match=r"m\.mrc: the mask is empty"):
        check_run(request_file(tomograms=[row]), tmp_path / "out")


def test_one_molecule_is_not_target_and_distractor(request_file, tmp_path):
    (tmp_path / "same.pdb.gz").write_bytes((tmp_path / "t.cif.gz").read_bytes())
    rows = [{"id": "other", "path": "my/same.pdb.gz", "file": "same.pdb.gz"}]
    with pytest.raises(BadInput, match="the distractor 'other' is the same molecule as the template '7pex'"):
        check_run(request_file(distractors=rows), tmp_path / "out")


def test_the_command_exits_with_2_and_one_line(request_file, tmp_path):
    command = [sys.executable, "-c", "from template_learning.cli import main; main()", "check"]
    done = subprocess.run(
        [*command, str(request_file(params={"seed": -1})), "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: parameter seed = -1: input should be greater than or equal to 0"]


@pytest.mark.parametrize("text", ["100,150", "[100, 150]", " 100 , 150 "])
def test_lists_may_come_as_text(text):
    assert check_settings({"design": {"total_dose_e_per_angstrom2": text}}).design.total_dose_e_per_angstrom2 == [100, 150]
    assert check_settings({"tetris": {"shape_voxels": "32,80,80"}}).tetris.shape_voxels == (32, 80, 80)


def test_several_wrong_parameters_are_all_named():
    with pytest.raises(BadInput, match=r"flex\.modes.*train\.epochs"):
        check_settings({"flex": {"modes": 0}, "train": {"epochs": 0}})


def test_a_run_that_parakeet_cannot_do_ends_before_it_begins(tmp_path: Path) -> None:
    parameters = {
        "simulate": {"engine": "parakeet"},
        "design": {"nuisances": {"gold_fiducials": [0, 10]}},
        "from_results": "r",
        "start_at": "design",
    }
    (tmp_path / "request.json").write_text(json.dumps({"params": parameters}))
    with pytest.raises(
        BadInput, match=r"design\.nuisances\.gold_fiducials = 10\.0: not done with simulate\.engine = 'parakeet'"
    ):
        check_run(tmp_path / "request.json", tmp_path / "out")


COLUMNS = "id,split,total_dose_e_per_angstrom2,defocus_um,tilt_range_deg,tilt_step_deg,ice_density_g_per_cm3"


def design_table(folder, *rows, delimiter=","):
    lines = [COLUMNS, *(f"{name},{split},100,-3.5,60,3,0.94" for name, split in rows)]
    (folder / "design.csv").write_text("\n".join(lines).replace(",", delimiter) + "\n")
    return {"design_table": "my/design.csv"}


@pytest.mark.parametrize(
    ("rows", "params", "words"),
    [
        ([("x1", "test"), ("x2", "validation")], {}, "no row has split = train, and TRAIN is to run"),
        ([("x1", "test"), ("x2", "validation")], {"stop_after": "label"}, None),
        ([("x1", "train"), ("x2", "train")], {}, None),
        ([("one", "train")], {}, "id 'one': the simulated tomogram of my/design.csv has 'one', and so has the tomogram my/tomogram.mrc"),
        ([("7PEX", "train")], {}, "id '7pex'"),
        ([("7pex_c000", "train")], {}, "so a conformer of the template '7pex' is called"),
        ([("x.labels", "train")], {}, "it ends as a kind of file does (.labels)"),
    ],
)  # fmt: skip
def test_a_design_of_ones_own_is_looked_at_before_any_work(request_file, tmp_path, rows, params, words):
    params = {**design_table(tmp_path, *rows, delimiter=";"), **params}
    request = request_file(params=params, design_table_file="design.csv")
    if words is None:
        check_run(request, tmp_path / "out")
        assert (tmp_path / "out/design.csv").read_text().splitlines()[:2] == [
            COLUMNS,
            f"{rows[0][0]},{rows[0][1]},100,-3.5,60,3,0.94",
        ]
        return
    with pytest.raises(BadInput) as refusal:
        check_run(request, tmp_path / "out")
    assert words in str(refusal.value)


def test_the_ids_that_design_will_draw_are_taken(request_file, tmp_path):
    row = {"id": "t001", "path": "my/tomogram.mrc", "file": "tomogram.mrc"}
    with pytest.raises(BadInput, match="'t001': the simulated tomogram of the design has 't001'"):
        check_run(request_file(tomograms=[row]), tmp_path / "out")
    check_run(request_file(tomograms=[row], params={"stop_after": "volume"}), tmp_path / "out")  # none is drawn


def test_earlier_results_are_looked_at_before_any_work(request_file, tmp_path):
    params = {"start_at": "train", "from_results": "before/"}
    with pytest.raises(BadInput, match="parameter from_results = 'before/': no such folder"):
        check_run(request_file(params=params, earlier={"exists": False, "files": []}), tmp_path / "out")
    with pytest.raises(BadInput, match="before/: no tomograms"):
        check_run(request_file(params=params, earlier={"exists": True, "files": [], "index": ""}), tmp_path / "out")
    names = ["design/design.csv", *(f"label/x1.{kind}" for kind in ("labels.mrc", "instances.mrc", "particles.csv"))]
    design_table(tmp_path, ("x1", "train"))
    for name in names[1:]:
        (tmp_path / name.split("/")[1]).write_text(name)
    files = [{"path": name, "file": name.split("/")[1]} for name in names] + [
        {"path": "reconstruct/x1.mrc", "file": "tomogram.mrc"}
    ]
    check_run(request_file(params=params, earlier={"exists": True, "files": files, "index": ""}), tmp_path / "out")
    inputs = json.loads((tmp_path / "out/inputs.json").read_text())
    assert inputs["notes"] == ["before: no index.json with checksums; its files are taken as they are"]
    taken = [one for one in inputs["files"] if one["role"] == "earlier result"]
    assert [one["path"] for one in taken] == [f"before/{name}" for name in [*names, "reconstruct/x1.mrc"]]
    assert all(len(one["sha256"]) == 64 for one in taken)
    entries = [{"path": one["id"], "bytes": one["bytes"], "sha256": one["sha256"]} for one in taken]
    (tmp_path / "index.json").write_text(json.dumps({"format": 1, "files": entries}))
    request = request_file(params=params, earlier={"exists": True, "files": files, "index": "index.json"})
    check_run(request, tmp_path / "out")
    (tmp_path / "x1.labels.mrc").write_text("label/x2.labels.mrc")
    with pytest.raises(BadInput, match=r"before/label/x1\.labels\.mrc: not the file of before/index\.json"):
        check_run(request, tmp_path / "out")


@pytest.mark.parametrize("column", ["file", "mask_file", "files"])
def test_columns_that_the_pipeline_itself_adds_are_refused(request_file, tmp_path, column):
    (tmp_path / "t.csv").write_text(f"id,path,{column}\none,my/tomogram.mrc,x\n")
    with pytest.raises(BadInput, match=f"my/t.csv: column '{column}': the pipeline's own"):
        check_run(request_file(params={"tomograms": "my/t.csv"}, tables={"tomograms": "t.csv"}), tmp_path / "out")


def test_what_lies_in_a_files_place_is_named(request_file, tmp_path):
    row = {"id": "one", "path": "my/tomogram.mrc", "instead": "a link to nothing"}
    with pytest.raises(BadInput, match=r"my/tomogram\.mrc: a link to nothing \(tomograms, id one\)"):
        check_run(request_file(tomograms=[row]), tmp_path / "out")


def test_a_table_of_ones_own_names_groups_that_there_are(request_file, tmp_path):
    columns = "id,group,total_dose_e_per_angstrom2,defocus_um,tilt_range_deg,tilt_step_deg,ice_density_g_per_cm3"
    (tmp_path / "own.csv").write_text(f"{columns}\na,low,100,-3,60,3,0.94\nb,,100,-3,60,3,0.94\n")
    own = {"design_table": "my/own.csv", "design_table_file": "own.csv"}
    mixture = {"design_table": "my/own.csv", **group(simulate={"ice_shape": "cuboid"})["params"]}
    check_run(request_file(**own | {"params": mixture}), tmp_path / "out")
    given = json.loads((tmp_path / "out/stage_settings.json").read_text())
    assert [given["simulate"][name]["ice_shape"] for name in ("plain", "low")] == ["slab", "cuboid"]
    with pytest.raises(
        BadInput, match=r"^my/own\.csv: the group 'low', of which design\.groups says nothing; plain were expected"
    ):
        check_run(request_file(**own | {"params": {"design_table": "my/own.csv"}}), tmp_path / "other")


def test_a_group_that_no_phase_is_taught_is_told(request_file, tmp_path):
    params = {**group()["params"], "train": {"phases": [{"groups": ["plain"]}]}}
    check_run(request_file(params=params), tmp_path / "out")
    notes = json.loads((tmp_path / "out/inputs.json").read_text())["notes"]
    assert any(line.startswith("design.groups.low: in no phase of train.phases") for line in notes)
