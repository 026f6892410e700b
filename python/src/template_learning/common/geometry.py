"""Axes, angles and coordinates: the conventions of every file and function, in one place.

* Arrays are ``[z, y, x]``.  Positions are ``(x, y, z)`` in ångström from the centre of voxel (0, 0, 0).
* The centre of a grid is ``(N - 1) / 2`` voxels on each axis.
* Rotations are active: they take the structure's frame to the tomogram's.  Tables hold RELION's (rot, tilt, psi) angles.
* Tilting is about y.  A point at (x, z) from the centre projects to ``u = x cos(t) + z sin(t)`` (IMOD's sense).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A box of voxels.

    Attributes
    ----------
    shape : (int, int, int)
        [z, y, x].
    voxel_size_angstrom : float
        Å.
    """

    shape: tuple[int, int, int]
    voxel_size_angstrom: float

    @property
    def centre_angstrom(self) -> NDArray[np.float64]:
        """(x, y, z) of the box's centre, from the centre of voxel (0, 0, 0)."""
        return (np.array(self.shape[::-1], dtype=float) - 1.0) / 2.0 * self.voxel_size_angstrom

    @property
    def extent_angstrom(self) -> NDArray[np.float64]:
        """(x, y, z) edge lengths of the box, voxel borders included."""
        return np.array(self.shape[::-1], dtype=float) * self.voxel_size_angstrom

    def resampled(self, voxel_size_angstrom: float) -> "Grid":
        """The box of the same extent (to the nearest even number of voxels) and centre at another voxel size."""
        count = np.maximum(2, 2 * np.round(self.extent_angstrom[::-1] / voxel_size_angstrom / 2).astype(int))
        return Grid(shape=(int(count[0]), int(count[1]), int(count[2])), voxel_size_angstrom=voxel_size_angstrom)


def move_between_grids(position_angstrom: ArrayLike, source: Grid, target: Grid) -> NDArray[np.float64]:
    """Positions counted from voxel (0, 0, 0) of one box, recounted from that of another with the same centre.

    Parameters
    ----------
    position_angstrom : (..., 3) array
        (x, y, z) in Å from the centre of voxel (0, 0, 0) of ``source``.
    source, target : Grid
        The boxes.

    Returns
    -------
    (..., 3) array
        (x, y, z) in Å from the centre of voxel (0, 0, 0) of ``target``.
    """
    return np.asarray(position_angstrom, dtype=float) - source.centre_angstrom + target.centre_angstrom


def rotation_from_angles(angles_deg: ArrayLike) -> Rotation:
    """The active rotation (structure to tomogram) of RELION's angles.

    RELION's matrix is the inverse of the intrinsic ZYZ rotation by (rot, tilt, psi); it takes the reference's
    coordinates to the particle's.

    Parameters
    ----------
    angles_deg : (..., 3) array
        (rot, tilt, psi) in degrees.

    Returns
    -------
    scipy.spatial.transform.Rotation
        Of vectors (x, y, z).
    """
    return Rotation.from_euler("ZYZ", np.asarray(angles_deg, dtype=float), degrees=True).inv()


def angles_from_rotation(rotation: Rotation) -> NDArray[np.float64]:
    """RELION's angles of active rotations (structure to tomogram).

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Of vectors (x, y, z).

    Returns
    -------
    (..., 3) array
        (rot, tilt, psi) in degrees; tilt lies in [0, 180].
    """
    with warnings.catch_warnings():
        # At tilt 0 or 180 only rot + psi or rot - psi is defined; scipy sets one of them to zero and warns.
        warnings.filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        return np.asarray(rotation.inv().as_euler("ZYZ", degrees=True))


def random_rotations(count: int, generator: np.random.Generator) -> Rotation:
    """Rotations uniform on SO(3) (normalised Gaussian quaternions).

    Parameters
    ----------
    count : int
        How many.
    generator : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    scipy.spatial.transform.Rotation
        ``count`` of them.
    """
    quaternion = generator.standard_normal((count, 4))
    return Rotation.from_quat(quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True))


def tilt_matrix(tilt_deg: float) -> NDArray[np.float64]:
    """The active rotation that brings a point to where a tilt puts it: u = x cos t + z sin t.

    The beam runs along the new z.

    Parameters
    ----------
    tilt_deg : float
        Degrees, about y.

    Returns
    -------
    (3, 3) array
        For vectors (x, y, z).
    """
    cosine, sine = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
