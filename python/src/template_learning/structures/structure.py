"""Atomic structures in and out: mmCIF, BinaryCIF or PDB read, cleaned by rule and centred; all-atom mmCIF written.

The rule, each part of which is noted where it applied:

* several models: the first is kept where they lie on one another (NMR), all where they lie beside one another (a biological
  assembly as the PDB's files .pdb1 have it); anything between is refused;
* alternate locations: in each residue the one with the highest occupancy is kept, the first of equals;
* waters, hydrogens and single-atom ions of the buffer (``BUFFER_IONS``) are removed; bound metals and ligands stay;
* an ion whose element is not told (X, or its first letter alone) takes the element that its residue is named after,
  any other atom that of its name (FE of haem, C1); an atom of a standard residue that seems to be a metal takes its name's
  first letter too (CA set one column left); atoms of unknown element or of UNX are removed;
* atoms without a position (blank, starred, or one spot for many) are removed while they are few (``MOST_UNPLACED``);
* residues without a number of the author's are numbered as the file's label_seq_id, else as they follow.
"""

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from template_learning.common.errors import BadInput
from template_learning.common.files import existing, replacing
from template_learning.structures.atoms import Atoms
from template_learning.structures.binarycif import is_binary_cif, read_binary_cif

_CHEMICAL_ELEMENTS = {gemmi.Element(number).name.upper(): number for number in range(1, 119)}
BUFFER_IONS = ("LI", "NA", "K", "RB", "CS", "F", "CL", "BR", "I", "IOD")
NODE_NAMES = (("CA", 6), ("P", 15))
"""Names and elements of the atoms that are nodes (the element keeps calcium ions out)."""
COORDINATE = re.compile(r" *[-+]?\d*\.\d+ *| *[-+]?\d+\. *")
SUFFIXES = (".cif", ".mmcif", ".bcif", ".pdb", ".ent", ".gz", ".bz2", ".xz")
DEUTERIUM = 119  # gemmi counts it as an element of its own, after the 118
WEIGHT_DALTON = np.array([0.0, *(gemmi.Element(number).weight for number in range(1, 119))])
MOST_UNPLACED = 0.02
"""The share of atoms that may be without a position; a structure that lacks more is refused."""
ATOMS_ON_ONE_SPOT = 4
"""So many atoms at exactly one place are not placed at all: a program filled in zeros."""
ELEMENTS_OF_STANDARD_RESIDUES = (1, 6, 7, 8, 15, 16, DEUTERIUM)
ELEMENTS_BY_LETTER = {"H": 1, "C": 6, "N": 7, "O": 8, "P": 15, "S": 16}
ELEMENTS_OF_LIGANDS = {name: _CHEMICAL_ELEMENTS[name] for name in ("FE", "MG", "ZN", "MN", "CU", "MO", "SE", "CL", "BR")}
"""Two letters that begin an atom's name in a ligand (FE of haem) and are never a carbon's or a nitrogen's there."""
OVERLAP_ANGSTROM = 2.0
"""Nodes of two residues never come as near; those of two NMR models mostly do."""
PROTEIN_HYDROGENS_PER_ATOM = 0.993
"""Hydrogens for each other atom of a protein, on average (Senko et al., J. Am. Soc. Mass Spectrom. 1995)."""
ANGSTROM3_PER_DALTON = {"protein": 0.73 / 0.602214, "DNA": 0.55 / 0.602214, "RNA": 0.53 / 0.602214}
"""Volume in solution, from partial specific volumes in cm^3/g (Durchschlag 1986, in Hinz (ed.), Thermodynamic Data for
Biochemistry and Biotechnology, ch. 3); those of nucleic acids are of their sodium salts, and so count the sodium's mass."""
SODIUM_SALT_DALTON = float(gemmi.Element("Na").weight - gemmi.Element("H").weight)
"""What a nucleotide weighs more as a sodium salt."""
ATOM_ANGSTROM3 = {1: 5.15, 6: 16.44, 7: 2.49, 8: 9.13, 15: 5.73, 16: 19.86}
"""Volumes that atoms displace, hydrogens by themselves (Fraser, MacRae and Suzuki, J. Appl. Cryst. 11 (1978) 693), for what is
neither protein nor nucleic acid."""
OTHER_ATOM_ANGSTROM3 = 10.0
"""Of any other element: those of iron to zinc in CRYSOL (Svergun, Barberato and Koch, J. Appl. Cryst. 28 (1995) 768) are 8 to 10."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """The atoms of one molecule, cleaned; arrays run over the N atoms, those of a residue side by side."""

    name: str
    position_angstrom: NDArray[np.float64]
    """(N, 3) as (x, y, z), centred on the atoms' mean."""
    origin_angstrom: NDArray[np.float64]
    """(3,) where that mean lies in the file's own frame."""
    element: NDArray[np.uint8]
    atom_name: NDArray[np.str_]
    residue_name: NDArray[np.str_]
    residue_number: NDArray[np.int32]
    insertion_code: NDArray[np.str_]
    chain: NDArray[np.str_]
    hetero: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    """What was removed or chosen, one line each."""

    @cached_property
    def residue(self) -> NDArray[np.int64]:
        """(N,) the number of each atom's residue, counted from 0 in the order of the file."""
        new = np.zeros(len(self.element), dtype=bool)
        for column in (self.chain, self.residue_number, self.insertion_code, self.residue_name):
            new[1:] |= column[1:] != column[:-1]
        return np.cumsum(new)

    @property
    def nodes(self) -> NDArray[np.intp]:
        """(M,) the atoms that stand for their residues in an elastic network: carbons CA and phosphorus P."""
        return np.flatnonzero(
            np.logical_or.reduce([(self.atom_name == name) & (self.element == element) for name, element in NODE_NAMES])
        )

    @property
    def mass_dalton(self) -> float:
        """Mass of the atoms and of the ``hydrogens`` that belong to them, which are not among the atoms."""
        return float(WEIGHT_DALTON[self.element].sum() + WEIGHT_DALTON[1] * self.hydrogens.sum())

    @cached_property
    def hydrogens(self) -> NDArray[np.float64]:
        """(N,) the hydrogens that belong to each atom and are not among the atoms: a residue's, spread evenly over its atoms.

        A residue has the hydrogens that gemmi's table tells, two fewer in a chain of amino acids or nucleotides (the bond's
        water), in proportion to the part of its heavy mass that is there.  UNK, an unknown amino acid (pseudo-atoms of a map
        have it), gets as many an atom as a protein has; residues that the table does not know get none.
        """
        names, kind = self._residue_kinds
        hydrogens, heavy = np.array([_hydrogens_and_heavy_dalton(name) for name in names]).T
        present = np.bincount(self.residue, WEIGHT_DALTON[self.element])
        per_atom = hydrogens[kind] * np.minimum(present / heavy[kind], 1.0) / np.bincount(self.residue)
        return np.where(self.residue_name == "UNK", PROTEIN_HYDROGENS_PER_ATOM, per_atom[self.residue])

    @cached_property
    def displaced_angstrom3(self) -> NDArray[np.float64]:
        """(N,) the volume of ice in Å^3 that each atom displaces with its hydrogens.

        That of a residue of protein or nucleic acid is its mass by the partial specific volume of its kind, spread evenly over
        its atoms.  Anything else (ligands, sugars, ions) has the volumes of its atoms.
        """
        names, kind = self._residue_kinds
        polymer = np.array([_polymer(name) or "" for name in names])[kind]
        count = np.bincount(self.residue)
        dalton = np.bincount(self.residue, WEIGHT_DALTON[self.element] + WEIGHT_DALTON[1] * self.hydrogens)
        # A nucleotide's one phosphate has one sodium; of a residue that is there in part, in part.
        phosphorus = np.bincount(self.residue, self.element == 15)
        dalton = dalton + SODIUM_SALT_DALTON * phosphorus * ((polymer == "DNA") | (polymer == "RNA"))
        factor = np.array([ANGSTROM3_PER_DALTON.get(name, 0.0) for name in polymer.tolist()])
        volume = np.full(119, OTHER_ATOM_ANGSTROM3)
        volume[list(ATOM_ANGSTROM3)] = list(ATOM_ANGSTROM3.values())
        alone = volume[self.element] + ATOM_ANGSTROM3[1] * self.hydrogens
        return np.where((polymer == "")[self.residue], alone, (factor * dalton / count)[self.residue])

    @property
    def atoms(self) -> Atoms:
        """The atoms as the simulator takes them."""
        return Atoms(
            self.position_angstrom.astype(np.float32),
            self.element,
            self.hydrogens.astype(np.float32),
            self.displaced_angstrom3.astype(np.float32),
        )

    @property
    def _residue_kinds(self) -> tuple[list[str], NDArray[np.intp]]:
        """Names that residues have, and which of them each residue has."""
        first = np.flatnonzero(np.diff(self.residue, prepend=-1))
        names, kind = np.unique(self.residue_name[first], return_inverse=True)
        return names.tolist(), kind

    @property
    def diameter_angstrom(self) -> float:
        """The greatest distance between two atoms."""
        # The two farthest atoms lie on the convex hull; the farthest along many directions stand for it, which is
        # at most 1 % short with these 500 (a cap of 8 degrees a direction).
        steps = np.arange(500) + 0.5
        polar, azimuth = np.arccos(1 - steps / 500), np.pi * (1 + 5**0.5) * steps
        direction = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)])
        extent = 0.0
        for some in np.array_split(direction, 10, axis=1):
            along = self.position_angstrom @ some
            extent = max(extent, float(np.ptp(along, axis=0).max()))
        return extent


