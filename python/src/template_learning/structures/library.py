"""The library of molecules: the tables that VOLUME writes, read back with their densities and atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import UNREADABLE, BadInput
from template_learning.common.files import existing, read_table
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import LibraryRow
from template_learning.structures.atoms import Atoms, bare_atoms

TABLE = "library.csv"


@dataclass(frozen=True)
class LibraryEntry:
    """One molecule: its row, and its files read when asked for; or its atoms as they were ``made`` (no density then)."""

    row: LibraryRow
    folder: Path
    made: Atoms | None = field(default=None, compare=False)

    def density(self) -> tuple[NDArray[Any], float]:
        """The density ``[z, y, x]`` (odd cubic box, origin at its middle voxel, protein bright) and voxel size in ångström.

        Raises BadInput where the file is missing, broken or not an odd cube.
        """
        path = self.folder / self.row.density
        density, voxel_size_angstrom = read_mrc(path)
        if len(set(density.shape)) != 1 or density.shape[0] % 2 == 0:
            raise BadInput(f"{path}: {density.shape} voxels; a cube with an odd edge was expected")
        return density, voxel_size_angstrom

    def atoms(self) -> Atoms:
        """The atoms, positions from the molecule's origin; without hydrogens where a library of version 0.1.0 holds none.

        Raises BadInput where the file is missing or broken.
        """
        if self.made is not None:
            return self.made
        path = existing(self.folder / self.row.atoms)
        try:
            with np.load(path) as stored:
                position = stored["position_angstrom"].astype(np.float32)
                element = stored["element"].astype(np.uint8)
                atoms = bare_atoms(position, element)
                if "hydrogens" in stored:
                    hydrogens, displaced = (stored[name].astype(np.float32) for name in Atoms._fields[2:])
                    atoms = Atoms(position, element, hydrogens, displaced)
        except (*UNREADABLE, ValueError, KeyError) as error:
            raise BadInput(f"{path}: not a molecule's atoms ({error})") from None
        if position.shape != (len(element), 3):
            raise BadInput(f"{path}: positions {position.shape} for {len(element)} atoms; (N, 3) was expected")
        if len({len(column) for column in atoms}) > 1:
            raise BadInput(
                f"{path}: {', '.join(str(len(c)) for c in atoms)} entries in its columns; as many in each was expected"
            )
        return atoms


def read_library(folders: Sequence[Path]) -> dict[str, LibraryEntry]:
    """The molecules of every library.csv in some folders or in a folder directly below one.

    Parameters
    ----------
    folders : sequence of Path
        What VOLUME wrote.

    Returns
    -------
    dict of str to LibraryEntry
        By the molecule's name, sorted.

    Raises
    ------
    BadInput
        A folder has no table, a row is wrong, or two molecules have one name.
    """
    entries: dict[str, LibraryEntry] = {}
    tables: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder")
        found = [path for path in (folder / TABLE, *sorted(folder.glob(f"*/{TABLE}"))) if path.is_file()]
        if not found:
            raise BadInput(f"{folder}: no {TABLE} in it or in a folder below it")
        tables.update(found)
    for table in sorted(tables):
        for row in read_table(table, LibraryRow):
            if row.molecule in entries:
                raise BadInput(
                    f"{table}: molecule {row.molecule!r} is also in {entries[row.molecule].folder / TABLE}; "
                    "each molecule needs a name of its own"
                )
            entries[row.molecule] = LibraryEntry(row, table.parent)
    if not entries:
        raise BadInput(f"{', '.join(map(str, sorted(tables)))}: no molecules")
    return dict(sorted(entries.items()))
