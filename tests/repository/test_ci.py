"""What .ci/run does with its parts, played with a `make` that only says what it was asked for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ["lint", "docs-site", "test-python", "test-jax", "test-pipeline", "real-data"]
IMAGES = ["containers", "test-images", "test-cluster"]
PARTS = ["setup", *TESTS, *IMAGES]


@pytest.fixture
def ci(tmp_path):
    """Runs .ci/run in a clone of its own: exit status, all it printed, and the table's rows (name -> end of the row)."""
    (tmp_path / "clone/.ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tmp_path / "clone/.ci")
    (tmp_path / "bin").mkdir()

    def run(make="exit 0"):
        (tmp_path / "bin/make").write_text(f"#!/bin/bash\necho making $1\n{make}\n")
        (tmp_path / "bin/make").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run([tmp_path / "clone/.ci/run"], env=environment, capture_output=True, text=True, check=False)
        table = done.stdout[done.stdout.index("part ") :]
        return done.returncode, done.stdout, dict(re.findall(r"^([\w-]+) +[\d.]+ +[\d.]+  (\w+)$", table, re.M))

    return run


def test_every_part_is_run_and_its_time_told(ci):
    status, said, rows = ci()
    assert status == 0, said
    assert rows == dict.fromkeys(PARTS, "ok")
    assert "test-jax: making test-jax\n" in said
    assert re.search(r"^all +[\d.]+$", said.splitlines()[-1])


def test_every_part_is_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(PARTS) - {"real-data"} <= targets


@pytest.mark.parametrize("failing", ["setup", "test-python", "containers", "test-cluster"])
def test_a_part_that_fails_ends_its_lane_and_the_table_is_printed_all_the_same(ci, failing):
    status, _, rows = ci(f'[ "$1" != {failing} ]')
    assert status != 0
    assert rows[failing] == "FAILED"
    lanes = [PARTS] if failing == "setup" else [TESTS, IMAGES]
    for lane in lanes:
        ran = lane[: lane.index(failing) + 1] if failing in lane else lane
        assert [part for part in lane if part in rows] == ran


def test_tests_of_real_data_that_were_skipped_although_it_is_there_are_an_error(ci, tmp_path):
    (tmp_path / "shared/data").mkdir(parents=True)
    status, _, rows = ci("echo 'SKIPPED [1] no ../shared/data beside this clone'")
    assert status != 0
    assert rows["real-data"] == "FAILED"
