"""Picks as text for IMOD's ``point2model``."""

from pathlib import Path

from template_learning.common.files import replacing
from template_learning.export.picks import Picks


def write_imod_points(path: Path, picks: Picks) -> None:
    """One line a pick: object (the class), contour, x, y, z in voxels.

    In 3dmod a section's centre has a whole number as z, while x and y count from the corner of a section's first pixel:
    the centre of voxel (0, 0, 0) is the point (0.5, 0.5, 0).  Source: imodmodel's note on 3dmod's coordinate system and
    MatTomo's on indexing.  ``point2model -circle 6 <id>.imod.txt <id>.mod`` makes the model.

    Parameters
    ----------
    path : Path
        The file to write.
    picks : Picks
        Of one tomogram.
    """
    size = picks.grid.voxel_size_angstrom
    lines = [
        f"{row.class_id} 1 {row.x_angstrom / size + 0.5:.3f} {row.y_angstrom / size + 0.5:.3f} {row.z_angstrom / size:.3f}"
        for row in sorted(picks.rows, key=lambda row: row.class_id)
    ]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
