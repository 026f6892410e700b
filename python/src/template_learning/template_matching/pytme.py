"""Template matching by pytme's program."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import processors
from template_learning.common.errors import Fault
from template_learning.common.mrc import write_mrc
from template_learning.settings import MatchSettings
from template_learning.template_matching.search import Imaging, Search

PROGRAM = "pytme"


def command_line(work: Path, imaging: Imaging, settings: MatchSettings, *, invert: bool) -> list[str]:
    """The call of pytme on the files ``target.mrc``, ``template.mrc``, ``mask.mrc`` and ``angles.tlt`` of ``work``."""
    command = [
        *(PROGRAM, "match", "-m", str(work / "target.mrc"), "-i", str(work / "template.mrc"), "-I", str(work / "mask.mrc")),
        *("-o", str(work / "scores.hdf5"), "-a", f"{settings.angular_step_deg:g}", "-n", str(processors())),
        *("-s", "FLCSphericalMask", "--tilt-angles", str(work / "angles.tlt"), "--wedge-axes", "2,0"),
        *(("--invert-target-contrast",) if invert else ()),
    ]
    if imaging.defocus_um is not None:
        command += [
            *("--defocus", f"{-imaging.defocus_um * 1e4:g}", "--phase-shift", f"{math.radians(imaging.phase_shift_deg):.6g}"),
            *("--acceleration-voltage", f"{imaging.voltage_kv:g}"),
            *("--spherical-aberration", f"{imaging.spherical_aberration_mm * 1e7:g}"),
            *("--amplitude-contrast", f"{settings.amplitude_contrast:g}"),
            *("--ctf-correction", "phase-flip" if imaging.ctf_corrected else "raw"),
        ]
    return command


def search_by_pytme(
    tomogram: NDArray[Any],
    density: NDArray[np.float32],
    mask: NDArray[np.float32],
    voxel_size_angstrom: float,
    imaging: Imaging,
    settings: MatchSettings,
    *,
    invert: bool,
) -> Search:
    """The scores of a tomogram [z, y, x], the highest over orientations; ``invert`` where protein is dark.

    Fault where pytme fails.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        write_mrc(work / "target.mrc", np.asarray(tomogram, dtype=np.float32), voxel_size_angstrom)
        write_mrc(work / "template.mrc", density, voxel_size_angstrom)
        write_mrc(work / "mask.mrc", mask, voxel_size_angstrom)
        (work / "angles.tlt").write_text("".join(f"{angle:.4f}\n" for angle in imaging.angles_deg))
        command = command_line(work, imaging, settings, invert=invert)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
        if done.returncode != 0 or not (work / "scores.hdf5").is_file():
            said = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
            raise Fault(f"{PROGRAM} ended with exit code {done.returncode}: {said[-1].strip()}")
        scores = read_scores(work / "scores.hdf5", tomogram.shape)
    return Search(scores, " ".join(command).replace(str(work), "."), PROGRAM, pytme_version())


def read_scores(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """The scores [z, y, x] in pytme's HDF5 (its first item; axes x, y, z there); Fault for another shape."""
    with h5py.File(path) as file:
        scores = np.asarray(file["item_0"], dtype=np.float32).T
    if scores.shape != tuple(shape):
        raise Fault(f"{PROGRAM} gave scores of {scores.shape} voxels (z, y, x); {tuple(shape)} were expected")
    return np.ascontiguousarray(scores)


def pytme_version() -> str:
    """The program's own word on its version."""
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[-1]
