"""Molecules from wherever they come: a structure file, a PDB id or a density map, as one cleaned all-atom mmCIF."""

import re
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console

from template_learning.errors import BadInput
from template_learning.files import checked_id, replacing
from template_learning.provenance import write_sidecar
from template_learning.pseudoatoms import fit_map, is_map
from template_learning.structure import Structure, read_structure, write_structure

PDB_ID = re.compile(r"(pdb_0000)?[1-9][A-Za-z0-9]{3}")
ARCHIVE = "https://files.rcsb.org/download/{}.cif.gz"
TIMEOUT_SECONDS = 60


def fetch_entry(pdb_id: str, path: Path) -> None:
    """Write the mmCIF file of a PDB entry to ``path``.  Raises BadInput where it cannot be had."""
    address = ARCHIVE.format(pdb_id[-4:].lower())
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


def prepare_molecule(
    source: str,
    identifier: str,
    output: Path,
    *,
    assembly: str | None = None,
    resolution_angstrom: float | None = None,
    threshold: float | None = None,
    mass_dalton: float | None = None,
) -> Path:
    """Write ``<id>.cif.gz``: the cleaned atoms of a file, a PDB entry or a density map (pseudo-atoms); the path written.

    The last three are for maps (see ``fit_map``).  Raises BadInput where the source is neither a file nor a PDB id, cannot be
    read or fetched, or a parameter does not fit it.
    """
    checked_id(identifier)
    path = Path(source)
    if not path.exists() and PDB_ID.fullmatch(source):
        path = output / f"{source.lower()}.entry.cif.gz"
        if not path.is_file():
            fetch_entry(source, path)
    facts: dict[str, object] = {}
    structure: Structure
    if is_map(path):
        if assembly is not None:
            raise BadInput(f"{source}: an assembly was asked for, but a density map has none")
        fitted = fit_map(path, resolution_angstrom=resolution_angstrom, threshold=threshold, mass_dalton=mass_dalton)
        structure = fitted.structure
        facts = {"correlation": fitted.correlation, "threshold": fitted.threshold, "resolution": fitted.resolution_angstrom}
    else:
        if any(given is not None for given in (resolution_angstrom, threshold, mass_dalton)):
            raise BadInput(
                f"{source}: resolution, threshold and mass are for density maps ({', '.join(('.mrc', '.map', '.ccp4'))})"
            )
        structure = read_structure(path, assembly)
    console = Console(stderr=True)
    for note in structure.notes:
        console.print(f"{identifier}: {note}", highlight=False, markup=False, soft_wrap=True)
    written = output / f"{identifier}.cif.gz"
    write_structure(written, structure)
    write_sidecar(
        written,
        stage="PREPARE",
        item=identifier,
        seed=None,
        settings={"source": source, "assembly": assembly},
        notes=list(structure.notes),
        atoms=len(structure.element),
        mass_dalton=structure.mass_dalton,
        diameter_angstrom=structure.diameter_angstrom,
        **facts,
    )
    return written
