"""Annotations of particles, read from the formats that the field keeps them in."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.files import existing
from template_learning.common.geometry import Grid, angles_from_rotation
from template_learning.common.tables import ParticleRow

KNOWN = "a .csv, .star, .json (copick) or .xml (DeepFinder) file"


def read_annotations(path: Path, identifier: str, grid: Grid) -> list[ParticleRow]:
    """The particles annotated in one tomogram, which ``grid`` describes; class 1 where the file names no classes.

    * ``.csv``: columns x_angstrom, y_angstrom, z_angstrom (ångström from voxel (0, 0, 0)) or x, y, z (voxels of the
      tomogram, from 0), and optionally class_id, rot_deg, tilt_deg, psi_deg, axis_x, axis_y, axis_z, molecule, species.
    * ``.star``: RELION 5 (rlnCenteredCoordinateXAngst, ...) or RELION 3 and 4 (rlnCoordinateX, ... in pixels of
      rlnTomoTiltSeriesPixelSize, else of the tomogram); where it has rlnTomoName, only rows of ``identifier``.
    * ``.json``: copick picks (ångström).  ``.xml``: a DeepFinder object list (class_label; x, y, z in voxels).

    Raises BadInput for other files and for rows that cannot be read.
    """
    reader = READERS.get(existing(path).suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: annotations in {KNOWN} were expected")
    rows = []
    for number, cells in enumerate(reader(path, identifier, grid), start=1):
        try:
            rows.append(ParticleRow.model_validate({"particle": number, **cells}))
        except ValidationError as error:
            column, problem = first_problem(error)
            raise BadInput(f"{path}: annotation {number}, {column}: {problem}") from None
    return rows


def _from_csv(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, skipinitialspace=True)
        columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
        if {"x_angstrom", "y_angstrom", "z_angstrom"} <= set(columns):
            names, scale = ("x_angstrom", "y_angstrom", "z_angstrom"), 1.0
        elif {"x", "y", "z"} <= set(columns):
            names, scale = ("x", "y", "z"), grid.voxel_size_angstrom
        else:
            raise BadInput(f"{path}: columns x_angstrom, y_angstrom, z_angstrom, or x, y, z in voxels, were expected")
        known = [name for name in columns if name in ParticleRow.model_fields and name not in names]
        return [
            {
                **_position([cells[columns[name]] for name in names], scale, path),
                **{name: cells[columns[name]] for name in known if cells[columns[name]] not in (None, "")},
            }
            for cells in reader
        ]


def _from_copick(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = []
        for point in content["points"] or []:
            location = point["location"]
            transform = np.array(point.get("transformation_") or np.eye(4), dtype=float)
            shift = transform[:3, 3]  # copick: the particle's centre is the location plus this
            cells = _position([location[name] + move for name, move in zip("xyz", shift, strict=True)], 1.0, path)
            if not np.allclose(transform[:3, :3], np.eye(3)):  # unturned means not known
                cells.update(_angles(transform[:3, :3]))
            found.append({**cells, "species": str(content.get("pickable_object_name", ""))})
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"{path}: not copick picks ({error!r})") from None
    return found


def _angles(turn: Any) -> dict[str, float]:
    rot, tilt, psi = angles_from_rotation(Rotation.from_matrix(turn))
    return {"rot_deg": float(rot), "tilt_deg": float(tilt), "psi_deg": float(psi)}


def _from_deepfinder(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    try:
        objects = ElementTree.parse(path).getroot().iter("object")
        return [
            {
                **_position([item.attrib[name] for name in "xyz"], grid.voxel_size_angstrom, path),
                "class_id": item.attrib.get("class_label", "1"),
            }
            for item in objects
        ]
    except (ElementTree.ParseError, KeyError) as error:
        raise BadInput(f"{path}: not a DeepFinder object list ({error!r})") from None


def _from_star(path: Path, identifier: str, grid: Grid) -> list[dict[str, Any]]:
    blocks = _star_blocks(path)
    centred, corner = "rlnCenteredCoordinate{}Angst", "rlnCoordinate{}"
    for rows in blocks:
        if not rows or not ({centred.format("X"), corner.format("X")} & set(rows[0])):
            continue
        names = {row.get("rlnTomoName", identifier) for row in rows}
        if len(names) > 1 or "rlnTomoName" in rows[0]:
            if identifier not in names and len(names) > 1:
                raise BadInput(f"{path}: rlnTomoName is none of {identifier!r} in any row")
            rows = [row for row in rows if len(names) == 1 or row.get("rlnTomoName") == identifier]
        if centred.format("X") in rows[0]:
            kind, scale, shift = centred, 1.0, grid.centre_angstrom + 0.5 * grid.voxel_size_angstrom
        else:
            sizes = [
                row["rlnTomoTiltSeriesPixelSize"] for block in blocks for row in block if "rlnTomoTiltSeriesPixelSize" in row
            ]
            kind, scale, shift = corner, float(sizes[0]) if sizes else grid.voxel_size_angstrom, np.zeros(3)
        found = []
        for row in rows:
            cells = _position([row.get(kind.format(axis)) for axis in "XYZ"], scale, path)
            for axis, add in zip("xyz", shift, strict=True):
                cells[f"{axis}_angstrom"] += float(add)
            for ours, theirs in (("rot_deg", "rlnAngleRot"), ("tilt_deg", "rlnAngleTilt"), ("psi_deg", "rlnAnglePsi")):
                if theirs in row:
                    cells[ours] = float(row[theirs])
            found.append(cells)
        return found
    raise BadInput(f"{path}: no block with rlnCenteredCoordinateXAngst or rlnCoordinateX in it")


def _star_blocks(path: Path) -> list[list[dict[str, str]]]:
    """The rows of each data block of a STAR file, a block without a loop as one row."""
    blocks: list[list[dict[str, str]]] = []
    columns: list[str] = []
    loop = False
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith("data_"):
            blocks.append([])
            columns, loop = [], False
        elif words[0] == "loop_":
            columns, loop = [], True
        elif not blocks:
            raise BadInput(f"{path}: not a STAR file; a line 'data_...' was expected before {words[0]!r}")
        elif words[0].startswith("_") and loop:
            columns.append(words[0].removeprefix("_"))
        elif words[0].startswith("_"):
            blocks[-1] = [{**(blocks[-1][0] if blocks[-1] else {}), words[0].removeprefix("_"): " ".join(words[1:])}]
        elif len(words) != len(columns):
            raise BadInput(f"{path}: a row of {len(words)} values; {len(columns)} were expected")
        else:
            blocks[-1].append(dict(zip(columns, words, strict=True)))
    return blocks


def _position(values: list[Any], scale: float, path: Path) -> dict[str, float]:
    try:
        x, y, z = (float(value) * scale for value in values)
    except (TypeError, ValueError):
        raise BadInput(f"{path}: position {values}; three numbers were expected") from None
    return {"x_angstrom": x, "y_angstrom": y, "z_angstrom": z}


READERS: Mapping[str, Callable[[Path, str, Grid], list[dict[str, Any]]]] = {
    ".csv": _from_csv,
    ".json": _from_copick,
    ".star": _from_star,
    ".xml": _from_deepfinder,
}
