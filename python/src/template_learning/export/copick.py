"""Picks and segmentations as a copick project (https://copick.github.io/copick)."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import partial, read_text
from template_learning.common.provenance import write_json
from template_learning.export.picks import Picks

USER, SESSION, SEGMENTATION = "template-learning", "0", "segmentation"
CONFIG = "copick_config.json"
"""Session 0 says that a tool made it."""


def write_copick(project: Path, picks: Picks, segmentation: NDArray[Any] | None = None) -> Path:
    """Write one run of a project: a JSON of picks for each class and, if given, the segmentation as OME-Zarr.

    Positions are in Å from the centre of voxel (0, 0, 0).  ``copick_config.json`` names the folder it lies in as the
    project's root, so copick is started there; other runs may be added to the same folder, and the file lists what all have.

    Parameters
    ----------
    project : Path
        The project's folder, made if need be.
    picks : Picks
        Of one tomogram, whose id is the run's name.
    segmentation : (z, y, x) array, optional
        Classes, 0 = background.

    Returns
    -------
    Path
        The project's folder.
    """
    run = project / "ExperimentRuns" / picks.identifier
    names = object_names({class_id: picks.class_name(class_id) for class_id in picks.classes})
    for class_id, name in names.items():
        rows = [row for row in picks.rows if row.class_id == class_id]
        content = {
            "pickable_object_name": name,
            "user_id": USER,
            "session_id": SESSION,
            "run_name": picks.identifier,
            "voxel_spacing": picks.grid.voxel_size_angstrom,
            "unit": "angstrom",
            "trust_orientation": False,
            "points": [
                {
                    "location": {"x": row.x_angstrom, "y": row.y_angstrom, "z": row.z_angstrom},
                    "transformation_": np.eye(4),
                    "instance_id": row.pick,
                    "score": row.figure_of_merit,
                }
                for row in rows
            ],
        }
        write_json(run / "Picks" / f"{USER}_{SESSION}_{name}.json", content)
    if segmentation is not None:
        size = picks.grid.voxel_size_angstrom
        _write_zarr(
            run / "Segmentations" / f"{size:.3f}_{USER}_{SESSION}_{SEGMENTATION}-multilabel.zarr",
            segmentation.astype(np.uint8),
            size,
        )
    config = project / CONFIG
    objects = [{"name": name, "is_particle": True, "label": class_id} for class_id, name in names.items()]
    known = _objects(config) if config.is_file() else []
    write_config(config, {config: known, picks.identifier: objects})
    return project


def object_names(classes: Mapping[int, str]) -> dict[int, str]:
    """The names of classes as copick allows them; where two would be the same, all end with their class."""
    plain = {class_id: _allowed(name) for class_id, name in classes.items()}
    if len(set(plain.values())) < len(plain):
        return {class_id: f"{name}-{class_id}" for class_id, name in plain.items()}
    return plain


def merge_configs(configs: Iterable[Path], output: Path) -> None:
    """Write the ``copick_config.json`` of a project whose runs were written one by one, each with one of its own.

    Raises BadInput where a file is no such configuration, or where two give one class two names, or one name two classes.
    """
    write_config(output, {config: _objects(config) for config in configs})


def write_config(path: Path, objects: Mapping[Path | str, Iterable[Mapping[str, Any]]]) -> None:
    """Write a project's configuration with all objects; the keys say whose they are, for complaints (see ``merge_configs``)."""
    merged: dict[int, Mapping[str, Any]] = {}
    for whose, several in objects.items():
        for one in several:
            other = next(
                (known for known in merged.values() if (known["label"] == one["label"]) != (known["name"] == one["name"])), one
            )
            if other is not one:
                raise BadInput(
                    f"{whose}: class {one['label']} is {one['name']!r}, where others of the project have class {other['label']} "
                    f"as {other['name']!r}; a project of its own was expected"
                )
            merged[one["label"]] = one
    write_json(
        path,
        {
            "config_type": "filesystem",
            "name": "template-learning",
            "description": "Picks by Template Learning",
            "version": "0.5.0",
            "pickable_objects": [merged[label] for label in sorted(merged)],
            "user_id": USER,
            "session_id": SESSION,
            "overlay_root": "local://.",
            "overlay_fs_args": {"auto_mkdir": True},
        },
    )


def _objects(config: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(read_text(config))["pickable_objects"]
        return [
            {"name": str(one["name"]), "is_particle": bool(one["is_particle"]), "label": int(one["label"])} for one in found
        ]
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{config}: no copick configuration with pickable_objects (name, is_particle, label)") from None


def _allowed(name: str) -> str:
    """A name without what copick does not allow in one (spaces, underscores, path signs)."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\s_]', "-", name).strip("-") or "object"


def _write_zarr(path: Path, volume: NDArray[np.uint8], voxel_size_angstrom: float) -> None:
    """One resolution level of OME-Zarr 0.4, written aside and renamed into place."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial(path)
    try:
        group = zarr.open_group(str(temporary), mode="w")
        group.create_dataset("0", data=volume, chunks=tuple(min(256, count) for count in volume.shape), dimension_separator="/")
        scale = {"type": "scale", "scale": [voxel_size_angstrom] * 3}
        group.attrs["multiscales"] = [
            {
                "version": "0.4",
                "name": SEGMENTATION,
                "axes": [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"],
                "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
            }
        ]
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
