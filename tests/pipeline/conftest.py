"""Drives Nextflow as a user would, each run in a folder of its own."""

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEXTFLOW = ROOT / "setup/nextflow.sh"


@dataclass
class Run:
    """A finished run: exit status, what it printed, and where its results lie."""

    status: int
    printed: str
    outdir: Path

    def trace(self) -> list[dict[str, str]]:
        """Nextflow's trace: one row a task with name, status and exit."""
        with (self.outdir / "pipeline_info/trace.txt").open(newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))

    def tasks(self, status: str) -> list[str]:
        """Names of the tasks with this status, sorted, without the workflow's prefix."""
        return sorted(row["name"].split(":")[-1] for row in self.trace() if row["status"] == status)


class Pipeline:
    """Runs `nextflow run` of this checkout in ``folder``; work and results stay there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        return [
            str(NEXTFLOW),
            "-q",
            "run",
            str(ROOT),
            "-work-dir",
            str(self.folder / "work"),
            "--outdir",
            str(self.folder / "results"),
            *arguments,
        ]

    def run(self, *arguments: str, timeout: float = 1800) -> Run:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Run(done.returncode, done.stdout + done.stderr, self.folder / "results")


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory):
    """The smallest run that does every stage's true work: a parameters file."""
    path = tmp_path_factory.mktemp("preset") / "tiny.yml"
    path.write_text((ROOT / "tests/data/tiny.yml").read_text())
    return path
