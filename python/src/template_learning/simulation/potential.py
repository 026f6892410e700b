"""Projected potentials from atoms: few channels of weighted points, deposited on slices, shaped in Fourier space.

An atom's scattering factor, the hydrogens that ride on it counted, is written as ``f_a(g) = v_a m(g) + sum_k z_ak b_k(g)``,
with few terms k: at the resolution of a tilt series atoms differ little in shape, so two or three transforms a slice serve
all of them.  In the first channel each has the volume ``v_a`` of ice that it displaces; it carries that ice, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import jit_fast_math
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.scattering import ScatteringModel
from template_learning.structures.atoms import HEAVY_ATOM_ANGSTROM3, Atoms

Float32 = NDArray[np.float32]
CHANNEL_TOLERANCE = 0.006


@dataclass(frozen=True)
class Sample:
    """Molecules in ice.

    Attributes
    ----------
    atoms : sequence of Atoms
        Those of each kind of molecule, positions from its origin.
    kind : (M,) array of int64
        Which of them each placed molecule is.
    rotation : (M, 3, 3) array
        Active, molecule to sample.
    position_angstrom : (M, 3) array
        (x, y, z) of the origins from the sample's centre, through which the tilt axis goes.
    ice : Slab or Cuboid
        The ice about them.
    """

    atoms: Sequence[Atoms]
    kind: NDArray[np.int64]
    rotation: NDArray[np.float64]
    position_angstrom: NDArray[np.float64]
    ice: Slab | Cuboid


@dataclass(frozen=True)
class Channels:
    """The scattering of some atoms and of the ice that they displace as sums of few functions of frequency.

    An atom's weight (C,) is linear in what it is made of: ``element`` (256, C) by atomic number, ``hydrogen`` (C,) for each
    hydrogen that rides on it, ``displaced`` (C,) for each HEAVY_ATOM_ANGSTROM3 of ice.  In the first channel an atom has as
    many of these volumes as it displaces.  ``frequency`` (F,) in 1/Å and ``factor`` (C, F) in ångström.
    """

    element: Float32
    hydrogen: Float32
    displaced: Float32
    frequency: NDArray[np.float64]
    factor: NDArray[np.float64]

    def weight(self, atoms: Atoms) -> Float32:
        """The atoms' weights (N, C)."""
        found = self.element[atoms.element]
        for column, per in ((atoms.hydrogens, self.hydrogen), (_volumes(atoms), self.displaced)):
            found += np.asarray(column, dtype=np.float32)[:, None] * per
        return found


def _volumes(atoms: Atoms) -> Float32:
    return np.asarray(atoms.displaced_angstrom3 / np.float32(HEAVY_ATOM_ANGSTROM3), dtype=np.float32)


def atom_channels(
    atoms: Sequence[Atoms],
    count: Sequence[int],
    scattering: ScatteringModel,
    maximum_frequency: float,
    tolerance: float = CHANNEL_TOLERANCE,
) -> Channels:
    """Channels for so many copies of each molecule, exact to ``tolerance`` (rms over atoms and frequencies).

    An atom's factor is that of its element and of its hydrogens.  The first channel's function is the one that atoms follow
    best by the ice that they displace; what is left of each atom's factor goes into the others.
    """
    moment = np.zeros((258, 258))  # of elements, hydrogens (256) and displaced volumes (257), over all atoms
    for molecule, copies in zip(atoms, count, strict=True):
        if not copies:
            continue
        of_atom = np.stack([molecule.hydrogens, _volumes(molecule)]).astype(float)
        by_element = [np.bincount(molecule.element, row, minlength=256) for row in (np.ones(len(molecule.element)), *of_atom)]
        moment[np.arange(256), np.arange(256)] += copies * by_element[0]
        for row in (0, 1):
            moment[256 + row, :256] += copies * by_element[1 + row]
        moment[256:, 256:] += copies * (of_atom @ of_atom.T)
    moment[:256, 256:] = moment[256:, :256].T
    elements = [int(z) for z in np.flatnonzero(np.diag(moment)[:256]) if z] or [6]
    frequency = np.linspace(0, maximum_frequency, 256)
    basis = np.array([scattering.factor(z, frequency) for z in (*elements, 1)])  # the last: hydrogens that ride on others
    moment = moment[np.ix_([*elements, 256, 257], [*elements, 256, 257])]
    parts = len(basis)
    mean = moment[parts, :parts] / moment[parts, parts] if moment[parts, parts] > 0 else np.zeros(parts)
    # What is left of an atom: its parts less the mean for each volume that it displaces.
    left = np.concatenate([np.eye(parts), -mean[None]])
    spread, axes = np.linalg.eigh(left.T @ moment @ left)
    _, strength, shape = np.linalg.svd(np.sqrt(np.clip(spread, 0, None))[:, None] * (axes.T @ basis), full_matrices=False)
    scale = np.sqrt(np.einsum("af,ab,bf->", basis, moment[:parts, :parts], basis)) or 1.0
    error = np.sqrt(np.append(np.cumsum(strength[::-1] ** 2)[::-1], 0.0)) / scale
    kept = max(1, int(np.argmax(error <= tolerance)))
    weight = left @ basis @ shape[:kept].T  # of each part, and of a displaced volume
    element = np.zeros((256, kept + 1), dtype=np.float32)
    element[elements, 1:] = weight[: len(elements)]
    return Channels(
        element=element,
        hydrogen=np.array([0, *weight[-2]], dtype=np.float32),
        displaced=np.array([1, *weight[-1]], dtype=np.float32),
        frequency=frequency,
        factor=np.concatenate([(mean @ basis)[None], shape[:kept]]),
    )


