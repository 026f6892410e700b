"""What a task gets when it is killed for its resources, and what the user's ceiling leaves of that."""

import pytest

from ..runs import ROOT

# Fails with the code as often as is asked; every attempt leaves a line.
PROBE = """
process PROBE {
    label 'quick'
    tag "${name}"
    input:
    tuple val(name), val(code), val(failures)
    script:
    \"\"\"
    echo "${name} ${task.attempt} ${task.memory.toMega()} ${task.time.toMinutes()}" >> ${params.log}
    exit ${task.attempt <= failures ? code : 0}
    \"\"\"
}
workflow { PROBE(channel.fromList(params.asked.tokenize().collect { one -> one.tokenize('/') }.collect { n, c, f -> [n, c, f as int] })) }
"""
CONFIG = """
params.asked = ''
params.log = ''
includeConfig '{base}'
process.resourceLimits = [memory: 2500.MB, time: 90.min]
"""


@pytest.fixture
def attempts(pipeline):
    """Runs tasks `name/exit code/failures`: exit status of the run, and each task's attempts as (memory MB, minutes)."""
    pipeline.main = pipeline.folder / "probe"
    pipeline.main.mkdir()
    (pipeline.main / "main.nf").write_text(PROBE)
    (pipeline.main / "nextflow.config").write_text(CONFIG.format(base=ROOT / "conf/base.config"))
    log = pipeline.folder / "attempts.txt"

    def run(*asked):
        done = pipeline.run("--asked", " ".join(asked), "--log", str(log))
        found = {}
        for name, attempt, *given in sorted(line.split() for line in log.read_text().splitlines()):
            found.setdefault(name, []).append(tuple(map(int, given)))
            assert int(attempt) == len(found[name])
        return done, found

    return run


def test_a_killed_task_is_tried_again_with_more_up_to_the_ceiling(attempts):
    run, found = attempts("memory/137/2", "time/143/1", "fault/3/1", "well/0/0")
    assert run.status == 0, run.printed
    first, second, third = (1024, 60), (2048, 90), (2500, 90)
    assert found == {"memory": [first, second, third], "time": [first, second], "fault": [first, second], "well": [first]}


@pytest.mark.parametrize(("code", "tries"), [(2, 1), (1, 1), (137, 3)])
def test_other_faults_and_the_third_time_end_the_run(attempts, code, tries):
    run, found = attempts(f"task/{code}/9")
    assert run.status != 0
    assert len(found["task"]) == tries
