"""One reader for MRC files: every header that was met, written by means of its own (struct), and what comes of it."""

import bz2
import contextlib
import gzip
import lzma
import struct

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.common.log import listening
from template_learning.common.mrc import read_mask, read_mrc, read_tomogram, write_mrc

from ..cases import Case

TRUTH = np.random.default_rng(4).integers(-100, 100, (6, 8, 10)).astype(np.float32)
KINDS = {0: "b", 1: "h", 2: "f", 6: "H", 12: "e"}
STAMP = struct.pack("<ii", 1146047817, 0)


def mrc_bytes(data=TRUTH, *, mode=2, order="<", voxel=(8.0, 8.0, 8.0), kind=None, extended=b"", **changes):
    """An MRC file of ``data`` [z, y, x], word for word; ``changes`` set words: a name or an offset -> bytes or numbers."""
    nz, ny, nx = data.shape
    head = bytearray(1024)
    struct.pack_into(order + "10i", head, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, nz)
    struct.pack_into(order + "6f", head, 40, nx * voxel[0], ny * voxel[1], nz * voxel[2], 90, 90, 90)
    struct.pack_into(order + "3i", head, 64, 1, 2, 3)
    struct.pack_into(order + "3f", head, 76, 0, -1, -2)  # statistics not known, as the format marks them
    struct.pack_into(order + "2i", head, 88, 1, len(extended))
    head[208:212] = b"MAP "
    head[212:216] = b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"
    places = {"mode": 12, "sampling": 28, "cell": 40, "angles": 52, "axes": 64, "stats": 76, "ispg": 88, "nsymbt": 92,
              "imod": 152, "map": 208, "stamp": 212, "count": 0}  # fmt: skip
    for name, value in changes.items():
        if isinstance(value, bytes):
            head[places[name] : places[name] + len(value)] = value
        else:
            values = value if isinstance(value, tuple) else (value,)
            letter = "f" if name in ("cell", "angles", "stats") else "i"
            struct.pack_into(f"{order}{len(values)}{letter}", head, places[name], *values)
    kind = kind or KINDS.get(mode, "f")
    return bytes(head) + extended + data.astype(np.dtype(kind).newbyteorder(order)).tobytes()


def unsigned(**changes):
    return mrc_bytes(TRUTH + 120, mode=0, kind="B", **changes)


def turned(axes):
    """The truth as a file whose columns, rows and sections are ``axes`` (1 x, 2 y, 3 z)."""
    back = np.transpose(TRUTH, [3 - axis for axis in axes[::-1]])
    return mrc_bytes(back, axes=axes, sampling=TRUTH.shape[::-1], cell=tuple(8.0 * n for n in TRUTH.shape[::-1]))


def with_nan(value):
    data = TRUTH.copy()
    data[1, 2, 3:5] = value
    return mrc_bytes(data)


WRAPPED = np.random.default_rng(5).normal(128, 20, (6, 40, 40)).clip(0, 255)
CUBE = np.random.default_rng(6).standard_normal((20, 20, 20)).astype(np.float32)

