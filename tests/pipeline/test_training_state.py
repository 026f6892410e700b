"""The folder of training states: it reaches the commands and their containers, and counts for nothing in Nextflow's cache."""

import json
import shutil

import pytest
from template_learning.common.errors import BadInput
from template_learning.stages.check import check_settings

from ..runs import ROOT

PROBE = """
include {{ TRAIN    }} from '{modules}/train/main'
include {{ FINETUNE }} from '{modules}/finetune/main'
workflow {{
    one = file("${{projectDir}}/nextflow.config")
    TRAIN(one, '', [one], '{{}}', 1)
    FINETUNE(one, tuple('id,path', [one], [one]), [], '{{}}', 1)
}}
"""
CONFIG = """
params.training_state = null
includeConfig '{base}'
process.resourceLimits = [cpus: 1, memory: 1.GB]
"""
# Stands in for the command: leaves what it was called with, and the stage's files.
COMMAND = """#!/bin/bash
echo "$@" >> "$(dirname "$0")/../../called.txt"
mkdir "$1"
case "$1" in
    train) touch train/trained.keras train/history.csv train/trained.keras.json ;;
    finetune) touch finetune/finetuned.keras finetune/finetuning.csv ;;
esac
"""


@pytest.fixture
def probe(pipeline):
    """Runs TRAIN and FINETUNE alone: the run, and the lines of arguments that the command was called with."""
    pipeline.main = pipeline.folder / "probe"
    command = pipeline.main / ".venv/bin/template-learning"
    command.parent.mkdir(parents=True)
    command.write_text(COMMAND)
    command.chmod(0o755)
    (pipeline.main / "bin").mkdir()
    shutil.copy(ROOT / "bin/template-learning", pipeline.main / "bin")
    (pipeline.main / "main.nf").write_text(PROBE.format(modules=ROOT / "modules"))
    (pipeline.main / "nextflow.config").write_text(CONFIG.format(base=ROOT / "conf/base.config"))
    called = pipeline.main / "called.txt"

    def run(*arguments):
        called.unlink(missing_ok=True)
        done = pipeline.run(*arguments)
        return done, sorted(called.read_text().splitlines()) if called.exists() else []

    return run


def test_the_option_reaches_both_commands_and_no_finished_training_is_run_again(probe, pipeline):
    states = pipeline.folder / "states"
    run, (finetune, train) = probe("--training_state", str(states))
    assert run.status == 0, run.printed
    assert f"--output train --state {states}" in train
    assert f"--output finetune --state {states}" in finetune
    assert states.is_dir()
    for arguments in ((), ("--training_state", str(pipeline.folder / "other"))):
        again, called = probe("-resume", *arguments)
        assert again.status == 0, again.printed
        assert called == []
    run, called = probe()
    assert run.status == 0, run.printed
    assert len(called) == 2
    assert not any("--state" in line for line in called)


@pytest.mark.parametrize(
    ("engine", "expected"), [("docker", "-v '{0}:{0}'"), ("podman", "-v '{0}:{0}'"), ("apptainer", "--bind '{0}'")]
)
def test_containers_are_given_the_folder(probe, pipeline, engine, expected):
    (pipeline.folder / "engine.config").write_text(f"{engine}.enabled = true\nprocess.container = '/images/none.sif'\n")
    states = pipeline.folder / "states"
    probe("-c", "engine.config", "--training_state", str(states))  # whether or not there is such an engine
    jobs = [path.read_text() for path in (pipeline.folder / "work").glob("*/*/.command.run")]
    assert jobs
    assert all(expected.format(states) in job for job in jobs)


@pytest.mark.parametrize("path", ["relative/states", "/", "/a b", "/a'; touch pwned; '", "/$(touch pwned)", "/a:b", "/a\n", ""])
def test_paths_that_a_shell_would_not_take_as_they_are_are_refused(path):
    with pytest.raises(BadInput, match="training_state"):
        check_settings(json.loads(json.dumps({"training_state": path})))
    assert check_settings({"training_state": "/scratch/me@site/states-1.2_x/"}).training_state is not None
