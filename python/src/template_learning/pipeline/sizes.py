"""What a run's parameters come to together: volumes that no memory holds, and molecules that no voxel shows."""

from collections.abc import Collection, Sequence
from math import prod

from template_learning.common.errors import BadInput
from template_learning.settings import Settings

MOST_VOXELS = 2_000_000_000
"""Of one volume or tilt series: 8 GB of floats."""
LEAST_SLICES = 4
RADIANS = 3.15
LEAST_DOSE = 10.0
"""Electrons per Å^2 of a whole series, of which fewer show nothing."""
LEAST_ACROSS = 3.0
"""Voxels across a molecule, of which fewer show no shape."""


def check_sizes(settings: Settings, stages: Collection[str], diameter_angstrom: Sequence[float]) -> list[str]:
    """Refuse volumes that are too large or too small to be worked with; what is doubted otherwise, a line each.

    ``stages`` are those of the run, ``diameter_angstrom`` the templates'.
    """
    grid, voxel = settings.volume.voxel_size_angstrom, settings.reconstruct.voxel_size_angstrom
    box = [count * grid for count in settings.tetris.shape_voxels]
    if "tetris" in stages:
        packed = settings.tetris.packing_voxel_size_angstrom or grid
        name = "tetris.packing_voxel_size_angstrom" if packed != grid else "tetris.shape_voxels"
        _check_voxels(f"parameter {name}: a box", box, packed)
    if "simulate" in stages:
        pixel = settings.simulate.pixel_size_angstrom or voxel / 2
        tilts = max(2 * int(r / s) + 1 for r in settings.design.tilt_range_deg for s in settings.design.tilt_step_deg)
        _check_voxels(f"parameter simulate.pixel_size_angstrom: {tilts} tilts", [tilts * pixel, *box[1:]], pixel)
    if "volume" in stages and settings.volume.resolution_angstrom < grid:
        raise BadInput(
            f"parameter volume.resolution_angstrom = {settings.volume.resolution_angstrom:g}: at least volume.voxel_size_angstrom, "
            f"{grid:g}, was expected"
        )
    if "reconstruct" not in stages:
        return []
    thickness = settings.reconstruct.thickness_angstrom or box[0]
    _check_voxels("parameter reconstruct.voxel_size_angstrom: a tomogram", [thickness, *box[1:]], voxel)
    if thickness < LEAST_SLICES * voxel:
        name = "thickness_angstrom" if settings.reconstruct.thickness_angstrom else "voxel_size_angstrom"
        raise BadInput(
            f"parameter reconstruct.{name}: tomograms of {thickness:g} Å in voxels of {voxel:g} Å; {LEAST_SLICES} slices at least "
            "were expected"
        )
    return _doubts(settings, stages, diameter_angstrom, min(box[1:]) / voxel)


def _doubts(
    settings: Settings, stages: Collection[str], diameter_angstrom: Sequence[float], narrowest_voxels: float
) -> list[str]:
    voxel, label = settings.reconstruct.voxel_size_angstrom, settings.label
    found = _doubted_units(settings) if "simulate" in stages and settings.design_table is None else []
    if "train" in stages and settings.train.patch_voxels > narrowest_voxels + 1:
        found.append(
            f"train.patch_voxels = {settings.train.patch_voxels}: larger than the simulated tomograms, {narrowest_voxels:.0f} voxels "
            "along y or x; what is beyond them teaches nothing"
        )
    if diameter_angstrom and min(diameter_angstrom) < LEAST_ACROSS * voxel:
        found.append(
            f"reconstruct.voxel_size_angstrom = {voxel:g}: the smallest template is {min(diameter_angstrom):.0f} Å across, "
            f"{min(diameter_angstrom) / voxel:.1f} voxels, too few to show its shape"
        )
    if "label" in stages and label.kind == "sphere" and diameter_angstrom:
        radius = label.sphere_radius_angstrom
        if radius > max(diameter_angstrom):
            found.append(
                f"label.sphere_radius_angstrom = {radius:g}: a sphere more than twice as large as the largest template, "
                f"{max(diameter_angstrom):.0f} Å across; its neighbours would be labelled too"
            )
        if radius < voxel:
            found.append(f"label.sphere_radius_angstrom = {radius:g}: less than a voxel ({voxel:g} Å) is labelled")
    return found


def _doubted_units(settings: Settings) -> list[str]:
    """Of the design: what looks like another unit than the parameter's."""
    design = settings.design
    found = []
    if 0 < max(design.phase_shift_deg) <= RADIANS:
        found.append(f"design.phase_shift_deg = {max(design.phase_shift_deg):g}: in radians, or in pi? degrees were expected")
    if max(design.tilt_range_deg) <= RADIANS:
        found.append(f"design.tilt_range_deg = {max(design.tilt_range_deg):g}: in radians? degrees were expected")
    if max(design.total_dose_e_per_angstrom2) < LEAST_DOSE:
        found.append(
            f"design.total_dose_e_per_angstrom2 = {max(design.total_dose_e_per_angstrom2):g}: of a tilt? that of the whole series was "
            "expected"
        )
    return found


def _check_voxels(what: str, edges_angstrom: Sequence[float], voxel_angstrom: float) -> None:
    counts = [max(1, round(edge / voxel_angstrom)) for edge in edges_angstrom]
    if prod(counts) > MOST_VOXELS:
        raise BadInput(
            f"{what} of {' x '.join(map(str, counts))} voxels of {voxel_angstrom:g} Å; {MOST_VOXELS:g} voxels at most were expected"
        )
