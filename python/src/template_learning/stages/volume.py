"""VOLUME: molecules as densities on a grid (``structures/density.py``), in the library that packing, simulation and labels read."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import track

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.files import checked_id, read_text, replacing, write_table
from template_learning.common.log import tell
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import LibraryRow, MoleculeInput
from template_learning.settings import VolumeSettings
from template_learning.structures import eman2
from template_learning.structures.density import density_of_atoms
from template_learning.structures.library import TABLE
from template_learning.structures.molecules import read_molecule
from template_learning.structures.structure import Structure


class Molecule(BaseModel):
    """One entry of the list that VOLUME is given; ``file`` is relative to the list's folder."""

    model_config = ConfigDict(extra="forbid")

    molecule: str
    species: str
    role: Literal["template", "distractor"]
    class_id: int = Field(ge=0)
    class_name: str = ""
    share: float = Field(1.0, gt=0)
    file: str
    reading: MoleculeInput = MoleculeInput()


def build_library(molecules: Path, settings: VolumeSettings, output: Path) -> None:
    """VOLUME: write ``<molecule>.mrc``, ``<molecule>.atoms.npz`` and a row of ``library.csv`` for each molecule of a list.

    Densities are [z, y, x] in odd cubes, the molecule's origin at the middle voxel, protein bright.

    Parameters
    ----------
    molecules : Path
        JSON list of {molecule, species, role, class_id, share, file}.
    settings : VolumeSettings
        Section ``volume``.
    output : Path
        Folder to write to.

    Raises
    ------
    BadInput
        The list is no list of ``Molecule``, a name comes twice, or a structure cannot be read.
    """
    entries = _read_molecules(molecules)
    program = eman2.program() if settings.engine == "eman2" else {}
    rows: list[LibraryRow] = []
    metadata: dict[str, object] = {}
    console = Console(stderr=True)
    for entry in track(entries, description="VOLUME", console=console, transient=True, disable=not console.is_terminal):
        structure = read_molecule(molecules.parent / entry.file, entry.reading)
        for note in structure.notes:
            tell(f"{entry.molecule}: {note}")
        rows.append(write_entry(structure, entry, settings, output))
        metadata[entry.molecule] = {"file": entry.file, "notes": structure.notes}
    rows.sort(key=lambda row: row.molecule)
    write_table(output / TABLE, LibraryRow, rows)
    write_sidecar(output / TABLE, stage="volume", item="library", seed=None, settings=settings, molecules=metadata, **program)


def write_entry(structure: Structure, entry: Molecule, settings: VolumeSettings, output: Path) -> LibraryRow:
    """Write one molecule's density and atoms into ``output``; its row of the library."""
    row = LibraryRow(
        **entry.model_dump(exclude={"file", "reading"}),
        mass_dalton=structure.mass_dalton,
        atom_count=len(structure.element),
        density=f"{entry.molecule}.mrc",
        atoms=f"{entry.molecule}.atoms.npz",
    )
    of_atoms = eman2.density_by_eman2 if settings.engine == "eman2" else density_of_atoms
    density = of_atoms(
        structure.position_angstrom, structure.element, settings.voxel_size_angstrom, settings.resolution_angstrom
    )
    write_mrc(output / row.density, density, settings.voxel_size_angstrom)
    with replacing(output / row.atoms) as temporary:
        np.savez_compressed(temporary, **structure.atoms._asdict())
    return row


def _read_molecules(path: Path) -> list[Molecule]:
    try:
        entries = TypeAdapter(list[Molecule]).validate_python(json.loads(read_text(path)))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    except ValidationError as error:
        field, problem = first_problem(error)
        raise BadInput(f"{path}: {field}: {problem}") from None
    if not entries:
        raise BadInput(f"{path}: lists no molecules; at least one was expected")
    names: set[str] = set()
    for entry in entries:
        if checked_id(entry.molecule, "molecule") in names:
            raise BadInput(f"{path}: molecule {entry.molecule!r} is listed twice; each needs a name of its own")
        checked_id(entry.species, "species")
        if (entry.role == "template") != (entry.class_id > 0):
            raise BadInput(f"{path}: {entry.molecule}: class_id {entry.class_id}; 0 for distractors, 1 or more for templates")
        names.add(entry.molecule)
    return entries
