"""VOLUME: molecules as densities on a grid, and the library that packing, simulation and labels read.

The density is that of EMAN2's ``e2pdb2mrc.py``: each atom adds ``Z exp(-r^2 / w^2)`` with its atomic number ``Z`` and
``w = resolution / pi``, sampled at the centres of the voxels.  (Divided by ``(sqrt(pi) w)^3`` it is in electrons per Å^3.)
"""

import json
import math
from pathlib import Path
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import track

from template_learning.errors import BadInput
from template_learning.files import checked_id, existing, replacing, write_mrc, write_table
from template_learning.library import TABLE
from template_learning.provenance import write_sidecar
from template_learning.settings import VolumeSettings
from template_learning.structure import Structure, read_structure
from template_learning.tables import LibraryRow

REACH = 3.5
"""Where an atom's Gaussian is cut, in units of its 1/e half-width (5e-6 of its peak)."""


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


def gaussian_width_angstrom(resolution_angstrom: float) -> float:
    """The 1/e half-width of an atom's Gaussian in ångström."""
    return resolution_angstrom / math.pi


def density_of_atoms(
    position_angstrom: NDArray[np.floating],
    element: NDArray[np.uint8],
    voxel_size_angstrom: float,
    resolution_angstrom: float,
    shape: tuple[int, int, int] | None = None,
) -> NDArray[np.float32]:
    """The density ``[z, y, x]`` of atoms at positions (N, 3) from the grid's centre, bright on zero.

    Without ``shape`` the grid is the smallest odd cube that holds the atoms' Gaussians however the molecule is turned.
    Atoms whose Gaussians reach beyond a given grid are cut at its border.
    """
    width = gaussian_width_angstrom(resolution_angstrom)
    if shape is None:
        radius = float(np.sqrt((position_angstrom.astype(float) ** 2).sum(axis=1).max()))
        half = math.ceil((radius + REACH * width) / voxel_size_angstrom)
        shape = (2 * half + 1,) * 3
    centre = (np.array(shape) - 1) / 2
    index = position_angstrom[:, ::-1].astype(np.float64) / voxel_size_angstrom + centre
    grid = np.zeros(shape)
    _spread(index, element.astype(np.float64), width / voxel_size_angstrom, REACH * width / voxel_size_angstrom, grid)
    return grid.astype(np.float32)


@numba.njit(nogil=True)
def _spread(
    index: NDArray[np.float64], weight: NDArray[np.float64], width: float, reach: float, grid: NDArray[np.float64]
) -> None:
    """Add each atom's Gaussian to ``grid``; ``index`` (N, 3) is [z, y, x] in voxels, as are ``width`` and ``reach``."""
    side = int(2 * reach) + 2
    profile = np.empty((3, side))
    first, count = np.empty(3, np.int64), np.empty(3, np.int64)
    for atom in range(index.shape[0]):
        for axis in range(3):
            low = max(int(np.ceil(index[atom, axis] - reach)), 0)
            high = min(int(np.floor(index[atom, axis] + reach)), grid.shape[axis] - 1)
            first[axis], count[axis] = low, high - low + 1
            for step in range(count[axis]):
                offset = (low + step - index[atom, axis]) / width
                profile[axis, step] = np.exp(-offset * offset)
        for i in range(count[0]):
            for j in range(count[1]):
                line = weight[atom] * profile[0, i] * profile[1, j]
                for k in range(count[2]):
                    grid[first[0] + i, first[1] + j, first[2] + k] += line * profile[2, k]


def build_library(molecules: Path, settings: VolumeSettings, output: Path) -> None:
    """Write ``<molecule>.mrc``, ``<molecule>.atoms.npz`` and a row of ``library.csv`` for each entry of a JSON list.

    Raises BadInput where the list is no list of ``Molecule``, a name comes twice, or a structure cannot be read.
    """
    entries = _read_molecules(molecules)
    rows: list[LibraryRow] = []
    facts: dict[str, object] = {}
    console = Console(stderr=True)
    for entry in track(entries, description="VOLUME", console=console, transient=True, disable=not console.is_terminal):
        structure = read_structure(molecules.parent / entry.file)
        for note in structure.notes:
            console.print(f"{entry.molecule}: {note}", highlight=False, markup=False)
        rows.append(write_entry(structure, entry, settings, output))
        facts[entry.molecule] = {"file": entry.file, "notes": structure.notes}
    rows.sort(key=lambda row: row.molecule)
    write_table(output / TABLE, LibraryRow, rows)
    write_sidecar(output / TABLE, stage="VOLUME", item="library", seed=None, settings=settings, molecules=facts)


def write_entry(structure: Structure, entry: Molecule, settings: VolumeSettings, output: Path) -> LibraryRow:
    """Write one molecule's density and atoms into ``output``; its row of the library."""
    row = LibraryRow(
        **entry.model_dump(exclude={"file"}),
        mass_dalton=structure.mass_dalton,
        atom_count=len(structure.element),
        density=f"{entry.molecule}.mrc",
        atoms=f"{entry.molecule}.atoms.npz",
    )
    density = density_of_atoms(
        structure.position_angstrom, structure.element, settings.voxel_size_angstrom, settings.resolution_angstrom
    )
    write_mrc(output / row.density, density, settings.voxel_size_angstrom)
    with replacing(output / row.atoms) as temporary:
        np.savez_compressed(
            temporary, position_angstrom=structure.position_angstrom.astype(np.float32), element=structure.element
        )
    return row


def _read_molecules(path: Path) -> list[Molecule]:
    try:
        entries = TypeAdapter(list[Molecule]).validate_python(json.loads(existing(path).read_text()))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
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
