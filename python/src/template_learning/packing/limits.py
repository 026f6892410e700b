"""What can be packed at all: looked at by CHECK before any work, so that what is drawn later always fits."""

import math

from template_learning.common.errors import BadInput
from template_learning.packing.membranes import HALF_THICKNESS_ANGSTROM
from template_learning.packing.membranes_and_filaments import counts_by_species
from template_learning.settings import TetrisSettings


def body_reach_angstrom(settings: TetrisSettings, voxel_size_angstrom: float, resolution_angstrom: float) -> float:
    """How far a molecule's body can reach beyond its atoms.

    A sum of Gaussians of deviation s falls off outside the convex hull of their centres at least as exp(-d^2 / 2 s^2) from
    its maximum, so that a threshold t of it is passed within s sqrt(2 ln(1 / t)); then half a voxel's diagonal.
    """
    voxel = settings.packing_voxel_size_angstrom or voxel_size_angstrom
    grid = math.sqrt(3) / 2 * (voxel + voxel_size_angstrom)
    if settings.excluded_volume == "atoms":
        return grid
    blur = math.hypot(settings.smoothing_voxels * voxel_size_angstrom, resolution_angstrom / math.pi / math.sqrt(2))
    return blur * math.sqrt(2 * math.log(1 / settings.density_threshold)) + grid


def free_edges_angstrom(settings: TetrisSettings, voxel_size_angstrom: float) -> list[float]:
    """The edges [z, y, x] of what the margins leave of the box, in whole voxels of the grid that is packed on."""
    voxel = settings.packing_voxel_size_angstrom or voxel_size_angstrom
    margin = math.ceil(settings.margin_angstrom / voxel - 1e-6)
    return [(int(count * voxel_size_angstrom / voxel + 1e-6) - 2 * margin) * voxel for count in settings.shape_voxels]


def packed_thickness_angstrom(settings: TetrisSettings, voxel_size_angstrom: float) -> float:
    """The greatest thickness, along z, that molecules may take."""
    z, _, _ = free_edges_angstrom(settings, voxel_size_angstrom)
    thickness = [z, settings.slab_thickness_angstrom or z]
    if settings.filled_thickness_fraction[1] < 1:
        thickness.append(settings.filled_thickness_fraction[1] * settings.shape_voxels[0] * voxel_size_angstrom)
    return min(thickness)


def check_ice_thickness(ice_angstrom: float, packed_angstrom: float) -> None:
    """Raise BadInput for ice that is thinner than the molecules' layer in it."""
    if ice_angstrom < packed_angstrom - 1e-6:
        raise BadInput(
            f"design.ice_thickness_angstrom = {ice_angstrom:g}: molecules are packed over {packed_angstrom:.0f} Å; at least that, or a "
            "thinner tetris.slab_thickness_angstrom, was expected"
        )


def check_fits_box(settings: TetrisSettings, voxel_size_angstrom: float, resolution_angstrom: float, diameter: float) -> None:
    """Raise BadInput for a molecule, ``diameter`` Å across, whose body may be larger than the box less its margins."""
    free = min(free_edges_angstrom(settings, voxel_size_angstrom))
    body = diameter + 2 * body_reach_angstrom(settings, voxel_size_angstrom, resolution_angstrom)
    if body > free:
        raise BadInput(
            f"{diameter:.0f} Å across, with its excluded volume up to {body:.0f} Å, larger than the box's shortest edge less"
            f" margins ({free:.0f} Å); a larger tetris.shape_voxels was expected"
        )


def check_assemblies(settings: TetrisSettings, voxel_size_angstrom: float, species: set[str]) -> None:
    """Raise BadInput for species that are not there, membranes' molecules without vesicles, and vesicles that never fit."""
    vesicles = settings.vesicles
    for name, texts in (
        ("maximum_counts", settings.maximum_counts),
        ("filaments.counts", settings.filaments.counts),
        ("filaments.microtubules", settings.filaments.microtubules),
    ):
        counts_by_species(name, texts, species)
    wanted = counts_by_species("vesicles.membrane_molecules", vesicles.membrane_molecules, species)
    if any(count for count, _ in wanted.values()) and not vesicles.count:
        raise BadInput("tetris.vesicles.membrane_molecules: tetris.vesicles.count is 0; vesicles to set them in were expected")
    _, y, x = free_edges_angstrom(settings, voxel_size_angstrom)
    thickness = packed_thickness_angstrom(settings, voxel_size_angstrom)
    least = 2 * (vesicles.radius_angstrom[0] + HALF_THICKNESS_ANGSTROM)
    if vesicles.count and least > min(thickness, y, x):
        raise BadInput(
            f"tetris.vesicles.radius_angstrom = {vesicles.radius_angstrom[0]:g}: the smallest vesicle, {least:.0f} Å across, never"
            f" fits into what is packed ({min(thickness, y, x):.0f} Å); a larger tetris.shape_voxels or smaller vesicles were expected"
        )
