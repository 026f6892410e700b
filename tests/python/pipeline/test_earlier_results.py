import json

import pytest
from template_learning.common.errors import BadInput
from template_learning.common.stages import ORDER
from template_learning.common.tables import DesignRow
from template_learning.pipeline.earlier_results import Inputs, check_enough, check_unchanged, stages_of
from template_learning.pipeline.outputs import index_of, published_files
from template_learning.settings import Settings


def row(name, split):
    values = {
        "total_dose_e_per_angstrom2": 100,
        "defocus_um": -3,
        "tilt_range_deg": 60,
        "tilt_step_deg": 3,
        "ice_density_g_per_cm3": 0.94,
    }
    return DesignRow(id=name, split=split, **values)


DESIGN = [row("t001", "train"), row("t002", "validation"), row("t003", "test")]
IDS = [one.id for one in DESIGN]
WHOLE = [
    *("flex/a_c000.cif.gz", "flex/a_c001.cif.gz", "volume/a/library.csv", "design/design.csv", "train/trained.keras", "calibrate/model.keras"),
    *(
        f"{stage}/{one}{ending}"
        for one in IDS
        for stage, endings in {
            "tetris": (".placed.csv", ".placed.csv.json"),
            "simulate": (".tilts.mrc", ".tilts.mrc.json", ".tlt"),
            "reconstruct": (".mrc",),
            "label": (".labels.mrc", ".instances.mrc", ".particles.csv"),
            "segment": (".segmentation.mrc", ".log_odds.mrc", ".segmentation.mrc.json"),
            "cluster": (".picks.csv", ".picks.csv.json"),
            "match": (".picks.csv", ".picks.csv.json"),
        }.items()
        for ending in endings
    ),
]  # fmt: skip
GIVEN = Inputs(templates=["a"], tomograms=["x"], annotated=["x"])
NONE = Inputs()


def run(start, stop="report", **params):
    return Settings.model_validate({"start_at": start, "stop_after": stop, "from_results": "before", **params})


@pytest.mark.parametrize("start", [one for one in ORDER if one not in ("flex", "match")])
def test_whole_results_are_enough_for_every_stage(start):
    tomograms = ["t003"] if start in ("cluster", "export", "evaluate") else ["x"]
    given = Inputs(templates=["a"], tomograms=tomograms, annotated=tomograms)
    design = None if start == "volume" else DESIGN
    check_enough(run(start), WHOLE, design, given)


NEEDED = {
    "volume": {"flex"},
    "tetris": {"volume", "design"},
    "simulate": {"volume", "design", "tetris"},
    "reconstruct": {"volume", "tetris", "simulate", "design"},
    "label": {"volume", "tetris", "reconstruct", "design"},
    "train": {"design", "reconstruct", "label"},
    "calibrate": {"design", "reconstruct", "label", "train"},
    "finetune": {"calibrate"},
    "segment": {"calibrate", "reconstruct"},
    "cluster": {"segment"},
    "export": {"segment", "cluster"},
    "evaluate": {"cluster", "label"},
}


@pytest.mark.parametrize(("start", "stage"), [(start, stage) for start, stages in NEEDED.items() for stage in sorted(stages)])
def test_what_a_stage_works_on_must_be_there(start, stage):
    """Without it, and without tomograms of the user's, the run would do nothing, and end well."""
    given = Inputs(templates=["a"], annotated=["x"] if start == "finetune" else [])
    left = [path for path in WHOLE if not path.startswith(stage + "/")]
    design = None if stage == "design" or start == "volume" else DESIGN
    with pytest.raises(BadInput, match=r"before|--from_results"):
        check_enough(run(start), left, design, given)


@pytest.mark.parametrize("start", [one for one in ORDER if one not in ("flex", "design", "match")])
def test_nothing_is_never_enough(start):
    with pytest.raises(BadInput):
        check_enough(run(start), [], None, NONE)