def _polymer(residue_name: str) -> str | None:
    """Whether a residue is one of protein, DNA or RNA; None for anything else."""
    known = gemmi.find_tabulated_residue(residue_name)
    if known.is_amino_acid():
        return "protein"
    if known.is_nucleic_acid():
        return "DNA" if known.kind == gemmi.ResidueKind.DNA else "RNA"
    return None


def _hydrogens_and_heavy_dalton(residue_name: str) -> tuple[float, float]:
    """Hydrogens of a whole residue as it stands in a molecule, and the mass of its other atoms."""
    known = gemmi.find_tabulated_residue(residue_name)
    if not known.found() or residue_name == "UNK":
        return 0.0, 1.0
    bound = known.is_amino_acid() or known.is_nucleic_acid()
    heavy = known.weight - WEIGHT_DALTON[1] * known.hydrogen_count - (WEIGHT_DALTON[8] if bound else 0.0)
    return max(known.hydrogen_count - 2.0 * bound, 0.0), heavy


def read_structure(path: Path, assembly: str | None = None) -> Structure:
    """The molecule in an mmCIF, BinaryCIF or PDB file, compressed (gzip, bzip2, xz) or not, cleaned and centred.

    The format is told by the content.  ``assembly`` is the number of a biological assembly that the file describes, built
    from its operators; without it the atoms are taken as they are.

    Raises BadInput where the file is missing, empty, unreadable, has no atoms, or does not describe the assembly.
    """
    content = _decompressed(existing(path))
    notes: list[str] = []
    try:
        parsed = _parsed(content, notes)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: not a structure file ({' '.join(str(error).split())[:200]}); mmCIF, BinaryCIF or PDB was expected"
        ) from None
    if not len(parsed) or not parsed[0].count_atom_sites():
        raise BadInput(f"{path}: the structure has no atoms")
    if len(parsed) > 1:
        notes.append(_one_model(parsed, path, assembly))
    if assembly is not None:
        described = [found.name for found in parsed.assemblies]
        if assembly not in described:
            raise BadInput(f"{path}: no assembly {assembly!r}; the file describes {', '.join(described) or 'none'}")
        parsed.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)
        notes.append(f"assembly {assembly}: {len(parsed[0])} chains")
    return _cleaned(_stem(path), gemmi.FlatStructure(parsed), notes, path)


