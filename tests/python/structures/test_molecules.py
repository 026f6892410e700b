import io
import json
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.tables import Reading
from template_learning.structures import molecules as templates
from template_learning.structures.binarycif import decoded, is_binary_cif, read_binary_cif
from template_learning.structures.distractors import choose_distractors, description_of, unlikeness
from template_learning.structures.molecules import check_molecule, prepare_molecule, read_molecule
from template_learning.structures.structure import read_structure

DATA = Path(__file__).parents[2] / "data"


def packed(value):
    """MessagePack, as far as BinaryCIF needs it."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack("b", value) if -32 <= value < 128 else b"\xd2" + struct.pack(">i", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xda" + struct.pack(">H", len(text))) + text
    if isinstance(value, bytes):
        return b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(packed, value))
    head = bytes([0x80 | len(value)])
    return head + b"".join(packed(key) + packed(item) for key, item in value.items())


def integers(values, width=4):
    data = np.array(values, dtype=f"<i{width}").tobytes()
    return {"data": data, "encoding": [{"kind": "ByteArray", "type": {1: 1, 2: 2, 4: 3}[width]}]}


@pytest.mark.parametrize(
    ("values", "encodings", "expected"),
    [
        (np.array([150, -250], "<i4"), [{"kind": "FixedPoint", "factor": 100}], [1.5, -2.5]),
        (np.array([0, 5, 10], "<i4"), [{"kind": "IntervalQuantization", "min": 1, "max": 2, "numSteps": 11}], [1, 1.5, 2]),
        (np.array([7, 3, 9, 1], "<i4"), [{"kind": "RunLength", "srcSize": 4}], [7, 7, 7, 9]),
        (np.array([0, 3, 2, 1], "<i4"), [{"kind": "Delta", "origin": 1000}], [1000, 1003, 1005, 1006]),
        (np.array([1, 127, 41, 0, -128, -3], "<i1"), [{"kind": "IntegerPacking", "byteCount": 1, "isUnsigned": False}], [1, 168, 0, -131]),
        (np.array([255, 255, 4, 9], "<u1"), [{"kind": "IntegerPacking", "byteCount": 1, "isUnsigned": True}], [514, 9]),
    ],
)  # fmt: skip
def test_each_encoding_is_undone(values, encodings, expected):
    byte_array = {"kind": "ByteArray", "type": {"i1": 1, "u1": 4, "i4": 3}[values.dtype.str[1:]]}
    np.testing.assert_allclose(decoded(values.tobytes(), [*encodings, byte_array]), expected)


def test_encodings_are_undone_one_after_the_other_and_strings_looked_up():
    # 1, 1, 2, 3 as a run-length code of differences.
    data = np.array([1, 1, 0, 1, 1, 2], "<i4").tobytes()
    chain = [{"kind": "Delta", "origin": 0}, {"kind": "RunLength", "srcSize": 4}, {"kind": "ByteArray", "type": 3}]
    assert decoded(data, chain).tolist() == [1, 1, 2, 3]
    strings = {
        "kind": "StringArray",
        "stringData": "CACBO5'",
        "offsets": np.array([0, 2, 4, 7], "<i4").tobytes(),
        "offsetEncoding": [{"kind": "ByteArray", "type": 3}],
        "dataEncoding": [{"kind": "ByteArray", "type": 3}],
    }
    assert decoded(np.array([2, 0, -1, 1], "<i4").tobytes(), [strings]).tolist() == ["O5'", "CA", "", "CB"]
    with pytest.raises(ValueError, match="unknown encoding"):
        decoded(b"", [{"kind": "Zip"}])


def test_masked_cells_are_dots_and_question_marks():
    column = {"name": "id", "data": integers([5, 6, 7]), "mask": integers([0, 1, 2], 1)}
    category = {"name": "_struct_asym", "rowCount": 3, "columns": [column]}
    content = packed({"version": "0.3.0", "encoder": "test", "dataBlocks": [{"header": "X", "categories": [category]}]})
    assert is_binary_cif(content)
    assert list(read_binary_cif(content).sole_block().find_values("_struct_asym.id")) == ["5", ".", "?"]


def test_a_pdb_entry_in_binary_cif():
    structure = read_structure(DATA / "1aki.bcif.gz")
    # Entry 1AKI of the Protein Data Bank (CC0), hen egg-white lysozyme: 129 residues, 1001 atoms and 78 waters.
    assert len(structure.element) == 1001
    assert structure.residue[-1] + 1 == 129
    assert structure.name == "1aki"
    assert structure.residue_name[0] == "LYS"
    place = structure.position_angstrom + structure.origin_angstrom
    np.testing.assert_allclose(place[0], [35.365, 22.342, -11.980], atol=1e-3)
    assert structure.notes == ("78 atoms of water removed",)


def test_broken_binary_cif_is_refused(tmp_path):
    whole = packed({"version": "0.3.0", "encoder": "test", "dataBlocks": [{"header": "X", "categories": []}]})
    for content in (whole, whole[:40]):
        (tmp_path / "x.bcif").write_bytes(content)
        with pytest.raises(BadInput, match="not a structure file"):
            read_structure(tmp_path / "x.bcif")


ASSEMBLY = """data_X
_pdbx_struct_assembly.id 1
_pdbx_struct_assembly.details author_defined_assembly
_pdbx_struct_assembly.method_details ?
_pdbx_struct_assembly.oligomeric_details dimeric
_pdbx_struct_assembly.oligomeric_count 2
_pdbx_struct_assembly_gen.assembly_id 1
_pdbx_struct_assembly_gen.oper_expression 1,2
_pdbx_struct_assembly_gen.asym_id_list A
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.type
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.vector[3]
1 "identity operation" 1 0 0 0 1 0 0 0 1 0 0 0
2 "point symmetry operation" -1 0 0 0 -1 0 0 0 1 30 0 0
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.auth_asym_id
_atom_site.auth_seq_id
ATOM 1 C CA . GLY A 1 1 2 3 A 1
ATOM 2 C CA . GLY A 2 4 2 3 A 2
"""


def test_an_assembly_is_built(tmp_path):
    (tmp_path / "x.cif").write_text(ASSEMBLY)
    structure = read_structure(tmp_path / "x.cif", assembly="1")
    place = structure.position_angstrom + structure.origin_angstrom
    np.testing.assert_allclose(place, [[1, 2, 3], [4, 2, 3], [29, -2, 3], [26, -2, 3]], atol=1e-6)
    assert len(set(structure.chain)) == 2
    assert structure.notes == ("assembly 1: 2 chains",)
    with pytest.raises(BadInput, match="describes 1"):
        read_structure(tmp_path / "x.cif", assembly="2")
    written = prepare_molecule(str(tmp_path / "x.cif"), "dimer", tmp_path / "out", Reading(assembly="1"))
    assert len(read_structure(written).element) == 4
    assert json.loads((tmp_path / "out" / "dimer.cif.gz.json").read_text())["atoms"] == 4


def test_what_is_checked_is_what_is_read(tmp_path):
    (tmp_path / "x.cif").write_text(ASSEMBLY)
    for reading, atoms, distance in ((None, 2, 3.0), (Reading(assembly="1"), 4, np.hypot(28, 4))):
        assert len(read_molecule(tmp_path / "x.cif", reading).element) == atoms
        checked = check_molecule(tmp_path / "x.cif", reading)
        assert checked.nodes == atoms
        assert checked.diameter_angstrom == pytest.approx(distance, rel=1e-6)
    for wrong in (Reading(threshold=0.0), Reading(mass_dalton=1e5), Reading(resolution_angstrom=9), Reading(assembly="7")):
        for look in (check_molecule, read_molecule):
            with pytest.raises(BadInput, match=r"for density maps|no assembly '7'"):
                look(tmp_path / "x.cif", wrong)


def test_a_pdb_id_is_fetched_once(tmp_path, monkeypatch):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return io.BytesIO(ASSEMBLY.encode())

    monkeypatch.setattr(templates.urllib.request, "urlopen", answer)
    for source in ("1ABC", "pdb:1abc"):
        written = prepare_molecule(source, "mine", tmp_path)
    assert len(asked) == 1
    assert asked[0].endswith("/1abc.cif.gz")
    assert len(read_structure(written).element) == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (urllib.error.URLError("Name or service not known"), "cannot be reached"),
        (urllib.error.HTTPError("x", 404, "Not Found", None, None), "answers 404"),
        (TimeoutError("timed out"), "cannot be reached"),
    ],
)
def test_no_network_is_one_clear_line(tmp_path, monkeypatch, failure, said):
    def fail(address, timeout):
        raise failure

    monkeypatch.setattr(templates.urllib.request, "urlopen", fail)
    with pytest.raises(BadInput, match=said) as refusal:
        prepare_molecule("1abc", "mine", tmp_path)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        prepare_molecule(str(tmp_path / "nothing.cif"), "mine", tmp_path)
    (tmp_path / "x.cif").write_text(ASSEMBLY)
    with pytest.raises(BadInput, match="for density maps"):
        prepare_molecule(str(tmp_path / "x.cif"), "mine", tmp_path, Reading(threshold=1.0))


def model(position):
    lines = (
        f"ATOM  {i + 1:>5}  CA  GLY A{i + 1:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"
        for i, (x, y, z) in enumerate(position)
    )
    return "".join(lines)


def test_distractors_differ_and_are_in_the_range(tmp_path):
    generator = np.random.default_rng(0)
    ball, rod = generator.normal(size=(900, 3)) * 12, generator.normal(size=(900, 3)) * [40, 4, 4]
    shapes = {
        "ball": ball,
        "ball_turned": ball[:, [1, 2, 0]] + 0.05 * generator.normal(size=ball.shape),
        "rod": rod,
        "plate": generator.normal(size=(900, 3)) * [20, 20, 3],
        "small": ball[:100],
        "huge": generator.normal(size=(5000, 3)) * 30,
    }
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    for name, position in shapes.items():
        (folder / f"{name}.pdb").write_text(model(position))
    table = tmp_path / "out" / "set.csv"
    rows = choose_distractors(tmp_path / "in", table, count=9, least_kilodalton=5, most_kilodalton=20, least_unlikeness=0.05)
    names = {row.id for row in rows}
    assert {"rod", "plate"} < names
    assert len(names & {"ball", "ball_turned"}) == 1
    assert len(rows) == 3
    assert all((table.parent / row.path).is_file() for row in rows)
    assert [row.share for row in rows] == [1, 1, 1]
    # What is like a template is left out; shares of equal mass.
    rows = choose_distractors(
        tmp_path / "in", table, count=9, least_kilodalton=1, most_kilodalton=20, least_unlikeness=0.05,
        templates=[folder / "ball.pdb"], share="mass",
    )  # fmt: skip
    assert {row.id for row in rows} == {"rod", "plate", "small"}
    masses = {row.id: read_structure(folder / f"{row.id}.pdb").mass_dalton for row in rows}
    assert len({round(row.share * masses[row.id], 6) for row in rows}) == 1
    with pytest.raises(BadInput, match="none of 6 structures"):
        choose_distractors(tmp_path / "in", table, count=3, least_kilodalton=900)


def test_descriptions_do_not_change_when_turned(tmp_path):
    generator = np.random.default_rng(1)
    place = generator.normal(size=(500, 3)) * [30, 10, 10]
    turned, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    for name, position in (("a", place), ("b", place @ turned), ("c", place * 1.3)):
        (tmp_path / f"{name}.pdb").write_text(model(position))
    a, b, c = (description_of(read_structure(tmp_path / f"{name}.pdb")) for name in "abc")
    assert unlikeness(a, b) < 1e-4
    assert unlikeness(a, c) == pytest.approx(np.log(1.3) / np.sqrt(2), rel=0.05)
