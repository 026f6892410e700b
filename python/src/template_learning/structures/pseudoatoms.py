"""Density maps as templates: a map becomes pseudo-atoms that FLEX, VOLUME and the simulators take like any structure.

The pseudo-atoms are as many as a protein of the molecule's weight has atoms besides hydrogens, and of its elements, so that
they scatter and push ice aside like it.  They are set so that their density (``density.py``) at the map's resolution is the
map: they begin as samples of the deconvolved map (Richardson 1972, Lucy 1974), drawn evenly along a space-filling curve, and
then move down the gradient of the squared difference.  One of each group of about eight is named CA, so that the elastic
network has as many nodes as a protein's.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from template_learning.common.errors import BadInput
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import MoleculeInput
from template_learning.structures.density import density_of_atoms, gaussian_width_angstrom, pull_of_field
from template_learning.structures.structure import PROTEIN_HYDROGENS_PER_ATOM, WEIGHT_DALTON, Structure

SUFFIXES = (".mrc", ".map", ".ccp4", ".rec")
DALTON_PER_ANGSTROM3 = 0.81
"""Protein of 1.35 g per cm^3."""
SHARE_OF_ELEMENT = {6: 0.637, 7: 0.174, 8: 0.189}
"""Of a protein's atoms besides hydrogens (its sulphur, 1 in 200, as carbon): the average of Senko et al. (J. Am. Soc. Mass
Spectrom. 1995), C 4.9384 H 7.7583 N 1.3577 O 1.4773 S 0.0417."""
DALTON_PER_ATOM = float(
    sum(share * WEIGHT_DALTON[element] for element, share in SHARE_OF_ELEMENT.items())
    + PROTEIN_HYDROGENS_PER_ATOM * WEIGHT_DALTON[1]
)
"""With its hydrogens."""
ATOMS_PER_NODE = 8
MOST_OF_BORDER = 0.9
"""A molecule touches less of its map's border, even in a map that is cut out tightly (EMD-3197: 0.53)."""
LEAST_ALIKE = 0.3
"""Correlation of voxels with their neighbours."""
LEAST_ATOMS = 200
"""However light the map: fewer would be too few nodes for the paper's 20 modes."""
MOST_NODES = 12_000
"""So that a large map can be flexed in a minute; groups grow beyond ``ATOMS_PER_NODE`` instead."""
FARTHEST_NODES_ANGSTROM = 8.5
"""Edge of a node's cell at most, however light the map: nodes farther apart would hardly be joined by springs of 15 Å."""
STEPS = 60
GOOD_ENOUGH = 0.995
"""The descent ends at this correlation with the map."""


@dataclass(frozen=True, eq=False)
class FittedMap:
    """Pseudo-atoms and how well they stand for their map."""

    structure: Structure
    correlation: float
    """Pearson's, over the voxels above the threshold."""
    correlation_around: float
    """The same over these voxels and those within a Gaussian's width of them."""
    threshold: float
    resolution_angstrom: float


def is_map(path: Path) -> bool:
    """Whether the file's name is that of a density map."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    return name.endswith(SUFFIXES)


@dataclass(frozen=True, eq=False)
class BoundedMap:
    """A density map and what of it is the molecule."""

    volume: NDArray[np.float64]
    """[z, y, x], protein bright."""
    inside: NDArray[np.bool_]
    """Above the threshold, without dust."""
    voxel_size_angstrom: float
    resolution_angstrom: float
    threshold: float
    mass_dalton: float

    @property
    def diameter_angstrom(self) -> float:
        """Of the sphere about the molecule's middle that holds its voxels."""
        place = np.argwhere(self.inside) * self.voxel_size_angstrom
        return float(2 * np.linalg.norm(place - place.mean(axis=0), axis=1).max())


