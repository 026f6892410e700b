"""Picks and segmentations as a copick project (https://copick.github.io/copick)."""

import os
import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.provenance import write_json
from template_learning.export.picks import Picks

USER, SESSION, SEGMENTATION = "template-learning", "0", "segmentation"
"""Session 0 says that a tool made it."""


def write_copick(project: Path, picks: Picks, segmentation: NDArray[Any] | None = None) -> Path:
    """Write one run of a project: a JSON of picks for each class and, if given, the segmentation as OME-Zarr.

    Positions are in Å from the centre of voxel (0, 0, 0).  ``copick_config.json`` names the folder it lies in as the
    project's root, so copick is started there; other runs may be added to the same folder.

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
    names = {class_id: _allowed(picks.class_name(class_id)) for class_id in picks.classes}
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
    objects = [{"name": name, "is_particle": True, "label": class_id} for class_id, name in names.items()]
    write_json(
        project / "copick_config.json",
        {
            "config_type": "filesystem",
            "name": "template-learning",
            "description": "Picks by Template Learning",
            "version": "0.5.0",
            "pickable_objects": objects,
            "user_id": USER,
            "session_id": SESSION,
            "overlay_root": "local://.",
            "overlay_fs_args": {"auto_mkdir": True},
        },
    )
    return project


def _allowed(name: str) -> str:
    """A name without what copick does not allow in one (spaces, underscores, path signs)."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\s_]', "-", name).strip("-") or "object"


def _write_zarr(path: Path, volume: NDArray[np.uint8], voxel_size_angstrom: float) -> None:
    """One resolution level of OME-Zarr 0.4, written aside and renamed into place."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(dir=path.parent, prefix=".partial_"))
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
        temporary.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
