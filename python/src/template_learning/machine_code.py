"""Loops that decide the speed, compiled by numba and kept on disk between processes, and how many threads may run them."""

import os
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


def processors() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the processors that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))
