"""Files in and out: MRC volumes, tables, ids; every output is written aside and renamed into place."""

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import mrcfile
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from template_learning.common.errors import BadInput, first_problem

Row = TypeVar("Row", bound=BaseModel)
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_id(text: str, what: str = "id") -> str:
    """``text`` if it may serve as an id (letters, digits, ``_``, ``-``, ``.``; at most 64; no ``..``), else BadInput.

    Ids become parts of file names and of commands.
    """
    if not ID_PATTERN.fullmatch(text) or ".." in text:
        raise BadInput(
            f"{what} {text!r}: only letters, digits, '_', '-' and '.' are allowed (at most 64, starting with a letter or digit)"
        )
    return text


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` with the same suffixes, renamed to it when the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".partial_", suffix="_" + path.name, delete=False) as handle:
        temporary = Path(handle.name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: Path) -> Path:
    """``path`` if it is a file with something in it, else BadInput."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty")
    return path


def read_mrc(path: Path, *, memory_map: bool = False, need_voxel_size: bool = True) -> tuple[NDArray[Any], float]:
    """A volume or tilt series ``[z, y, x]`` and its voxel size in ångström (that of x; the axes must agree).

    Compressed files (.gz, .bz2) are read whole; ``memory_map`` keeps others on disk.

    Raises BadInput for a missing, empty, truncated or foreign file, a voxel size of zero, or NaN or infinite voxels
    (not looked for in a memory map).
    """
    existing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile warns where we refuse or do not mind
            if memory_map and path.suffix not in (".gz", ".bz2"):
                handle = mrcfile.mmap(path, mode="r", permissive=False)
            else:
                handle = mrcfile.open(path, mode="r", permissive=False)
        with handle as opened:
            data = opened.data
            size = np.array([opened.voxel_size.x, opened.voxel_size.y, opened.voxel_size.z], dtype=float)
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path}: not a whole MRC file ({error})") from None
    if data is None or data.size == 0:
        raise BadInput(f"{path}: the MRC file holds no voxels")
    if data.ndim != 3:
        raise BadInput(f"{path}: {data.ndim} dimensions, a volume or stack with 3 was expected")
    if need_voxel_size and not size[0] > 0:
        raise BadInput(f"{path}: the header gives no voxel size; a positive one in ångström was expected")
    if not memory_map and data.dtype.kind == "f" and not np.isfinite(data).all():
        raise BadInput(f"{path}: holds NaN or infinite voxels; finite grey values were expected")
    return data, float(size[0])


def write_mrc(path: Path, data: NDArray[Any], voxel_size_angstrom: float, *, stack: bool = False) -> None:
    """Write ``[z, y, x]`` as MRC with voxel size and header statistics, by write-then-rename.

    uint8 label volumes with values below 128 become mode 0 (int8); float64 becomes float32.  ``stack`` marks a tilt
    series (an image stack) instead of a volume; [n, z, y, x] is a stack of volumes.  A path that ends in .gz is compressed.
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


def read_table(path: Path, model: type[Row]) -> list[Row]:
    """The rows of a CSV file with a header, each checked against ``model``; an empty cell takes the model's default."""
    existing(path)
    rows: list[Row] = []
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        for number, cells in enumerate(reader, start=2):
            try:
                rows.append(model.model_validate({k: v for k, v in cells.items() if v not in (None, "")}))
            except ValidationError as error:
                column, problem = first_problem(error)
                raise BadInput(f"{path}: line {number}, column {column!r}: {problem}") from None
    return rows


def write_table(path: Path, model: type[Row], rows: Sequence[Row]) -> None:
    """Write rows as CSV (columns in the model's order, floats to 6 significant digits after rounding to 1e-4)."""
    columns = list(model.model_fields)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(getattr(row, column)) for column in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.10g}" if abs(value) < 1e-3 else f"{round(value, 4):.10g}"
    if value is None:
        return ""
    return value