@pytest.mark.parametrize(
    ("start", "params", "given", "without", "words"),
    [
        ("volume", {}, Inputs(templates=["a", "b"]), (), "before/flex: no conformers of the template 'b'"),
        ("volume", {}, NONE, (), "parameter templates: none given"),
        ("finetune", {}, Inputs(tomograms=["x"]), (), "no tomogram with annotations"),
        ("finetune", {"finetune": {"labels": "shape"}}, GIVEN, ("volume/",), "no library in volume/"),
        ("cluster", {}, GIVEN, (), "before: nothing of the tomogram 'x'; with it a run starts at 'segment'"),
        ("evaluate", {}, GIVEN, (), "before: nothing of the tomogram 'x'"),
        ("evaluate", {}, NONE, ("label/t003",), "of no tomogram with picks is anything known"),
        ("segment", {}, NONE, ("reconstruct/t003",), "nothing to pick in"),
        ("export", {}, NONE, ("segment/t001",), "of 't001' there are not both picks"),
        ("segment", {}, NONE, ("label/t001.labels.mrc",), "before/label: t001.instances.mrc is there and t001.labels.mrc is not"),
        ("cluster", {}, NONE, ("segment/t002.log_odds.mrc",), "t002.segmentation.mrc is there and t002.log_odds.mrc is not"),
        ("match", {"match": {"run": True}}, NONE, ("volume/",), "no library in volume/"),
        ("match", {"match": {"run": True}}, NONE, ("reconstruct/",), "nothing to pick in"),
        ("segment", {}, GIVEN, ("reconstruct/", "label/"), None),
        ("match", {"match": {"run": True}}, GIVEN, ("simulate/t003",), "no simulate/t003.tilts.mrc.json, which says how"),
        ("finetune", {"model": "m.keras"}, GIVEN, ("calibrate/", "reconstruct/"), None),
        ("flex", {"model": "m.keras"}, NONE, ("reconstruct/",), "nothing to pick in"),
    ],
)  # fmt: skip
def test_gaps(start, params, given, without, words):
    paths = [path for path in WHOLE if not path.startswith(without)]
    if words is None:
        check_enough(run(start, **params), paths, DESIGN, given)
        return
    with pytest.raises(BadInput) as refusal:
        check_enough(run(start, **params), paths, DESIGN, given)
    assert words in str(refusal.value)


def test_match_takes_the_facts_of_the_tilt_series_alone():
    paths = [path for path in WHOLE if not path.startswith("simulate/") or path.endswith(".tilts.mrc.json")]
    check_enough(run("match", match={"run": True}), paths, DESIGN, NONE)


def test_the_stages_of_a_run():
    assert stages_of(run("train", "calibrate")) == {"train", "calibrate"}
    assert stages_of(run("flex", model="m.keras")) == {"segment", "cluster", "export", "evaluate", "report"}
    assert "finetune" in stages_of(run("finetune"))


@pytest.fixture
def results(tmp_path):
    """Results of two files with their index: (the files that are taken, the index)."""
    (tmp_path / "label").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"label/{name}.particles.csv").write_text(f"particle\n{name}\n")
    (tmp_path / "index.json").write_text(json.dumps(index_of(published_files(tmp_path))))
    return {
        f"label/{name}.particles.csv": tmp_path / f"label/{name}.particles.csv" for name in ("a", "b")
    }, tmp_path / "index.json"


def test_files_as_they_were_written_are_taken(results, capsys):
    files, index = results
    found = check_unchanged("before", files, index)
    assert [one["path"] for one in found] == list(files)
    assert all(one["bytes"] == 11 and len(one["sha256"]) == 64 for one in found)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"particle\nX\n", "before/label/a.particles.csv: not the file of before/index.json (its SHA-256 is another)"),
        (b"particle\n", "(9 bytes, 11 expected)"),
        (b"", "(0 bytes, 11 expected)"),
    ],
)
def test_files_that_were_changed_are_refused(results, content, words):
    files, index = results
    files["label/a.particles.csv"].write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        check_unchanged("before", files, index)
    assert words in str(refusal.value)


def test_files_of_another_run_and_links_to_nothing_are_refused(results, tmp_path):
    files, index = results
    (tmp_path / "c.particles.csv").write_text("particle\n")
    with pytest.raises(BadInput, match=r"before/label/c\.particles\.csv: not in before/index\.json"):
        check_unchanged("before", {**files, "label/c.particles.csv": tmp_path / "c.particles.csv"}, index)
    with pytest.raises(BadInput, match=r"before/label/d\.particles\.csv: a link to nothing"):
        check_unchanged("before", {**files, "label/d.particles.csv": None}, index)


@pytest.mark.parametrize("content", [None, '{"format": 1, "files": [{"path": "label/a.particles.csv"}]}'])
def test_without_checksums_a_word_says_that_nothing_was_compared(results, content, capsys):
    files, index = results
    if content is not None:
        index.write_text(content)
    check_unchanged("before", files, None if content is None else index)
    assert "before: no index.json with checksums" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}'])
def test_a_broken_index_is_refused(results, content):
    files, index = results
    index.write_text(content)
    with pytest.raises(BadInput, match=r"before/index\.json: not the index of a run"):
        check_unchanged("before", files, index)


def test_what_segment_of_0_1_0_wrote_is_whole():
    names = [one.replace(".log_odds.mrc", ".probability.mrc") for one in WHOLE]
    assert names != WHOLE
    for start in ("cluster", "export"):
        check_enough(run(start), names, DESIGN, Inputs(templates=["a"], tomograms=["t003"]))
