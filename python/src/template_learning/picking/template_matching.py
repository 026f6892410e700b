"""MATCH: template matching, the comparison beside the network's picks: by pytme (Maurer, Siggel and Kosinski 2024) on the
processor, or by pytom-match-pick on GPUs (``pytom.py``).

pytme is a program under the GPL: it is called as ``pytme match`` and never imported.  Facts about 0.3.6 that decide the
figures: its phase shift is in radians, whatever its help says; a template in an even box shifts every pick by half a voxel;
its contrast transfer is positive at low frequencies, so the tomogram's protein must be made bright; MRC axes are turned to
x, y, z, and what it calls the tilt axis is the one that tilting moves: "2,0" is a beam along z and tilting about y.
Nothing here is random.
"""

import math
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from template_learning.errors import BadInput, Fault
from template_learning.files import checked_id, existing, read_mrc, write_mrc, write_table
from template_learning.gaussians import density_of_atoms
from template_learning.library import LibraryEntry, read_library
from template_learning.machine_code import processors
from template_learning.picking import pytom
from template_learning.picking.imaging import Imaging, Search
from template_learning.provenance import write_sidecar
from template_learning.settings import MatchSettings
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.tables import PickRow

STAGE = "match"
PROGRAM = "pytme"
SOFT_EDGE_VOXELS = 1.5
"""The mask falls from one to zero over about this."""


def match_tomogram(
    tomogram: Path,
    libraries: list[Path],
    identifier: str,
    settings: MatchSettings,
    output: Path,
    *,
    tilt_facts: Path | None = None,
    dark: bool = True,
    voxel_size_angstrom: float | None = None,
) -> None:
    """Write ``<id>.scores.mrc`` [z, y, x] and ``<id>.picks.csv`` (PickRow): what the library's templates match.

    ``tilt_facts`` is the sidecar of a simulated tilt series; without it the settings say how the tomogram was taken.
    ``dark`` says that protein is dark in it; ``voxel_size_angstrom`` goes before the tomogram's header.  Each voxel's score is
    the highest over templates and orientations; picks are its maxima.

    Raises BadInput where the engine's program or GPU is missing or a file is wrong, Fault where the program fails.
    """
    begun = time.perf_counter()
    checked_id(identifier)
    if settings.engine == "pytom":
        pytom.find_gpus()
    elif shutil.which(PROGRAM) is None:
        raise BadInput(f"match.run = true: {PROGRAM} is not on the PATH; run in the image `match`, or leave match.run at false")
    search = pytom.search_by_pytom if settings.engine == "pytom" else search_by_pytme
    data, voxel_size = read_mrc(existing(tomogram), need_voxel_size=voxel_size_angstrom is None)
    voxel_size = voxel_size_angstrom or voxel_size
    imaging = Imaging.of_settings(settings)
    if tilt_facts is not None:
        imaging = Imaging.of_simulation(tilt_facts)
    templates = chosen_templates(read_library(libraries), settings.templates)
    if not templates:
        raise BadInput(f"{libraries[0]}: no templates in the library; those of the target were expected")
    scores = np.full(data.shape, -np.inf, dtype=np.float32)
    classes = np.zeros(data.shape, dtype=np.int16)
    commands, radii = [], []
    for entry in templates:
        position, element = entry.atoms()
        density, mask = template_in_box(position, element, voxel_size, imaging, settings)
        if min(data.shape) < density.shape[0]:
            raise BadInput(f"{tomogram}: {data.shape} voxels (z, y, x), fewer than the template's box of {density.shape[0]}")
        one = search(data, density, mask, voxel_size, imaging, settings, invert=dark)
        better = one.scores > scores
        scores[better], classes[better] = one.scores[better], entry.row.class_id
        commands.append(one.command)
        radii.append(settings.radius_angstrom or exclusion_radius(position))
    mean, deviation = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64))
    threshold = mean + settings.deviations * deviation
    picks = find_peaks(scores, classes, voxel_size, min(radii), settings.most_picks, threshold)
    write_mrc(output / f"{identifier}.scores.mrc", scores, voxel_size)
    table = output / f"{identifier}.picks.csv"
    write_table(table, PickRow, picks)
    for path in (table, output / f"{identifier}.scores.mrc"):
        write_sidecar(
            path,
            stage=STAGE,
            item=identifier,
            seed=None,
            settings=settings,
            shape_voxels=list(data.shape),
            voxel_size_angstrom=voxel_size,
            templates=[entry.row.molecule for entry in templates],
            imaging={"from": "settings" if tilt_facts is None else tilt_facts.name, **vars(imaging)},
            program=one.program,
            program_version=one.program_version,
            commands=commands,
            score_mean=mean,
            score_deviation=deviation,
            threshold=threshold,
            radius_angstrom=min(radii),
            peaks=len(picks),
            selected=sum(pick.selected for pick in picks),
            matching_seconds=round(time.perf_counter() - begun, 3),
        )


