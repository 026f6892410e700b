"""Writes the version of python/pyproject.toml into every other file that bears it (`make docs`); `--show` prints it."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What stands before the version in each file.
PLACES = {
    "nextflow.config": r"^    version         = '",
    "CITATION.cff": r"^version: ",
    "containers/images.json": r'^    "version": "',
    "release/bioconda/meta.yaml": r'^{% set version = "',
}


def package_version() -> str:
    """The one source."""
    version: str = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]["version"]
    return version


def with_version(name: str, version: str) -> str:
    """The text of a file of PLACES with another version."""
    text, found = re.subn(rf"({PLACES[name]})[\w.+-]+", rf"\g<1>{version}", (ROOT / name).read_text(), flags=re.M)
    if not found:
        raise SystemExit(f"error: {name}: no line with a version")
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["--show"]:
        print(package_version())
    else:
        for name in PLACES:
            (ROOT / name).write_text(with_version(name, package_version()))
