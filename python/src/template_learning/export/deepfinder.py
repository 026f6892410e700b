"""Picks as a DeepFinder object list."""

from pathlib import Path
from xml.etree import ElementTree

from template_learning.common.files import replacing
from template_learning.export.picks import Picks


def write_deepfinder(path: Path, picks: Picks) -> None:
    """An XML object list: class_label, x, y, z in voxels from the centre of voxel 0, cluster_size, score.

    Parameters
    ----------
    path : Path
        The file to write.
    picks : Picks
        Of one tomogram.
    """
    objects = ElementTree.Element("objlist")
    size = picks.grid.voxel_size_angstrom
    for number, row in enumerate(picks.rows):
        ElementTree.SubElement(
            objects,
            "object",
            obj_id=str(number),
            tomo_idx="0",
            class_label=str(row.class_id),
            x=f"{row.x_angstrom / size:.3f}",
            y=f"{row.y_angstrom / size:.3f}",
            z=f"{row.z_angstrom / size:.3f}",
            cluster_size=str(row.size_voxels),
            score=f"{row.score:.5f}",
        )
    ElementTree.indent(objects)
    with replacing(path) as temporary:
        ElementTree.ElementTree(objects).write(temporary, encoding="utf-8")
