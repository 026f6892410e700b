"""Lipid bilayers as atoms: vesicles, made from a radius and a seed wherever they are needed instead of being stored.

The bilayer is fluid DPPC (Nagle and Tristram-Nagle 2000): 64 Å^2 for a lipid in each leaflet, heads 38.3 Å apart, chains
within 14.3 Å of the middle.  Heads are their heavy atoms (C10 N O8 P, a Gaussian).  The chains' density is even, but for the
middle, where they end in methyls, which take twice the room of methylenes.  Atoms carry their hydrogens (18 a head, 62 the
two chains) and displace their own volumes (319 Å^3 a head, 913 Å^3 the chains).

Made of heavy atoms alone, each of which displaces as much ice, chains would stand out of it too far: of their 30 carbons for
a lipid so many are set that they do, against protein, as potentials with hydrogens and volumes say: 0.51 of them.  For the
heads the same sum gives 1.02: all atoms.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import erf

from template_learning.common.geometry import random_rotations
from template_learning.structures.atoms import Atoms, bare_atoms

SPECIES = "vesicle"
AREA_ANGSTROM2 = 64.0
HEADS_APART_ANGSTROM = 38.3
HEAD_SIGMA_ANGSTROM = 2.8
HEAD = {6: 10, 7: 1, 8: 8, 15: 1}
HEAD_HYDROGENS, HEAD_ANGSTROM3 = 18, 319.0
CHAIN_CARBONS, CHAIN_HYDROGENS, CHAIN_ANGSTROM3 = 30, 62, 913.0
BARE_CHAIN_CARBONS = 0.51 * CHAIN_CARBONS
CHAIN_END_ANGSTROM = 14.3
CHAIN_END_SIGMA_ANGSTROM = 2.0
METHYL_SIGMA_ANGSTROM = 3.0
HALF_THICKNESS_ANGSTROM = HEADS_APART_ANGSTROM / 2 + 3 * HEAD_SIGMA_ANGSTROM
"""From the middle to the outermost atoms."""
PATCH_ANGSTROM = 120.0
# Atoms are spread evenly, by a sequence that fills space, not at random, which would be far grainier than a liquid; then
# shaken by this, so that no pattern is left.
SHAKEN_ANGSTROM = 1.5
PLASTIC = 1.32471795724474602596


def bilayer_profile(
    depth_angstrom: NDArray[np.floating], chain_carbons: float = CHAIN_CARBONS
) -> tuple[dict[int, NDArray[np.float64]], NDArray[np.float64]]:
    """Atoms in an Å^3 at distances from the bilayer's middle, of either sign: of each element in the heads, and chains' carbons."""
    depth = np.abs(np.asarray(depth_angstrom, dtype=float))
    offset = (depth - HEADS_APART_ANGSTROM / 2) / HEAD_SIGMA_ANGSTROM
    head = np.exp(-(offset**2) / 2) / (np.sqrt(2 * np.pi) * HEAD_SIGMA_ANGSTROM * AREA_ANGSTROM2)
    head = np.where(offset <= 3, head, 0.0)
    chains = 0.5 * (1 - erf((depth - CHAIN_END_ANGSTROM) / (np.sqrt(2) * CHAIN_END_SIGMA_ANGSTROM)))
    thin = 1 - 0.5 * np.exp(-((depth / METHYL_SIGMA_ANGSTROM) ** 2) / 2)
    missing = 0.5 * np.sqrt(np.pi / 2) * METHYL_SIGMA_ANGSTROM  # of one leaflet's length, at the middle
    chains = chains * thin * chain_carbons / (AREA_ANGSTROM2 * (CHAIN_END_ANGSTROM - missing))
    return {element: count * head for element, count in HEAD.items()}, chains


@dataclass(frozen=True)
class Vesicle:
    """A closed spherical bilayer; ``radius_angstrom`` is that of its middle."""

    radius_angstrom: float
    seed: int

    @property
    def name(self) -> str:
        """What it is called in tables: all that it is made from."""
        return f"{SPECIES}_r{self.radius_angstrom:.1f}_s{self.seed}"

    @classmethod
    def named(cls, name: str) -> "Vesicle | None":
        """The vesicle of this name; None for any other molecule's."""
        match = re.fullmatch(SPECIES + r"_r(\d+\.\d)_s(\d+)", name)
        return cls(float(match[1]), int(match[2])) if match else None

    @property
    def outer_radius_angstrom(self) -> float:
        """Radius of the ball that holds all atoms."""
        return self.radius_angstrom + HALF_THICKNESS_ANGSTROM

    def atoms(self, *, hydrogens: bool = True) -> Atoms:
        """The atoms, positions from its centre; the same at each call.  Without ``hydrogens``: fewer, heavy ones alone."""
        generator = np.random.default_rng(self.seed)
        depth = np.linspace(-HALF_THICKNESS_ANGSTROM, HALF_THICKNESS_ANGSTROM, 1025)
        middle = (depth[1:] + depth[:-1]) / 2
        heads, chains = bilayer_profile(middle, CHAIN_CARBONS if hydrogens else BARE_CHAIN_CARBONS)
        below = np.cumsum([*heads.values(), chains], axis=0)  # [element of heads or chains, depth]
        total = np.cumsum(below[-1] * 4 * np.pi * (self.radius_angstrom + middle) ** 2 * np.diff(depth))
        count = int(total[-1])
        index = np.arange(count)
        start = generator.random(3)
        height = 2 * (index + start[0]) / count - 1
        azimuth = 2 * np.pi * ((index / PLASTIC + start[1]) % 1)
        at = np.interp((index / PLASTIC**2 + start[2]) % 1 * total[-1], np.append(0.0, total), depth)
        cell = np.minimum(((at - depth[0]) / (depth[1] - depth[0])).astype(np.intp), len(middle) - 1)
        drawn = generator.random(count) * below[-1, cell]
        part = np.asarray(sum(drawn >= other for other in below[:-1, cell]))
        element = np.array([*heads, 6], np.uint8)[part]
        ring = np.sqrt(1 - height**2)
        direction = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), height], axis=1)
        direction += generator.normal(size=(count, 3)) * (SHAKEN_ANGSTROM / self.radius_angstrom)
        direction *= ((self.radius_angstrom + at) / np.linalg.norm(direction, axis=1))[:, None]
        position = random_rotations(1, generator)[0].apply(direction).astype(np.float32)
        if not hydrogens:
            return bare_atoms(position, element)
        chain, heavy = part == len(heads), sum(HEAD.values())
        riding = np.where(chain, np.float32(CHAIN_HYDROGENS / CHAIN_CARBONS), np.float32(HEAD_HYDROGENS / heavy))
        displaced = np.where(chain, np.float32(CHAIN_ANGSTROM3 / CHAIN_CARBONS), np.float32(HEAD_ANGSTROM3 / heavy))
        return Atoms(position, element, riding, displaced)


def patches(atom: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """A large molecule in pieces: for each the atoms about its middle, and that middle (x, y, z)."""
    cell = np.floor((atom - atom.min(axis=0)) / PATCH_ANGSTROM).astype(np.int64)
    number = np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1))
    order = np.argsort(number, kind="stable")
    for piece in np.split(atom[order], np.flatnonzero(np.diff(number[order])) + 1):
        middle = (piece.min(axis=0).astype(float) + piece.max(axis=0)) / 2
        yield (piece - middle).astype(np.float32), middle


def remove_clashing_lipids(atoms: Atoms, others: Iterable[NDArray[np.floating]], distance_angstrom: float) -> Atoms:
    """``atoms`` without those nearer than ``distance_angstrom`` to one of the ``others`` (each (M, 3)): lipids make room."""
    position = atoms.position_angstrom
    keep = np.ones(len(position), bool)
    for other in others:
        low, high = other.min(axis=0) - distance_angstrom, other.max(axis=0) + distance_angstrom
        near = np.flatnonzero(((position > low) & (position < high)).all(axis=1))
        if len(near):
            found = cKDTree(other).query(position[near], distance_upper_bound=distance_angstrom)[0]
            keep[near[found < distance_angstrom]] = False
    return atoms.kept(keep)
