"""LABEL: the exact truth of a simulated tomogram, on its grid."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid, move_between_grids, rotation_from_angles
from template_learning.common.tables import ParticleRow
from template_learning.settings import LabelSettings
from template_learning.structures.density import density_of_atoms
from template_learning.structures.library import LibraryEntry

Region = tuple[slice, slice, slice]


def draw_labels(
    particles: list[ParticleRow], library: dict[str, LibraryEntry], grid: Grid, settings: LabelSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Which class, and which particle, has each voxel.

    Where two molecules claim a voxel the one whose density is nearer to its own maximum has it.

    Parameters
    ----------
    particles : list of ParticleRow
        What is there; positions (x, y, z) in Å from the centre of the grid's voxel (0, 0, 0).
    library : dict of str to LibraryEntry
        The molecules that the particles name.
    grid : Grid
        Of the tomogram.
    settings : LabelSettings
        Shapes or spheres, and what bounds them.

    Returns
    -------
    labels : (z, y, x) array of uint8
        Classes; 0 is the background and distractors.
    instances : (z, y, x) array of uint32
        Numbers of particles, distractors too; 0 is the background.
    """
    labels = np.zeros(grid.shape, dtype=np.uint8)
    instances = np.zeros(grid.shape, dtype=np.uint32)
    claim = np.zeros(grid.shape, dtype=np.float32)
    densities: dict[str, NDArray[np.float32]] = {}
    thresholds: dict[str, float] = {}
    spacing = min(grid.voxel_size_angstrom, settings.resolution_angstrom / 4)
    for particle in particles:
        if settings.kind == "sphere" and particle.class_id > 0:
            region, strength = _sphere(particle, grid, settings.sphere_radius_angstrom)
        else:
            if particle.molecule not in densities:
                densities[particle.molecule], thresholds[particle.molecule] = _relative_density(
                    library[particle.molecule], spacing, settings
                )
            region, strength = _shape(particle, grid, densities[particle.molecule], spacing, thresholds[particle.molecule])
        taken = strength > claim[region]
        claim[region][taken] = strength[taken]
        labels[region][taken] = particle.class_id
        instances[region][taken] = particle.particle
    return labels, instances


def molecule_axis(position_angstrom: NDArray[np.floating]) -> NDArray[np.float64]:
    """The molecule's axis: that principal axis whose spread differs most from the others'.

    The short axis of a disc, the long one of a rod; its sign has no meaning.

    Parameters
    ----------
    position_angstrom : (N, 3) array
        (x, y, z) of the atoms, Å.

    Returns
    -------
    (3,) array
        Unit vector (x, y, z).
    """
    centred = position_angstrom - position_angstrom.mean(axis=0)
    spread, axes = np.linalg.eigh(centred.T.astype(float) @ centred.astype(float))
    return np.asarray(axes[:, 0] if spread[1] - spread[0] > spread[2] - spread[1] else axes[:, 2])


def moved_particle(row: ParticleRow, sample: Grid, grid: Grid, axis: NDArray[np.float64]) -> ParticleRow:
    """The particle in ångström of the tomogram's grid instead of the sample's, with the direction of its molecule's axis."""
    x, y, z = move_between_grids((row.x_angstrom, row.y_angstrom, row.z_angstrom), sample, grid)
    axis = _rotation(row).apply(axis)
    axis = axis if axis[2] >= 0 else -axis
    return row.model_copy(
        update={
            "x_angstrom": float(x),
            "y_angstrom": float(y),
            "z_angstrom": float(z),
            "axis_x": float(axis[0]),
            "axis_y": float(axis[1]),
            "axis_z": float(axis[2]),
        }
    )


def _rotation(row: ParticleRow) -> Rotation:
    return rotation_from_angles(np.array((row.rot_deg, row.tilt_deg, row.psi_deg), dtype=float))


def _relative_density(
    entry: LibraryEntry, spacing_angstrom: float, settings: LabelSettings
) -> tuple[NDArray[np.float32], float]:
    """The density against its maximum, and what bounds the shape there.  Raises BadInput where nothing reaches the level."""
    position, element, *_ = entry.atoms()
    density = density_of_atoms(position, element, spacing_angstrom, settings.resolution_angstrom)
    highest = float(density.max())
    if settings.grey_level is None:
        return density / highest, settings.density_threshold
    if highest <= settings.grey_level:
        raise BadInput(
            f"label.grey_level = {settings.grey_level:g}: the density of {entry.row.molecule!r} is {highest:.3g} at most; "
            "a lower level was expected"
        )
    return density / highest, settings.grey_level / highest


def _region(particle: ParticleRow, grid: Grid, half: int) -> tuple[Region, tuple[NDArray[np.float64], ...]]:
    """The part of the grid within ``half`` voxels of the particle, and its voxels' z, y, x from the particle in voxels."""
    centre = np.array((particle.z_angstrom, particle.y_angstrom, particle.x_angstrom)) / grid.voxel_size_angstrom
    low = np.clip(np.floor(centre).astype(int) - half, 0, grid.shape)
    high = np.clip(np.ceil(centre).astype(int) + half + 1, 0, grid.shape)
    region = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    offsets = tuple(np.arange(low[axis], high[axis]) - centre[axis] for axis in range(3))
    return region, tuple(np.meshgrid(*offsets, indexing="ij"))


def _sphere(particle: ParticleRow, grid: Grid, radius_angstrom: float) -> tuple[Region, NDArray[np.float32]]:
    """Where a sphere is and how deep each voxel lies in it: 1 at its surface to 2 at its centre, before any shape."""
    radius = radius_angstrom / grid.voxel_size_angstrom
    region, (z, y, x) = _region(particle, grid, int(np.ceil(radius)))
    depth = 2.0 - np.sqrt(z**2 + y**2 + x**2) / radius
    return region, np.where(depth >= 1, depth, 0).astype(np.float32)


def _shape(
    particle: ParticleRow, grid: Grid, density: NDArray[np.float32], spacing_angstrom: float, threshold: float
) -> tuple[Region, NDArray[np.float32]]:
    """Where a turned molecule is and its density there against its maximum; 0 at and below the threshold."""
    scale = grid.voxel_size_angstrom / spacing_angstrom
    half = density.shape[0] // 2
    region, (z, y, x) = _region(particle, grid, int(np.ceil(half / scale)))
    rotation = _rotation(particle).as_matrix()
    # A voxel at r in the tomogram shows the structure's point R^-1 r = r R.
    source = np.stack((x, y, z), axis=-1) * scale @ rotation
    index = source[..., ::-1].transpose(3, 0, 1, 2) + half
    value = ndimage.map_coordinates(density, index, order=1, mode="constant", cval=0.0, prefilter=False)
    return region, np.where(value > threshold, value, 0).astype(np.float32)
