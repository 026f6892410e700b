"""FLEX: conformers of a template by normal-mode analysis (ProDy's anisotropic network model).

A conformer is the template plus the sum of the chosen modes, each a unit vector over all atoms times its amplitude in Å.
Every atom moves with the node of its residue, as in ProDy's ``extendMode(norm=True)``; an atom without one moves with the
nearest.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from template_learning.common.errors import BadInput
from template_learning.flexing.anm import SparseANM, connected_parts, joined_pairs
from template_learning.settings import FlexSettings
from template_learning.structures.structure import Structure

RIGID_MODES = 6
BOND_ANGSTROM = 2.0
BROKEN_ANGSTROM = 2.5
CLASH_ANGSTROM = 1.5
"""A bond between residues is shorter than the first; it is broken beyond the second; atoms clash within the third."""
STEP_ANGSTROM = 8.0
"""Nodes of neighbouring residues lie no farther apart."""


RMSD_POINTS = {"least": 0, "lower_quartile": 25, "median": 50, "upper_quartile": 75, "greatest": 100}
"""What is told of the conformers' RMSD: names and percentiles."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Modes:
    """The chosen modes of a molecule and how its atoms take part in them."""

    eigenvalue: NDArray[np.float64]
    collectivity: NDArray[np.float64]
    vector: NDArray[np.float64]
    """(core nodes, 3, modes), each mode of unit length over all atoms."""
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    weight: NDArray[np.float64]
    """Each atom moves as core node ``left`` by ``1 - weight`` and as core node ``right`` by ``weight``."""
    metadata: dict[str, Any]
    notes: tuple[str, ...]

    def displacement(self, amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) in Å: how amplitudes (modes,) move the atoms."""
        moved = self.vector @ amplitude
        weight = self.weight[:, None]
        return (1 - weight) * moved[self.left] + weight * moved[self.right]


def find_modes(structure: Structure, settings: FlexSettings) -> Modes:
    """Modes ``settings.first_mode`` to ``settings.modes`` of a molecule's elastic network, of those that move more than a loose end.

    They are counted from 1, from the lowest on, without those of zero (the rigid body's), and scaled to unit length over all
    atoms.

    Nodes with fewer than ``minimum_contacts`` springs, and parts not joined to the largest, are left out of the network,
    again and again until none is left; they follow the nodes before and after them in their chain.  (Where that would take
    half of the nodes, fewer springs are asked for.)  Modes whose collectivity (Brueschweiler 1995: the fraction of nodes
    that move) is below ``minimum_collectivity`` give way to the next.

    Parameters
    ----------
    structure : Structure
        The molecule; its atoms CA and P are the nodes.
    settings : FlexSettings
        Modes, the springs' cutoff in Å, and what counts as a loose end.

    Returns
    -------
    Modes
        Unit vectors over the nodes, and how each atom follows its node.

    Raises
    ------
    BadInput
        There are too few nodes, or they hang together in no larger part.

    References
    ----------
    Atilgan et al., Biophysical Journal 80 (2001) 505 (the anisotropic network model).
    """
    position = structure.position_angstrom
    node = structure.nodes
    wanted = settings.modes
    if len(node) * 3 - RIGID_MODES < wanted or len(node) < 3:
        raise BadInput(f"{structure.name}: {len(node)} atoms named CA or P; too few nodes for {settings.modes} modes")
    try:
        core = _core(position[node], settings)
    except BadInput as error:
        raise BadInput(f"{structure.name}: {error}") from None
    network = SparseANM(structure.name)
    network.buildHessian(position[node[core]], settings.cutoff_angstrom)
    count = wanted
    while True:
        network.calcModes(count)
        collectivity = network.collectivity()
        good = np.flatnonzero(collectivity >= settings.minimum_collectivity)
        limit = min(8 * wanted, 3 * len(core) - network.zero_modes)
        if len(good) >= wanted or count == limit:
            break
        count = min(2 * count, limit)
    if len(good) < wanted:
        good = np.sort(np.argsort(-collectivity, kind="stable")[:wanted])
    passed = int(good[wanted - 1] + 1 - wanted)
    chosen = good[settings.first_mode - 1 : wanted]
    notes = list(structure.notes)
    if len(core) < len(node):
        notes.append(f"{len(node) - len(core)} of {len(node)} nodes are loose ends: they follow their chain")
    if network.zero_modes > RIGID_MODES:
        notes.append(f"{network.zero_modes} modes of zero instead of {RIGID_MODES}: all were dropped")
    if passed:
        notes.append(f"{passed} modes move hardly more than a loose end: the next ones were taken")
    left, right, weight = _followed(structure, node, core)
    modes = Modes(
        eigenvalue=network.getEigvals()[chosen],
        collectivity=collectivity[chosen],
        vector=network.getArray()[:, chosen].reshape(-1, 3, len(chosen)),
        left=left,
        right=right,
        weight=weight,
        metadata={
            "atoms": len(position),
            "nodes": len(node),
            "loose_nodes": len(node) - len(core),
            "zero_modes": network.zero_modes,
            "passed_over_modes": passed,
        },
        notes=tuple(notes),
    )
    # One mode at a time: all of a ribosome's atoms by all modes would be a large array.
    length = np.array([np.linalg.norm(modes.displacement(unit)) for unit in np.eye(len(chosen))])
    return replace(modes, vector=modes.vector / length)


def _core(position: NDArray[np.float64], settings: FlexSettings) -> NDArray[np.intp]:
    """The nodes of the largest connected part in which each has at least ``minimum_contacts`` springs, or some fewer."""
    contacts = settings.minimum_contacts
    while contacts > 0:
        core = np.arange(len(position))
        while 2 * len(core) > len(position):
            pairs = joined_pairs(position[core], settings.cutoff_angstrom)
            held = np.bincount(pairs.ravel(), minlength=len(core)) >= contacts
            held &= connected_parts(pairs, len(core)) == 0
            if held.all():
                return core
            core = core[held]
        contacts //= 2
    if settings.minimum_contacts > 0:
        raise BadInput(
            f"springs of {settings.cutoff_angstrom:g} Å join fewer than half of the {len(position)} nodes (CA, P); "
            "a greater flex.cutoff_angstrom was expected"
        )
    return np.arange(len(position))


def _followed(
    structure: Structure, node: NDArray[np.intp], core: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each atom the two core nodes (as places in ``core``) whose motions it takes, and the weight of the second."""
    position = structure.position_angstrom
    tree = cKDTree(position[node[core]])
    left, right, weight = np.empty(len(node), np.intp), np.empty(len(node), np.intp), np.zeros(len(node))
    chain = structure.chain[node]
    place = np.full(len(node), -1)
    place[core] = np.arange(len(core))
    for name in np.unique(chain):
        members = np.flatnonzero(chain == name)
        steady = np.flatnonzero(place[members] >= 0)
        if len(steady):
            # Between two steady nodes the motion is interpolated; beyond the last it is that of the last.
            along = np.interp(np.arange(len(members)), steady, np.arange(len(steady)))
            low = np.floor(along).astype(np.intp)
            left[members] = place[members[steady[low]]]
            right[members] = place[members[steady[np.minimum(low + 1, len(steady) - 1)]]]
            weight[members] = along - low
            # Where nodes are not in the order of a chain (pseudo-atoms), the nearest steady node is followed.
            for side in (left, right):
                gap = np.abs(np.searchsorted(members, core[side[members]]) - np.arange(len(members)))
                far = members[
                    np.linalg.norm(position[node[members]] - position[node[core[side[members]]]], axis=1)
                    > STEP_ANGSTROM * np.maximum(gap, 1)
                ]
                side[far] = tree.query(position[node[far]])[1]
        else:
            left[members] = right[members] = tree.query(position[node[members]].mean(axis=0))[1]
    owner = _node_of_atoms(structure, node)
    return left[owner], right[owner], weight[owner]


def _node_of_atoms(structure: Structure, node: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each atom the node (as a place in ``node``) of its residue, the nearest of several; else the nearest of all."""
    position, residue = structure.position_angstrom, structure.residue
    of_residue = np.full(residue[-1] + 1, -1)
    of_residue[residue[node]] = np.arange(len(node))
    owner = of_residue[residue]
    without = np.flatnonzero(owner < 0)
    if len(without):
        owner[without] = cKDTree(position[node]).query(position[without])[1]
    many = np.flatnonzero(np.bincount(residue[node], minlength=len(of_residue)) > 1)
    for number in many:
        members, choices = np.flatnonzero(residue == number), np.flatnonzero(residue[node] == number)
        owner[members] = choices[cKDTree(position[node[choices]]).query(position[members])[1]]
    return owner


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a conformer must keep: the bonds between neighbours of a chain, and the distance between other atoms."""

    structure: Structure
    bond: NDArray[np.intp]
    """(B, 2) atoms bonded across two residues: C to N, O3' to P."""
    clashes: int
    """Clashes of the template itself."""

    @classmethod
    def of(cls, structure: Structure) -> "Geometry":
        """The bonds and clashes of a template."""
        residue = structure.residue
        count = residue[-1] + 1
        tail, head = np.full(count, -1), np.full(count, -1)
        for column, names in ((tail, ("C", "O3'")), (head, ("N", "P"))):
            named = np.flatnonzero(np.isin(structure.atom_name, names))
            column[residue[named]] = named
        pair = np.stack([tail[:-1], head[1:]], axis=1)
        pair = pair[(pair >= 0).all(axis=1)]
        bond = pair[_lengths(structure.position_angstrom, pair) < BOND_ANGSTROM]
        return cls(structure, bond, _clashes(structure.position_angstrom, residue))

    def damage(self, position_angstrom: NDArray[np.float64], enough: float = 1.0) -> tuple[float, float]:
        """The share of broken bonds, and the clashing pairs beyond the template's for each atom.

        The second is not looked for (zero) where the first is above ``enough``.
        """
        broken = float((_lengths(position_angstrom, self.bond) > BROKEN_ANGSTROM).mean()) if len(self.bond) else 0.0
        if broken > enough:
            return broken, 0.0
        clashes = _clashes(position_angstrom, self.structure.residue) - self.clashes
        return broken, max(clashes, 0) / len(position_angstrom)


def _lengths(position: NDArray[np.float64], pair: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.linalg.norm(position[pair[:, 0]] - position[pair[:, 1]], axis=1)


def _clashes(position: NDArray[np.float64], residue: NDArray[np.int64]) -> int:
    """How many pairs of atoms, not of one residue or of neighbours in a chain, lie within a bond's length."""
    pair = cKDTree(position).query_pairs(CLASH_ANGSTROM, output_type="ndarray")
    return int((np.abs(residue[pair[:, 0]] - residue[pair[:, 1]]) > 1).sum())


@dataclass(frozen=True, eq=False)
class Conformer:
    """One drawn conformer."""

    amplitude: NDArray[np.float64]
    displacement: NDArray[np.float64]
    broken: float
    clashing: float
    draws: int
    accepted: bool


def draw_conformer(modes: Modes, geometry: Geometry, settings: FlexSettings, generator: np.random.Generator) -> Conformer:
    """Draw amplitudes until the geometry is kept; the least damaged draw when none does.

    Uniform draws shrink by equal steps, from the whole amplitude to a ``redraws``-th of it; thermal ones all have the RMSD
    that was asked for.

    Parameters
    ----------
    modes : Modes
        Of the template.
    geometry : Geometry
        The template's bonds and clashes.
    settings : FlexSettings
        The kind of amplitude, its size in Å, and ``maximum_broken_fraction``.
    generator : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    Conformer
        Amplitudes of the modes and displacements (N, 3) of the atoms in Å, the damage, and how many draws it took.
    """
    best: Conformer | None = None
    most = settings.maximum_broken_fraction
    for draw in range(settings.redraws):
        amplitude = draw_amplitudes(modes, settings, generator) * _shrunk(settings, draw)
        displacement = modes.displacement(amplitude)
        moved = geometry.structure.position_angstrom + displacement
        broken, clashing = geometry.damage(moved, most) if most < 1 else (0.0, 0.0)
        accepted = max(broken, clashing) <= most
        conformer = Conformer(amplitude, displacement, broken, clashing, draw + 1, accepted)
        if accepted:
            return conformer
        if best is None or max(broken, clashing) < max(best.broken, best.clashing):
            best = conformer
    assert best is not None
    return replace(best, draws=settings.redraws)


def _shrunk(settings: FlexSettings, draw: int) -> float:
    return 1.0 - draw / settings.redraws if settings.amplitude_kind == "uniform" else 1.0


def draw_amplitudes(modes: Modes, settings: FlexSettings, generator: np.random.Generator) -> NDArray[np.float64]:
    """(modes,) amplitudes in Å: uniform in the range asked for, or thermal and scaled to the RMSD asked for."""
    count = len(modes.eigenvalue)
    if settings.amplitude_kind == "uniform":
        return generator.uniform(-settings.amplitude, settings.amplitude, count)
    amplitude = generator.standard_normal(count) / np.sqrt(modes.eigenvalue)
    return amplitude * (settings.rmsd_angstrom / rms(modes.displacement(amplitude)))


def rms(displacement: NDArray[np.float64]) -> float:
    """The root mean square length of displacements (N, 3)."""
    return float(np.sqrt((displacement**2).sum(axis=1).mean()))
