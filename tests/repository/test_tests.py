"""Tests mirror the source: what a folder tests has its tests in the folder of that name."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_of_tests_is_a_folder_of_the_source() -> None:
    source = {path.parent.name for path in (ROOT / "python/src/template_learning").glob("*/__init__.py")}
    tests = {path.relative_to(ROOT / "tests/python").parts[0] for path in (ROOT / "tests/python").glob("*/**/*.py")}
    assert tests
    assert tests - source == set()
