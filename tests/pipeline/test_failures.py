"""Samples that fail: the run goes on without them, and ends where too few are left."""

import json
import os

import pytest

from ..runs import ROOT, Pipeline

PARSERS = ("v1", "v2")
# Kills the task as a scheduler does that takes its memory away; the pipeline's own beforeScript is put behind.
SABOTAGE = """
process {{
    withName: '{process}' {{
        beforeScript = {{ task.tag in [{ids}] ? 'exit 137' : "PATH='${{projectDir}}/bin':\\"\\$PATH\\"" }}
    }}
}}
"""


# The demo's preset and inputs without its profile: the strict parser looks for a profile in each file of configuration.
DEMO = (
    "-params-file",
    str(ROOT / "presets/demo.yml"),
    "--templates",
    f"{ROOT}/data/demo/templates/*.cif.gz",
    "--distractors",
    f"{ROOT}/data/demo/distractors/*.cif.gz",
)


def run_without(pipeline: Pipeline, process: str, *ids: str, arguments=()):
    """The demo with fifteen rows, in stubs, the tasks of some rows killed at each try."""
    sabotage = pipeline.folder / "sabotage.config"
    sabotage.write_text(SABOTAGE.format(process=process, ids=", ".join(f"'{one}'" for one in ids)))
    call = (*DEMO, "-stub", "-c", str(sabotage), "--design.tomograms", "15")
    return pipeline.run(*call, *arguments)


def described(run):
    crate = json.loads((run.outdir / "ro-crate-metadata.json").read_text())
    return next(one for one in crate["@graph"] if one["@id"] == "#run").get("description", "")


@pytest.mark.parametrize("parser", PARSERS)
def test_a_run_goes_on_without_a_sample_that_was_killed_and_names_it(tmp_path, parser):
    pipeline = Pipeline(tmp_path, process={"env": {**os.environ, "NXF_SYNTAX_PARSER": parser}})
    run = run_without(pipeline, "SIMULATE", "t007")
    assert run.status == 0, run.printed
    log = (tmp_path / ".nextflow.log").read_text()  # where -q keeps warnings too
    assert "goes on without train tomograms that failed: t007 (SIMULATE)" in log
    failed = [row for row in run.trace() if row["status"] == "FAILED"]
    assert {row["name"].split(":")[-1] for row in failed} == {"SIMULATE (t007)"}
    assert len(failed) == 3  # tried again, as every task that is killed
    made = {path.name.split(".")[0] for path in (run.outdir / "label").iterdir()}
    assert len(made) == 14
    assert "t007" not in made
    assert described(run) == "Without simulated tomograms that failed: t007 (train, simulate)"
    script = next(
        path.read_text() for path in (tmp_path / "work").glob("*/*/.command.sh") if "train/trained.keras" in path.read_text()
    )
    assert script  # TRAIN has run
    assert len(run.tasks("COMPLETED")) > 60


@pytest.mark.parametrize("parser", PARSERS)
def test_too_few_left_of_a_split_end_the_run_before_training(tmp_path, parser):
    pipeline = Pipeline(tmp_path, process={"env": {**os.environ, "NXF_SYNTAX_PARSER": parser}})
    run = run_without(pipeline, "TETRIS", "t005", "t009")
    assert run.status != 0
    assert "of 12 train tomograms 10 are left, without t005 (TETRIS), t009 (TETRIS); at least 90" in run.printed
    assert "parameter minimum_fraction_left" in run.printed
    assert not [name for name in run.tasks("COMPLETED") if name.startswith("TRAIN")]


def test_how_many_may_fail_is_a_parameter(tmp_path):
    run = run_without(Pipeline(tmp_path), "TETRIS", "t005", "t009", arguments=("--minimum_fraction_left", "0.8"))
    assert run.status == 0, run.printed
    assert described(run).endswith("t005 (train, tetris), t009 (train, tetris)")
    (tmp_path / "again").mkdir()
    again = Pipeline(tmp_path / "again").run(
        *(
            "-profile",
            "demo",
            "-stub",
            "--start_at",
            "train",
            "--from_results",
            str(run.outdir),
            "--minimum_fraction_left",
            "0.8",
        )
    )
    assert again.status == 0, again.printed
    assert described(again).endswith("t005 (train, reconstruct), t009 (train, reconstruct)")


def test_only_tasks_of_one_tomogram_are_passed_over():
    modules = {path.parent.name for path in ROOT.glob("modules/*/main.nf") if "label 'per_tomogram'" in path.read_text()}
    assert modules == {"tetris", "simulate", "reconstruct", "label"}
