"""Molecules from wherever they come: a structure file, a PDB id or a density map, as one cleaned all-atom mmCIF."""

import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, replacing
from template_learning.common.log import tell
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import MoleculeInput
from template_learning.settings import Settings
from template_learning.structures.pseudoatoms import SUFFIXES, bound_map, fit_map, is_map
from template_learning.structures.structure import Structure, read_structure, write_structure

PDB_ID = re.compile(r"(pdb:)?(pdb_0000)?[1-9][A-Za-z0-9]{3}", re.IGNORECASE)
TIMEOUT_SECONDS = 60
NEAREST_ANGSTROM = (0.8, 3.0)
"""Between an atom and the nearest: a bond, 1.2 to 1.5 Å in all molecules, coarse pseudo-atoms let in."""
POLYMER = [
    "ALA",
    "ARG",
    "ASN",
    "ASP",
    "CYS",
    "GLN",
    "GLU",
    "GLY",
    "HIS",
    "ILE",
    "LEU",
    "LYS",
    "MET",
    "PHE",
    "PRO",
    "SER",
    "THR",
    "TRP",
    "TYR",
    "VAL",
    "A",
    "C",
    "G",
    "U",
    "DA",
    "DC",
    "DG",
    "DT",
]


def fetch_entry(pdb_id: str, path: Path) -> None:
    """Write the mmCIF file of a PDB entry to ``path``.  Raises BadInput where it cannot be had."""
    address = str(Settings.model_fields["pdb_address"].default).replace("{id}", pdb_id[-4:].lower())
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        raise BadInput(
            f"{pdb_id}: the Protein Data Bank answers {error.code} for {address}; an existing entry was expected"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise BadInput(f"{pdb_id}: no file of this name, and the Protein Data Bank cannot be reached ({reason})") from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@dataclass(frozen=True, eq=False)
class Checked:
    """What is known of a molecule before any work is done with it."""

    notes: tuple[str, ...]
    diameter_angstrom: float
    """Of the sphere about its centre that holds it."""
    nodes: int | None
    """Atoms that the elastic network would have as nodes; None for a map, which gets as many as are needed."""
    fingerprint: str
    """Of the kinds of the atoms in their order (the map's voxels): equal where two files hold one molecule."""


def check_molecule(path: Path, reading: MoleculeInput | None = None) -> Checked:
    """Look at a structure or a map as ``read_molecule`` would take it; raises BadInput as that does.

    For a map nothing is fitted: its voxels above the threshold stand for the atoms.
    """
    if is_map(path):
        bounded = bound_map(path, _for_map(path, reading))
        note = (
            f"density map: {int(bounded.inside.sum())} voxels above the threshold {bounded.threshold:.4g} become pseudo-atoms "
            f"of {bounded.mass_dalton / 1000:.0f} kDa at {bounded.resolution_angstrom:g} Å"
        )
        return Checked((note,), bounded.diameter_angstrom, None, sha256(bounded.volume.tobytes()).hexdigest())
    structure = read_structure(path, _for_structure(path, reading))
    _check_atoms(path, structure)
    reach = float(np.linalg.norm(structure.position_angstrom, axis=1).max())
    kinds = "\n".join(f"{name} {residue}" for name, residue in zip(structure.atom_name, structure.residue_name, strict=True))
    return Checked(structure.notes, 2 * reach, len(structure.nodes), sha256(kinds.encode()).hexdigest())


def _check_atoms(path: Path, structure: Structure) -> None:
    """Raise BadInput for the trace of a molecule, and for coordinates that are not in ångström."""
    atoms = np.bincount(structure.residue)
    polymer = np.isin(structure.residue_name[np.flatnonzero(np.diff(structure.residue, prepend=-1))], POLYMER)
    if polymer.sum() > 10 and np.median(atoms[polymer]) < 2:
        raise BadInput(
            f"{path}: one atom a residue in most of {int(polymer.sum())} residues, a trace; all atoms, whose density is the molecule's, "
            "were expected"
        )
    if len(atoms) > 10:
        some = structure.position_angstrom[:: max(1, len(structure.element) // 2000)]
        nearest = float(np.median(np.asarray(KDTree(structure.position_angstrom).query(some, k=2)[0])[:, 1]))
        if not NEAREST_ANGSTROM[0] < nearest < NEAREST_ANGSTROM[1]:
            raise BadInput(
                f"{path}: {nearest:.3g} Å from an atom to the next, where {NEAREST_ANGSTROM[0]:g} to {NEAREST_ANGSTROM[1]:g} were "
                f"expected: are the coordinates in {'nanometres' if nearest < 1 else 'another unit, or part of the atoms missing'}?"
            )


def read_molecule(path: Path, reading: MoleculeInput | None = None) -> Structure:
    """The cleaned molecule in a structure file, or the pseudo-atoms of a density map.

    Parameters
    ----------
    path : Path
        mmCIF, BinaryCIF or PDB, compressed or not; or a density map in MRC.
    reading : MoleculeInput, optional
        The biological assembly to build; or a map's resolution in Å, threshold (grey value) and mass in dalton.

    Returns
    -------
    Structure
        N atoms, positions (N, 3) as (x, y, z) in Å from their mean; without waters, hydrogens and ions of the buffer.

    Raises
    ------
    BadInput
        The file cannot be read, or ``reading`` asks of it what it has not.
    """
    if is_map(path):
        return fit_map(path, _for_map(path, reading)).structure
    return read_structure(path, _for_structure(path, reading))


def _for_map(path: Path, reading: MoleculeInput | None) -> MoleculeInput | None:
    if reading is not None and reading.assembly is not None:
        raise BadInput(f"{path}: assembly {reading.assembly!r} was asked for, but a density map has none")
    return reading


def _for_structure(path: Path, reading: MoleculeInput | None) -> str | None:
    """The assembly asked for."""
    if reading is None:
        return None
    for column in ("resolution_angstrom", "threshold", "mass_dalton"):
        if getattr(reading, column) is not None:
            raise BadInput(f"{path}: {column} is for density maps ({', '.join(SUFFIXES)}); this is a structure")
    return reading.assembly


def prepare_molecule(source: str, identifier: str, output: Path, reading: MoleculeInput | None = None) -> Path:
    """Write ``<id>.cif.gz``: the cleaned atoms of a file, a PDB entry or a density map (pseudo-atoms).

    Parameters
    ----------
    source : str
        Path of a structure file or a density map, or the id of an entry, which is fetched.
    identifier : str
        Start of the file's name.
    output : Path
        Folder to write to; a fetched entry is kept there too.
    reading : MoleculeInput, optional
        The biological assembly to build; or a map's resolution in Å, threshold (grey value) and mass in dalton.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    BadInput
        The source is neither a file nor a PDB id, cannot be read or fetched, or ``reading`` does not fit it.
    """
    checked_id(identifier)
    path = Path(source)
    if not path.exists() and PDB_ID.fullmatch(source):
        path = output / f"{source[-4:].lower()}.entry.cif.gz"
        if not path.is_file():
            fetch_entry(source, path)
    metadata: dict[str, object] = {}
    structure: Structure
    if is_map(path):
        fitted = fit_map(path, _for_map(path, reading))
        structure = fitted.structure
        metadata = {"correlation": fitted.correlation, "threshold": fitted.threshold, "resolution": fitted.resolution_angstrom}
    else:
        structure = read_structure(path, _for_structure(path, reading))
        _check_atoms(path, structure)
    for note in structure.notes:
        tell(f"{identifier}: {note}")
    written = output / f"{identifier}.cif.gz"
    write_structure(written, structure)
    write_sidecar(
        written,
        stage="prepare",
        item=identifier,
        seed=None,
        settings={"source": source, **(reading or MoleculeInput()).model_dump(exclude_none=True)},
        notes=list(structure.notes),
        atoms=len(structure.element),
        mass_dalton=structure.mass_dalton,
        diameter_angstrom=structure.diameter_angstrom,
        **metadata,
    )
    return written
