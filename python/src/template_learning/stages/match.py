"""MATCH: a tomogram and a library of molecules in, picks of template matching out."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, existing, write_table
from template_learning.common.log import tell
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.programs import find_program
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import PickRow
from template_learning.learning.fit import blob_skewness
from template_learning.settings import MatchCommandSettings
from template_learning.structures.library import read_library
from template_learning.template_matching import pytom
from template_learning.template_matching.pytme import PYTME, search_by_pytme
from template_learning.template_matching.search import (
    TiltSeriesOptics,
    chosen_templates,
    exclusion_radius,
    find_peaks,
    template_in_box,
)


def match_tomogram(
    tomogram: Path,
    libraries: list[Path],
    identifier: str,
    settings: MatchCommandSettings,
    output: Path,
    *,
    tilt_facts: Path | None = None,
    contrast: str = "protein_dark",
    segment_facts: Path | None = None,
    voxel_size_angstrom: float | None = None,
) -> None:
    """MATCH: write ``<id>.scores.mrc`` [z, y, x] and ``<id>.picks.csv`` (PickRow), what the library's templates match.

    Each voxel's score is the highest over templates and orientations; picks are its maxima.

    Parameters
    ----------
    tomogram : Path
        [z, y, x].
    libraries : list of Path
        What VOLUME wrote.
    identifier : str
        Start of the files' names.
    settings : MatchCommandSettings
        Sections ``match`` and ``microscope``.
    output : Path
        Folder to write to.
    tilt_facts : Path, optional
        The sidecar of a simulated tilt series; without it the settings say how the tomogram was taken.
    contrast : "protein_dark", "protein_bright" or "auto", optional
        Sign of the tomogram; auto: what SEGMENT found, else what the grey values say at the first template's size.
    segment_facts : Path, optional
        The sidecar of the tomogram's segmentation.
    voxel_size_angstrom : float, optional
        Goes before the tomogram's header, Å.

    Raises
    ------
    BadInput
        The engine's program or GPU is missing, or a file is wrong.
    Fault
        The program fails.
    """
    started = time.perf_counter()
    checked_id(identifier)
    if settings.engine == "pytom":
        pytom.find_gpus()
    else:
        find_program(PYTME, "match.run = true", "run in the image `match`, or leave match.run at false")
    search = pytom.search_by_pytom if settings.engine == "pytom" else search_by_pytme
    data, voxel_size = read_mrc(existing(tomogram), need_voxel_size=voxel_size_angstrom is None)
    voxel_size = voxel_size_angstrom or voxel_size
    imaging = TiltSeriesOptics.of_settings(settings)
    if tilt_facts is not None:
        imaging = TiltSeriesOptics.of_simulation(tilt_facts)
    templates = chosen_templates(read_library(libraries), settings.templates)
    if not templates:
        raise BadInput(f"{libraries[0]}: no templates in the library; those of the target were expected")
    if contrast == "auto":
        contrast = _contrast_found(segment_facts, data, exclusion_radius(templates[0].atoms()[0]) / voxel_size, str(tomogram))
    scores = np.full(data.shape, -np.inf, dtype=np.float32)
    classes = np.zeros(data.shape, dtype=np.int16)
    commands, radii = [], []
    for entry in templates:
        position, element, *_ = entry.atoms()
        density, mask = template_in_box(position, element, voxel_size, imaging, settings)
        if min(data.shape) < density.shape[0]:
            raise BadInput(f"{tomogram}: {data.shape} voxels (z, y, x), fewer than the template's box of {density.shape[0]}")
        result = search(data, density, mask, voxel_size, imaging, settings, invert=contrast == "protein_dark")
        better = result.scores > scores
        scores[better], classes[better] = result.scores[better], entry.row.class_id
        commands.append(result.command)
        radii.append(settings.radius_angstrom or exclusion_radius(position))
    mean, deviation = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64))
    threshold = mean + settings.threshold_sigma * deviation
    picks = find_peaks(scores, classes, voxel_size, min(radii), settings.maximum_picks, threshold)
    write_mrc(output / f"{identifier}.scores.mrc", scores, voxel_size)
    table = output / f"{identifier}.picks.csv"
    write_table(table, PickRow, picks)
    for path in (table, output / f"{identifier}.scores.mrc"):
        write_sidecar(
            path,
            stage="match",
            item=identifier,
            seed=None,
            settings=settings,
            shape_voxels=list(data.shape),
            voxel_size_angstrom=voxel_size,
            templates=[entry.row.molecule for entry in templates],
            contrast=contrast,
            imaging={"from": "settings" if tilt_facts is None else tilt_facts.name, **vars(imaging)},
            program=result.program,
            program_version=result.program_version,
            commands=commands,
            score_mean=mean,
            score_deviation=deviation,
            threshold=threshold,
            radius_angstrom=min(radii),
            peaks=len(picks),
            selected=sum(pick.selected for pick in picks),
            matching_seconds=round(time.perf_counter() - started, 3),
        )


def _contrast_found(segment_facts: Path | None, data: NDArray[Any], radius_voxels: float, name: str) -> str:
    """What SEGMENT found, or what the grey values say, which is told."""
    if segment_facts is not None:
        found = json.loads(existing(segment_facts).read_text()).get("contrast")
        if found:
            return str(found)
    contrast = "protein_bright" if blob_skewness(data, radius_voxels) > 0 else "protein_dark"
    tell(f"{name}: {contrast} by its grey values (segment.contrast = auto)")
    return contrast
