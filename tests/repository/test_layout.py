"""The tree's shape: a stage is found by its word, and what is imported inside a function is heavy."""

import ast
from pathlib import Path

import pytest
from template_learning.cli import app
from template_learning.common.provenance import HELPERS
from template_learning.common.stages import NAMES, ORDER, STAGES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "python/src/template_learning"
HEAVY = {"cupy", "deepfinder", "h5py", "keras", "prody", "skimage", "tensorflow", "torch", "zarr"}


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_a_stage_is_one_word_everywhere(stage: str) -> None:
    assert (SOURCE / "stages" / f"{stage}.py").is_file()
    assert (ROOT / "modules" / stage / "main.nf").read_text().count(f"process {stage.upper()} {{") == 1
    assert f"template-learning {stage} " in (ROOT / "modules" / stage / "main.nf").read_text()
    assert stage in {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def test_there_is_no_stage_beside_the_list() -> None:
    names = {stage.name for stage in STAGES}
    assert {path.stem for path in (SOURCE / "stages").glob("*.py")} - {"__init__"} == names
    assert {path.parent.name for path in (ROOT / "modules").glob("*/main.nf")} == names
    assert set(ORDER) <= names


def test_only_the_command_line_and_the_settings_lie_outside_the_rooms() -> None:
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "cli.py", "settings.py"}


def test_only_heavy_libraries_are_imported_inside_functions() -> None:
    """The command line's commands import their stage when they are called; nothing else may hide what it needs."""
    hidden = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "cli.py":
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                hidden += [f"{path.relative_to(SOURCE)}: {name}" for name in names if name.split(".")[0] not in HEAVY]
    assert hidden == []


def test_every_random_draw_is_seeded_by_a_word_of_the_list() -> None:
    words = set()
    for path in sorted(set(SOURCE.rglob("*.py")) - {SOURCE / "common/provenance.py"}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("seed_for", "generator_for"):
                assert isinstance(node.args[1], ast.Constant), path
                words.add(node.args[1].value)
    assert words
    assert words <= {*NAMES, *HELPERS}
