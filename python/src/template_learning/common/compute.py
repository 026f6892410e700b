"""Loops that decide the speed, compiled by numba and kept on disk between processes; how many threads may run them, and which GPUs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba

from template_learning.common.programs import words_of

Function = Callable[..., Any]
CPU_INFORMATION = Path("/proc/cpuinfo")


def jit(function: Function) -> Function:
    """Decorator: machine code of ``function``, which runs without the interpreter's lock."""
    return _jit(function, fastmath=False)


def jit_fast_math(function: Function) -> Function:
    """The same, with sums free to be reordered: faster, and equal to rounding."""
    return _jit(function, fastmath=True)


def _jit(function: Function, fastmath: bool) -> Function:
    try:
        return numba.njit(function, nogil=True, fastmath=fastmath, cache=True)
    except RuntimeError:  # no folder can be written, as in a read-only image
        return numba.njit(function, nogil=True, fastmath=fastmath)


def processors() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the processors that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def multiplies_bfloat16() -> bool:
    """Whether this machine's processors have instructions for products of bfloat16 (AVX512-BF16 or AMX, of Linux's list)."""
    lines = CPU_INFORMATION.read_text().splitlines() if CPU_INFORMATION.is_file() else []
    flags = [line for line in lines if line.startswith("flags")]
    return bool(flags) and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags[0].split())


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that this task may use: those of CUDA_VISIBLE_DEVICES, else all that ``nvidia-smi`` lists."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip() not in ("", "-1", "NoDevFiles")]
    return words_of(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"])