# What each gives: the truth (for `taken` and `warning`), at 8 Å a voxel.
CASES = [
    Case("mode 0, signed bytes", lambda: mrc_bytes(mode=0), "taken"),
    Case("mode 1, 16-bit integers", lambda: mrc_bytes(mode=1), "taken"),
    Case("mode 2, 32-bit floats", lambda: mrc_bytes(), "taken"),
    Case("mode 6, unsigned 16-bit integers", lambda: mrc_bytes(TRUTH + 120, mode=6), "taken"),
    Case("mode 12, 16-bit floats", lambda: mrc_bytes(mode=12), "taken", note="worked on as 32-bit floats"),
    Case("mode 0 with IMOD's stamp: unsigned bytes", lambda: unsigned(imod=STAMP), "taken"),
    Case("mode 0 with IMOD's stamp and flag of signed bytes", lambda: mrc_bytes(mode=0, imod=(1146047817, 1)), "taken"),
    Case("mode 0 unmarked, statistics beyond 127", lambda: unsigned(stats=(20.0, 219.0, 119.0)), "warning", "read as unsigned"),
    Case(
        "mode 0 unmarked, grey values that run on from 127 to -128",
        lambda: mrc_bytes(WRAPPED, mode=0, kind="B"),
        "refused",
        "as unsigned ones do that nothing marks",
        "`newstack -mode 1`",
    ),
    Case("mode 0 with IMOD's flag of 4-bit values", lambda: mrc_bytes(mode=0, imod=(1146047817, 17)), "refused", "4-bit integers packed"),
    Case("mode 101, 4-bit integers", lambda: mrc_bytes(mode=101, kind="b"), "refused", "mode 101, 4-bit integers"),
    Case("mode 3, complex integers", lambda: mrc_bytes(mode=3), "refused", "complex integers, a Fourier transform"),
    Case("mode 4, complex numbers", lambda: mrc_bytes(mode=4, kind="F"), "refused", "complex numbers, a Fourier transform"),
    Case("mode 16, colours", lambda: mrc_bytes(mode=16), "refused", "colours"),
    Case("a mode that MRC has not", lambda: mrc_bytes(mode=7), "refused", "mode 7, which is none of MRC's"),
    Case("mode 1 with statistics beyond 32767", lambda: mrc_bytes(TRUTH + 40000, mode=1, kind="H", stats=(39900.0, 40099.0, 40000.0)), "warning", "mode 1 read as unsigned"),
    Case("mode 6 with statistics below 0", lambda: mrc_bytes(mode=6, kind="h", stats=(-100.0, 99.0, 0.0)), "warning", "mode 6 read as signed"),
    Case("mode 6 with values at both ends of the range alone", lambda: mrc_bytes(mode=6, kind="h"), "refused", "as signed ones do that are read as unsigned"),
    Case("floats whose byte order is not the header's", lambda: mrc_bytes()[:1024] + TRUTH.astype(">f4").tobytes(), "refused", "byte order"),
    Case("big-endian", lambda: mrc_bytes(order=">"), "taken"),
    Case("big-endian 16-bit integers", lambda: mrc_bytes(mode=1, order=">"), "taken"),
    Case("a machine stamp of zeros", lambda: mrc_bytes(stamp=bytes(4)), "warning", "read as little-endian, which the file's size proves"),
    Case("big-endian with the stamp of little-endian", lambda: mrc_bytes(order=">", stamp=b"\x44\x44\0\0"), "warning", "read as big-endian"),
    Case("little-endian with the stamp of big-endian", lambda: mrc_bytes(stamp=b"\x11\x11\0\0"), "warning", "read as little-endian"),
    Case("a stamp of 44 41", lambda: mrc_bytes(stamp=b"\x44\x41\0\0"), "taken"),
    Case("no `MAP`", lambda: mrc_bytes(map=bytes(4)), "warning", "no 'MAP' in its header"),
    Case("neither `MAP` nor machine stamp", lambda: mrc_bytes(map=bytes(4), stamp=bytes(4)), "warning", "no 'MAP' in its header"),
    Case("neither, and cut short", lambda: mrc_bytes(map=bytes(4), stamp=bytes(4))[:-8], "refused", "8 bytes are missing"),
    Case("an extended header", lambda: mrc_bytes(extended=b"\1" * 320), "taken"),
    Case("an extended header that is not there", lambda: mrc_bytes(nsymbt=4096), "warning", "nsymbt = 4096"),
    Case("a negative length of extended header", lambda: mrc_bytes(nsymbt=-8), "warning", "nsymbt = -8"),
    Case("an extended header that is not counted", lambda: mrc_bytes(extended=b"\1" * 320, nsymbt=0), "refused", "320 bytes more than"),
    Case("voxels cut short", lambda: mrc_bytes()[:-40], "refused", "40 bytes are missing"),
    Case("zeros after the voxels", lambda: mrc_bytes() + bytes(512), "warning", "512 zeros after the voxels"),
    Case("half a header", lambda: mrc_bytes()[:600], "refused", "not a whole MRC file"),
    Case("a text file", lambda: b"no MRC file at all\n" * 100, "refused", "not an MRC file"),
    Case("an HDF5, TIFF, NumPy, zip file", lambda: b"\x89HDF\r\n\x1a\n" + bytes(2000), "refused", "an HDF5 file"),
    Case("a pointer of Git LFS", lambda: b"version https://git-lfs.github.com/spec/v1\n" + b" " * 2000, "refused", "Git LFS"),
    Case("a web page under the file's name", lambda: b"<!DOCTYPE html>" + b" " * 2000, "refused", "a web page"),
    Case("gzip", lambda: gzip.compress(mrc_bytes()), "taken", note="told by the content, whatever the name"),
    Case("bzip2", lambda: bz2.compress(mrc_bytes()), "taken"),
    Case("xz", lambda: lzma.compress(mrc_bytes()), "taken"),
    Case("gzip cut short", lambda: gzip.compress(mrc_bytes())[:-30], "refused", "the compressed file is broken or cut short"),
    Case("axes in another order (3, 2, 1)", lambda: turned((3, 2, 1)), "warning", "axes put in order"),
    Case("axes in another order (2, 3, 1)", lambda: turned((2, 3, 1)), "warning", "axes put in order"),
    Case("axes in another order (1, 3, 2)", lambda: turned((1, 3, 2)), "warning", "axes put in order"),
    Case("axes 0, 0, 0", lambda: mrc_bytes(axes=(0, 0, 0)), "warning", "read as x, y and z"),
    Case("axes that are no order (1, 1, 3)", lambda: mrc_bytes(axes=(1, 1, 3)), "refused", "mapc, mapr, maps = 1, 1, 3"),
    Case("voxels that are no cubes (8, 8, 16 Å)", lambda: mrc_bytes(voxel=(8, 8, 16)), "refused", "voxels of 8 x 8 x 16 Å", "`voxel_size_angstrom` overrides"),
    Case("voxels that differ by less than 1 %", lambda: mrc_bytes(voxel=(8, 8.02, 7.99)), "taken"),
    Case("no voxel size (0)", lambda: mrc_bytes(voxel=(0, 0, 0)), "refused", "no voxel size", "`voxel_size_angstrom` overrides"),
    Case("a negative voxel size", lambda: mrc_bytes(voxel=(-8, -8, -8)), "refused", "no voxel size"),
    Case("a voxel size of NaN", lambda: mrc_bytes(voxel=(np.nan,) * 3), "refused", "no voxel size"),
    Case("a voxel size in metres", lambda: mrc_bytes(voxel=(8e-10,) * 3), "refused", "0.05 to 1000 Å were expected"),
    Case("no voxel size along z alone", lambda: mrc_bytes(voxel=(8, 8, 0)), "warning", "no voxel size along z"),
    Case("`mx`, `my`, `mz` = 0, a cell of the whole box", lambda: mrc_bytes(sampling=(0, 0, 0)), "warning", "the one likely reading"),
    Case("`mx`, `my`, `mz` = 1, a cell of the whole box", lambda: mrc_bytes(sampling=(1, 1, 1)), "warning", "the one likely reading"),
    Case("`mx`, `my`, `mz` = 1, a cell of one voxel", lambda: mrc_bytes(sampling=(1, 1, 1), cell=(8.0, 8.0, 8.0)), "warning", "the one likely"),
    Case(
        "`mx`, `my`, `mz` = 1, a cell of either",
        lambda: mrc_bytes(CUBE, sampling=(1, 1, 1), cell=(40.0, 40.0, 40.0)),
        "refused",
        "the voxel size cannot be known",
        "`voxel_size_angstrom` overrides",
    ),
    Case("`mz` = 1 in a volume", lambda: mrc_bytes(sampling=(10, 8, 1)), "warning", "read as mz = 6"),
    Case("`mx`, `my`, `mz` of a larger cell", lambda: mrc_bytes(sampling=(20, 16, 12), cell=(160.0, 128.0, 96.0)), "warning", "as of a part of that cell"),
    Case("a cell with angles other than 90 degrees", lambda: mrc_bytes(angles=(90.0, 90.0, 120.0)), "refused", "cell angles"),
    Case("an image stack (`ispg` 0)", lambda: mrc_bytes(ispg=0), "taken"),
    Case("an image stack (`ispg` 0, `mz` 1) where a volume is wanted", lambda: mrc_bytes(ispg=0, sampling=(10, 8, 1), cell=(80.0, 64.0, 8.0)), "warning", "as tilt series are; read as a volume"),
    Case("a stack of volumes with one volume (`ispg` 401)", lambda: mrc_bytes(ispg=401), "taken"),
    Case("a stack of several volumes", lambda: mrc_bytes(ispg=401, sampling=(10, 8, 2)), "refused", "a stack of 3 volumes"),
    Case("a single image", lambda: mrc_bytes(TRUTH[:1], ispg=0), "refused", "2 dimensions"),
    Case("NaN voxels", lambda: with_nan(np.nan), "refused", "2 of 480 voxels are NaN or infinite"),
    Case("infinite voxels", lambda: with_nan(np.inf), "refused", "2 of 480 voxels are NaN or infinite"),
    Case("a number of voxels below 1", lambda: mrc_bytes(count=(-10, 8, 6)), "refused", "not an MRC file"),
    Case("an empty file", lambda: b"", "refused", "empty"),
]  # fmt: skip
MASK_CASES = [
    Case("a mask of 0 and 1", lambda inside: mrc_bytes(inside, mode=0), "taken"),
    Case("a mask of 0 and 255 in bytes, which the format reads as -1", lambda inside: mrc_bytes(inside * 255, mode=0, kind="B"), "taken"),
    Case("a mask of 0 and 255 in IMOD's unsigned bytes", lambda inside: mrc_bytes(inside * 255, mode=0, kind="B", imod=STAMP), "taken"),
    Case("a mask of several labels", lambda inside: mrc_bytes(inside * (1 + np.arange(10) % 3), mode=0), "warning", "3 values above 0"),
    Case("a mask of floats", lambda inside: mrc_bytes(inside * 0.5), "taken", note="above 0 is inside"),
    Case("a mask without a voxel size", lambda inside: mrc_bytes(inside, voxel=(0, 0, 0)), "taken"),
    Case("a mask with a voxel size of 1 Å, which stands for none", lambda inside: mrc_bytes(inside, mode=0, voxel=(1, 1, 1)), "taken"),
    Case("a mask with the voxel size of another binning", lambda inside: mrc_bytes(inside, mode=0, voxel=(16, 16, 16)), "warning", "the tomogram's are 8 Å"),
    Case("an empty mask", lambda inside: mrc_bytes(inside * 0), "refused", "the mask is empty"),
    Case("a mask with everything inside", lambda inside: mrc_bytes(inside * 0 + 1), "warning", "the whole tomogram is inside"),
    Case("a mask with NaN", lambda inside: mrc_bytes(np.where(inside, np.nan, 0)), "refused", "voxels are NaN"),
    Case("a mask with values below 0", lambda inside: mrc_bytes(inside * 2.0 - 1), "refused", "below 0"),
    Case("a mask of another shape", lambda inside: mrc_bytes(inside[1:]), "refused", "the mask's shape"),
]  # fmt: skip


