"""A Slurm cluster of this machine and an ordinary user on it.  Needs what setup/slurm.sh and setup/container_tools.sh install, and
the images (`make test-cluster` makes them all)."""

import getpass
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..runs import ROOT, Pipeline

USER = "template-user"


@dataclass
class Account:
    """An ordinary user with a folder, a clone of the repository in it, and the images."""

    name: str
    folder: Path
    process: Mapping[str, Any]

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def call(self, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user; it must succeed."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self.process, **more)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def pipeline(self, name: str, prefix: tuple[str, ...] = ()) -> Pipeline:
        """A pipeline whose work and results lie in a folder of this name."""
        folder = self.folder / name
        self.call("mkdir", str(folder))
        return Pipeline(folder, self.clone, self.process, prefix)

    def image(self, name: str) -> Path:
        """The image of this name."""
        found = sorted((self.clone / "build/containers").glob(f"{name}-[0-9]*.sif"))
        assert found, f"no image {name}: run `make containers NAME={name}` first"
        return found[-1]

    def give(self, path: Path) -> None:
        """Make files that the tests wrote this user's own."""
        if "user" in self.process:
            subprocess.run(["chown", "-R", f"{self.name}:", str(path)], check=True)


@pytest.fixture(scope="session")
def account(tmp_path_factory) -> Account:
    """Whoever runs the tests; where that is root, a user made for them, since a cluster's users are not root.

    The clone is a copy: root's own folders are closed to the user.
    """
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    environment["PATH"] += ":/usr/sbin"
    if os.geteuid() == 0:
        if subprocess.run(["id", USER], capture_output=True, check=False).returncode:
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], check=True)
        folder = Path(pwd.getpwnam(USER).pw_dir) / "template-learning-tests"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        process: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []}
    else:
        folder = tmp_path_factory.mktemp("account")
        process = {}
    owner = Account(
        process.get("user", getpass.getuser()),
        folder,
        {**process, "env": {**environment, "HOME": str(folder), "SLURM_CONF": str(folder / "slurm/slurm.conf")}},
    )
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (owner.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, owner.clone / name, follow_symlinks=False)
    for jars in ROOT.glob(".tools/nextflow-*"):
        shutil.copytree(jars, owner.clone / ".tools" / jars.name, ignore=shutil.ignore_patterns("home"))
    images = sorted((ROOT / "build/containers").glob("*.sif"))
    assert images, "no images in build/containers: run `make containers NAME=native` first"
    (owner.clone / "build/containers").mkdir(parents=True)
    owner.give(folder)
    for image in (*images, ROOT / "build/containers/images.json"):
        try:
            (owner.clone / "build/containers" / image.name).hardlink_to(image)
        except OSError:  # another file system
            shutil.copy(image, owner.clone / "build/containers")
    return owner


@pytest.fixture(scope="session")
def slurm(account):
    """The cluster, as that user's own: `sbatch` and the pipeline's profile slurm reach it."""
    script = str(account.clone / "setup/slurm.sh")
    account.call(script, "start", str(account.folder / "slurm"), stdin=subprocess.DEVNULL)
    yield account
    account.call(script, "stop", str(account.folder / "slurm"))
