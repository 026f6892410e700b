"""Filaments: one unit repeated along a worm-like path, on a helical lattice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """How units follow one another: from step to step ``step_angstrom`` along the axis and ``twist_deg`` about it.

    A step has ``protofilaments`` units evenly about the axis, each ``stagger_angstrom`` further along it than the one
    before; their centres of mass lie ``radius_angstrom`` from the axis.
    """

    step_angstrom: float
    twist_deg: float
    radius_angstrom: float
    protofilaments: int = 1
    stagger_angstrom: float = 0.0


# The common microtubule: 13 straight protofilaments of 82 Å dimers on a left-handed helix of three starts (Chretien and
# Wade 1991; Amos and Schlieper 2005), so that once about the axis makes three monomers, one and a half dimers: the seam.
# The wall's middle lies between its inner and outer radii, 85 and 125 Å.
MICROTUBULE = Lattice(
    step_angstrom=82.0, twist_deg=0.0, radius_angstrom=105.0, protofilaments=13, stagger_angstrom=-3 * 41.0 / 13
)


def unit_frame(atom: NDArray[np.floating], on_axis: bool = False) -> Rotation:
    """The rotation that takes a unit's structure to its lattice: filament along z, outwards along x.

    The rule: the long principal axis runs along the filament, the short one around it, the middle one outwards, as actin and
    tubulin lie; each points to where the atoms reach farther.  A unit ``on_axis`` (a ring, a whole turn) has its axis, the
    principal one that differs most from the others, along the filament.
    """
    centred = atom.astype(float) - atom.mean(axis=0, dtype=float)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    if on_axis and spread[1] - spread[0] > spread[2] - spread[1]:
        axes = axes[:, ::-1]
    reach = centred @ axes
    axes = axes * np.where(reach.max(axis=0) >= -reach.min(axis=0), 1.0, -1.0)
    outwards, along = axes[:, 1], axes[:, 2]
    return Rotation.from_matrix(np.stack([outwards, np.cross(along, outwards), along]))


def chain(
    lattice: Lattice, length_angstrom: float, persistence_angstrom: float, generator: np.random.Generator
) -> tuple[Array, Rotation]:
    """Units of a filament that starts at the origin along z: positions (N, 3) and rotations from the lattice's frame.

    The path is a worm-like chain (Kratky and Porod 1949): directions ``s`` apart have a mean cosine of
    exp(-s / persistence).  Units of one step follow one another.
    """
    steps = max(1, int(length_angstrom / lattice.step_angstrom))
    bend = generator.normal(size=(steps, 2)) * np.sqrt(lattice.step_angstrom / persistence_angstrom)
    frame, path = Rotation.identity(), np.zeros(3)
    number = np.arange(lattice.protofilaments)
    z = np.array([0.0, 0.0, 1.0])
    around = Rotation.from_rotvec(number[:, None] * z * (2 * np.pi / lattice.protofilaments))
    offset = around.apply([lattice.radius_angstrom, 0.0, 0.0]) + number[:, None] * z * lattice.stagger_angstrom
    twist = Rotation.from_rotvec(z * np.deg2rad(lattice.twist_deg))
    position, rotation = [], []
    for x, y in bend:
        position.append(path + frame.apply(offset))
        rotation.append(frame * around)
        path = path + frame.apply(z) * lattice.step_angstrom
        frame = frame * Rotation.from_rotvec([x, y, 0.0]) * twist
    return np.concatenate(position), Rotation.concatenate(rotation)
