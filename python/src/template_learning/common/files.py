"""Files in and out: tables and ids; every output is written aside and renamed into place."""

import codecs
import csv
import errno
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.log import tell

Row = TypeVar("Row", bound=BaseModel)
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
NOT_TEXT: Mapping[bytes, str] = {
    b"PK\x03\x04": "a spreadsheet or zip file (saved as CSV it can be read)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (saved as CSV it can be read)",
    b"\x1f\x8b": "compressed by gzip",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
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


def partial(path: Path) -> Path:
    """A name that nothing has, beside ``path`` and with its suffixes, for what is not whole yet."""
    return path.with_name(f".partial_{secrets.token_hex(6)}_{path.name}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` with the same suffixes, renamed to it when the block ends well, else removed.

    Who may read the file is for the user's umask to say.  An OSError that names no file, as those of writing do (a full disk),
    gets the name of this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
    temporary = partial(path)
    temporary.open("xb").close()
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # Those of NumPy and HDF5 have no number: what was written less than asked is a disk without room.
        raise OSError(error.errno or errno.ENOSPC, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: Path) -> Path:
    """``path`` if it is a file with something in it, else BadInput."""
    if path.is_dir():
        raise BadInput(f"{path}: a folder; a file was expected")
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty")
    return path


def read_text(path: Path) -> str:
    """The text of a file that people made: UTF-8 or UTF-16 by its mark or its zeros, else Latin-1, said so.

    Line ends become ``\\n``.  Raises BadInput for a missing, empty or binary file.
    """
    content = existing(path).read_bytes()
    for magic, what in NOT_TEXT.items():
        if content.startswith(magic):
            raise BadInput(f"{path}: {what}; a text file was expected")
    text = _decoded(path, content).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise BadInput(f"{path}: the file is empty, or blank")
    if "\0" in text:
        raise BadInput(f"{path}: a binary file; a text file was expected")
    return text


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; BadInput where it is missing, no JSON, or none."""
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: a JSON object was expected")
    return content


def _decoded(path: Path, content: bytes) -> str:
    half = len(content) // 2
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif half and content[1::2].count(0) > 0.8 * half:
        encoding = "utf-16-le"
    elif half and content[::2].count(0) > 0.8 * half:
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8-sig":
            raise BadInput(f"{path}: broken UTF-16; a text file in UTF-8 was expected") from None
    tell(f"{path}: not UTF-8; read as Latin-1, so look at letters beyond ASCII")
    return content.decode("latin-1")


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a table with a header as people make it, and its rows: (line in the file, cells by column).

    Commas, semicolons or tabs part the cells, as the header shows; with the latter two, numbers may have decimal commas.
    Blank rows, rows of empty cells and lines that begin with ``#`` are left out; cells and names lose blanks about them.

    Raises BadInput, naming line and probable cause, where a column has no name or one that another has, a row has more or
    fewer cells than the header, or nothing looks like a header.
    """
    lines = read_text(path).split("\n")
    if lines[0].strip().lower().startswith("sep="):  # what spreadsheets write for one another
        lines[0] = ""
    first = next((n for n, line in enumerate(lines) if line.strip() and not _is_comment(line, lines[n + 1 :])), None)
    if first is None:
        raise BadInput(f"{path}: no header and no rows; a line with the columns' names was expected")
    lines[:first] = [""] * first
    lines[first] = lines[first].lstrip().removeprefix("#")
    delimiter = _delimiter(lines[first])
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    found: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not (found and stripped[0].startswith("#")):
                found.append((reader.line_num, stripped))
    except csv.Error as error:
        raise BadInput(f"{path}: line {reader.line_num}: {error}; is a quotation mark not closed?") from None
    if not found:
        raise BadInput(f"{path}: no header and no rows; a line with the columns' names was expected")
    columns, rows = found[0][1], found[1:]
    while columns and not columns[-1] and all(not any(cells[len(columns) - 1 :]) for _, cells in rows):
        columns = columns[:-1]  # a spreadsheet's empty columns
    _check_columns(path, columns, found[0][0], rows)
    named = []
    for line, cells in rows:
        if any(cells[len(columns) :]):
            raise BadInput(
                f"{path}: line {line}: {len(cells)} cells, {len(columns)} columns in the header: {_cause(cells, columns, delimiter)}"
            )
        if len(cells) < len(columns):
            raise BadInput(
                f"{path}: line {line}: {len(cells)} cells, {len(columns)} columns in the header "
                f"({', '.join(columns)}): cut short, or empty cells left out?"
            )
        named.append((line, dict(zip(columns, cells, strict=False))))
    if delimiter != ",":
        _read_decimal_commas(path, named)
    return columns, named


def _is_comment(line: str, after: Sequence[str]) -> bool:
    """Whether a line is a remark: not where it is the header, marked as numpy marks one."""
    if not line.lstrip().startswith("#"):
        return False
    delimiter = _delimiter(line)
    follows = next((other for other in after if other.strip()), "")
    return line.count(delimiter) == 0 or follows.lstrip().startswith("#") or follows.count(delimiter) != line.count(delimiter)


def _delimiter(header: str) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    return max((",", ";", "\t"), key=lambda sign: (bare.count(sign), sign == ","))


def _check_columns(path: Path, columns: Sequence[str], line: int, rows: Sequence[tuple[int, list[str]]]) -> None:
    if columns and all(NUMBER.fullmatch(name) for name in columns):
        raise BadInput(f"{path}: line {line}: numbers where the columns' names were expected; is the header missing?")
    if "" in columns:
        place = columns.index("")
        cells = [cell[place] for _, cell in rows if len(cell) > place and cell[place]]
        held = f"holds {cells[0]!r}" if cells else "is empty"
        raise BadInput(f"{path}: line {line}: column {place + 1} has no name and {held}; every column's name was expected")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise BadInput(f"{path}: line {line}: the column {doubled[0]!r} stands there twice; each once was expected")


def _cause(cells: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    """What probably made a row longer than the header."""
    numbers = sum(bool(re.fullmatch(r"[-+]?\d+", cell)) for cell in cells)
    if delimiter == "," and numbers >= 2 * (len(cells) - len(columns)) and len(cells) > len(columns) + 1:
        return "decimal commas? points, or semicolons between the cells, were expected"
    extra = next(cell for cell in cells[len(columns) :] if cell)
    return f"a column without a name for {extra!r}, or a comma within a cell that has no quotation marks?"


def _read_decimal_commas(path: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    with_comma = [line for line, cells in rows if any(DECIMAL_COMMA.fullmatch(cell) for cell in cells.values())]
    with_point = [line for line, cells in rows if any(re.fullmatch(r"[-+]?\d+\.\d+", cell) for cell in cells.values())]
    if with_comma and with_point:
        raise BadInput(
            f"{path}: decimal commas (line {with_comma[0]}) and decimal points (line {with_point[0]}); one of them was expected"
        )
    commas = [(line, cell) for line, cells in rows for cell in cells.values() if DECIMAL_COMMA.fullmatch(cell)]
    if commas and all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell) for _, cell in commas):
        line, cell = commas[0]
        tell(f"{path}: line {line}: {cell!r} is read as {cell.replace(',', '.')}, with a decimal comma; not thousands?")
    for _, cells in rows:
        for name, cell in cells.items():
            if DECIMAL_COMMA.fullmatch(cell):
                cells[name] = cell.replace(",", ".")


def read_table(path: Path, model: type[Row]) -> list[Row]:
    """The rows of a table with a header, each checked against a model; an empty cell takes the model's default.

    Parameters
    ----------
    path : Path
        The file.
    model : type
        The class of the rows, such as ``PickRow``; its fields are the columns.

    Returns
    -------
    list of model
        One for each row.

    Raises
    ------
    BadInput
        The file is no table, a column is missing, a cell is wrong, or ``model`` refuses a column.
    """
    columns, cells = read_rows(path)
    missing = [
        name for name, field in model.model_fields.items() if field.is_required() and (field.alias or name) not in columns
    ]
    if missing:
        raise BadInput(f"{path}: no column {missing[0]!r} among its header's {', '.join(columns)}")
    rows: list[Row] = []
    for number, named in cells:
        try:
            rows.append(model.model_validate({name: cell for name, cell in named.items() if cell}))
        except ValidationError as error:
            column, problem = first_problem(error)
            unknown = error.errors()[0]["type"] == "extra_forbidden"
            allowed = f"; allowed: {', '.join(model.model_fields)}" if unknown else ""
            raise BadInput(f"{path}: line {number}, column {column!r}: {problem}{allowed}") from None
    return rows


def write_table(path: Path, model: type[Row], rows: Sequence[Row]) -> None:
    """Write rows as CSV, by write-then-rename; floats to 6 significant digits after rounding to 1e-4.

    Parameters
    ----------
    path : Path
        The file to write.
    model : type
        The class of the rows; its fields are the columns, in their order.
    rows : sequence of model
        May be empty.
    """
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
