"""Real runs of the whole chain, tiny: resume, kill and resume, seeds, entry with a model, bad input."""

import csv
import json
import time

import copick
import pytest

from ..runs import ROOT, Pipeline, assert_same_results, assert_the_index_is_what_lies_there, few_structures_in

pytestmark = pytest.mark.long
TINY = ("-profile", "demo", "-params-file", str(ROOT / "tests/data/tiny.yml"))


@pytest.fixture(scope="module")
def few_structures(tmp_path_factory):
    return few_structures_in(tmp_path_factory.mktemp("structures"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, few_structures):
    """A tiny run from start to end: (pipeline, run)."""
    pipeline = Pipeline(tmp_path_factory.mktemp("undisturbed"))
    run = pipeline.run(*TINY, *few_structures)
    assert run.status == 0, run.printed
    return pipeline, run


def test_everything_promised_is_there(undisturbed):
    _, run = undisturbed
    assert_the_index_is_what_lies_there(run.outdir)
    index = json.loads((run.outdir / "index.json").read_text())
    assert all(entry["what"] for entry in index["files"])
    page = (run.outdir / "report/report.html").read_text()
    assert "<html" in page
    for kind in ("trace", "report", "timeline", "dag"):
        assert run.record(kind).is_file()


def test_every_output_carries_settings_versions_and_seed(undisturbed):
    _, run = undisturbed
    for path in run.outdir.rglob("*.mrc"):
        if "volume" in path.parts or path.name.endswith("log_odds.mrc"):
            continue
        beside = json.loads(path.with_name(path.name + ".json").read_text())
        assert beside["versions"]["template-learning"]
        assert "settings" in beside, path
        assert "seed" in beside, path


def test_resume_runs_nothing_again(undisturbed, few_structures):
    pipeline, _ = undisturbed
    again = pipeline.run(*TINY, *few_structures, "-resume")
    assert again.status == 0, again.printed
    assert again.tasks("COMPLETED") == []


@pytest.mark.parametrize(("stage", "seconds"), [("simulate", 0.5), ("train", 2.0)])
def test_killed_and_resumed_is_the_same_as_undisturbed(tmp_path, undisturbed, few_structures, stage, seconds):
    pipeline = Pipeline(tmp_path)
    pipeline.kill_during(stage, *TINY, *few_structures, seconds=seconds)
    time.sleep(1.0)
    run = pipeline.run(*TINY, *few_structures, "-resume")
    assert run.status == 0, run.printed
    assert_same_results(run.outdir, undisturbed[1].outdir)


def test_another_seed_gives_another_packing(tmp_path, undisturbed, few_structures):
    other = Pipeline(tmp_path).run(*TINY, *few_structures, "--seed", "2", "--stop_after", "tetris")
    assert other.status == 0, other.printed
    for name in ("t001", "t002"):
        table = f"tetris/{name}.placed.csv"
        assert (other.outdir / table).read_bytes() != (undisturbed[1].outdir / table).read_bytes()


def test_picks_from_a_model_and_tomograms(tmp_path, undisturbed, monkeypatch):
    _, first = undisturbed
    truth = first.outdir / "label/t001.particles.csv"
    table = tmp_path / "my tomograms.csv"
    table.write_text(
        "id,path,annotations\n"
        f"held_out,{first.outdir / 'reconstruct/t001.mrc'},{truth}\n"
        f"second,{first.outdir / 'reconstruct/t002.mrc'},\n"
    )
    run = Pipeline(tmp_path).run(
        *TINY,
        "--model",
        str(first.outdir / "calibrate/model.keras"),
        "--tomograms",
        str(table),
    )
    assert run.status == 0, run.printed
    stages = {name.split(" ")[0] for name in run.tasks("COMPLETED")}
    expected = {"CHECK", "SEGMENT", "CLUSTER", "EXPORT", "COPICK_CONFIG", "EVALUATE_EXPERIMENTAL", "REPORT", "CRATE"}
    assert stages == expected
    assert_the_index_is_what_lies_there(run.outdir)
    monkeypatch.chdir(run.outdir / "export/copick")
    project = copick.from_file("copick_config.json")
    assert sorted(one.name for one in project.runs) == ["held_out", "second"]
    assert all(len(one.picks) == len(project.pickable_objects) == len(one.segmentations) == 1 for one in project.runs)
    with (run.outdir / "cluster/held_out.picks.csv").open() as mine, (first.outdir / "cluster/t001.picks.csv").open() as theirs:
        assert list(csv.reader(mine)) == list(csv.reader(theirs))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--flex.modes", "0"), "flex.modes = 0: input should be greater than or equal to 1"),
        (("--flex.mods", "9"), "flex.mods = 9: there is no such parameter"),
        (("--templates", "nowhere/*.cif"), "nowhere/*.cif: no such file"),
        (("--tomograms", "bad.csv"), "only letters, digits"),
    ],
)
def test_bad_input_stops_the_run_before_any_work(pipeline, arguments, words):
    (pipeline.folder / "bad.csv").write_text('id,path\n"$(touch pwned) ../x",nowhere.mrc\n')
    run = pipeline.run(*TINY, *arguments)
    assert run.status != 0
    assert words in run.printed
    assert [row["name"].split(" ")[0] for row in run.trace()] == ["CHECK"]
    assert not list(pipeline.folder.rglob("pwned"))
