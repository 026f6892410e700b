"""BinaryCIF: every encoding is undone."""

from pathlib import Path

import msgpack
import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.structures.binarycif import decoded, is_binary_cif, read_binary_cif
from template_learning.structures.structure import read_structure

DATA = Path(__file__).parents[2] / "data"


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
    content = msgpack.packb({"version": "0.3.0", "encoder": "test", "dataBlocks": [{"header": "X", "categories": [category]}]})
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
    whole = msgpack.packb({"version": "0.3.0", "encoder": "test", "dataBlocks": [{"header": "X", "categories": []}]})
    for content in (whole, whole[:40]):
        (tmp_path / "x.bcif").write_bytes(content)
        with pytest.raises(BadInput, match="not a structure file"):
            read_structure(tmp_path / "x.bcif")
