"""Tables as people make them: read, or named with file, row and a guess of the cause."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from template_learning.common.errors import BadInput
from template_learning.common.files import read_rows, read_table
from template_learning.common.log import listening

from ..cases import Case


class Tomogram(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    path: str
    voxel_size_angstrom: float | None = Field(default=None, gt=0)


PLAIN = "id,path,voxel_size_angstrom\na,one.mrc,8.5\nb,zwölf.mrc,\n"
ROWS = [Tomogram(id="a", path="one.mrc", voxel_size_angstrom=8.5), Tomogram(id="b", path="zwölf.mrc")]

CASES = [
    Case("UTF-8", lambda: PLAIN.encode(), "taken"),
    Case("UTF-8 with a byte-order mark", lambda: PLAIN.encode("utf-8-sig"), "taken"),
    Case("UTF-16 with its mark", lambda: PLAIN.encode("utf-16"), "taken"),
    Case("UTF-16 without a mark", lambda: PLAIN.encode("utf-16-le"), "taken"),
    Case("Latin-1", lambda: PLAIN.encode("latin-1"), "warning", "read as Latin-1"),
    Case("Windows' line ends", lambda: PLAIN.replace("\n", "\r\n").encode(), "taken"),
    Case("line ends of old Macintoshes", lambda: PLAIN.replace("\n", "\r").encode(), "taken"),
    Case("no line end after the last row", lambda: PLAIN.rstrip("\n").encode(), "taken"),
    Case("semicolons", lambda: PLAIN.replace(",", ";").encode(), "taken"),
    Case("semicolons and commas that may part thousands", lambda: PLAIN.replace(",", ";").replace("8.5", "8,500").encode(), "warning", "not thousands?"),
    Case("semicolons and decimal commas", lambda: PLAIN.replace(",", ";").replace("8.5", "8,5").encode(), "taken"),
    Case("semicolons, decimal commas and decimal points", lambda: b"id;path;voxel_size_angstrom\na;b;8,5\nb;c;8.5\n", "refused", "one of them was expected"),
    Case("tabs", lambda: PLAIN.replace(",", "\t").encode(), "taken"),
    Case("a spreadsheet's first line `sep=;`", lambda: b"sep=;\n" + PLAIN.replace(",", ";").encode(), "taken"),
    Case("commas and decimal commas", lambda: b"id,path,voxel_size_angstrom\na,b,8,5\n", "refused", "line 2: 4 cells, 3 columns in the header"),
    Case("blanks about names and cells", lambda: PLAIN.replace(",", " , ").encode(), "taken"),
    Case("quoted cells", lambda: PLAIN.replace("one.mrc", '"one.mrc"').encode(), "taken"),
    Case("a quotation mark that is not closed", lambda: PLAIN.replace("one.mrc", '"one.mrc').encode(), "refused", "is a quotation mark not closed?"),
    Case("blank rows and rows of empty cells", lambda: PLAIN.replace("\nb", "\n\n,,\n  \nb").encode(), "taken"),
    Case("remarks that begin with #", lambda: b"# mine\n" + PLAIN.replace("\nb", "\n# more\nb").encode(), "taken"),
    Case("a header marked with # as numpy does", lambda: b"# " + PLAIN.encode(), "taken"),
    Case("a spreadsheet's empty columns", lambda: PLAIN.replace("\n", ",,\n").encode(), "taken"),
    Case("a row cut short", lambda: PLAIN.encode() + b"c,d\n", "refused", "line 4: 2 cells, 3 columns in the header"),
    Case("cells beyond the header", lambda: b"id,path\na,one.mrc,8.5\n", "refused", "a column without a name for '8.5'"),
    Case("a column without a name", lambda: b"id,path,\na,one.mrc,8.5\n", "refused", "column 3 has no name and holds '8.5'"),
    Case("a column twice", lambda: b"id,path,path\na,b,c\n", "refused", "the column 'path' stands there twice"),
    Case("a column that is not known", lambda: b"id,path,voxelsize\na,b,8\n", "refused", "column 'voxelsize'"),
    Case("a column missing", lambda: b"id,voxel_size_angstrom\na,8\n", "refused", "no column 'path' among its header's id, voxel_size_angstrom"),
    Case("no header", lambda: b"1,2,8\n3,4,8\n", "refused", "is the header missing?"),
    Case("a cell that is no number", lambda: PLAIN.replace("8.5", "eight").encode(), "refused", "line 2, column 'voxel_size_angstrom'"),
    Case("an empty file", lambda: b"", "refused", "empty"),
    Case("a file of blanks", lambda: b" \n\n", "refused", "empty, or blank"),
    Case("remarks alone", lambda: b"# a\n# b\n", "refused", "no header and no rows"),
    Case("a spreadsheet's own file (.xlsx)", lambda: b"PK\x03\x04 and so on", "refused", "saved as CSV it can be read"),
    Case("a compressed table", lambda: b"\x1f\x8b\x08 and so on", "refused", "compressed by gzip"),
    Case("a binary file", lambda: bytes(range(256)), "refused", "a binary file"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_of_a_table(tmp_path, case):
    path = tmp_path / "t.csv"
    path.write_bytes(case.make())
    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            read_table(path, Tomogram)
        assert case.words in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
        return
    with listening() as heard:
        assert read_table(path, Tomogram) == ROWS
    said = " ".join(heard)
    assert bool(said) == (case.outcome == "warning")
    assert case.words in said


def test_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("id,path\n")
    assert read_table(tmp_path / "t.csv", Tomogram) == []


def test_a_folder_in_a_tables_place_is_named(tmp_path):
    with pytest.raises(BadInput, match="a folder; a file was expected"):
        read_table(tmp_path, Tomogram)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)] * 2),
        min_size=1,
        max_size=5,
    ),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_program_writes_is_read(tmp_path_factory, rows, delimiter, encoding, ends):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "path"), *((f"x{one}", f"x{other}") for one, other in rows)])
    path.write_bytes(text.getvalue().encode(encoding))
    columns, found = read_rows(path)
    assert columns == ["id", "path"]
    assert [tuple(cells.values()) for _, cells in found] == [(f"x{one}", f"x{other}") for one, other in rows]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text(alphabet=',;"#\n\r\tab1. ', max_size=60).map(str.encode))
def test_no_table_ends_in_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        read_table(path, Tomogram)
