"""Where a run works, what it reads and where it writes: refused by name before any work, or safe."""

import fcntl
import os
import shutil

import numpy as np
import pytest
from template_learning.common.mrc import write_mrc

from ..runs import ROOT, Pipeline, assert_the_index_is_what_lies_there

SHORT = ("-stub", "--start_at", "design", "--stop_after", "design", "--design.tomograms", "4", "--design.test_tomograms", "1")


@pytest.fixture
def earlier(tmp_path):
    """An empty folder of earlier results: a run may start at DESIGN with it."""
    (tmp_path / "earlier").mkdir()
    return ("--from_results", str(tmp_path / "earlier"))


def refused(run, words):
    assert run.status != 0
    assert words in run.printed
    assert "Exception" not in run.printed
    assert not (run.outdir / "pipeline_info").exists() or run.tasks("COMPLETED") == []


def test_a_second_run_into_one_folder_is_refused_while_the_first_lasts(pipeline, earlier):
    records = pipeline.folder / "results/pipeline_info"
    records.mkdir(parents=True)
    with (records / ".running").open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        run = pipeline.run(*SHORT, *earlier)
        assert run.status != 0
        assert "another run writes there now" in run.printed
        assert not (run.outdir / "design").exists()
        first = {path.name for path in records.glob("trace_*")}
    again = pipeline.run(*SHORT, *earlier)
    assert again.status == 0, again.printed
    assert {path.name for path in records.glob("trace_*")} > first  # each run's own


def test_results_are_not_written_over_those_that_the_run_starts_from(pipeline, tmp_path):
    (tmp_path / "results").mkdir()
    refused(pipeline.run(*SHORT, "--from_results", f"{tmp_path}/x/../results"), "the folder of from_results")


def test_a_work_folder_that_a_shell_would_change_is_refused(tmp_path, earlier):
    (tmp_path / "w$HOME").mkdir()
    run = Pipeline(tmp_path / "w$HOME").run(*SHORT, *earlier)
    refused(run, "are not allowed in its path")
    assert not (run.outdir / "check").exists()


@pytest.mark.parametrize("stage", ["train", "segment"])
def test_results_that_are_nowhere_are_refused(pipeline, stage):
    run = pipeline.run("-profile", "demo", "-stub", "--start_at", stage, "--from_results", "/nowhere")
    refused(run, "parameter from_results = '/nowhere': no such folder")


def test_links_to_nothing_and_folders_among_the_inputs_are_refused_by_name(pipeline):
    folder = pipeline.folder / "inputs"
    folder.mkdir()
    write_mrc(folder / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    (folder / "b.mrc").symlink_to("moved.mrc")
    model = ("--model", str(ROOT / "models/nucleosome_8A.keras"), "-profile", "workstation", "-stub")
    run = pipeline.run(*model, "--tomograms", f"{folder}/*.mrc")
    refused(run, f"{folder}/b.mrc: a link to nothing (tomograms, id b)")
    (folder / "b.mrc").unlink()
    (folder / "b.mrc").mkdir()
    refused(pipeline.run(*model, "--tomograms", f"{folder}/*.mrc"), f"{folder}/b.mrc: a folder (tomograms, id b)")


def test_a_table_is_read_as_it_was_written_or_refused(pipeline):
    """What splitCsv drops (a cell without a header) or turns into other letters reaches CHECK, as the table itself does."""
    write_mrc(pipeline.folder / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    model = ("--model", str(ROOT / "models/nucleosome_8A.keras"), "-profile", "workstation", "-stub")
    table = pipeline.folder / "my tomograms.csv"
    for content, words in (
        ("id,path\na,a.mrc,8.0\n", "line 2: 3 cells, 2 columns in the header: a column without a name for '8.0'"),
        ("id;path;voxel_size_angstrom\na;a.mrc;8,0\n", "save it as UTF-8 with commas between its cells"),
    ):
        table.write_text(content)
        refused(pipeline.run(*model, "--tomograms", str(table)), f"{table}: ")
        assert words in (pipeline.folder / ".nextflow.log").read_text()


def test_a_design_table_with_semicolons_is_the_same_to_the_workflow_as_to_check(pipeline, earlier):
    columns = "id;split;total_dose_e_per_angstrom2;defocus_um;tilt_range_deg;tilt_step_deg;ice_density_g_per_cm3"
    rows = [f"x{number};{split};100;-3,5;60;3;0,94" for number, split in enumerate(["train", "train", "validation", "test"])]
    (pipeline.folder / "design.csv").write_bytes("\n".join(["\ufeff" + columns, *rows, ""]).encode())
    library = pipeline.folder / "earlier/volume/a"
    library.mkdir(parents=True)
    (library / "library.csv").touch()
    own = ("--design_table", str(pipeline.folder / "design.csv"), *earlier)
    run = pipeline.run("-stub", "--start_at", "tetris", "--stop_after", "tetris", *own)
    assert run.status == 0, run.printed
    assert run.tasks("COMPLETED")[2:] == [f"TETRIS (x{number})" for number in range(4)]
    assert_the_index_is_what_lies_there(run.outdir)
    assert (
        "taken as they are" in (pipeline.folder / ".nextflow.log").read_text()
    )  # there is no index: CHECK's notes are warnings
    (pipeline.folder / "design.csv").write_text((pipeline.folder / "design.csv").read_text().replace(";train;", ";test;"))
    run = pipeline.run("-profile", "demo", "-stub", "--design_table", str(pipeline.folder / "design.csv"))
    refused(run, "no row has split = train, and TRAIN is to run")


def test_letters_beyond_ascii_and_the_umask_are_kept_whatever_the_locale(tmp_path, earlier):
    folder = tmp_path / "Proben für Łódź"
    folder.mkdir()
    for kind, name in (("templates", "7pex"), ("distractors", "3qm1")):
        shutil.copy(ROOT / f"data/demo/{kind}/{name}.cif.gz", folder / f"{name} µ.cif.gz")
        (folder / f"{kind}.csv").write_text(f"id,path\n{name},{name} µ.cif.gz\n", encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if name not in ("LANG", "LC_CTYPE", "PYTHONUTF8")}
    run = Pipeline(folder, process={"env": {**plain, "LC_ALL": "C"}, "umask": 0o007}).run(
        "-profile", "demo", "--flex.conformers", "1", "--stop_after", "volume",
        "--templates", str(folder / "templates.csv"), "--distractors", str(folder / "distractors.csv"),
    )  # fmt: skip
    assert run.status == 0, run.printed
    assert "volume/7pex/library.csv" in assert_the_index_is_what_lies_there(run.outdir)
    modes = {oct(path.stat().st_mode & 0o777) for path in run.outdir.rglob("*") if path.is_file()}
    assert modes == {"0o660"}
    assert {oct(path.stat().st_mode & 0o777) for path in run.outdir.rglob("*") if path.is_dir()} == {"0o770"}
