"""A packed sample as SIMULATE and LABEL read it: the table of its molecules, with those that are made and not stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.geometry import Grid, rotation_from_angles
from template_learning.common.provenance import grid_of, read_sidecar
from template_learning.common.tables import LibraryRow, ParticleRow, positions
from template_learning.packing.membranes import SPECIES, Vesicle, remove_clashing_lipids
from template_learning.structures.library import LibraryEntry, read_library


@dataclass(frozen=True)
class PlacedSample:
    """The rows of ``<id>.placed.csv``, the entries of all molecules that they name, and the sample's grid."""

    rows: list[ParticleRow]
    library: dict[str, LibraryEntry]
    grid: Grid


def read_placed(placed: Path, library_folders: Sequence[Path], *, hydrogens: bool = True) -> PlacedSample:
    """The molecules of a table with the library's entries.

    A vesicle is made from its name; its lipids give way to the molecules set in it, as the sidecar's ``vesicles`` says.

    Parameters
    ----------
    placed : Path
        ``<id>.placed.csv``, its sidecar beside it.
    library_folders : sequence of Path
        What VOLUME wrote.
    hydrogens : bool
        Without them a vesicle is made of heavy atoms alone.

    Returns
    -------
    PlacedSample
        The table's rows, the entries that they name, and the sample's grid.

    Raises
    ------
    BadInput
        A molecule is not in the library or has no orientation, or the sidecar does not name the grid.
    """
    rows = read_table(placed, ParticleRow)
    grid = grid_of(placed)
    library = read_library(library_folders)
    vesicles = {vesicle["particle"]: vesicle for vesicle in read_sidecar(placed).get("vesicles", [])}
    by_number = {row.particle: row for row in rows}
    for row in rows:
        vesicle = None if row.molecule in library else Vesicle.named(row.molecule)
        if row.molecule not in library and vesicle is None:
            raise BadInput(f"{placed}: molecule {row.molecule!r} of particle {row.particle} is not in the library")
        if row.rot_deg is None or row.tilt_deg is None or row.psi_deg is None:
            raise BadInput(f"{placed}: particle {row.particle} has no rot_deg, tilt_deg and psi_deg")
        if vesicle is not None:
            own = vesicles.get(row.particle, {"molecules": [], "lipid_distance_angstrom": 0.0})
            others = [_atoms_at(by_number[number], library) - positions([row])[0] for number in own["molecules"]]
            library[row.molecule] = vesicle_entry(vesicle, others, own["lipid_distance_angstrom"], hydrogens=hydrogens)
    return PlacedSample(rows, library, grid)


def vesicle_entry(
    vesicle: Vesicle, others: Sequence[np.ndarray], lipid_distance_angstrom: float, *, hydrogens: bool = True
) -> LibraryEntry:
    """A vesicle as an entry of the library, without the lipids that molecules set in it (their atoms, from its centre) push away."""
    atoms = remove_clashing_lipids(vesicle.atoms(hydrogens=hydrogens), others, lipid_distance_angstrom)
    row = LibraryRow(
        molecule=vesicle.name,
        species=SPECIES,
        role="distractor",
        class_id=0,
        share=1.0,
        mass_dalton=0.0,  # of protein
        atom_count=len(atoms.element),
        density="",
        atoms="",
    )
    return LibraryEntry(row, Path(), atoms)


def _atoms_at(row: ParticleRow, library: dict[str, LibraryEntry]) -> np.ndarray:
    rotation = rotation_from_angles(np.array([row.rot_deg, row.tilt_deg, row.psi_deg], dtype=float))
    return rotation.apply(library[row.molecule].atoms()[0].astype(float)) + positions([row])[0]
