"""bin/template-learning: which installation the pipeline's tasks call, in trees of stand-ins."""

import os
import shutil
import subprocess

import pytest

from ..runs import ROOT

TOOLS = ("bash", "readlink", "dirname")


def stand_in(path, name):
    """A command that prints its name and arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\necho "{name}: $*"\n')
    path.chmod(0o755)
    return path.parent


@pytest.fixture
def tools(tmp_path):
    """A folder of nothing but what the launcher itself calls."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def clone(tmp_path):
    """A clone in a folder with a space, with the launcher alone."""
    folder = tmp_path / "my clone's"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "bin/template-learning", folder / "bin")
    return folder


def called(clone, *path, image=None):
    environment = {"PATH": os.pathsep.join(map(str, path))} | ({"TEMPLATE_LEARNING_IMAGE": image} if image else {})
    command = [shutil.which("bash"), "-c", 'template-learning flex "two words"']
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)


def test_the_clones_own_goes_before_another_on_the_path(tmp_path, clone, tools):
    stand_in(clone / ".venv/bin/template-learning", "own")
    other = stand_in(tmp_path / "other/template-learning", "other")
    assert called(clone, clone / "bin", other, tools).stdout == "own: flex two words\n"


@pytest.mark.parametrize("order", ["first", "last", "both"])
def test_without_one_the_next_on_the_path_is_called_and_never_itself(tmp_path, clone, tools, order):
    other = stand_in(tmp_path / "other/template-learning", "other")
    path = {"first": [clone / "bin", other], "last": [other, clone / "bin"], "both": [clone / "bin", other, clone / "bin"]}[
        order
    ]
    assert called(clone, *path, tools).stdout == "other: flex two words\n"


def test_two_launchers_and_nothing_else_end_with_one_line(tmp_path, clone, tools):
    second = tmp_path / "second/bin"
    second.mkdir(parents=True)
    shutil.copy(ROOT / "bin/template-learning", second)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/template-learning").symlink_to(clone / "bin/template-learning")
    done = called(clone, tmp_path / "linked", clone / "bin", second, clone / "bin", tools)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: no template-learning on PATH, and no .venv in the pipeline's folder; 'make setup' makes one"
    ]


@pytest.mark.parametrize("order", ["before", "after"])
def test_in_an_image_the_images_own_is_called_whatever_the_clone_has(tmp_path, clone, tools, order):
    """Nextflow puts bin/ last on an image's PATH here, and a copy of it first on the machines of the clouds."""
    stand_in(clone / ".venv/bin/template-learning", "own")
    image = stand_in(tmp_path / "image/usr/local/bin/template-learning", "the image's")
    path = [clone / "bin", image] if order == "before" else [image, clone / "bin"]
    assert called(clone, *path, tools, image="/images/native.sif").stdout == "the image's: flex two words\n"


def test_the_launcher_may_be_executed():
    assert os.access(ROOT / "bin/template-learning", os.X_OK)