@dataclass(frozen=True)
class PointCloud:
    """All kinds of molecules of a sample, one after another: ``position`` (T, 3), channel ``weight`` (T, C).

    ``start`` (K + 1,) bounds each kind's points; ``radius_angstrom`` (K,) is that of a ball about its origin.
    ``exclusion_angstrom`` (T,) is the reach within which a point displaces ice, where atoms exclude solvent.
    """

    position: Float32
    weight: Float32
    start: NDArray[np.int64]
    radius_angstrom: NDArray[np.float64]
    exclusion_angstrom: Float32
    channels: Channels


def point_cloud(sample: Sample, scattering: ScatteringModel, maximum_frequency: float) -> PointCloud:
    """The points of a sample's molecules with channels that hold up to ``maximum_frequency`` (1/Å)."""
    count = np.bincount(sample.kind, minlength=len(sample.atoms)).tolist()
    channels = atom_channels(sample.atoms, count, scattering, maximum_frequency)
    reach = np.zeros(256, dtype=np.float32)
    if scattering.solvent_exclusion is not None:
        for element in np.unique(np.concatenate([atoms.element for atoms in sample.atoms] or [np.zeros(0, np.uint8)])):
            reach[element] = scattering.solvent_exclusion.radius_angstrom(int(element)) if element else 0.0
    position = [atoms.position_angstrom for atoms in sample.atoms] or [np.zeros((0, 3), np.float32)]
    return PointCloud(
        position=np.concatenate(position).astype(np.float32, copy=False),
        weight=np.concatenate([channels.weight(atoms) for atoms in sample.atoms] or [channels.element[:0]]),
        start=np.cumsum([0, *(len(atoms.element) for atoms in sample.atoms)]),
        radius_angstrom=np.array([np.sqrt((some**2).sum(axis=1).max(initial=0)) for some in position[: len(sample.atoms)]]),
        exclusion_angstrom=np.concatenate([reach[atoms.element] for atoms in sample.atoms] or [reach[:0]]),
        channels=channels,
    )


@jit_fast_math
def deposit(
    planes: Float32,
    position: Float32,
    weight: Float32,
    start: NDArray[np.int64],
    kind: NDArray[np.int64],
    rotation: Float32,
    shift: Float32,
) -> None:
    """Add molecules' points to ``slices`` [slice, channel, y, x], a quadratic B-spline in x and y, to the nearest slice in z.

    Molecule i's points are those of ``kind[i]``, at ``rotation[i] @ point + shift[i]`` in units of pixels and slices.
    Points off the grid are left out; channels beyond the weights' stay as they are.
    """
    depth, _, height, width = planes.shape
    channels = weight.shape[1]
    half = np.float32(0.5)
    for i in range(len(kind)):
        r00, r01, r02 = rotation[i, 0, 0], rotation[i, 0, 1], rotation[i, 0, 2]
        r10, r11, r12 = rotation[i, 1, 0], rotation[i, 1, 1], rotation[i, 1, 2]
        r20, r21, r22 = rotation[i, 2, 0], rotation[i, 2, 1], rotation[i, 2, 2]
        left, top, front = shift[i, 0], shift[i, 1], shift[i, 2]
        for j in range(start[kind[i]], start[kind[i] + 1]):
            px, py, pz = position[j, 0], position[j, 1], position[j, 2]
            x = r00 * px + r01 * py + r02 * pz + left
            y = r10 * px + r11 * py + r12 * pz + top
            z = r20 * px + r21 * py + r22 * pz + front
            if x < 1 or y < 1 or x >= width - 2 or y >= height - 2 or z < -half or z >= depth - half:
                continue
            column, row, plane = int(x + half), int(y + half), int(z + half)
            fx, fy = x - np.float32(column), y - np.float32(row)
            x0, x1, x2 = half * (half - fx) ** 2, np.float32(0.75) - fx * fx, half * (half + fx) ** 2
            y0, y1, y2 = half * (half - fy) ** 2, np.float32(0.75) - fy * fy, half * (half + fy) ** 2
            for c in range(channels):
                value = weight[j, c]
                for dy, wy in ((-1, value * y0), (0, value * y1), (1, value * y2)):
                    planes[plane, c, row + dy, column - 1] += wy * x0
                    planes[plane, c, row + dy, column] += wy * x1
                    planes[plane, c, row + dy, column + 1] += wy * x2


