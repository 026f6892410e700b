"""Real runs of the whole chain, tiny: resume, kill and resume, seeds, entry with a model, bad input."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from .conftest import ROOT, Pipeline

pytestmark = pytest.mark.long
TINY = ("-profile", "demo", "-params-file", str(ROOT / "tests/data/tiny.yml"))


@pytest.fixture(scope="module")
def few_structures(tmp_path_factory):
    """Two templates and two distractors, enough for a tiny run."""
    folder = tmp_path_factory.mktemp("structures")
    for kind, names in (("templates", ("7pex", "7xzy")), ("distractors", ("3qm1", "1s3x"))):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(ROOT / f"data/demo/{kind}/{name}.cif.gz", folder / kind)
    return ("--templates", f"{folder}/templates/*.cif.gz", "--distractors", f"{folder}/distractors/*.cif.gz")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, few_structures):
    """A tiny run from start to end: (pipeline, run)."""
    pipeline = Pipeline(tmp_path_factory.mktemp("undisturbed"))
    run = pipeline.run(*TINY, *few_structures)
    assert run.status == 0, run.printed
    return pipeline, run


def tables_and_volumes(results: Path):
    """Every table's bytes and every volume's voxels, by relative path."""
    tables = {str(path.relative_to(results)): path.read_bytes() for path in sorted(results.rglob("*.csv"))}
    volumes = {str(path.relative_to(results)): mrcfile.read(path) for path in sorted(results.rglob("*.mrc"))}
    return tables, volumes


def test_everything_promised_is_there(undisturbed):
    _, run = undisturbed
    index = json.loads((run.outdir / "index.json").read_text())
    listed = {entry["path"] for entry in index["files"]}
    published = {
        str(path.relative_to(run.outdir))
        for path in run.outdir.rglob("*")
        if path.is_file() and path.relative_to(run.outdir).parts[0] != "pipeline_info"
    }
    assert published - {"index.json"} == listed - {"index.json"}
    assert all(entry["what"] for entry in index["files"])
    page = (run.outdir / "report/report.html").read_text()
    assert "<html" in page
    for name in ("trace.txt", "report.html", "timeline.html", "dag.html"):
        assert (run.outdir / "pipeline_info" / name).is_file()


def test_every_output_carries_settings_versions_and_seed(undisturbed):
    _, run = undisturbed
    for path in run.outdir.rglob("*.mrc"):
        if "volume" in path.parts or path.name.endswith("probability.mrc"):
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


def kill_during(pipeline, arguments, stage):
    """Start a run, kill task and head with SIGKILL as soon as a task of ``stage`` works."""
    log = (pipeline.folder / "killed.log").open("w")
    head = subprocess.Popen(pipeline.command(*arguments), cwd=pipeline.folder, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline and head.poll() is None:
            for process in Path("/proc").iterdir():
                try:
                    words = (process / "cmdline").read_bytes().split(b"\0") if process.name.isdigit() else []
                    here = words and (process / "cwd").resolve().is_relative_to(pipeline.folder)
                except OSError:
                    continue
                if here and stage.encode() in words and any(word.endswith(b"template-learning") for word in words):
                    time.sleep(2.0)
                    os.kill(int(process.name), signal.SIGKILL)
                    return
            time.sleep(0.2)
        pytest.fail(f"no {stage} task was seen: " + (pipeline.folder / "killed.log").read_text()[-2000:])
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        log.close()


@pytest.mark.parametrize("stage", ["simulate", "train"])
def test_killed_and_resumed_is_the_same_as_undisturbed(tmp_path, undisturbed, few_structures, stage):
    pipeline = Pipeline(tmp_path)
    kill_during(pipeline, (*TINY, *few_structures), stage)
    time.sleep(1.0)
    run = pipeline.run(*TINY, *few_structures, "-resume")
    assert run.status == 0, run.printed
    tables, volumes = tables_and_volumes(run.outdir)
    expected_tables, expected_volumes = tables_and_volumes(undisturbed[1].outdir)
    assert tables.keys() == expected_tables.keys()
    assert [name for name in tables if tables[name] != expected_tables[name]] == []
    assert volumes.keys() == expected_volumes.keys()
    for name, volume in volumes.items():
        np.testing.assert_allclose(volume, expected_volumes[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_another_seed_gives_another_packing(tmp_path, undisturbed, few_structures):
    other = Pipeline(tmp_path).run(*TINY, *few_structures, "--seed", "2", "--stop_after", "tetris")
    assert other.status == 0, other.printed
    for name in ("t001", "t002"):
        table = f"tetris/{name}.placed.csv"
        assert (other.outdir / table).read_bytes() != (undisturbed[1].outdir / table).read_bytes()


def test_picks_from_a_model_and_tomograms(tmp_path, undisturbed):
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
    assert stages == {"CHECK", "SEGMENT", "CLUSTER", "EXPORT", "EVALUATE_EXPERIMENTAL", "REPORT"}
    with (run.outdir / "cluster/held_out.picks.csv").open() as mine, (first.outdir / "cluster/t001.picks.csv").open() as theirs:
        assert list(csv.reader(mine)) == list(csv.reader(theirs))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--flex.modes", "3"), "flex.modes = 3: input should be greater than or equal to 7"),
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
