"""MRC volumes and tilt series in and out: one reader for tomograms, tilt series, maps and masks alike.

What a header may say, and what comes of it (docs/reference/inputs.md has every case, from the tests' own table):

* **honoured**: either byte order, modes 0, 1, 2, 6 and 12, IMOD's unsigned bytes, extended headers, the order of axes;
* **read with a warning**, where the file's size proves how its bytes lie: a wrong machine stamp, no ``MAP``, an extended
  header that is not there, zeros after the voxels; where the numbers leave one meaning: ``mx``, ``my``, ``mz`` of 0 or 1;
* **refused**: complex, 4-bit and RGB voxels, truncated files, voxels that are no cubes, a voxel size that is not told, NaN.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import existing, replacing
from template_learning.common.geometry import Grid
from template_learning.common.log import tell

ByteOrder = Literal["<", ">"]

HEADER_BYTES = 1024
VOXEL_SIZE_DIFFERENCE = 0.05
"""Of a mask's header from its tomogram's; smaller ones are calibrations."""
FIELDS: Mapping[str, tuple[str, int]] = {
    "count": ("(3,)i4", 0),
    "mode": ("i4", 12),
    "sampling": ("(3,)i4", 28),
    "cell": ("(3,)f4", 40),
    "angles": ("(3,)f4", 52),
    "axes": ("(3,)i4", 64),
    "statistics": ("(3,)f4", 76),
    "space_group": ("i4", 88),
    "extended_bytes": ("i4", 92),
    "imod_stamp": ("i4", 152),
    "imod_flags": ("i4", 156),
}
"""Names, types and places of the words of the header that are looked at (MRC2014; IMOD's are among its "extra" words)."""
MODES: Mapping[int, str] = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
REFUSED_MODES: Mapping[int, str] = {
    3: "complex integers, a Fourier transform",
    4: "complex numbers, a Fourier transform",
    16: "colours (RGB)",
    101: "4-bit integers",
}
IMOD_STAMP = 1146047817
IMOD_SIGNED_BYTES, IMOD_PACKED_NIBBLES = 1, 16
"""Bits of IMOD's flags, which count where its stamp is there: bytes are unsigned unless the first is set."""
MOST_VOXELS_ALONG_AN_AXIS = 1_000_000
LEAST_VOXEL_ANGSTROM, MOST_VOXEL_ANGSTROM = 0.05, 1000.0
"""No micrograph or tomogram has voxels beyond these; a header that says so is in other units, or wrong."""
LEAST_LIKELY_ANGSTROM, MOST_LIKELY_ANGSTROM = 0.3, 100.0
"""The narrower range that decides between two readings of a cell without its sampling."""
LEAST_VARIED = 0.01
"""The share of a tomogram's voxels that have another grey value than most, at least."""
CUBE_TOLERANCE = 0.01
LEAST_GREY, MOST_GREY = 1e-30, 1e25
"""No volume's highest grey value lies beyond; that of floats in the wrong byte order does."""
FOREIGN: Mapping[bytes, str] = {
    b"\x89HDF": "an HDF5 file",
    b"II*\x00": "a TIFF file",
    b"MM\x00*": "a TIFF file",
    b"II+\x00": "a TIFF file",
    b"\x93NUMPY": "a NumPy file",
    b"PK\x03\x04": "a zip file",
    b"\x89PNG": "a PNG image",
    b"IMOD": "an IMOD model",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; gzip or bzip2 is read",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


def read_mrc(
    path: Path, *, memory_map: bool = False, need_voxel_size: bool = True, stack: bool = False
) -> tuple[NDArray[Any], float]:
    """A volume or tilt series, and its voxel size.

    The axes are put in the header's order (mapc, mapr, maps).  float16 becomes float32.

    Parameters
    ----------
    path : Path
        MRC; compressed files (gzip, bzip2, xz; told by the content) and those of the other byte order are read whole.
    memory_map : bool, optional
        Keep other files on the disk.
    need_voxel_size : bool, optional
        Without it whatever the header says of the voxel size is let pass, and 0 is given where it says nothing.
    stack : bool, optional
        A tilt series: its z is no length.

    Returns
    -------
    data : (z, y, x) array
        Or (tilt, y, x).
    voxel_size_angstrom : float
        Å.

    Raises
    ------
    BadInput
        A missing, empty, truncated or foreign file, what the module's table refuses, or NaN or infinite voxels (not looked
        for in a memory map).
    """
    content = _content(existing(path))
    whole = path.stat().st_size if content is None else len(content)
    if content is None:
        with path.open("rb") as handle:
            head = handle.read(HEADER_BYTES)
    else:
        head = content[:HEADER_BYTES]
    header = _header(path, head, whole)
    if not stack and header.space_group == 0 and header.sampling[2] == 1 and header.count[2] > 1:
        tell(
            f"{path}: by its header (ispg = 0, mz = 1) a stack of {header.count[2]} images, as tilt series are; read as a volume"
        )
    tail = whole - header.voxel_bytes - header.offset
    if tail > 0 and any(_tail(path, content, tail)):
        raise BadInput(
            f"{path}: {tail} bytes more than its header tells ({header.told}); a whole MRC file was expected: "
            f"are they an extended header that nsymbt = {header.extended_bytes} does not count?"
        )
    if tail > 0:
        tell(f"{path}: {tail} zeros after the voxels are left out")
    shape = header.count[::-1]
    if content is not None:
        data: NDArray[Any] = np.frombuffer(content, header.dtype, int(np.prod(shape)), header.offset).reshape(shape)
    elif memory_map:
        data = np.memmap(path, header.dtype, "r", header.offset, shape)
    else:
        data = np.fromfile(path, header.dtype, int(np.prod(shape)), offset=header.offset).reshape(shape)
    if header.mode == 0:
        data = _bytes_read(path, header, data)
    elif header.mode in (1, 6):
        data = _words_read(path, header, data)
    if header.dtype == np.dtype("f2"):
        data = data.astype(np.float32)
    elif not header.dtype.isnative:
        data = data.astype(header.dtype.newbyteorder("="))
    data = _axes_in_order(path, header, data, stack)
    voxel_size = _voxel_size(path, header, stack, need_voxel_size)
    if not memory_map and data.dtype.kind == "f":
        _check_floats(path, data)
    return data, voxel_size


def read_tomogram(path: Path, *, need_voxel_size: bool = True) -> tuple[NDArray[Any], float]:
    """A tomogram as ``read_mrc`` gives it, every voxel looked at; BadInput too where all are the same."""
    data, voxel_size = read_mrc(path, need_voxel_size=need_voxel_size)
    if data.min() == data.max():
        raise BadInput(f"{path}: every voxel is {data.flat[0]:g}; a tomogram was expected")
    middle = np.partition(data.ravel(), data.size // 2)[data.size // 2]
    other = int((data != middle).sum())
    if other < LEAST_VARIED * data.size:
        raise BadInput(f"{path}: all but {other} of {data.size} voxels are {middle:g}; a tomogram was expected")
    return data, voxel_size


def read_mask(path: Path, grid: Grid) -> NDArray[np.bool_]:
    """A mask [z, y, x] of a tomogram on ``grid``: above 0 is inside.  In a mask of bytes -1 is 255, and inside.

    Raises BadInput where the shape is another, values lie below 0, or nothing is inside; warns where everything is, or where
    its header has another voxel size.  Sizes of 0 and 1 Å are what programs write that were not told any.
    """
    data, voxel_size = read_mrc(path, need_voxel_size=False)
    if data.shape != grid.shape:
        raise BadInput(f"{path}: the mask's shape {data.shape} is not the tomogram's {grid.shape} (z, y, x)")
    if voxel_size not in (0.0, 1.0) and abs(voxel_size / grid.voxel_size_angstrom - 1) > VOXEL_SIZE_DIFFERENCE:
        tell(
            f"{path}: voxels of {voxel_size:g} Å by its header, the tomogram's are {grid.voxel_size_angstrom:g} Å; taken voxel by voxel"
        )
    if data.dtype == np.int8:
        data = data.view(np.uint8)
    least, most = float(data.min()), float(data.max())
    if least < -1e-3 * max(abs(most), 1e-30):
        raise BadInput(
            f"{path}: {int((data < 0).sum())} of {data.size} voxels are below 0 (down to {least:g}); "
            "a mask of 0 outside and 1 inside was expected"
        )
    if data.dtype.kind in "iu" and len(labels := np.unique(data[data > 0])) > 1:
        tell(f"{path}: {len(labels)} values above 0 ({int(labels[0])} to {int(labels[-1])}), all of which are inside")
    inside: NDArray[np.bool_] = data > 0
    if not inside.any():
        raise BadInput(f"{path}: the mask is empty, every voxel is 0; some above 0, inside, were expected")
    if inside.all():
        tell(f"{path}: the whole tomogram is inside the mask")
    return inside


def write_mrc(path: Path, data: NDArray[Any], voxel_size_angstrom: float, *, stack: bool = False) -> None:
    """Write an MRC file with voxel size and header statistics, by write-then-rename.

    Parameters
    ----------
    path : Path
        Compressed where it ends in .gz.
    data : (z, y, x) array
        uint8 with values below 128 becomes mode 0 (int8); float64 becomes float32.  [n, z, y, x] is a stack of volumes.
    voxel_size_angstrom : float
        Å.
    stack : bool, optional
        A tilt series (an image stack) instead of a volume.
    """
    if data.dtype == np.uint8:
        data = data.astype(np.int8) if data.max(initial=0) < 128 else data.astype(np.uint16)
    elif data.dtype == np.float64:
        data = data.astype(np.float32)
    compression = "gzip" if path.suffix == ".gz" else None
    with replacing(path) as temporary, mrcfile.new(temporary, compression=compression, overwrite=True) as opened:
        opened.set_data(np.ascontiguousarray(data))
        if stack:
            opened.set_image_stack()
        elif data.ndim == 3:
            opened.set_volume()
        opened.voxel_size = voxel_size_angstrom
        opened.update_header_stats()


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The words of a header that are looked at, and how the file's bytes lie."""

    order: ByteOrder
    """``<`` or ``>``."""
    count: tuple[int, int, int]
    """Columns, rows, sections."""
    mode: int
    sampling: tuple[int, int, int]
    cell: tuple[float, float, float]
    angles: tuple[float, float, float]
    axes: tuple[int, int, int]
    statistics: tuple[float, float, float]
    space_group: int
    extended_bytes: int
    imod_stamp: int
    imod_flags: int
    offset: int = HEADER_BYTES

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(MODES[self.mode]).newbyteorder(self.order)

    @property
    def voxel_bytes(self) -> int:
        columns, rows, sections = self.count
        return columns * rows * sections * self.dtype.itemsize

    @property
    def sensible(self) -> bool:
        """Whether these can be numbers of voxels and a mode at all."""
        return all(0 < one <= MOST_VOXELS_ALONG_AN_AXIS for one in self.count) and 0 <= self.mode < 1000

    @property
    def told(self) -> str:
        return (
            f"{' x '.join(map(str, self.count))} voxels of mode {self.mode}, an extended header of {self.extended_bytes} bytes"
        )


def _content(path: Path) -> bytes | None:
    """The bytes of a compressed file, none for one that is not."""
    with path.open("rb") as handle:
        begin = handle.read(6)
    reader = next(
        (
            r
            for magic, r in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
            if begin.startswith(magic)
        ),
        None,
    )
    if reader is None:
        return None
    try:
        with reader(path, "rb") as packed:
            return bytes(packed.read())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{path}: the compressed file is broken or cut short ({error}); a whole one was expected") from None


def _tail(path: Path, content: bytes | None, count: int) -> bytes:
    if content is not None:
        return content[-count:]
    with path.open("rb") as handle:
        handle.seek(-count, 2)
        return handle.read()


def _header(path: Path, head: bytes, whole: int) -> _Header:
    """The header, in the byte order that its stamp tells or, where the stamp cannot be right, the file's size proves."""
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise BadInput(f"{path}: not an MRC file but {what}; an MRC volume was expected")
    if len(head) < HEADER_BYTES:
        raise BadInput(f"{path}: not a whole MRC file ({whole} bytes, where the header alone has {HEADER_BYTES})")
    stamped = {0x44: "<", 0x11: ">"}.get(head[212])
    orders: tuple[ByteOrder, ByteOrder] = (">", "<") if stamped == ">" else ("<", ">")
    both = [_parsed(head, order) for order in orders]
    sensible = [one for one in both if one.sensible]
    if not sensible:
        raise BadInput(
            f"{path}: not an MRC file (its first words would be {' x '.join(map(str, both[0].count))} voxels "
            f"of mode {both[0].mode})"
        )
    for one in sensible:
        if one.mode in REFUSED_MODES and one is both[0]:
            raise BadInput(
                f"{path}: mode {one.mode}, {REFUSED_MODES[one.mode]}; real grey values in mode 0, 1, 2, 6 or 12 were expected "
                "(`newstack -mode 2` of IMOD converts what is no transform)"
            )
    readable = [one for one in sensible if one.mode in MODES]
    if not readable:
        raise BadInput(f"{path}: mode {sensible[0].mode}, which is none of MRC's; 0, 1, 2, 6 or 12 was expected")
    laid = [(one, offset) for one in readable if (offset := _offset(one, whole)) is not None]
    if not laid:
        one = readable[0]
        missing = HEADER_BYTES + max(one.extended_bytes, 0) + one.voxel_bytes - whole
        raise BadInput(
            f"{path}: not a whole MRC file: {missing} bytes are missing of the {whole + missing} that its header tells "
            f"({one.told}); cut short, or still being copied?"
        )
    header, offset = laid[0]
    exact = offset + header.voxel_bytes == whole
    proof = "" if exact else ", and its size does not prove how its bytes lie: a whole MRC file was expected"
    if header.order != stamped:
        message = f"its machine stamp is {head[212:216].hex(' ')}, where 44 44 or 11 11 was expected"
        if not exact:
            raise BadInput(f"{path}: {message}{proof}")
        words = "little" if header.order == "<" else "big"
        tell(f"{path}: {message}; read as {words}-endian, which the file's size proves")
    if head[208:211] != b"MAP":
        if not exact:
            raise BadInput(f"{path}: no 'MAP' in its header{proof}")
        tell(f"{path}: no 'MAP' in its header (an old or foreign writer); read, as the file's size fits")
    if offset != HEADER_BYTES + header.extended_bytes:
        tell(
            f"{path}: nsymbt = {header.extended_bytes}, but the file's size proves that no extended header is there; read without"
        )
    if header.imod_stamp == IMOD_STAMP and header.imod_flags & IMOD_PACKED_NIBBLES and header.mode == 0:
        raise BadInput(
            f"{path}: 4-bit integers packed in bytes (IMOD's flag); grey values of at least 8 bits were expected "
            "(`newstack -mode 1` of IMOD converts them)"
        )
    if header.space_group >= 401 and 0 < header.sampling[2] < header.count[2]:
        volumes = header.count[2] / header.sampling[2]
        raise BadInput(
            f"{path}: a stack of {volumes:g} volumes (ispg {header.space_group}); one volume or tilt series was expected"
        )
    if header.space_group == 0 and header.count[2] == 1:
        raise BadInput(f"{path}: 2 dimensions, a volume or stack with 3 was expected")
    return replace(header, offset=offset)


def _parsed(head: bytes, order: ByteOrder) -> _Header:
    names = list(FIELDS)
    layout = np.dtype(
        {
            "names": names,
            "formats": [FIELDS[n][0] for n in names],
            "offsets": [FIELDS[n][1] for n in names],
            "itemsize": HEADER_BYTES,
        }
    )
    found = np.frombuffer(head, layout.newbyteorder(order), 1)[0]
    values: dict[str, Any] = {name: tuple(found[name].tolist()) if found[name].ndim else found[name].item() for name in names}
    return _Header(order=order, **values)


def _offset(header: _Header, whole: int) -> int | None:
    """Where the voxels begin; none where the file is too short for them."""
    told = HEADER_BYTES + header.extended_bytes
    if header.extended_bytes >= 0 and told + header.voxel_bytes <= whole:
        return told
    return HEADER_BYTES if HEADER_BYTES + header.voxel_bytes == whole else None


def _bytes_read(path: Path, header: _Header, data: NDArray[Any]) -> NDArray[Any]:
    """Bytes as signed (the format's word) or unsigned (IMOD's stamp, or statistics that no signed byte has)."""
    if header.imod_stamp == IMOD_STAMP:
        return data if header.imod_flags & IMOD_SIGNED_BYTES else data.view(np.uint8)
    least, most, mean = header.statistics
    if 0 <= least <= mean <= most and 127 < most <= 255:
        tell(f"{path}: bytes read as unsigned: the header's highest value is {most:g}, and no signed byte's")
        return data.view(np.uint8)
    if least < 0 or isinstance(data, np.memmap):
        return data
    # Unsigned grey values about 127 that are read as signed lie at both ends of the range, and hardly about 0.
    count = np.bincount(np.ascontiguousarray(data).view(np.uint8).ravel(), minlength=256)
    below, above, middle = int(count[124:128].sum()), int(count[128:132].sum()), int(count[252:].sum() + count[:4].sum())
    if min(below, above) > 0.001 * data.size and below + above > 4 * middle:
        raise BadInput(
            f"{path}: bytes that run on from 127 to -128, as unsigned ones do that nothing marks; IMOD's stamp, "
            "or another mode (`newstack -mode 1`), was expected"
        )
    return data


def _words_read(path: Path, header: _Header, data: NDArray[Any]) -> NDArray[Any]:
    """16-bit integers with the sign that the mode tells, or the other where the header's statistics prove it."""
    least, most, mean = header.statistics
    other = data.dtype.newbyteorder(header.order).str.translate(str.maketrans("iu", "ui"))
    if least <= mean <= most and (
        (header.mode == 1 and least >= 0 and 2**15 <= most < 2**16) or (header.mode == 6 and least < 0)
    ):
        words = "unsigned" if header.mode == 1 else "signed"
        tell(f"{path}: mode {header.mode} read as {words}: the header's values run from {least:g} to {most:g}")
        return data.view(other)
    if header.mode == 6 and not isinstance(data, np.memmap):
        # Signed values about 0 that are read as unsigned lie at both ends of the range, and none between.
        low, high = int((data < 2**14).sum()), int((data >= 3 * 2**14).sum())
        if min(low, high) > 0.01 * data.size and low + high == data.size and len(np.unique(data.ravel()[:100_000])) > 16:
            raise BadInput(
                f"{path}: mode 6, but its values lie below {2**14} and above {3 * 2**14} alone, as signed ones do that are read as "
                "unsigned; mode 1 was expected (mode 6 in the header is wrong)"
            )
    return data


def _check_floats(path: Path, data: NDArray[Any]) -> None:
    """Refuse NaN, infinite and impossible voxels, with how many of how many."""
    unusable = data.size - int(np.isfinite(data).sum())
    if unusable:
        raise BadInput(
            f"{path}: {unusable} of {data.size} voxels are NaN or infinite; finite grey values were expected "
            "(replace them, by the mean say)"
        )
    highest = max(abs(float(data.min())), abs(float(data.max())))
    if highest and not LEAST_GREY < highest < MOST_GREY:
        raise BadInput(
            f"{path}: grey values up to {highest:.3g}; {LEAST_GREY:g} to {MOST_GREY:g} were expected: is the voxels' byte order another "
            "than the header's, or the file damaged?"
        )


def _axes_in_order(path: Path, header: _Header, data: NDArray[Any], stack: bool) -> NDArray[Any]:
    """The voxels as [z, y, x], whichever axis the columns, rows and sections of the file are."""
    if header.axes == (1, 2, 3):
        return data
    if header.axes == (0, 0, 0):
        tell(f"{path}: mapc, mapr, maps = 0, 0, 0; columns, rows and sections are read as x, y and z")
        return data
    told = ", ".join(map(str, header.axes))
    if sorted(header.axes) != [1, 2, 3]:
        raise BadInput(f"{path}: mapc, mapr, maps = {told}; an order of 1, 2 and 3 was expected (1, 2, 3 is the common one)")
    if stack:
        raise BadInput(f"{path}: mapc, mapr, maps = {told}; a tilt series with 1, 2, 3 was expected")
    tell(f"{path}: axes put in order, as mapc, mapr, maps = {told} tell")
    file_axes = header.axes[::-1]
    return np.ascontiguousarray(np.transpose(data, [file_axes.index(axis) for axis in (3, 2, 1)]))


def _voxel_size(path: Path, header: _Header, stack: bool, needed: bool) -> float:
    """The edge of the cubic voxels in ångström; 0 where the header does not tell it and it is not needed."""
    try:
        return _told_voxel_size(path, header, stack)
    except BadInput:
        if needed:
            raise
    cell, sampling = header.cell[0], header.sampling[0]
    told = cell / sampling if sampling > 0 and np.isfinite(cell) and cell > 0 else 0.0
    return float(np.float32(told))


def _told_voxel_size(path: Path, header: _Header, stack: bool) -> float:
    repair = "give voxel_size_angstrom in the table of tomograms, or repair the header (`alterheader` of IMOD)"
    axes = header.axes if sorted(header.axes) == [1, 2, 3] else (1, 2, 3)
    count = np.array([header.count[axes.index(axis)] for axis in (1, 2, 3)])
    sampling, cell = np.array(header.sampling), np.array(header.cell, dtype=float)
    if not np.isfinite(cell[:2]).all() or (cell[:2] <= 0).any():
        raise BadInput(f"{path}: the header gives no voxel size; a positive one in ångström was expected ({repair})")
    angles = np.array(header.angles)
    if not stack and not (np.isclose(angles, 90, atol=0.5) | (angles == 0)).all():
        raise BadInput(f"{path}: cell angles {', '.join(f'{a:g}' for a in angles)}; 90 degrees each were expected")
    told = f"mx, my, mz = {', '.join(map(str, sampling))} with a cell of {' x '.join(f'{c:g}' for c in cell)} Å"
    if ((sampling[:2] <= 1) & (count[:2] > 1)).any():
        lengths = slice(0, 2) if stack or not cell[2] > 0 else slice(0, 3)
        likely = [
            size
            for sizes in (cell[lengths] / count[lengths], cell[lengths])
            if np.allclose(sizes, sizes[0], rtol=CUBE_TOLERANCE)
            and LEAST_LIKELY_ANGSTROM <= (size := float(sizes[0])) <= MOST_LIKELY_ANGSTROM
        ]
        if len(likely) != 1:
            raise BadInput(f"{path}: {told}: the voxel size cannot be known from it; mx = {count[0]} was expected ({repair})")
        tell(f"{path}: {told}; voxels of {likely[0]:g} Å is the one likely reading")
        return float(np.float32(likely[0]))
    sizes = cell[:2] / sampling[:2]
    across = float(np.float32(sizes[0]))
    if (sampling[:2] != count[:2]).any() and np.allclose(by_count := cell[:2] / count[:2], by_count[0], rtol=CUBE_TOLERANCE):
        tell(f"{path}: {told}, but {int(count[0])} columns; voxels of {across:g} Å, as of a part of that cell")
    if not stack and np.isfinite(cell[2]) and cell[2] > 0:
        along = [cell[2] / divisor for divisor in (sampling[2], count[2]) if divisor > 0]
        sizes = np.append(sizes, along[0])
        as_counted = np.isclose(along[-1], across, rtol=CUBE_TOLERANCE)
        if sampling[2] <= 1 and as_counted and not np.isclose(along[0], across, rtol=CUBE_TOLERANCE):
            tell(f"{path}: {told}; read as mz = {int(count[2])}")
            sizes[2] = along[-1]
    elif not stack:
        tell(f"{path}: the header gives no voxel size along z; that of x, {across:g} Å, is taken")
    if not np.allclose(sizes, sizes[0], rtol=CUBE_TOLERANCE):
        voxels = " x ".join(f"{size:.4g}" for size in sizes)
        raise BadInput(
            f"{path}: voxels of {voxels} Å (x, y, z); cubes were expected (resample; or, if the header is wrong, {repair})"
        )
    if not LEAST_VOXEL_ANGSTROM <= across <= MOST_VOXEL_ANGSTROM:
        raise BadInput(
            f"{path}: voxels of {across:.4g} Å ({told}); {LEAST_VOXEL_ANGSTROM:g} to {MOST_VOXEL_ANGSTROM:g} Å were expected ({repair})"
        )
    return across
