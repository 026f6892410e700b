"""MATCH by pytme (Maurer, Siggel and Kosinski 2024) on the processor: ``pytme match``, under the GPL, run and never imported.

Facts about 0.3.6 that decide the figures: its phase shift is in radians, whatever its help says; a template in an even box
shifts every pick by half a voxel; its contrast transfer is positive at low frequencies, so the tomogram's protein must be
made bright; MRC axes are turned to x, y, z, and what it calls the tilt axis is the one that tilting moves: "2,0" is a beam
along z and tilting about y.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import processors
from template_learning.common.errors import Fault
from template_learning.common.programs import run_program, words_of
from template_learning.settings import MatchCommandSettings
from template_learning.template_matching.search import Search, TiltSeriesOptics, write_search_files

PYTME = "pytme"


def pytme_command(work: Path, imaging: TiltSeriesOptics, settings: MatchCommandSettings, *, invert: bool) -> list[str]:
    """The call of pytme on the files ``target.mrc``, ``template.mrc``, ``mask.mrc`` and ``angles.tlt`` of ``work``."""
    command = [
        *(PYTME, "match", "-m", str(work / "target.mrc"), "-i", str(work / "template.mrc"), "-I", str(work / "mask.mrc")),
        *("-o", str(work / "scores.hdf5"), "-a", f"{settings.angular_step_deg:g}", "-n", str(processors())),
        *("-s", "FLCSphericalMask", "--tilt-angles", str(work / "angles.tlt"), "--wedge-axes", "2,0"),
        *(("--invert-target-contrast",) if invert else ()),
    ]
    if imaging.defocus_um is not None:
        command += [
            *("--defocus", f"{-imaging.defocus_um * 1e4:g}", "--phase-shift", f"{math.radians(imaging.phase_shift_deg):.6g}"),
            *("--acceleration-voltage", f"{imaging.voltage_kv:g}"),
            *("--spherical-aberration", f"{imaging.spherical_aberration_mm * 1e7:g}"),
            *("--amplitude-contrast", f"{settings.microscope.amplitude_contrast:g}"),
            *("--ctf-correction", "phase-flip" if imaging.ctf_corrected else "raw"),
        ]
    return command


def search_by_pytme(
    tomogram: NDArray[Any],
    density: NDArray[np.float32],
    mask: NDArray[np.float32],
    voxel_size_angstrom: float,
    imaging: TiltSeriesOptics,
    settings: MatchCommandSettings,
    *,
    invert: bool,
) -> Search:
    """The scores of a tomogram [z, y, x], the highest over orientations; ``invert`` where protein is dark.

    Fault where pytme fails.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        target = np.asarray(tomogram, dtype=np.float32)
        write_search_files(work, target, density, mask, voxel_size_angstrom, imaging.angles_deg)
        command = pytme_command(work, imaging, settings, invert=invert)
        run_program(PYTME, command, folder=work, leaves=work / "scores.hdf5")
        scores = read_pytme_scores(work / "scores.hdf5", tomogram.shape)
    return Search(scores, " ".join(command).replace(str(work), "."), PYTME, pytme_version())


def read_pytme_scores(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """The scores [z, y, x] in pytme's HDF5 (its first item; axes x, y, z there); Fault for another shape."""
    with h5py.File(path) as file:
        scores = np.asarray(file["item_0"], dtype=np.float32).T
    if scores.shape != tuple(shape):
        raise Fault(f"{PYTME} gave scores of {scores.shape} voxels (z, y, x); {tuple(shape)} were expected")
    return np.ascontiguousarray(scores)


def pytme_version() -> str:
    """The program's own word on its version."""
    return (words_of([PYTME, "--version"]) or ["unknown"])[-1]
