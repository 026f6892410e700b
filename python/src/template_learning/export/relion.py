"""Picks as RELION's particle tables.

RELION counts positions in pixels of the tilt series from the centre of voxel 0; version 5 takes half the tomogram's size
from them (its ``ParticleSet`` adds size / 2 back) and gives them in ångström.  So its origin is half a voxel beyond the
middle (N - 1) / 2 of the box.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from template_learning.common.files import replacing
from template_learning.common.tables import positions
from template_learning.export.picks import Picks


def write_relion5(path: Path, picks: Picks) -> None:
    """A particle table of RELION 5: rlnCenteredCoordinateXAngst, ... in Å from the tomogram's centre.

    Parameters
    ----------
    path : Path
        The file to write.
    picks : Picks
        Of one tomogram.
    """
    origin = np.array(picks.grid.shape[::-1]) / 2 * picks.grid.voxel_size_angstrom
    columns = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    _write(path, picks, columns, positions(picks.rows) - origin)


def write_relion4(path: Path, picks: Picks) -> None:
    """A particle table of RELION 4: rlnCoordinateX, ... in pixels of the tilt series.

    Parameters
    ----------
    path : Path
        The file to write.
    picks : Picks
        Of one tomogram.
    """
    pixel = _pixel(picks)
    _write(path, picks, [f"rlnCoordinate{axis}" for axis in "XYZ"], positions(picks.rows) / pixel)


def _pixel(picks: Picks) -> float:
    return picks.settings.tilt_series_pixel_size_angstrom or picks.grid.voxel_size_angstrom


def _write(path: Path, picks: Picks, columns: list[str], coordinates: NDArray[np.float64]) -> None:
    optics = ["rlnOpticsGroup", "rlnOpticsGroupName", "rlnTomoTiltSeriesPixelSize"]
    particles = ["rlnTomoName", *columns, "rlnOpticsGroup", "rlnClassNumber", "rlnAutopickFigureOfMerit"]
    lines = [*_block("optics", optics), f"1 opticsGroup1 {_pixel(picks):.6g}", "", *_block("particles", particles)]
    for row, position in zip(picks.rows, coordinates, strict=True):
        numbers = " ".join(f"{value:.4f}" for value in position)
        lines.append(f"{picks.identifier} {numbers} 1 {row.class_id} {row.score:.5f}")
    with replacing(path) as temporary:
        temporary.write_text("\n".join(["", *lines, ""]), encoding="utf-8")


def _block(name: str, columns: Sequence[str]) -> list[str]:
    return [f"data_{name}", "", "loop_", *(f"_{column} #{number}" for number, column in enumerate(columns, start=1))]
