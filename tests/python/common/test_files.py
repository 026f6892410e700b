import gzip

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_mrc, read_table, replacing, write_mrc, write_table
from template_learning.common.tables import ParticleRow


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.mrc"
    write_mrc(path, np.arange(60, dtype=np.float32).reshape(3, 4, 5), 13.0)
    return path


def test_volume_survives_the_round_trip(volume):
    data, voxel_size_angstrom = read_mrc(volume)
    assert voxel_size_angstrom == pytest.approx(13.0)
    np.testing.assert_array_equal(data, np.arange(60).reshape(3, 4, 5))
    with mrcfile.open(volume) as opened:
        assert float(opened.header.dmean) == pytest.approx(29.5)
        assert float(opened.header.dmax) == 59
        assert opened.is_volume()
    mapped, _ = read_mrc(volume, memory_map=True)
    np.testing.assert_array_equal(mapped, data)


def test_compressed_volume_is_read(volume, tmp_path):
    packed = tmp_path / "volume.mrc.gz"
    packed.write_bytes(gzip.compress(volume.read_bytes()))
    np.testing.assert_array_equal(read_mrc(packed)[0], read_mrc(volume)[0])


def test_labels_become_int8(tmp_path):
    write_mrc(tmp_path / "labels.mrc", np.full((2, 2, 2), 3, dtype=np.uint8), 8.0)
    with mrcfile.open(tmp_path / "labels.mrc") as opened:
        assert opened.header.mode == 0


def broken(path, how):
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "text":
        path.write_text("no MRC file at all\n" * 100)
    elif how == "no voxel size":
        with mrcfile.open(path, mode="r+") as opened:
            opened.voxel_size = 0
    elif how == "NaN":
        with mrcfile.open(path, mode="r+") as opened:
            opened.data[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("truncated", "not a whole MRC file"),
        ("text", "not a whole MRC file"),
        ("no voxel size", "no voxel size"),
        ("NaN", "NaN"),
    ],
)
def test_broken_volumes_are_named(volume, how, words):
    broken(volume, how)
    with pytest.raises(BadInput, match=words) as caught:
        read_mrc(volume)
    assert str(volume) in str(caught.value)


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
