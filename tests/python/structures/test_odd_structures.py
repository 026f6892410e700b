"""Structure files with what is not there, or not said: removed and noted, completed by rule, or refused; no wrong atom."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.structures.molecules import check_molecule
from template_learning.structures.structure import read_structure

from ..cases import Case

COUNT = 60


def atom(serial, name, residue, number, place, *, element="C", chain="A", record="ATOM"):
    x, y, z = (one if isinstance(one, str) else f"{one:8.3f}" for one in place)
    return f"{record:<6}{serial:>5} {name:<4} {residue:>3} {chain}{number:>4}    {x:>8}{y:>8}{z:>8}  1.00  0.00          {element:>2}\n"


def chain(name="A", shift=0.0, count=COUNT, element=True):
    """Alanines along a line, three atoms each."""
    lines = []
    for n in range(count):
        for k, (label, one) in enumerate(((" N", "N"), (" CA", "C"), (" C", "C"))):
            place = (3.8 * n - 100 + 1.2 * k, 2.0 * k + shift, 0.5 * n)
            lines.append(atom(3 * n + k + 1, label, "ALA", n + 1, place, element=one if element else "", chain=name))
    return "".join(lines)


PLAIN = chain()


def instead(count, coordinates):
    """The chain with the coordinates of its first ``count`` atoms replaced."""
    lines = PLAIN.splitlines(keepends=True)
    return "".join(line[:30] + coordinates + line[54:] if n < count else line for n, line in enumerate(lines))


def extra(*lines):
    return PLAIN + "".join(lines)


def models(*parts):
    return "".join(f"MODEL     {n:>4}\n{part}ENDMDL\n" for n, part in enumerate(parts, start=1)) + "END\n"


def as_cif(columns, text=PLAIN):
    """The atoms as mmCIF with these columns alone."""
    loop = "".join(f"_atom_site.{name}\n" for name in columns)
    rows = []
    for n, line in enumerate(text.splitlines()):
        cells = {
            "group_PDB": "ATOM", "id": n + 1, "type_symbol": line[76:78].strip(), "label_atom_id": line[12:16].strip(),
            "label_alt_id": ".", "label_comp_id": line[17:20].strip(), "label_asym_id": line[21], "label_entity_id": 1,
            "label_seq_id": line[22:26].strip(), "Cartn_x": line[30:38], "Cartn_y": line[38:46], "Cartn_z": line[46:54],
            "auth_seq_id": int(line[22:26]) + 500, "auth_asym_id": line[21], "blank": "?",
        }  # fmt: skip
        rows.append(" ".join(str(cells[name.split("=")[-1]]) for name in columns.values()))
    return f"data_x\nloop_\n{loop}" + "\n".join(rows) + "\n"


PLACE = ("Cartn_x", "Cartn_y", "Cartn_z")
LABELS = ("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id")


def cif_of(*names, **filled):
    return as_cif({name: name for name in (*LABELS, *names, *PLACE)} | filled)


# (atoms, residues) of what is taken stand in the note of the test below: 180 and 60 where nothing else is said.
CASES = [
    Case("a PDB file", lambda: PLAIN, "taken"),
    Case("a PDB file without elements", lambda: chain(element=False), "taken"),
    Case("atom names one column to the left, without elements (CA as calcium)", lambda: "".join(line[:12] + f"{line[12:16].strip():<4}" + line[16:] for line in chain(element=False).splitlines(keepends=True)), "taken"),
    Case("a few atoms with blank coordinates", lambda: instead(3, " " * 24), "warning", "3 atoms without coordinates removed"),
    Case("a few atoms with starred coordinates", lambda: instead(3, "*" * 24), "warning", "3 atoms without coordinates removed"),
    Case("many atoms with blank coordinates", lambda: instead(30, " " * 24), "refused", "30 of 180 atoms have no position"),
    Case("coordinates that overflow their columns", lambda: PLAIN.replace("    -100.000", "  -10000.000"), "warning", "1 atoms without coordinates removed"),
    Case("coordinates of NaN", lambda: instead(30, "     nan     nan     nan"), "refused", "30 of 180 atoms have no position"),
    Case("many atoms on one spot", lambda: instead(30, "   0.000   0.000   0.000"), "refused", "30 of them on one spot"),
    Case("mmCIF with many unknown coordinates", lambda: as_cif({n: n for n in (*LABELS, *PLACE)}, instead(30, "       ?" * 3)), "refused", "atoms have no position"),
    Case("atoms of UNX with element X", lambda: extra(atom(900, " UNK", "UNX", 900, (1, 2, 3), element="X", record="HETATM")), "warning", "1 atoms of unknown element removed"),
    Case("atoms of UNX without an element (uranium by their name)", lambda: extra(atom(900, " UNK", "UNX", 900, (1, 2, 3), element="", record="HETATM")), "warning", "1 atoms of unknown element removed"),
    Case("an atom of element X in a ligand", lambda: extra(atom(900, " U1", "LIG", 900, (1, 2, 3), element="X", record="HETATM")), "warning", "1 atoms of unknown element removed"),
    Case("mmCIF without auth_seq_id", lambda: cif_of("label_seq_id"), "taken", note="numbered by label_seq_id"),
    Case("mmCIF whose auth_seq_id is all unknown", lambda: cif_of("label_seq_id", auth_seq_id="=blank"), "taken"),
    Case("mmCIF with neither auth_seq_id nor label_seq_id", lambda: cif_of(), "taken", note="numbered as they follow"),
    Case("mmCIF with auth_seq_id", lambda: cif_of("label_seq_id", "auth_seq_id"), "taken"),
    Case("an NMR ensemble", lambda: models(PLAIN, chain(shift=0.7), chain(shift=-0.6)), "warning", "3 models: the first was kept"),
    Case("a biological assembly in several models", lambda: models(PLAIN, chain(shift=40)), "warning", "2 models that lie beside one another, an assembly: all were kept"),
    Case("models that lie on one another in part", lambda: models(PLAIN, chain(count=8) + chain("B", 50, 52)), "refused", "`assembly`"),
    Case("residues that all have one number", lambda: "".join(line[:22] + "   1" + line[26:] for line in PLAIN.splitlines(keepends=True)), "refused", "atoms are named as another of their residue"),
    Case("a remark in Latin-1", lambda: b"REMARK   1 AUTH   M.M\xfcller\n" + PLAIN.encode(), "taken"),
    Case("a byte-order mark", lambda: b"\xef\xbb\xbf" + PLAIN.encode(), "taken"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_of_a_structure(tmp_path, case):
    content = case.make()
    path = tmp_path / "x.pdb"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            read_structure(path)
        assert case.words in str(refusal.value)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)
        return
    structure = read_structure(path)
    assert set(structure.element.tolist()) == {6, 7}
    said = "; ".join(structure.notes)
    assert case.words in said
    copies = 2 if "assembly" in case.what else 1
    lost = int(said.split()[0]) if "coordinates removed" in said else 0
    assert len(structure.element) == copies * 3 * COUNT - lost
    assert structure.residue.max() + 1 == copies * COUNT - (lost == 3)
    assert (np.linalg.norm(structure.position_angstrom, axis=1) < 200).all()
    if case.outcome == "taken" and "elements" not in case.what:
        assert not said


def test_iron_of_haem_without_an_element_is_iron(tmp_path):
    haem = [
        atom(900 + n, name, "HEM", 900, (n, 90, 0), element="X", record="HETATM")
        for n, name in enumerate(("FE", " CHA", " NA"))
    ]
    (tmp_path / "x.pdb").write_text(extra(*haem))
    assert read_structure(tmp_path / "x.pdb").element[-3:].tolist() == [26, 6, 7]


def test_coordinates_in_nanometres_are_refused(tmp_path):
    structure = gemmi.read_pdb_string(PLAIN)
    for found in structure[0].all():
        found.atom.pos = gemmi.Position(*(0.1 * np.array(found.atom.pos.tolist())))
    (tmp_path / "x.pdb").write_text(structure.make_pdb_string())
    with pytest.raises(BadInput, match="are the coordinates in nanometres"):
        check_molecule(tmp_path / "x.pdb")


def test_a_trace_of_ca_alone_is_no_molecule(tmp_path):
    (tmp_path / "x.pdb").write_text("".join(line for line in PLAIN.splitlines(keepends=True) if " CA " in line))
    with pytest.raises(BadInput, match="one atom a residue in most of 60 residues, a trace"):
        check_molecule(tmp_path / "x.pdb")


def test_the_copies_of_an_assembly_in_models_have_chains_of_their_own(tmp_path):
    (tmp_path / "x.pdb").write_text(models(PLAIN, chain(shift=40), chain(shift=-40)))
    structure = read_structure(tmp_path / "x.pdb")
    assert sorted(set(structure.chain.tolist())) == ["A", "A2", "A3"]
    single = (tmp_path / "one.pdb").write_text(PLAIN) and read_structure(tmp_path / "one.pdb")
    assert structure.mass_dalton == pytest.approx(3 * single.mass_dalton)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["auth_seq_id", "label_seq_id", "label_alt_id", "auth_asym_id"]), unique=True))
def test_mass_and_residues_do_not_hang_on_columns_that_are_not_needed(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("any") / "x.cif"
    path.write_text(
        as_cif({name: name for name in dict.fromkeys((*[n for n in LABELS if n != "label_alt_id"], *names, *PLACE))})
    )
    structure = read_structure(path)
    assert structure.residue.max() + 1 == COUNT
    assert len(structure.nodes) == COUNT
    assert gemmi.cif.read(str(path)).sole_block().find_values("_atom_site.id")[0] == "1"
