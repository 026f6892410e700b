import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_table, replacing, write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_json
from template_learning.common.tables import ParticleRow


@pytest.mark.parametrize(
    "text", ["a b", "a'b", 'a"b', "$(touch x)", "../up", "a/b", "", ".hidden", "a..b", "x" * 65, "ä", "a\n"]
)
def test_ids_that_could_do_harm_are_refused(text):
    with pytest.raises(BadInput):
        checked_id(text)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True))
def test_plain_ids_pass(text):
    assert checked_id(text) == text


def test_nothing_half_written_is_left(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")

    def fail_half_way():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o007])
def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_table(tmp_path / "t.csv", ParticleRow, [])
        write_mrc(tmp_path / "v.mrc", np.zeros((4, 4, 4), dtype=np.float32), 8.0)
        write_json(tmp_path / "new/a.json", {})
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 3
    assert {path.stat().st_mode & 0o777 for path in written} == {0o666 & ~umask}


def test_table_survives_the_round_trip(tmp_path):
    rows = [
        ParticleRow(particle=1, species="a", x_angstrom=1.25, y_angstrom=-2.0, z_angstrom=1e4, rot_deg=10.5),
        ParticleRow(particle=2, x_angstrom=0, y_angstrom=0, z_angstrom=0.00012),
    ]
    write_table(tmp_path / "t.csv", ParticleRow, rows)
    assert read_table(tmp_path / "t.csv", ParticleRow) == rows


def test_a_wrong_cell_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("particle,x_angstrom,y_angstrom,z_angstrom\n1,2,3,4\n2,far,3,4\n")
    with pytest.raises(BadInput, match=r"line 3, column 'x_angstrom'"):
        read_table(path, ParticleRow)
