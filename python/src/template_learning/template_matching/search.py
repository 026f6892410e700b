"""MATCH: what template matching by pytme (``pytme.py``) and by pytom-match-pick (``pytom.py``) have in common.

Nothing here is random.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from template_learning.common.errors import BadInput
from template_learning.common.files import read_json
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import PickRow
from template_learning.settings import MatchCommandSettings, present_section
from template_learning.simulation.acquisition import tilt_angles
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.structures.density import density_of_atoms
from template_learning.structures.library import LibraryEntry

SOFT_EDGE_VOXELS = 1.5
"""The mask falls from one to zero over about this."""


@dataclass(frozen=True)
class TiltSeriesOptics:
    """How a tilt series was taken, as far as the template's contrast transfer and missing wedge need it.

    ``defocus_um`` is negative for underfocus, None for no contrast transfer at all; ``ctf_corrected`` says that phases were
    flipped in the tomogram.
    """

    angles_deg: tuple[float, ...]
    defocus_um: float | None
    phase_shift_deg: float
    voltage_kv: float
    spherical_aberration_mm: float
    ctf_corrected: bool

    @classmethod
    def of_simulation(cls, sidecar: Path) -> "TiltSeriesOptics":
        """That of a simulated tilt series, from its sidecar; BadInput where that lacks something."""
        try:
            metadata = read_json(sidecar)
            microscope = present_section("simulate", metadata["settings"])["microscope"]
            return cls(
                angles_deg=tuple(float(angle) for angle in metadata["angles_deg"]),
                defocus_um=float(metadata["row"]["defocus_um"]),
                phase_shift_deg=float(metadata["row"]["phase_shift_deg"]),
                voltage_kv=float(microscope["voltage_kv"]),
                spherical_aberration_mm=float(microscope["spherical_aberration_mm"]),
                ctf_corrected=False,
            )
        except BadInput:
            raise
        except (KeyError, TypeError, ValueError):
            raise BadInput(f"{sidecar}: angles_deg, row and settings of a simulated tilt series were expected") from None

    @classmethod
    def of_settings(cls, settings: MatchCommandSettings) -> "TiltSeriesOptics":
        """That of the user's tomograms."""
        return cls(
            angles_deg=tuple(tilt_angles(settings.tilt_range_deg, settings.tilt_step_deg).tolist()),
            defocus_um=settings.defocus_um,
            phase_shift_deg=settings.phase_shift_deg,
            voltage_kv=settings.microscope.voltage_kv,
            spherical_aberration_mm=settings.microscope.spherical_aberration_mm,
            ctf_corrected=settings.ctf_corrected,
        )


@dataclass(frozen=True, eq=False)
class Search:
    """The score of each voxel [z, y, x], the highest over orientations, and what made it."""

    scores: NDArray[np.float32]
    command: str
    program: str
    program_version: str


def write_search_files(
    work: Path,
    tomogram: NDArray[Any],
    template: NDArray[np.floating],
    mask: NDArray[np.float32],
    voxel_size_angstrom: float,
    angles_deg: Sequence[float] | NDArray[np.float64],
) -> None:
    """Write what a program searches with: target.mrc, template.mrc and mask.mrc [z, y, x], and angles.tlt, one a line."""
    write_mrc(work / "target.mrc", tomogram, voxel_size_angstrom)
    write_mrc(work / "template.mrc", template, voxel_size_angstrom)
    write_mrc(work / "mask.mrc", mask, voxel_size_angstrom)
    (work / "angles.tlt").write_text("".join(f"{angle:.4f}\n" for angle in angles_deg))


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
    imaging: TiltSeriesOptics,
    settings: MatchCommandSettings,
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
