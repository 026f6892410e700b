"""Where an output comes from: seeds, versions, timings, and the JSON beside each file."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from template_learning import __version__
from template_learning.common.errors import BadInput
from template_learning.common.files import read_json, replacing
from template_learning.common.geometry import Grid
from template_learning.common.stages import NAMES

START = time.perf_counter()
HELPERS = ("prepare", "distractors", "plan")
"""Commands that write sidecars and are no stages."""
LIBRARIES = ("numpy", "scipy", "numba", "gemmi", "prody", "mrcfile", "tensorflow", "tensorflow-cpu", "keras", "scikit-image")


def seed_for(root_seed: int, stage: str, item: str) -> int:
    """A 63-bit seed that depends on the root seed, the stage and the item's id, and on nothing else."""
    digest = hashlib.sha256(f"{root_seed}\n{stage}\n{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(root_seed: int, stage: str, item: str) -> np.random.Generator:
    """NumPy's generator for one item of one stage."""
    return np.random.default_rng(seed_for(root_seed, stage, item))


def versions() -> dict[str, str]:
    """This package's version, Python's, and those of the libraries that are installed."""
    found = {"template-learning": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def made_with() -> dict[str, Any]:
    """``versions`` and, in a container of the pipeline, ``image``: its file or reference."""
    image = os.environ.get("TEMPLATE_LEARNING_IMAGE")
    return {"versions": versions(), "image": image} if image else {"versions": versions()}


def write_sidecar(path: Path, *, stage: str, item: str, seed: int | None, settings: Any, **metadata: Any) -> None:
    """Write ``<path>.json`` beside an output: settings, seed, versions, image, seconds since start and ``metadata``.

    ``stage`` is the stage's word, or that of one of ``HELPERS``; ``seed`` the run's root seed, None where nothing is random;
    ``settings`` a pydantic model or a mapping; ``metadata`` are figures of merit and whatever a later stage needs.
    """
    assert stage in (*NAMES, *HELPERS), stage
    plain = settings.model_dump(mode="json") if hasattr(settings, "model_dump") else settings
    write_json(
        path.with_name(path.name + ".json"),
        {
            "file": path.name,
            "stage": stage,
            "id": item,
            "seed": seed,
            "settings": plain,
            **made_with(),
            "seconds": round(time.perf_counter() - START, 3),
            **metadata,
        },
    )


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside an output (empty where there is none)."""
    beside = path.with_name(path.name + ".json")
    return read_json(beside) if beside.is_file() else {}


def grid_of(path: Path) -> Grid:
    """The grid of voxels that a table or segmentation belongs to, from the JSON beside it.

    Raises BadInput where that does not say ``shape_voxels`` and ``voxel_size_angstrom``.
    """
    metadata = read_sidecar(path)
    try:
        z, y, x = (int(count) for count in metadata["shape_voxels"])
        return Grid(shape=(z, y, x), voxel_size_angstrom=float(metadata["voxel_size_angstrom"]))
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path}.json: shape_voxels and voxel_size_angstrom of the volume were expected") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, indented, by write-then-rename; NumPy scalars and arrays are allowed."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=_plain) + "\n")
