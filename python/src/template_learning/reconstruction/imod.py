"""The reference engine: IMOD's ``newstack``, ``tilt`` and ``trimvol`` (Kremer, Mastronarde and McIntosh 1996)."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import Fault
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.programs import find_program, run_program

PROGRAMS = ("newstack", "tilt", "trimvol")
ANTIALIAS_FILTER = 6
"""Lanczos 3, the sharpest of newstack's filters."""


def reconstruct(
    tilts: Path, angles_deg: NDArray[np.float64], pixel_angstrom: float, grid: Grid, width: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The tomogram [z, y, x] on ``grid`` from a tilt series file, and facts on the programs for its sidecar.

    ``width`` is the number of pixels along x that the images get.  Full ramp to Nyquist (RADIAL 0.5,0.5).

    Raises BadInput where a program is missing, Fault where one fails.
    """
    for program in PROGRAMS:
        find_program(program, "reconstruct.engine = 'imod'", "run in the image `imod`, or take 'native'")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "angles.tlt").write_text("".join(f"{angle:.4f}\n" for angle in angles_deg))
        commands = imod_commands(
            tilts, work, grid, width, grid.voxel_size_angstrom / pixel_angstrom, _has_option("tilt", "FalloffIsTrueSigma")
        )
        for command in commands:
            run_program(command[0], command, marked="ERROR")
        tomogram, _ = read_mrc(work / "tomogram.mrc", need_voxel_size=False)
    if tomogram.shape != grid.shape:
        raise Fault(f"IMOD's tomogram has {tomogram.shape} voxels (z, y, x); {grid.shape} were expected")
    shown = [" ".join(command).replace(str(work), ".").replace(str(tilts), tilts.name) for command in commands]
    return np.asarray(tomogram, dtype=np.float32), {"program": "IMOD", "program_version": imod_version(), "commands": shown}


def imod_commands(tilts: Path, work: Path, grid: Grid, width: int, ratio: float, true_sigma: bool) -> list[list[str]]:
    """The calls that turn the tilt series into ``work/tomogram.mrc``: bin, back-project, turn to [z, y, x].

    ``ratio`` is the tomogram's voxel over the series' pixel; ``true_sigma`` whether this ``tilt`` knows
    -FalloffIsTrueSigma (4.8 does not).
    """
    depth, height, wide = grid.shape
    whole = abs(ratio - round(ratio)) < 1e-4
    smaller = ["-bin", str(round(ratio))] if whole else ["-shrink", f"{ratio:.6f}"]
    bins = [] if whole and round(ratio) == 1 else [*smaller, "-antialias", str(ANTIALIAS_FILTER)]
    binned, slices = str(work / "binned.mrc"), str(work / "slices.rec")
    return [
        ["newstack", "-input", str(tilts), "-output", binned, *bins, "-size", f"{width},{height}", "-mode", "2"],
        [
            *("tilt", "-InputProjections", binned, "-OutputFile", slices, "-TILTFILE", str(work / "angles.tlt")),
            *("-THICKNESS", str(depth), "-WIDTH", str(wide), "-RADIAL", "0.5,0.5"),
            *(("-FalloffIsTrueSigma", "1") if true_sigma else ()),
            *("-MODE", "2", "-PERPENDICULAR"),
        ],
        ["trimvol", "-rx", slices, str(work / "tomogram.mrc")],
    ]


def imod_version() -> str:
    """IMOD's version from the file in its own folder, ``unknown`` where there is none."""
    path = Path(os.environ.get("IMOD_DIR", "/nonexistent")) / "VERSION"
    return path.read_text().strip() if path.is_file() else "unknown"


def _has_option(program: str, option: str) -> bool:
    shown = subprocess.run([program, "-help"], capture_output=True, text=True, check=False)
    return option in shown.stdout + shown.stderr
