"""Loops that decide the speed, compiled by numba: kept on disk between processes where it finds a folder to write to."""

from collections.abc import Callable
from typing import Any

import numba

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """Decorator: machine code of ``function``, which runs without the interpreter's lock."""
    return _compiled(function, fastmath=False)


def compiled_fast_math(function: Function) -> Function:
    """The same, with sums free to be reordered: faster, and equal to rounding."""
    return _compiled(function, fastmath=True)


def _compiled(function: Function, fastmath: bool) -> Function:
    try:
        return numba.njit(function, nogil=True, fastmath=fastmath, cache=True)
    except RuntimeError:  # no folder can be written, as in a read-only image
        return numba.njit(function, nogil=True, fastmath=fastmath)