@pytest.fixture
def warned():
    with listening() as heard:
        yield lambda: heard


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_comes_of_a_header(tmp_path, warned, case, memory_map):
    path = tmp_path / "a.mrc"
    path.write_bytes(case.make())
    if case.outcome == "refused":
        if memory_map and any(words in case.words for words in ("NaN", "nothing marks", "as unsigned", "byte order")):
            pytest.skip("voxels are not looked at in a memory map")
        with pytest.raises(BadInput) as refusal:
            read_mrc(path, memory_map=memory_map)
        assert case.words in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
        return
    data, voxel_size = read_mrc(path, memory_map=memory_map)
    added = 40000 if "beyond 32767" in case.what else 120 if "nsigned" in case.what or "beyond 127" in case.what else 0
    expected = TRUTH + added
    np.testing.assert_array_equal(data.astype(np.float64), expected)
    assert data.dtype.isnative
    assert voxel_size == pytest.approx(8.0)
    said = [line for line in warned() if case.words and case.words in line]
    assert bool(said) == (case.outcome == "warning"), warned()
    assert case.outcome == "warning" or not warned()


@pytest.mark.parametrize("case", MASK_CASES, ids=str)
def test_what_comes_of_a_mask(tmp_path, warned, case):
    inside = TRUTH > 30
    path = tmp_path / "mask.mrc"
    path.write_bytes(case.make(inside))
    if case.outcome == "refused":
        with pytest.raises(BadInput) as refusal:
            read_mask(path, Grid(shape=inside.shape, voxel_size_angstrom=8.0))
        assert case.words in str(refusal.value)
        return
    found = read_mask(path, Grid(shape=inside.shape, voxel_size_angstrom=8.0))
    assert bool(warned()) == (case.outcome == "warning")
    np.testing.assert_array_equal(found, np.ones_like(inside) if "everything" in case.what else inside)


