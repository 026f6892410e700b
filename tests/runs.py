"""Runs of the pipeline as a user starts them, their comparison, and killing one: for tests/pipeline and tests/cluster."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

ROOT = Path(__file__).parents[1]


@dataclass
class Run:
    """A finished run: exit status, what it printed, and where its results lie."""

    status: int
    printed: str
    outdir: Path

    def record(self, kind: str) -> Path:
        """Nextflow's newest trace, report, timeline or dag among the results."""
        return max((self.outdir / "pipeline_info").glob(f"{kind}_*"))

    def trace(self) -> list[dict[str, str]]:
        """Nextflow's trace: one row a task with name, status and exit."""
        with self.record("trace").open(newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))

    def tasks(self, status: str) -> list[str]:
        """Names of the tasks with this status, sorted, without the workflow's prefix."""
        return sorted(row["name"].split(":")[-1] for row in self.trace() if row["status"] == status)


@dataclass
class Pipeline:
    """Runs `nextflow run` of the clone ``root`` in ``folder``; work and results stay there.

    ``process`` are further arguments of subprocess.run, such as the user and the environment; ``prefix`` is a command
    that runs it all.
    """

    folder: Path
    root: Path = ROOT
    process: Mapping[str, Any] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    main: Path | None = None  # another folder with a main.nf

    def command(self, *arguments: str) -> list[str]:
        return [
            *self.prefix,
            str(self.root / "setup/nextflow.sh"),
            "-q",
            "run",
            str(self.main or self.root),
            "-work-dir",
            str(self.folder / "work"),
            "--outdir",
            str(self.folder / "results"),
            *arguments,
        ]

    def run(self, *arguments: str, timeout: float = 1800) -> Run:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **self.process,
        )
        return Run(done.returncode, done.stdout + done.stderr, self.folder / "results")

    def kill_during(self, stage: str, *arguments: str, seconds: float = 0.5) -> None:
        """Start a run, kill a task of ``stage`` and the head with SIGKILL ``seconds`` after the task has begun.

        The shortest tasks of a tiny run take little more than a second.
        """
        log = (self.folder / "killed.log").open("w")
        head = subprocess.Popen(
            self.command(*arguments), cwd=self.folder, stdout=log, stderr=log, start_new_session=True, **self.process
        )
        try:
            deadline = time.monotonic() + 900
            while time.monotonic() < deadline and head.poll() is None:
                for process in Path("/proc").iterdir():
                    if process.name.isdigit() and self._works_at(process, stage):
                        time.sleep(seconds)
                        os.kill(int(process.name), signal.SIGKILL)
                        return
                time.sleep(0.1)
            raise AssertionError(f"no {stage} task was seen: " + (self.folder / "killed.log").read_text()[-2000:])
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
            log.close()

    def _works_at(self, process: Path, stage: str) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = (process / "cwd").resolve().is_relative_to(self.folder)
        except OSError:
            return False
        return here and stage.encode() in words and any(word.endswith(b"template-learning") for word in words)


def assert_the_index_is_what_lies_there(results: Path) -> set[str]:
    """index.json lists every published file and no other, each as long as it is and with its SHA-256; the paths."""
    there = {str(path.relative_to(results)): path for path in results.rglob("*") if path.is_file()}
    there = {name: path for name, path in there.items() if not name.startswith("pipeline_info/")}
    entries = {entry["path"]: entry for entry in json.loads((results / "index.json").read_text())["files"]}
    assert entries.keys() == there.keys()
    for name in there.keys() - {"index.json", "ro-crate-metadata.json"}:
        content = there[name].read_bytes()
        assert (entries[name]["bytes"], entries[name]["sha256"]) == (len(content), hashlib.sha256(content).hexdigest()), name
    return set(there)


def few_structures_in(folder: Path) -> tuple[str, ...]:
    """Two templates and two distractors, enough for a tiny run: its arguments."""
    for kind, names in (("templates", ("7pex", "7xzy")), ("distractors", ("3qm1", "1s3x"))):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(ROOT / f"data/demo/{kind}/{name}.cif.gz", folder / kind)
    return ("--templates", f"{folder}/templates/*.cif.gz", "--distractors", f"{folder}/distractors/*.cif.gz")


def assert_same_results(results: Path, expected: Path) -> None:
    """The same tables byte for byte, the same volumes voxel by voxel, and no others."""
    for pattern in ("*.csv", "*.mrc"):
        names = [sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern)) for folder in (results, expected)]
        assert names[0] == names[1]
        assert names[0]
        for name in names[0]:
            if pattern == "*.csv":
                assert (results / name).read_bytes() == (expected / name).read_bytes(), name
            else:
                ours, theirs = mrcfile.read(results / name), mrcfile.read(expected / name)
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=name)