def chosen_templates(library: Mapping[str, LibraryEntry], each: int) -> list[LibraryEntry]:
    """The first ``each`` templates of every class by id, each in its first conformer."""
    first: dict[tuple[int, str], LibraryEntry] = {}
    for entry in library.values():
        if entry.row.role == "template":
            first.setdefault((entry.row.class_id, entry.row.species), entry)
    by_class: dict[int, list[LibraryEntry]] = {}
    for (class_id, _species), entry in sorted(first.items()):
        by_class.setdefault(class_id, []).append(entry)
    return [entry for entries in by_class.values() for entry in entries[:each]]


def exclusion_radius(position_angstrom: NDArray[np.floating]) -> float:
    """The radius of the solid sphere with the molecule's radius of gyration, in ångström: how near two picks may be."""
    centred = position_angstrom - position_angstrom.mean(axis=0)
    return float(np.sqrt(5 / 3 * (centred**2).sum(axis=1).mean()))


def template_in_box(
    position_angstrom: NDArray[np.floating],
    element: NDArray[np.uint8],
    voxel_size_angstrom: float,
    imaging: Imaging,
    settings: MatchSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The template's density and its spherical mask [z, y, x], both in an odd cube, the molecule's origin at its middle.

    The box leaves room for what defocus spreads at Nyquist's frequency: wavelength x defocus / (2 voxels).
    """
    resolution = settings.resolution_angstrom or 2 * voxel_size_angstrom
    reach = float(np.linalg.norm(position_angstrom, axis=1).max()) + resolution / 2
    spread = wavelength_angstrom(imaging.voltage_kv) * abs(imaging.defocus_um or 0.0) * 1e4 / (2 * voxel_size_angstrom)
    half = math.ceil((reach + max(spread, voxel_size_angstrom)) / voxel_size_angstrom)
    density = density_of_atoms(position_angstrom, element, voxel_size_angstrom, resolution, (2 * half + 1,) * 3)
    from_middle = np.linalg.norm(np.indices(density.shape) - half, axis=0)
    inside = (reach / voxel_size_angstrom - from_middle) / SOFT_EDGE_VOXELS + 1
    return density, np.clip(inside, 0, 1).astype(np.float32)


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
    import h5py

    with h5py.File(path) as file:
        scores = np.asarray(file["item_0"], dtype=np.float32).T
    if scores.shape != tuple(shape):
        raise Fault(f"{PROGRAM} gave scores of {scores.shape} voxels (z, y, x); {tuple(shape)} were expected")
    return np.ascontiguousarray(scores)


def pytme_version() -> str:
    """The program's own word on its version."""
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[-1]


def find_peaks(
    scores: NDArray[np.float32],
    classes: NDArray[np.int16],
    voxel_size_angstrom: float,
    radius_angstrom: float,
    most: int,
    threshold: float,
) -> list[PickRow]:
    """The local maxima of scores [z, y, x], best first, none within the radius of a better one, at most ``most``.

    ``classes`` is the class whose template gave each voxel's score.  A pick is selected from ``threshold`` on; its size is 1.
    """
    index = np.argwhere(ndimage.maximum_filter(scores, size=3) == scores)
    value = scores[tuple(index.T)]
    order = np.lexsort((*index.T[::-1], -value))
    index, value = index[order], value[order]
    tree = cKDTree(index * voxel_size_angstrom)
    free = np.ones(len(index), dtype=bool)
    last = np.array(scores.shape) - 1
    picks: list[PickRow] = []
    for number in range(len(index)):
        if len(picks) == most:
            break
        if not free[number]:
            continue
        free[tree.query_ball_point(tree.data[number], radius_angstrom)] = False
        z, y, x = (int(one) for one in index[number])
        picks.append(
            PickRow(
                pick=len(picks) + 1,
                class_id=int(classes[z, y, x]),
                x_angstrom=x * voxel_size_angstrom,
                y_angstrom=y * voxel_size_angstrom,
                z_angstrom=z * voxel_size_angstrom,
                score=float(value[number]),
                size_voxels=1,
                touches_edge=bool((index[number] == 0).any() or (index[number] == last).any()),
                selected=bool(value[number] >= threshold),
            )
        )
    return picks
