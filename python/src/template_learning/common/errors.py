"""The two ways a command fails on purpose, each with its exit code; and what a file or a model refuses, in words."""

import errno
import lzma
import os
import zipfile
import zlib
from pathlib import Path

from pydantic import ValidationError

UNREADABLE = (OSError, UnicodeError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What the system, and the libraries that read files, raise where a file is not what it should be."""
USERS_TO_MEND = frozenset(
    {
        errno.ENOENT,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EINVAL,
    }
)
"""The system's errors that a second try does not cure."""


class BadInput(ValueError):
    """Something the user gave is wrong (exit code 2).

    The message is one line: which file or parameter, what is wrong with it, what was expected.
    """


class Fault(RuntimeError):
    """Something went wrong that a second try may cure (exit code 3)."""


def in_words(error: Exception, path: Path | None = None) -> BadInput | Fault:
    """One of ``UNREADABLE`` as a failure of ours: its file, which is ``path`` where the error does not name one, and what is wrong.

    A full disk, or one that fails, is a Fault; what the user can mend is a BadInput.
    """
    named = getattr(error, "filename2", None) or getattr(error, "filename", None) or path
    where = f"{named if isinstance(named, str | Path) else os.fsdecode(named)}: " if named is not None else ""
    what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if not isinstance(error, OSError):
        return BadInput(f"{where}broken, cut short, or not what its name says ({what}); a whole file was expected")
    if error.errno is None:
        return Fault(f"{where}cannot be read or written ({what})")
    if error.errno in USERS_TO_MEND:
        return BadInput(f"{where}{os.strerror(error.errno).lower()}; a file or folder that can be used was expected")
    return Fault(f"{where}{os.strerror(error.errno).lower()}")


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """Where and what a model refuses, all of it: the field's path with dots, and the complaint."""
    return [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Where and what a model refuses first."""
    return problems(error)[0]
