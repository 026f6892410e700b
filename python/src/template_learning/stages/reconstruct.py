"""RECONSTRUCT: a tomogram from a tilt series."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, existing
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.reconstruction import imod
from template_learning.reconstruction.back_projection import back_project, resample_images
from template_learning.settings import ReconstructSettings


def reconstruct_series(tilts: Path, angles: Path, identifier: str, settings: ReconstructSettings, output: Path) -> None:
    """Write ``<id>.mrc``, float32 [z, y, x], from a tilt series [tilt, y, x] and its angles in degrees, one a line.

    The tomogram has the settings' voxel size and shares the sample's centre (and box, where the series' sidecar names
    one).  Raises BadInput where the files disagree or the thickness is not known.
    """
    begun = time.perf_counter()
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
        tomogram, facts = imod.reconstruct(tilts, angles_deg, pixel, grid, width)
    else:
        binned = resample_images(images, pixel, (grid.shape[1], width), grid.voxel_size_angstrom)
        tomogram, facts = back_project(binned, angles_deg, grid.shape), {"program": "native"}
    path = output / f"{identifier}.mrc"
    write_mrc(path, tomogram, grid.voxel_size_angstrom)
    write_sidecar(
        path,
        stage="reconstruct",
        item=identifier,
        seed=None,
        settings=settings,
        shape_voxels=list(grid.shape),
        voxel_size_angstrom=grid.voxel_size_angstrom,
        pixel_size_angstrom=pixel,
        angles_deg=angles_deg,
        reconstruction_seconds=round(time.perf_counter() - begun, 3),
        **facts,
    )


def read_angles(path: Path) -> NDArray[np.float64]:
    """Tilt angles in degrees, one a line; BadInput for anything else."""
    try:
        angles = np.array([float(line) for line in existing(path).read_text().split()])
    except ValueError as error:
        raise BadInput(f"{path}: {error}; one tilt angle in degrees a line was expected") from None
    if len(angles) == 0 or not np.isfinite(angles).all() or np.abs(angles).max() > 90:
        raise BadInput(f"{path}: tilt angles between -90 and 90 degrees, one a line, were expected")
    return angles


def tomogram_grid(tilts: Path, shape: tuple[int, ...], pixel_angstrom: float, settings: ReconstructSettings) -> Grid:
    """The tomogram's box: the sample's, where the sidecar of the tilt series names it, at the settings' voxel size.

    ``settings.thickness_angstrom`` goes before the sample's thickness; without a sample, y and x are the images'.
    """
    facts = read_sidecar(tilts)
    voxel = settings.voxel_size_angstrom
    images = Grid(shape=(2, shape[1], shape[2]), voxel_size_angstrom=pixel_angstrom).resampled(voxel).shape
    if "sample_shape_voxels" in facts:
        z, y, x = (int(count) for count in facts["sample_shape_voxels"])
        size = float(facts["sample_voxel_size_angstrom"])
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