def test_a_voxel_size_that_the_user_gives_overrides_the_header(tmp_path):
    for changes in ({"voxel": (8, 8, 16)}, {"voxel": (0, 0, 0)}, {"sampling": (0, 0, 0)}, {"voxel": (np.nan,) * 3}):
        (tmp_path / "a.mrc").write_bytes(mrc_bytes(**changes))
        np.testing.assert_array_equal(read_mrc(tmp_path / "a.mrc", need_voxel_size=False)[0], TRUTH)


def test_a_tilt_series_has_no_length_along_z(tmp_path):
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(voxel=(8, 8, 1), ispg=0))
    assert read_mrc(tmp_path / "a.mrc", stack=True)[1] == pytest.approx(8)
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(voxel=(8, 9, 8), ispg=0))
    with pytest.raises(BadInput, match="8 x 9 Å"):
        read_mrc(tmp_path / "a.mrc", stack=True)
    (tmp_path / "a.mrc").write_bytes(turned((2, 1, 3)))
    with pytest.raises(BadInput, match="a tilt series with 1, 2, 3"):
        read_mrc(tmp_path / "a.mrc", stack=True)


def test_a_constant_tomogram_is_refused(tmp_path):
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(TRUTH * 0 + 3))
    with pytest.raises(BadInput, match="every voxel is 3"):
        read_tomogram(tmp_path / "a.mrc")
    (tmp_path / "a.mrc").write_bytes(mrc_bytes(np.where(np.arange(480).reshape(6, 8, 10) == 17, 5.0, 3.0)))
    with pytest.raises(BadInput, match="all but 1 of 480 voxels are 3"):
        read_tomogram(tmp_path / "a.mrc")


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    mode=st.sampled_from(sorted(KINDS)),
    order=st.sampled_from("<>"),
    extended=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_any_sound_file_reads_as_mrcfile_reads_it(tmp_path_factory, shape, mode, order, extended, seed):
    path = tmp_path_factory.mktemp("any") / "a.mrc"
    data = np.random.default_rng(seed).integers(0, 100, shape)
    path.write_bytes(mrc_bytes(data, mode=mode, order=order, extended=bytes(80 * extended)))
    with mrcfile.open(path) as opened:
        expected, size = np.array(opened.data), float(opened.voxel_size.x)
    found, voxel_size = read_mrc(path)
    np.testing.assert_array_equal(found, expected)
    assert voxel_size == size


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 255), word=st.binary(min_size=4, max_size=4), cut=st.integers(0, 3000))
def test_no_header_ends_in_a_traceback(tmp_path_factory, place, word, cut):
    content = bytearray(mrc_bytes())
    content[4 * place : 4 * place + 4] = word
    path = tmp_path_factory.mktemp("any") / "a.mrc"
    path.write_bytes(bytes(content[: len(content) - cut if cut > 2500 else None]))
    with contextlib.suppress(BadInput):
        data, voxel_size = read_mrc(path)
        assert data.size == TRUTH.size
        assert 0.05 <= voxel_size <= 1000


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


def test_labels_become_int8(tmp_path):
    write_mrc(tmp_path / "labels.mrc", np.full((2, 2, 2), 3, dtype=np.uint8), 8.0)
    with mrcfile.open(tmp_path / "labels.mrc") as opened:
        assert opened.header.mode == 0
