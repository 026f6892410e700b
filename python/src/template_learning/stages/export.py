"""EXPORT: the picks of one tomogram in the formats of other programs."""

from pathlib import Path

from template_learning.common.files import checked_id, read_table
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import grid_of, read_sidecar
from template_learning.common.tables import PickRow
from template_learning.export.copick import write_copick
from template_learning.export.formats import FORMATS
from template_learning.export.picks import Picks
from template_learning.settings import ExportSettings


def export_picks(
    picks: Path, identifier: str, settings: ExportSettings, output: Path, segmentation: Path | None = None
) -> list[Path]:
    """EXPORT: write the selected picks (all, if the settings say so) in each format asked for.

    * ``csv``: ``<id>.csv``, columns of PickRow.  ``imod``: ``<id>.imod.txt`` for ``point2model``.
    * ``relion5``, ``relion4``: ``<id>.relion5.star``, ``<id>.relion4.star``.  ``deepfinder``: ``<id>.deepfinder.xml``.
    * ``copick``: a project ``copick/`` with the picks and, if given, the segmentation of the run ``<id>``.

    Parameters
    ----------
    picks : Path
        ``<id>.picks.csv``, its sidecar beside it.
    identifier : str
        Start of the files' names.
    settings : ExportSettings
        Section ``export``.
    output : Path
        Folder to write to.
    segmentation : Path, optional
        Classes [z, y, x].

    Returns
    -------
    list of Path
        The paths written.

    Raises
    ------
    BadInput
        The picks' sidecar does not say on which grid they are.
    """
    checked_id(identifier)
    grid = grid_of(picks)
    rows = [row for row in read_table(picks, PickRow) if row.selected or settings.unselected]
    classes_of_model = [int(number) for number in read_sidecar(picks).get("minimum_size_voxels") or ()]
    what = Picks(identifier, rows, grid, settings, classes_of_model)
    written: list[Path] = []
    for name in settings.formats:
        if name == "copick":
            classes = None if segmentation is None else read_mrc(segmentation, need_voxel_size=False)[0]
            written.append(write_copick(output / "copick", what, classes))
        else:
            ending, write = FORMATS[name]
            written.append(output / f"{identifier}.{ending}")
            write(written[-1], what)
    return written