def _stem(path: Path) -> str:
    name = path.name
    while (suffix := Path(name).suffix).lower() in SUFFIXES:
        name = name[: -len(suffix)]
    return name


def _decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        elif content.startswith(b"BZh"):
            content = bz2.decompress(content)
        elif content.startswith(b"\xfd7zXZ\x00"):
            content = lzma.decompress(content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{path}: the compressed file is broken ({error})") from None
    if not content.strip():
        raise BadInput(f"{path}: the file is empty")
    return content


def _parsed(content: bytes, notes: list[str]) -> gemmi.Structure:
    if is_binary_cif(content):
        document = read_binary_cif(content)
    else:
        text = _text(content)
        if "_atom_site." not in text:
            return gemmi.read_pdb_string(_placed_lines(text, notes))
        document = gemmi.cif.read_string(text)
    for block in document:
        atoms = block.find_mmcif_category("_atom_site.")
        if atoms:
            if "_atom_site.label_alt_id" not in atoms.tags and atoms.loop:  # gemmi finds no atoms without this column
                atoms.loop.add_columns(["_atom_site.label_alt_id"], ".")
            _number_residues(block, atoms)
            return gemmi.make_structure_from_block(block)
    raise ValueError("no block has a table _atom_site")


def _text(content: bytes) -> str:
    """UTF-8, or Latin-1 in a file that has atoms in it (authors' names)."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError:
        if re.search(rb"^(ATOM  |HETATM|_atom_site\.)", content, re.MULTILINE) is None:
            raise
    return content.decode("latin-1")


def _placed_lines(text: str, notes: list[str]) -> str:
    """A PDB file's text without the lines of atoms whose coordinates are no numbers, which gemmi would take for 0."""
    kept, atoms, unplaced = [], 0, 0
    for line in text.splitlines():
        if line.startswith(("ATOM", "HETATM")):
            atoms += 1
            # What is not blank before them is the beginning of a number too wide for its columns.
            if line[27:30].strip() or not all(COORDINATE.fullmatch(line[begin : begin + 8]) for begin in (30, 38, 46)):
                unplaced += 1
                continue
        kept.append(line)
    if unplaced:
        _refuse_many(unplaced, atoms, "columns 31 to 54 hold no three coordinates")
        notes.append(f"{unplaced} atoms without coordinates removed")
    return "\n".join([*kept, ""])


def _refuse_many(unplaced: int, atoms: int, how: str) -> None:
    if unplaced > MOST_UNPLACED * atoms:
        raise BadInput(
            f"{unplaced} of {atoms} atoms have no position ({how}); at most {MOST_UNPLACED:.0%} were expected, which are removed"
        )


def _number_residues(block: Any, atoms: Any) -> None:
    """Give the residues without auth_seq_id, which gemmi numbers by, label_seq_id's number, else the next one."""
    columns = {tag.removeprefix("_atom_site."): place for place, tag in enumerate(atoms.tags)}
    told = columns.get("auth_seq_id")
    loop = atoms.loop
    if loop is None or (told is not None and not any(row[told] in "?." for row in atoms)):
        return
    label, chain = columns.get("label_seq_id"), columns.get("label_asym_id", columns.get("auth_asym_id"))
    residue, name = columns.get("label_comp_id", columns.get("auth_comp_id")), columns.get("label_atom_id")
    alternate = columns.get("label_alt_id")

    def cell(row: Any, place: int | None) -> str:
        return "" if place is None or row[place] in "?." else str(row[place])

    numbers, last, seen, counted = [], ("", "", ""), set[tuple[str, str]](), 0
    for row in atoms:
        this = (cell(row, chain), cell(row, residue), cell(row, label))
        atom = (cell(row, name), cell(row, alternate))
        if this != last or (not this[2] and atom in seen):
            counted, seen, last = counted + 1, set(), this
        seen.add(atom)
        # 100 000 sets the counted ones apart from those that have a number.
        numbers.append(cell(row, told) or this[2] or str(counted + (100_000 if label is not None or told is not None else 0)))
    if told is None:
        loop.add_columns(["_atom_site.auth_seq_id"], "1")
        told = loop.width() - 1
    for index, number in enumerate(numbers):
        loop[index, told] = number


def _one_model(parsed: gemmi.Structure, path: Path, assembly: str | None) -> str:
    """Leave one model in ``parsed``: the first of an ensemble, all of an assembly; what was done, as a note."""
    count = len(parsed)
    share = 0.0 if assembly is None else 1.0
    if assembly is None:
        first, *others = [_places(model) for model in parsed]
        tree = KDTree(first)
        share = float(np.mean([np.mean(np.asarray(tree.query(other)[0]) < OVERLAP_ANGSTROM) for other in others if len(other)]))
    if share < 0.05:
        taken = {chain.name for chain in parsed[0]}
        for number, model in enumerate(list(parsed)[1:], start=2):
            for chain in model:
                copy = chain.clone()
                while copy.name in taken:
                    copy.name = f"{chain.name}{number}" if copy.name == chain.name else f"{copy.name}x"
                taken.add(copy.name)
                parsed[0].add_chain(copy)
        note = f"{count} models that lie beside one another, an assembly: all were kept"
    elif share > 0.25:
        note = f"{count} models: the first was kept"
    else:
        raise BadInput(
            f"{path}: {count} models of which {share:.0%} lie on one another; an ensemble, of which the first is taken, or an "
            "assembly, which is taken whole, was expected (keep one model; or name an `assembly` that the file describes)"
        )
    del parsed[1:]
    return note


def _places(model: gemmi.Model) -> NDArray[np.float64]:
    """(N, 3) the nodes of a model, or all atoms where it has none."""
    places = [(a.atom.pos.tolist(), a.atom.name) for a in model.all()]
    nodes = [place for place, name in places if name in ("CA", "P")]
    return np.array(nodes or [place for place, _ in places], dtype=float).reshape(-1, 3)


def _strings(column: Any) -> NDArray[np.str_]:
    """Fixed-width text of a FlatStructure, (N, width) int8, as an array of strings."""
    return np.ascontiguousarray(column).view(f"S{column.shape[1]}").ravel().astype(np.str_)


def _cleaned(name: str, flat: gemmi.FlatStructure, notes: list[str], path: Path) -> Structure:
    position = np.array(flat.pos)
    element = np.array(flat.elements)
    atom_name, residue_name, chain = _strings(flat.atom_names), _strings(flat.residue_names), _strings(flat.chain_ids)
    number = np.array(flat.resnums)
    insertion = np.char.strip(np.array(flat.icodes).astype(np.uint8).view("S1").astype(np.str_))
    keep = np.ones(len(element), dtype=bool)

    def drop(unwanted: Any, what: str) -> None:
        count = int((unwanted & keep).sum())
        if count:
            notes.append(f"{count} {what}")
            keep[unwanted] = False

    single = np.char.upper(atom_name) == np.char.upper(residue_name)
    ions, of_ion = np.unique(np.where(single, np.char.upper(residue_name), ""), return_inverse=True)
    ion_element = np.array([_CHEMICAL_ELEMENTS.get(ion, 0) for ion in ions.tolist()], dtype=np.uint8)[of_ion]
    corrected = (ion_element > 0) & (ion_element != element)
    element[corrected] = ion_element[corrected]
    if corrected.any():
        notes.append(f"{int(corrected.sum())} ions: element taken from the residue's name")
    element[residue_name == "UNX"] = 0  # an unknown atom by definition; gemmi guesses uranium from its name
    names, of_name = np.unique(residue_name, return_inverse=True)
    standard = np.array([gemmi.find_tabulated_residue(name).is_standard() for name in names.tolist()])[of_name]
    odd = standard & ~np.isin(element, ELEMENTS_OF_STANDARD_RESIDUES)
    unknown = np.flatnonzero(((element == 0) & (residue_name != "UNX")) | odd)
    element[unknown] = [
        _element_of_name(name, bool(plain)) for name, plain in zip(atom_name[unknown].tolist(), standard[unknown], strict=True)
    ]
    if element[unknown].any():
        notes.append(f"{np.count_nonzero(element[unknown])} atoms: element taken from the atom's name")

    water = np.isin(residue_name, ("HOH", "WAT", "DOD", "H2O", "SOL", "TIP3"))
    drop(water, "atoms of water removed")
    drop((element == 1) | (element == DEUTERIUM), "hydrogens removed")
    drop(single & np.isin(residue_name, BUFFER_IONS), "ions of the buffer removed")
    drop(element == 0, "atoms of unknown element removed")
    heavy, spotted = int(keep.sum()), _on_one_spot(position, keep)
    unplaced = ~np.isfinite(position).all(axis=1) | spotted
    try:
        how = f"{int((spotted & keep).sum())} of them on one spot" if spotted.any() else "no numbers"
        _refuse_many(int((unplaced & keep).sum()), heavy, how)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    drop(unplaced, "atoms without a position removed")
    drop(_alternates(flat, chain, number, insertion, keep), "atoms of alternate locations removed (highest occupancy kept)")
    if not keep.any():
        raise BadInput(f"{path}: no atoms are left after cleaning ({'; '.join(notes)})")
    # Pseudo-atoms of maps are UNK, and many are of one name.
    named = (standard & (residue_name != "UNK"))[keep]
    _check_residues(path, chain[keep], number[keep], insertion[keep], residue_name[keep], atom_name[keep], named)
    kept = position[keep]
    origin = kept.mean(axis=0)
    return Structure(
        name=name,
        position_angstrom=kept - origin,
        origin_angstrom=origin,
        element=element[keep],
        atom_name=atom_name[keep],
        residue_name=residue_name[keep],
        residue_number=number[keep].astype(np.int32),
        insertion_code=insertion[keep],
        chain=chain[keep],
        hetero=(np.array(flat.het_flags) == ord("H"))[keep],
        notes=tuple(notes),
    )


def _check_residues(
    path: Path,
    chain: NDArray[np.str_],
    number: NDArray[np.int32],
    insertion: NDArray[np.str_],
    residue_name: NDArray[np.str_],
    atom_name: NDArray[np.str_],
    standard: NDArray[np.bool_],
) -> None:
    """Refuse a structure whose residues cannot be told apart: a standard one has each atom once."""
    new = np.zeros(len(chain), dtype=bool)
    for column in (chain, number, insertion, residue_name):
        new[1:] |= column[1:] != column[:-1]
    residue = np.cumsum(new)[standard]
    name = np.unique(atom_name[standard], return_inverse=True)[1]
    atoms = residue * (int(name.max(initial=0)) + 1) + name
    doubled = len(atoms) - len(np.unique(atoms))
    if doubled > MOST_UNPLACED * len(atoms):
        raise BadInput(
            f"{path}: {doubled} of {len(atoms)} atoms are named as another of their residue: residues, or copies of a chain, with one "
            "number; numbers of their own were expected"
        )


def _element_of_name(name: str, standard: bool) -> int:
    """The element that an atom's name begins with, 0 where that is none of those that such names stand for."""
    letters = name.lstrip("0123456789'").upper()
    return (0 if standard else ELEMENTS_OF_LIGANDS.get(letters[:2], 0)) or ELEMENTS_BY_LETTER.get(letters[:1], 0)


def _on_one_spot(position: NDArray[np.float64], keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which atoms lie exactly where so many others do that they are not placed at all."""
    finite = np.flatnonzero(np.isfinite(position).all(axis=1) & keep)
    found = np.zeros(len(position), dtype=bool)
    order = finite[np.lexsort(position[finite].T)]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (position[order[1:]] != position[order[:-1]]).any(axis=1)
    group = np.cumsum(new) - 1
    found[order] = np.bincount(group, minlength=1)[group] >= ATOMS_ON_ONE_SPOT
    return found


def _alternates(
    flat: gemmi.FlatStructure,
    chain: NDArray[np.str_],
    number: NDArray[np.int32],
    insertion: NDArray[np.str_],
    keep: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which atoms belong to an alternate location other than their residue's best."""
    letter, occupancy = np.array(flat.altlocs), np.array(flat.occ)
    unwanted = np.zeros(len(letter), dtype=bool)
    total: dict[tuple[str, int, str], dict[int, tuple[float, int]]] = {}
    lettered = np.flatnonzero((letter != 0) & keep)
    for i in lettered:
        per_letter = total.setdefault((chain[i], int(number[i]), insertion[i]), {})
        occupied, count = per_letter.get(int(letter[i]), (0.0, 0))
        per_letter[int(letter[i])] = (occupied + float(occupancy[i]), count + 1)
    best = {
        residue: max(per_letter, key=lambda found, per=per_letter: per[found][0] / per[found][1])  # type: ignore[misc]
        for residue, per_letter in total.items()
    }
    for i in lettered:
        unwanted[i] = letter[i] != best[chain[i], int(number[i]), insertion[i]]
    return unwanted


COLUMNS = """
group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id
pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num
"""


class StructureWriter:
    """Writes one molecule's atoms at any number of sets of positions (the unchanging text is made once)."""

    def __init__(self, structure: Structure):
        def quoted(column: Iterable[str]) -> list[str]:
            known: dict[str, str] = {}
            return [known.setdefault(text, text if text in known else gemmi.cif.quote(text)) for text in column]

        symbol = np.array([gemmi.Element(number).name.upper() for number in range(119)])[structure.element].tolist()
        names, residues, chains = (quoted(c.tolist()) for c in (structure.atom_name, structure.residue_name, structure.chain))
        numbers = structure.residue_number.tolist()
        codes = [code or "?" for code in structure.insertion_code.tolist()]
        groups = ["HETATM" if hetero else "ATOM" for hetero in structure.hetero.tolist()]
        self._before = [
            f"{group} {serial} {s} {name} . {residue} {chain} . . {code}"
            for serial, (group, s, name, residue, chain, code) in enumerate(
                zip(groups, symbol, names, residues, chains, codes, strict=True), start=1
            )
        ]
        self._after = [f"1 0 {number} {chain} 1" for number, chain in zip(numbers, chains, strict=True)]

    def lines(self, name: str, position_angstrom: NDArray[np.float64]) -> Iterator[str]:
        """The lines of an mmCIF file with the atoms at ``position_angstrom`` (N, 3), each ending in a newline."""
        yield f"data_{name}\n_entry.id {name}\nloop_\n"
        yield from (f"_atom_site.{column}\n" for column in COLUMNS.split())
        for before, (x, y, z), after in zip(self._before, position_angstrom.tolist(), self._after, strict=True):
            yield f"{before} {x:.3f} {y:.3f} {z:.3f} {after}\n"

    def write(self, path: Path, name: str, position_angstrom: NDArray[np.float64]) -> None:
        """Write the atoms as mmCIF, compressed where ``path`` ends in .gz; the same atoms give the same bytes."""
        content = "".join(self.lines(name, position_angstrom)).encode()
        with replacing(path) as temporary:
            temporary.write_bytes(gzip.compress(content, compresslevel=5, mtime=0) if path.suffix == ".gz" else content)


def write_structure(path: Path, structure: Structure) -> None:
    """Write a molecule as all-atom mmCIF.

    Parameters
    ----------
    path : Path
        Compressed where it ends in .gz.
    structure : Structure
        The molecule; its positions are written as they are, centred on the atoms' mean.
    """
    StructureWriter(structure).write(path, structure.name, structure.position_angstrom)