@jit_fast_math
def _scratch(radius: float, pixel: float, thickness: float) -> tuple[int, int]:
    """Pixels across and slices of a box that holds what a molecule displaces."""
    return 2 * int(np.ceil(radius / pixel)) + 2 * int(np.ceil(8 / pixel)) + 9, 2 * int(np.ceil(radius / thickness)) + 5


@jit_fast_math
def deposit_excluded_solvent(
    planes: Float32,
    position: Float32,
    reach: Float32,
    radius: Float32,
    start: NDArray[np.int64],
    kind: NDArray[np.int64],
    rotation: Float32,
    shift: Float32,
    scale: Float32,
    pixel: float,
    thickness: float,
) -> None:
    """Add the volume in Å^3 that molecules' atoms displace to the last channel of ``slices`` [slice, channel, y, x].

    An atom displaces what lies within ``reach`` of it in its slice of ``thickness`` ångström, on a grid of ``pixel``
    ångström; what several atoms of one molecule displace counts once.  Molecule i's atoms are at ``rotation[i] @ point +
    shift[i]`` in ångström; ``scale`` (3, 2) takes (x, y, z) to indices of the slices as factor and offset.
    """
    depth, last, height, width = planes.shape
    most = 0
    for i in range(len(kind)):
        side, floors = _scratch(radius[kind[i]], pixel, thickness)
        most = max(most, floors * side * side)
    taken = np.zeros(most, np.uint8)
    volume = np.float32(pixel * pixel * thickness)
    for i in range(len(kind)):
        side, floors = _scratch(radius[kind[i]], pixel, thickness)
        taken[: floors * side * side] = 0
        left = int(np.floor(shift[i, 0] / pixel)) - side // 2
        top = int(np.floor(shift[i, 1] / pixel)) - side // 2
        bottom = int(np.floor(shift[i, 2] / thickness)) - floors // 2
        r00, r01, r02 = rotation[i, 0, 0], rotation[i, 0, 1], rotation[i, 0, 2]
        r10, r11, r12 = rotation[i, 1, 0], rotation[i, 1, 1], rotation[i, 1, 2]
        r20, r21, r22 = rotation[i, 2, 0], rotation[i, 2, 1], rotation[i, 2, 2]
        for j in range(start[kind[i]], start[kind[i] + 1]):
            px, py, pz = position[j, 0], position[j, 1], position[j, 2]
            x = r00 * px + r01 * py + r02 * pz + shift[i, 0]
            y = r10 * px + r11 * py + r12 * pz + shift[i, 1]
            z = r20 * px + r21 * py + r22 * pz + shift[i, 2]
            story = int(np.floor(z / thickness))
            plane = int(np.floor((story + 0.5) * thickness * scale[2, 0] + scale[2, 1] + 0.5))
            if plane < 0 or plane >= depth:
                continue
            for row in range(int(np.ceil((y - reach[j]) / pixel)), int(np.floor((y + reach[j]) / pixel)) + 1):
                v = row * pixel * scale[1, 0] + scale[1, 1]
                if v < 0 or v >= height - 1:
                    continue
                below = int(v)
                fy = v - below
                half = np.sqrt(max(np.float32(0), reach[j] ** 2 - (row * pixel - y) ** 2))
                line = ((story - bottom) * side + row - top) * side - left
                for column in range(int(np.ceil((x - half) / pixel)), int(np.floor((x + half) / pixel)) + 1):
                    if taken[line + column]:
                        continue
                    taken[line + column] = 1
                    u = column * pixel * scale[0, 0] + scale[0, 1]
                    if u < 0 or u >= width - 1:
                        continue
                    before = int(u)
                    fx = u - before
                    planes[plane, last - 1, below, before] += volume * (1 - fy) * (1 - fx)
                    planes[plane, last - 1, below, before + 1] += volume * (1 - fy) * fx
                    planes[plane, last - 1, below + 1, before] += volume * fy * (1 - fx)
                    planes[plane, last - 1, below + 1, before + 1] += volume * fy * fx
