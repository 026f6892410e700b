"""MATCH by pytom-match-pick (Chaillet et al. 2023) on GPUs: ``pytom_match_template.py``, under the GPL, run and never imported.

Facts about 0.14.0 that decide the figures: MRC axes are x, y, z and tilting is about y, with the sense of this package;
a template in an odd box scores at the voxel of its middle; the template is to have the tomogram's contrast; scores of windows
that stick out of the volume are those of the other side.  Given a defocus it multiplies the tomogram with the contrast
transfer too, not the template alone, and turns the transfer over unless the defocus is positive: hence the template gets its
transfer here, which is the same in all directions and so may come before its rotation, and the program is told of none.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from template_learning.common.compute import visible_gpus
from template_learning.common.errors import BadInput, Fault
from template_learning.common.mrc import read_mrc
from template_learning.common.programs import ProgramFault, find_program, run_program
from template_learning.settings import MatchCommandSettings
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.template_matching.search import Search, TiltSeriesOptics, write_search_files

NAME = "pytom-match-pick"
PYTOM = "pytom_match_template.py"
NO_GPU = ("cudaErrorNoDevice", "cudaErrorInsufficientDriver", "No module named 'cupy'", "gpu indices should be")
"""What it says, in a traceback, where CuPy or what CuPy needs is not there."""


def find_gpus() -> int:
    """How many GPUs the program may use; BadInput where it or they are missing."""
    find_program(PYTOM, "match.engine = 'pytom'", f"install {NAME} (docs/how-to/template_matching.md), or take 'pytme'")
    gpus = len(visible_gpus(os.environ))
    if not gpus:
        raise BadInput(f"match.engine = 'pytom': {PYTOM} needs a GPU and there is none; take 'pytme', which needs none")
    return gpus


def with_transfer(
    density: NDArray[np.float32], voxel_size_angstrom: float, imaging: TiltSeriesOptics, amplitude_contrast: float
) -> NDArray[np.float32]:
    """A density [z, y, x] with the contrast transfer of its tilt series, positive at low frequencies for underfocus.

    Where phases were flipped it is the transfer's absolute value; without a defocus there is none.
    """
    if imaging.defocus_um is None:
        return density
    *full, half = density.shape
    axes = [*(np.fft.fftfreq(edge) for edge in full), np.fft.rfftfreq(half)]
    square = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) / voxel_size_angstrom**2
    wavelength = wavelength_angstrom(imaging.voltage_kv)
    shift = np.pi * wavelength * square * -imaging.defocus_um * 1e4
    shift -= np.pi / 2 * wavelength**3 * square**2 * imaging.spherical_aberration_mm * 1e7
    transfer = np.sin(shift + np.arcsin(amplitude_contrast) + np.deg2rad(imaging.phase_shift_deg))
    if imaging.ctf_corrected:
        transfer = np.abs(transfer)
    return fft.irfftn(fft.rfftn(density) * transfer, density.shape).astype(np.float32)


def pytom_command(work: Path, gpus: int, voxel_size_angstrom: float, settings: MatchCommandSettings) -> list[str]:
    """The call of the program on the files ``target.mrc``, ``template.mrc``, ``mask.mrc`` and ``angles.tlt`` of ``work``."""
    return [
        *(PYTOM, "--template", str(work / "template.mrc"), "--tomogram", str(work / "target.mrc")),
        *("--mask", str(work / "mask.mrc"), "--destination", str(work), "--voxel-size-angstrom", f"{voxel_size_angstrom:.6g}"),
        *(
            "--angular-search",
            f"{settings.angular_step_deg:g}",
            "--tilt-angles",
            str(work / "angles.tlt"),
            "--per-tilt-weighting",
        ),
        *("--gpu-ids", *map(str, range(gpus))),
    ]


def search_by_pytom(
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

    The box and the mask are odd cubes.  Raises BadInput without the program, a GPU or two tilts, Fault where it fails.
    """
    gpus = find_gpus()
    if len(imaging.angles_deg) < 2:
        raise BadInput(f"match.engine = 'pytom': one tilt of {imaging.angles_deg[0]:g} degrees; two or more were expected")
    half = density.shape[0] // 2
    template = with_transfer(density, voxel_size_angstrom, imaging, settings.microscope.amplitude_contrast)
    with TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        shown = -template if invert else template
        write_search_files(work, with_border(tomogram, half), shown, mask, voxel_size_angstrom, imaging.angles_deg)
        command = pytom_command(work, gpus, voxel_size_angstrom, settings)
        try:
            run_program(PYTOM, command, folder=work, leaves=work / "target_job.json")  # the last that it writes
        except ProgramFault as fault:
            if any(word in fault.output for word in NO_GPU):
                raise BadInput(
                    f"match.engine = 'pytom': {PYTOM} finds no GPU that it can use ({fault.last_line}); take 'pytme', or mend that"
                ) from None
            raise
        scores = read_pytom_scores(work / "target_scores.mrc", [edge + 2 * half for edge in tomogram.shape])
        metadata = json.loads((work / "target_job.json").read_text(encoding="utf-8"))
    inner = tuple(slice(half, half + edge) for edge in tomogram.shape)
    command_shown = " ".join(command).replace(str(work), ".")
    return Search(np.ascontiguousarray(scores[inner]), command_shown, NAME, metadata.get("pytom_tm_version_number", "unknown"))


def with_border(tomogram: NDArray[Any], width: int) -> NDArray[np.float32]:
    """A tomogram of mean 0 and deviation 1 with ``width`` zeros about it, against the other side's voxels in its scores.

    The program itself continues a volume with zeros, and takes a window for empty by its variance as it is.
    """
    grey = np.asarray(tomogram, dtype=np.float32)
    std = float(grey.std(dtype=np.float64)) or 1.0
    return np.pad((grey - np.float32(grey.mean(dtype=np.float64))) / np.float32(std), width)


def read_pytom_scores(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """The scores [z, y, x] that the program wrote; Fault for another shape or what is no number."""
    try:
        scores = np.asarray(read_mrc(path)[0], dtype=np.float32)
    except BadInput as error:
        raise Fault(f"{PYTOM} left scores that cannot be read: {error}") from None
    if scores.shape != tuple(shape):
        raise Fault(f"{PYTOM} gave scores of {scores.shape} voxels (z, y, x); {tuple(shape)} were expected")
    return scores