def bound_map(path: Path, reading: MoleculeInput | None = None) -> BoundedMap:
    """The molecule in a density map, before anything is fitted.

    By default the resolution is twice the voxel size (at least 8 Å), the threshold Otsu's, and the mass that of protein
    filling the voxels above it.  Raises BadInput where the map is unreadable or flat, its voxels are no cubes or coarser
    than the resolution, nothing is above the threshold or nearly all of the border is, or the map is noise.
    """
    given = reading or MoleculeInput()
    volume, voxel_size_angstrom = _read_map(path)
    resolution = given.resolution_angstrom or max(2 * voxel_size_angstrom, 8.0)
    if resolution < voxel_size_angstrom:
        raise BadInput(
            f"{path}: a resolution of {resolution:g} Å; at least the voxel size ({voxel_size_angstrom:g} Å) was expected"
        )
    level = _otsu(volume) if given.threshold is None else given.threshold
    inside = _molecule(volume > level)
    if not inside.any():
        raise BadInput(f"{path}: no voxel is above the threshold {level:g} (the highest is {volume.max():g})")
    if volume[inside].max() <= 0:
        raise BadInput(f"{path}: no grey value above 0 in what is above the threshold {level:g}; protein bright was expected")
    border = np.ones(inside.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    share = float(inside[border].mean())
    if given.threshold is None and share > MOST_OF_BORDER:
        raise BadInput(
            f"{path}: {share:.0%} of the map's border is above the threshold {level:g}, as where protein is dark; a map with "
            "protein bright, or a threshold (column of the table), was expected"
        )
    alike = float(np.corrcoef(volume[1:].ravel(), volume[:-1].ravel())[0, 1])
    if not alike > LEAST_ALIKE:
        raise BadInput(f"{path}: neighbouring voxels are alike by {alike:.2f} only, as in noise; a density map was expected")
    mass = given.mass_dalton or float(inside.sum()) * voxel_size_angstrom**3 * DALTON_PER_ANGSTROM3
    return BoundedMap(volume, inside, voxel_size_angstrom, resolution, level, mass)


def _read_map(path: Path) -> tuple[NDArray[np.float64], float]:
    """A map's grey values [z, y, x] and voxel size in Å."""
    volume, voxel_size_angstrom = read_mrc(path)
    if volume.max() <= volume.min():
        raise BadInput(f"{path}: all voxels are {volume.min():g}; a density map was expected")
    return np.ascontiguousarray(volume, dtype=np.float64), voxel_size_angstrom


def fit_map(path: Path, reading: MoleculeInput | None = None) -> FittedMap:
    """Pseudo-atoms for a density map, protein bright; raises BadInput as ``bound_map``."""
    bounded = bound_map(path, reading)
    volume, inside, voxel_size_angstrom = bounded.volume, bounded.inside, bounded.voxel_size_angstrom
    resolution, level, mass = bounded.resolution_angstrom, bounded.threshold, bounded.mass_dalton
    width = gaussian_width_angstrom(resolution) / voxel_size_angstrom
    around = ndimage.distance_transform_edt(~inside) <= max(width, 1.0)
    wanted = np.where(around, np.clip(volume, 0, None), 0)
    count = max(round(mass / DALTON_PER_ATOM), LEAST_ATOMS)
    generator = np.random.default_rng(0)  # one map has one set of pseudo-atoms
    position = _sampled(_deconvolved(wanted, width / np.sqrt(2)), count, generator) * voxel_size_angstrom
    position = _descended(position, wanted, around, voxel_size_angstrom, resolution)
    note = f"density map: {count} pseudo-atoms of {mass / 1000:.0f} kDa at {resolution:g} Å, threshold {level:.4g}"
    structure = _structure(path.name.split(".")[0], position, generator)
    placed = structure.position_angstrom + structure.origin_angstrom
    given_back = density_of_atoms(placed, structure.element, voxel_size_angstrom, resolution, volume.shape)
    correlation = float(np.corrcoef(given_back[inside], volume[inside])[0, 1])
    return FittedMap(
        structure=replace(structure, notes=(f"{note}, correlation with the map {correlation:.3f}",)),
        correlation=correlation,
        correlation_around=float(np.corrcoef(given_back[around], volume[around])[0, 1]),
        threshold=level,
        resolution_angstrom=resolution,
    )


def _otsu(volume: NDArray[np.float64]) -> float:
    """The grey value that parts the voxels into two classes of the least variance within (Otsu 1979)."""
    count, edge = np.histogram(volume, bins=512)
    middle = (edge[:-1] + edge[1:]) / 2
    below, above = np.cumsum(count), np.cumsum(count[::-1])[::-1]
    mean_below = np.cumsum(count * middle) / np.maximum(below, 1)
    mean_above = (np.cumsum((count * middle)[::-1]) / np.maximum(above[::-1], 1))[::-1]
    between = below[:-1].astype(float) * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(middle[between.argmax()])


def _molecule(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part and those of at least a hundredth of it (dust is left out)."""
    label, count = ndimage.label(above, structure=np.ones((3, 3, 3)))
    if not count:
        return above
    size = np.bincount(label.ravel())
    size[0] = 0
    return np.isin(label, np.flatnonzero(size >= size.max() / 100)) & above


def _deconvolved(wanted: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A non-negative density that gives ``wanted`` after a Gaussian of ``sigma`` voxels, nearly (20 Richardson-Lucy steps)."""
    estimate = wanted.copy()
    floor = 1e-6 * wanted.max()
    for _ in range(20):
        blurred = ndimage.gaussian_filter(estimate, sigma, truncate=4)
        estimate *= ndimage.gaussian_filter(wanted / np.maximum(blurred, floor), sigma, truncate=4)
    return estimate


def _sampled(density: NDArray[np.float64], count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(count, 3) as (x, y, z) in voxels from the grid's centre: evenly spaced quantiles of ``density`` along a Morton curve."""
    place = np.argwhere(density > 0)
    curve = np.zeros(len(place), dtype=np.int64)
    for bit in range(int(place.max()).bit_length()):
        for axis in range(3):
            curve |= ((place[:, axis] >> bit) & 1) << (3 * bit + axis)
    place = place[np.argsort(curve)]
    total = np.cumsum(density[tuple(place.T)])
    chosen = np.searchsorted(total, (np.arange(count) + 0.5) / count * total[-1])
    index = place[chosen] + generator.uniform(-0.5, 0.5, (count, 3)) - (np.array(density.shape) - 1) / 2
    return index[:, ::-1]


def _descended(
    position: NDArray[np.float64],
    wanted: NDArray[np.float64],
    around: NDArray[np.bool_],
    voxel_size_angstrom: float,
    resolution_angstrom: float,
) -> NDArray[np.float64]:
    """Positions moved so that their density comes nearer to ``wanted`` (Adam, Kingma and Ba 2015; the scale is fitted)."""
    element = np.full(len(position), 1, dtype=np.uint8)
    first, second = np.zeros_like(position), np.zeros_like(position)
    longest = 0.15 * gaussian_width_angstrom(resolution_angstrom)
    for step in range(1, STEPS + 1):
        density = density_of_atoms(position, element, voxel_size_angstrom, resolution_angstrom, wanted.shape).astype(float)
        scale = float((wanted * density).sum() / (wanted**2).sum())
        if np.corrcoef(density[around], wanted[around])[0, 1] > GOOD_ENOUGH:
            break
        slope = pull_of_field(position, density - scale * wanted, voxel_size_angstrom, resolution_angstrom)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        size = np.sqrt(second / (1 - 0.99**step)) + 1e-12
        position = position - longest * (1 - step / (STEPS + 1)) * first / (1 - 0.9**step) / size
    return position


def _structure(name: str, position: NDArray[np.float64], generator: np.random.Generator) -> Structure:
    """Pseudo-atoms in groups of neighbours, the one nearest to each group's mean named CA; nitrogen and oxygen anywhere else."""
    low = position.min(axis=0)
    extent = np.maximum(np.ptp(position, axis=0), 1.0)
    occupied = len(np.unique(np.floor((position - low) / 6.0).astype(int), axis=0)) * 6.0**3
    per_node = max(ATOMS_PER_NODE, len(position) / MOST_NODES)
    edge = min(float((per_node * min(occupied, float(extent.prod())) / len(position)) ** (1 / 3)), FARTHEST_NODES_ANGSTROM)
    cell = np.floor((position - low) / edge).astype(int)
    group = np.unique(cell, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(group, kind="stable")
    position, group = position[order], group[order]
    size = np.bincount(group)
    mean = np.stack([np.bincount(group, column) / size for column in position.T], axis=1)
    distance = np.linalg.norm(position - mean[group], axis=1)
    node = np.lexsort((distance, group))[np.concatenate([[0], np.cumsum(size)[:-1]])]
    element, names = np.full(len(position), 6, dtype=np.uint8), np.full(len(position), "C", dtype="<U4")
    names[node] = "CA"
    others = generator.permutation(np.flatnonzero(names != "CA"))
    for number, symbol in ((7, "N"), (8, "O")):
        chosen, others = np.split(others, [round(SHARE_OF_ELEMENT[number] * len(position))])
        element[chosen], names[chosen] = number, symbol
    origin = position.mean(axis=0)
    return Structure(
        name=name,
        position_angstrom=position - origin,
        origin_angstrom=origin,
        element=element,
        atom_name=names,
        residue_name=np.full(len(position), "UNK"),
        residue_number=(group + 1).astype(np.int32),
        insertion_code=np.full(len(position), ""),
        chain=np.full(len(position), "A"),
        hetero=np.zeros(len(position), dtype=bool),
    )
