"""Projected potentials from atoms: few channels of weighted points, deposited on slices, shaped in Fourier space.

The scattering factors of a sample's elements are written as ``f_e(g) = heavy_e m(g) + sum_k z_ek b_k(g)``, with one or two
terms k: at the resolution of a tilt series the elements differ little in shape, so two or three transforms a slice serve
all of them.  The first channel counts heavy atoms and also carries the ice that each displaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import jit_fast_math
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.scattering import ScatteringModel

Float32 = NDArray[np.float32]
CHANNEL_TOLERANCE = 0.006


@dataclass(frozen=True)
class Sample:
    """Molecules in ice.

    Attributes
    ----------
    atoms : sequence of ((N, 3) array, (N,) array)
        For each kind of molecule, (x, y, z) in Å from its origin, and atomic numbers.
    kind : (M,) array of int64
        Which of them each placed molecule is.
    rotation : (M, 3, 3) array
        Active, molecule to sample.
    position_angstrom : (M, 3) array
        (x, y, z) of the origins from the sample's centre, through which the tilt axis goes.
    ice : Slab or Cuboid
        The ice about them.
    """

    atoms: Sequence[tuple[Float32, NDArray[np.uint8]]]
    kind: NDArray[np.int64]
    rotation: NDArray[np.float64]
    position_angstrom: NDArray[np.float64]
    ice: Slab | Cuboid


@dataclass(frozen=True)
class Channels:
    """The scattering factors of some elements as sums of few functions of frequency.

    ``weight``: channel weights (C,) of each atomic number; the first is 1 for heavy atoms, 0 for hydrogen.
    ``frequency`` (F,) in 1/Å and ``factor`` (C, F) in ångström.
    """

    weight: dict[int, Float32]
    frequency: NDArray[np.float64]
    factor: NDArray[np.float64]


def element_channels(
    count: dict[int, int], scattering: ScatteringModel, maximum_frequency: float, tolerance: float = CHANNEL_TOLERANCE
) -> Channels:
    """Channels for elements with these numbers of atoms, exact to ``tolerance`` (rms over atoms and frequencies)."""
    elements = sorted(count)
    frequency = np.linspace(0, maximum_frequency, 256)
    factor = np.array([scattering.factor(element, frequency) for element in elements])
    heavy = np.array([float(element > 1) for element in elements])
    share = np.array([count[element] for element in elements], dtype=float)
    mean = (share * heavy) @ factor / max(1.0, share @ heavy)
    rest = factor - heavy[:, None] * mean
    _, strength, basis = np.linalg.svd(np.sqrt(share)[:, None] * rest, full_matrices=False)
    scale = np.sqrt((share[:, None] * factor**2).sum())
    error = np.sqrt(np.append(np.cumsum(strength[::-1] ** 2)[::-1], 0.0)) / scale
    kept = max(1, int(np.argmax(error <= tolerance)))
    weights = np.concatenate([heavy[:, None], rest @ basis[:kept].T], axis=1).astype(np.float32)
    return Channels(dict(zip(elements, weights, strict=True)), frequency, np.concatenate([mean[None], basis[:kept]]))


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
    count = np.zeros(256, dtype=np.int64)
    for kind, number in zip(*np.unique(sample.kind, return_counts=True), strict=True):
        count += number * np.bincount(sample.atoms[kind][1], minlength=256)
    present = [int(element) for element in np.flatnonzero(count)]
    channels = element_channels({z: int(count[z]) for z in present} or {6: 1}, scattering, maximum_frequency)
    table = np.zeros((256, len(channels.factor)), dtype=np.float32)
    for element, weight in channels.weight.items():
        table[element] = weight
    reach = np.zeros(256, dtype=np.float32)
    if scattering.solvent_exclusion is not None:
        for element in present:
            reach[element] = scattering.solvent_exclusion.radius_angstrom(element)
    position = [atoms for atoms, _ in sample.atoms] or [np.zeros((0, 3), np.float32)]
    return PointCloud(
        position=np.concatenate(position).astype(np.float32, copy=False),
        weight=np.concatenate([table[element] for _, element in sample.atoms] or [table[:0]]),
        start=np.cumsum([0, *(len(element) for _, element in sample.atoms)]),
        radius_angstrom=np.array([np.sqrt((atoms**2).sum(axis=1).max(initial=0)) for atoms, _ in sample.atoms]),
        exclusion_angstrom=np.concatenate([reach[element] for _, element in sample.atoms] or [reach[:0]]),
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
