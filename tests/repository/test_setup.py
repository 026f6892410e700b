"""The set-up scripts on machines that lack something, played with a PATH of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "env", "dirname", "grep", "sed", "head", "sort", "printf", "cat")


@pytest.fixture
def bare_machine(tmp_path):
    """A copy of setup/ and a PATH without Java, Maven and Nextflow; `id -u` says what ``uid`` holds."""
    shutil.copytree(ROOT / "setup", tmp_path / "clone/setup")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")

    def script(name, text):
        assert name not in NEEDED  # writing through a link would change the machine's own program
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)

    script("python3", f'exec {sys.executable} "$@"')

    def run(uid="1000", called=("system_packages.sh",)):
        script("id", f"echo {uid}")
        return subprocess.run(
            [tmp_path / "clone/setup" / called[0], *called[1:]],
            env={"PATH": str(programs), "HOME": str(tmp_path), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )

    run.script = script
    return run


def test_an_ordinary_user_is_told_the_command(bare_machine):
    done = bare_machine()
    assert done.returncode == 2
    line = done.stderr.strip()
    assert len(line.splitlines()) == 1
    assert "sudo apt-get install" in line
    assert "openjdk-17-jre-headless" in line
    assert "maven" in line


def test_root_installs_what_is_missing_and_says_so(bare_machine, tmp_path):
    bare_machine.script("apt-get", f'echo "$@" >> {tmp_path}/apt.log')
    done = bare_machine(uid="0")
    assert done.returncode == 0, done.stderr
    assert "installing system packages:" in done.stdout
    assert "maven" in (tmp_path / "apt.log").read_text()


@pytest.mark.parametrize(("version", "enough"), [("25.04.4", True), ("25.10.0", True), ("26.04.1", True), ("24.10.5", False)])
def test_a_nextflow_on_the_path_is_taken_if_it_is_new_enough(bare_machine, version, enough):
    bare_machine.script("nextflow", f'echo "      version {version} build 1"')
    assert (bare_machine().returncode == 0) == enough


def test_an_old_java_is_not_enough(bare_machine):
    bare_machine.script("java", "echo 'openjdk version \"11.0.2\"' >&2")
    bare_machine.script("mvn", "true")
    done = bare_machine()
    assert done.returncode == 2
    assert "openjdk-17" in done.stderr
    assert "maven" not in done.stderr


def test_an_old_python_is_refused(bare_machine):
    bare_machine.script("python3", "exit 1")
    done = bare_machine()
    assert done.returncode == 2
    assert "3.11" in done.stderr


def test_without_slurm_an_ordinary_user_is_told_and_root_installs_it(bare_machine, tmp_path):
    told = bare_machine(called=("slurm.sh", "--install"))
    assert told.returncode == 2
    assert "sudo apt-get install slurmctld slurmd" in told.stderr
    bare_machine.script("apt-get", f'echo "$@" >> {tmp_path}/apt.log')
    assert bare_machine(uid="0", called=("slurm.sh", "--install")).returncode == 0
    assert "slurmctld" in (tmp_path / "apt.log").read_text()
    assert bare_machine(called=("slurm.sh", "start", str(tmp_path / "cluster"))).returncode == 2
