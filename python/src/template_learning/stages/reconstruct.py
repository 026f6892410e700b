"""RECONSTRUCT: a tomogram from a tilt series."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import DECIMAL_COMMA, checked_id, read_text
from template_learning.common.geometry import Grid
from template_learning.common.log import tell
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import generator_for, read_sidecar, write_sidecar
from template_learning.common.tables import DesignRow
from template_learning.reconstruction import imod
from template_learning.settings import ReconstructSettings, SimulateCommandSettings, present_section
from template_learning.simulation.optics import Lens
from template_learning.simulation.series import design_lens
from template_learning.treatments.apply import TiltSeries, kept_views, needs_optics, treated_tomogram


def reconstruct_series(
    tilts: Path, angles: Path, identifier: str, settings: ReconstructSettings, output: Path, root_seed: int = 1
) -> None:
    """RECONSTRUCT: write ``<id>.mrc``, [z, y, x], float32 but where the treatment says else, from a tilt series [tilt, y, x].

    The tomogram has the settings' voxel size and shares the sample's centre (and box, where the series' sidecar names one and
    the treatment adds no border).

    Parameters
    ----------
    tilts : Path
        The tilt series, protein dark.
    angles : Path
        Tilt angles in degrees, one a line, in the series' order.
    identifier : str
        Start of the files' names.
    settings : ReconstructSettings
        Section ``reconstruct``.
    output : Path
        Folder to write to.
    root_seed : int, optional
        Draws the treatment's alignment errors.

    Raises
    ------
    BadInput
        The files disagree, the thickness is not known, or the treatment needs what the series' sidecar does not tell.
    """
    started = time.perf_counter()
    checked_id(identifier)
    angles_deg = read_angles(angles)
    images, pixel = read_mrc(tilts, stack=True)
    if len(images) != len(angles_deg):
        raise BadInput(f"{angles}: {len(angles_deg)} angles for the {len(images)} images of {tilts}; one each was expected")
    if settings.voxel_size_angstrom < pixel * 0.999:
        raise BadInput(
            f"reconstruct.voxel_size_angstrom = {settings.voxel_size_angstrom:g}: "
            f"at least the pixel of {tilts}, {pixel:g} Å, was expected"
        )
    grid = tomogram_grid(tilts, images.shape, pixel, settings)
    width = Grid(shape=(2, *images.shape[1:]), voxel_size_angstrom=pixel).resampled(grid.voxel_size_angstrom).shape[2]
    if settings.engine == "imod":
        tomogram, metadata = imod.reconstruct(tilts, angles_deg, pixel, grid, width)
    else:
        series = series_to_treat(tilts, images, angles_deg, pixel, settings)
        generator = generator_for(root_seed, "reconstruct", identifier)
        voxel = grid.voxel_size_angstrom
        tomogram = treated_tomogram(series, grid.shape, width, voxel, settings.treatment, generator)
        metadata = {"program": "native"}
    path = output / f"{identifier}.mrc"
    write_mrc(path, tomogram, grid.voxel_size_angstrom)
    write_sidecar(
        path,
        stage="reconstruct",
        item=identifier,
        seed=root_seed,
        settings=settings,
        shape_voxels=list(tomogram.shape),
        voxel_size_angstrom=grid.voxel_size_angstrom,
        pixel_size_angstrom=pixel,
        angles_deg=angles_deg,
        reconstruction_seconds=round(time.perf_counter() - started, 3),
        **metadata,
    )


def series_to_treat(
    tilts: Path, images: NDArray[Any], angles_deg: NDArray[np.float64], pixel_angstrom: float, settings: ReconstructSettings
) -> TiltSeries:
    """The series with what its sidecar says of how it was taken.

    Raises BadInput where it does not say it and the treatment needs it, or leaves less than two tilts.
    """
    treatment = settings.treatment
    if len(kept_views(angles_deg, treatment)) < 2:
        raise BadInput(
            f"reconstruct.treatment: {len(kept_views(angles_deg, treatment))} tilts of {tilts} are left; two at least were expected"
        )
    if not needs_optics(treatment):
        unknown = np.zeros(len(angles_deg))
        return TiltSeries(images, angles_deg, pixel_angstrom, Lens(defocus_angstrom=0.0), 0.0, unknown)
    metadata = read_sidecar(tilts)
    try:
        simulated = SimulateCommandSettings.model_validate(present_section("simulate", metadata["settings"]))
        lens = design_lens(DesignRow.model_validate(metadata["row"]), simulated)
        dose = float(metadata["dose_per_tilt"]) * (np.array(metadata["acquisition_order"], dtype=float) + 1)
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{tilts}.json: row, settings and doses of a simulated tilt series were expected, which reconstruct.treatment needs "
            "for contrast transfer and dose weighting"
        ) from None
    if len(dose) != len(angles_deg):
        raise BadInput(f"{tilts}.json: acquisition_order has {len(dose)} tilts, {len(angles_deg)} were expected")
    return TiltSeries(images, angles_deg, pixel_angstrom, lens, simulated.microscope.amplitude_contrast, dose)


def read_angles(path: Path) -> NDArray[np.float64]:
    """Tilt angles in degrees, one a line; blank lines and what follows a ``#`` are left out.

    Raises BadInput for anything else, and for angles that cannot be right: beyond 90 degrees, all 0 or all the same, many at
    one angle, or so small that they look like radians.
    """
    angles = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        words = line.split("#")[0].replace(";", " ").split()
        if not words:
            continue
        if len(words) > 1:
            raise BadInput(
                f"{path}: line {number}: {len(words)} columns ({' '.join(words[:4])}); one tilt angle in degrees a line was "
                "expected (which column is it? `awk '{print $1}'` keeps the first)"
            )
        text = words[0].replace(",", ".") if DECIMAL_COMMA.fullmatch(words[0]) else words[0]
        try:
            angles.append(float(text))
        except ValueError:
            raise BadInput(f"{path}: line {number}: {words[0]!r}; one tilt angle in degrees a line was expected") from None
    found = np.array(angles)
    _check_angles(path, found)
    return found


def _check_angles(path: Path, angles: NDArray[np.float64]) -> None:
    if len(angles) == 0 or not np.isfinite(angles).all() or np.abs(angles).max() > 90:
        raise BadInput(f"{path}: tilt angles between -90 and 90 degrees, one a line, were expected")
    if len(angles) < 2:
        return
    span, steps = float(np.ptp(angles)), np.diff(np.unique(angles))
    if span == 0:
        raise BadInput(f"{path}: all {len(angles)} angles are {angles[0] + 0.0:g}; those of a tilt series were expected")
    if len(angles) < 4:
        return
    # Radians: all within a right angle, and too near to one another for any scheme of tilts that was ever taken.
    if np.abs(angles).max() < np.pi / 2 and (span < 3 or np.median(steps) < 0.1):
        degrees = np.rad2deg(angles)
        raise BadInput(
            f"{path}: {len(angles)} angles from {angles.min():g} to {angles.max():g}; degrees were expected: radians? "
            f"(in degrees they would be {degrees.min():.1f} to {degrees.max():.1f})"
        )
    if len(angles) >= 10 and np.array_equal(angles, np.arange(len(angles)) + angles[0]) and angles[0] in (0, 1):
        raise BadInput(
            f"{path}: angles {angles[0]:g}, {angles[1]:g}, {angles[2]:g} to {angles[-1]:g}: numbers of the images? tilt angles in "
            "degrees were expected"
        )
    _, times = np.unique(angles, return_counts=True)
    doubled = int(times[times > 1].sum())
    if doubled > max(2, len(angles) // 5):
        raise BadInput(
            f"{path}: {doubled} of {len(angles)} angles stand there more than once; each image's own was expected "
            "(frames of one tilt, or two series in one file?)"
        )
    if len(angles) >= 10 and span < 20:
        tell(f"{path}: {len(angles)} angles over a range of {span:g} degrees only; is it so?")
    if steps.max() > 3 * np.median(steps) and steps.max() > 15:
        tell(f"{path}: no tilt between {_before_gap(angles):g} degrees and the next, {steps.max():g} degrees on")


def _before_gap(angles: NDArray[np.float64]) -> float:
    ordered = np.unique(angles)
    return float(ordered[np.diff(ordered).argmax()])


def tomogram_grid(tilts: Path, shape: tuple[int, ...], pixel_angstrom: float, settings: ReconstructSettings) -> Grid:
    """The tomogram's box: the sample's, where the sidecar of the tilt series names it, at the settings' voxel size.

    ``settings.thickness_angstrom`` goes before the sample's thickness; without a sample, y and x are the images'.
    """
    metadata = read_sidecar(tilts)
    voxel = settings.voxel_size_angstrom
    images = Grid(shape=(2, shape[1], shape[2]), voxel_size_angstrom=pixel_angstrom).resampled(voxel).shape
    if "sample_shape_voxels" in metadata:
        z, y, x = (int(count) for count in metadata["sample_shape_voxels"])
        size = float(metadata["sample_voxel_size_angstrom"])
        sample = Grid(shape=(z, y, x), voxel_size_angstrom=size).resampled(voxel).shape
        if sample[1] > images[1] + 2 or sample[2] > images[2] + 2:
            raise BadInput(f"{tilts}: images of {images[1:]} voxels (y, x) are smaller than the sample, {sample[1:]}")
    elif settings.thickness_angstrom is None:
        raise BadInput(
            f"reconstruct.thickness_angstrom: none given, and {tilts}.json names no sample; a thickness in ångström was expected"
        )
    else:
        sample = images
    if settings.thickness_angstrom is not None:
        sample = (max(2, 2 * round(settings.thickness_angstrom / voxel / 2)), *sample[1:])
    return Grid(shape=sample, voxel_size_angstrom=voxel)
