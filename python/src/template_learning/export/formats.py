"""The formats that picks leave in, by name: the ending of the file and the function that writes it; add a format here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from template_learning.common.files import write_table
from template_learning.common.tables import PickRow
from template_learning.export.deepfinder import write_deepfinder
from template_learning.export.imod import write_imod_points
from template_learning.export.picks import Picks
from template_learning.export.relion import write_relion4, write_relion5

FORMATS: Mapping[str, tuple[str, Callable[[Path, Picks], None]]] = {
    "csv": ("csv", lambda path, picks: write_table(path, PickRow, picks.rows)),
    "relion5": ("relion5.star", write_relion5),
    "relion4": ("relion4.star", write_relion4),
    "deepfinder": ("deepfinder.xml", write_deepfinder),
    "imod": ("imod.txt", write_imod_points),
}
