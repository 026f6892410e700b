"""What TETRIS places before the molecules: vesicles with the molecules set in their membranes, and filaments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from template_learning.common.errors import BadInput
from template_learning.common.geometry import random_rotations
from template_learning.common.log import tell
from template_learning.common.tables import LibraryRow
from template_learning.packing.atom_distances import NeighbourSearch
from template_learning.packing.filaments import MICROTUBULE, Lattice, chain, unit_frame
from template_learning.packing.membranes import HALF_THICKNESS_ANGSTROM, Vesicle, patches
from template_learning.packing.packed_sample import vesicle_entry
from template_learning.packing.voxel_box import Box, Shape
from template_learning.settings import FilamentSettings, TetrisSettings
from template_learning.structures.library import LibraryEntry

Array = NDArray[np.float64]
# Lipids, and what is placed here, keep this distance even where bodies alone are to keep apart.
LEAST_DISTANCE_ANGSTROM = 3.0
TRIES = 200
UNTURNED = np.eye(3)


@dataclass
class Assemblies:
    """What is placed so far, positions in ångström from voxel (0, 0, 0) of the box that is packed.

    ``group``: units of one filament have one number, all else -1.  ``vesicles`` and ``filaments`` say what belongs
    together, by the number of the particle in the table.  ``made``: the vesicles' entries.  ``notes``: what is smaller or
    fewer than was asked for, one line each.
    """

    rows: list[LibraryRow] = field(default_factory=list)
    rotation: list[Rotation] = field(default_factory=list)
    origin: list[Array] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    made: dict[str, LibraryEntry] = field(default_factory=dict)
    vesicles: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    filaments: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: LibraryRow, rotation: Rotation, origin: Array, group: int = -1) -> None:
        """One more molecule."""
        self.rows.append(row)
        self.rotation.append(rotation)
        self.origin.append(origin)
        self.group.append(group)


def counts_by_species(setting: str, texts: Sequence[str], species: set[str]) -> dict[str, tuple[int, float]]:
    """Count and number after @ (0 where none is) of each species in texts 'species=count' or 'species=count@number'.

    Raises BadInput for another text or a species that is not among ``species``.
    """
    counts = {}
    for text in texts:
        name, _, rest = text.partition("=")
        count, at, number = rest.partition("@")
        try:
            height = float(number) if at else 0.0
        except ValueError:
            height = np.nan
        if name not in species or not count.isdigit() or not np.isfinite(height):
            known = ", ".join(sorted(species)[:10])
            raise BadInput(
                f"tetris.{setting} {text!r}: 'species=count' was expected, with a species of the library ({known} ...)"
            )
        counts[name] = (int(count), height)
    return counts


def reserved_species(settings: TetrisSettings) -> set[str]:
    """Species that are placed in membranes or filaments and nowhere else."""
    texts = (*settings.vesicles.membrane_molecules, *settings.filaments.counts, *settings.filaments.microtubules)
    return {text.partition("=")[0] for text in texts}


def place_assemblies(
    library: dict[str, LibraryEntry],
    shapes: dict[str, Shape],
    settings: TetrisSettings,
    box: Box,
    neighbours: NeighbourSearch,
    generator: np.random.Generator,
) -> Assemblies:
    """Vesicles, the molecules of their membranes, filaments, at random places; nothing, and no draw, where none are asked for.

    All keep ``settings.minimum_distance_angstrom`` (at least 3 Å) from one another, are taken up in ``box`` and ``neighbours``,
    and are left out, which a note says, where ``TRIES`` draws find no room.  A vesicle larger than the box is drawn smaller.

    Raises BadInput for a species that is not there, or molecules for membranes without vesicles.
    """
    asked = neighbours.distance_angstrom
    neighbours.distance_angstrom = max(asked, LEAST_DISTANCE_ANGSTROM)
    placer = _Placer(library, shapes, settings, box, neighbours, generator)
    placer.place_vesicles()
    placer.place_membrane_molecules()
    placer.make_room_in_membranes()
    for setting, lattice in (("counts", _helix(settings.filaments)), ("microtubules", MICROTUBULE)):
        placer.place_filaments(setting, lattice)
    neighbours.distance_angstrom = asked
    return placer.done


def _helix(settings: FilamentSettings) -> Lattice:
    return Lattice(
        step_angstrom=settings.rise_angstrom,
        twist_deg=settings.twist_deg,
        radius_angstrom=settings.radius_angstrom,
    )


class _Placer:
    def __init__(
        self,
        library: dict[str, LibraryEntry],
        shapes: dict[str, Shape],
        settings: TetrisSettings,
        box: Box,
        neighbours: NeighbourSearch,
        generator: np.random.Generator,
    ) -> None:
        self.library, self.shapes, self.settings = library, shapes, settings
        self.box, self.neighbours, self.generator = box, neighbours, generator
        self.members: dict[str, list[LibraryRow]] = {}
        for entry in library.values():
            self.members.setdefault(entry.row.species, []).append(entry.row)
        self.done = Assemblies()
        self.vesicles: list[tuple[Vesicle, Array]] = []
        self.set_in: list[list[int]] = []  # for each vesicle, the molecules in its membrane

    def place_vesicles(self) -> None:
        """Vesicles of radii drawn evenly, each whole in the box."""
        low, high = self.box.edges_angstrom()
        smallest, greatest = self.settings.vesicles.radius_angstrom
        room = math.floor(10 * (float((high - low).min()) / 2 - HALF_THICKNESS_ANGSTROM)) / 10
        for _ in range(self.settings.vesicles.count):
            radius = round(float(self.generator.uniform(smallest, greatest)), 1)
            if smallest > room:
                self._note(f"a vesicle of radius {radius:.0f} Å does not fit into {(high - low).min():.0f} Å: left out")
                continue
            if radius > room:
                drawn, radius = radius, math.floor(10 * float(self.generator.uniform(smallest, room))) / 10
                radius = max(radius, smallest)
                self._note(
                    f"a vesicle of radius {drawn:.0f} Å does not fit into {(high - low).min():.0f} Å: {radius:.0f} Å instead"
                )
            vesicle = Vesicle(radius, int(self.generator.integers(2**31)))
            outer = vesicle.outer_radius_angstrom
            centres = self.generator.uniform(low + outer, high - outer, (TRIES, 3))
            for other, there in self.vesicles:
                apart = outer + other.outer_radius_angstrom + self.neighbours.distance_angstrom
                centres = centres[((centres - there) ** 2).sum(axis=1) >= apart**2]
            if not len(centres):
                self._note(f"no room for a vesicle of radius {radius:.0f} Å: left out")
                continue
            centre, group = centres[0], len(self.vesicles)
            entry = vesicle_entry(vesicle, [], 0.0)
            atoms = entry.atoms()[0]
            self._put(Shape.from_atoms(atoms), Rotation.identity(), centre)
            for number, (piece, middle) in enumerate(patches(atoms)):
                self.neighbours.add(f"{vesicle.name}/{number}", piece, UNTURNED, centre + middle, group)
            self.vesicles.append((vesicle, centre))
            self.set_in.append([])
            self.done.made[vesicle.name] = entry
            self.done.add(entry.row, Rotation.identity(), centre)

    def place_membrane_molecules(self) -> None:
        """Molecules with z of their structure along the normal, outwards, their centres ``height`` above the bilayer's middle."""
        wanted = counts_by_species("vesicles.membrane_molecules", self.settings.vesicles.membrane_molecules, set(self.members))
        if any(count for count, _ in wanted.values()) and not self.settings.vesicles.count:
            raise BadInput(
                "tetris.vesicles.membrane_molecules: tetris.vesicles.count is 0; vesicles to set them in were expected"
            )
        area = np.array([vesicle.radius_angstrom**2 for vesicle, _ in self.vesicles])
        for species, (count, height) in wanted.items():
            placed = 0
            for _ in range(count if len(area) else 0):
                placed += self._set_in_membrane(species, height, area / area.sum())
            if placed < count:
                self._note(f"room for {placed} of {count} {species} in the membranes")

    def _set_in_membrane(self, species: str, height: float, share: Array) -> bool:
        for _ in range(TRIES):
            row = self._member(species)
            group = int(self.generator.choice(len(share), p=share))
            vesicle, centre = self.vesicles[group]
            rotation = random_rotations(1, self.generator)[0]  # any spin; its z is any normal
            origin = centre + (vesicle.radius_angstrom + height) * rotation.apply([0.0, 0.0, 1.0])
            inside = self._is_inside(self.shapes[row.molecule].atom, rotation, origin)
            if inside and not self._clashes(row, rotation, origin, group):
                self.set_in[group].append(len(self.done.rows))
                self._add(row, rotation, origin)
                return True
        return False

    def make_room_in_membranes(self) -> None:
        """The vesicles' entries, with room for the molecules in their membranes."""
        for number, ((vesicle, centre), inside) in enumerate(zip(self.vesicles, self.set_in, strict=True)):
            distance = self.neighbours.distance_angstrom
            if inside:
                entry = vesicle_entry(vesicle, [self._atoms(i) - centre for i in inside], distance)
                self.done.made[vesicle.name], self.done.rows[number] = entry, entry.row
            particles = [i + 1 for i in inside]
            self.done.vesicles.append({"particle": number + 1, "molecules": particles, "lipid_distance_angstrom": distance})

    def place_filaments(self, setting: str, lattice: Lattice) -> None:
        """Filaments in any direction about any place; what lies outside the box is cut off, at most half of each."""
        wanted = counts_by_species(f"filaments.{setting}", getattr(self.settings.filaments, setting), set(self.members))
        for species, (count, _) in wanted.items():
            placed = sum(self._place_filament(species, lattice) for _ in range(count))
            if placed < count:
                self._note(f"room for {placed} of {count} filaments of {species}")

    def _place_filament(self, species: str, lattice: Lattice) -> bool:
        filaments, group = self.settings.filaments, len(self.vesicles) + len(self.done.filaments)
        low, high = self.box.edges_angstrom()
        for _ in range(TRIES):
            row = self._member(species)
            atom = self.shapes[row.molecule].atom
            position, rotation = chain(lattice, filaments.length_angstrom, filaments.persistence_angstrom, self.generator)
            turn = random_rotations(1, self.generator)[0]
            position = turn.apply(position - position.mean(axis=0)) + self.generator.uniform(low, high)
            rotation = turn * rotation * unit_frame(atom, on_axis=lattice.radius_angstrom == 0)
            inside = [i for i in range(len(position)) if self._is_inside(atom, rotation[i], position[i])]
            if len(inside) < max(1.0, len(position) / 2):
                continue
            if not any(self._clashes(row, rotation[i], position[i], group) for i in inside):
                first = len(self.done.rows) + 1
                for i in inside:
                    self._add(row, rotation[i], position[i], group)
                self.done.filaments.append(
                    {"species": species, "first_particle": first, "last_particle": len(self.done.rows), "units": len(position)}
                )
                return True
        return False

    def _note(self, line: str) -> None:
        self.done.notes.append(line)
        tell(f"TETRIS: {line}")

    def _member(self, species: str) -> LibraryRow:
        members = self.members[species]
        return members[int(self.generator.integers(len(members)))]

    def _atoms(self, index: int) -> Array:
        done = self.done
        return done.rotation[index].apply(self.shapes[done.rows[index].molecule].atom.astype(float)) + done.origin[index]

    def _is_inside(self, atom: NDArray[np.float32], rotation: Rotation, origin: Array) -> bool:
        low, high = self.box.edges_angstrom()
        turned = rotation.apply(atom) + origin
        return bool((turned.min(axis=0) >= low).all() and (turned.max(axis=0) <= high).all())

    def _clashes(self, row: LibraryRow, rotation: Rotation, origin: Array, group: int) -> bool:
        return self.neighbours.clashes(row.molecule, self.shapes[row.molecule].atom, rotation.as_matrix(), origin, group)

    def _add(self, row: LibraryRow, rotation: Rotation, origin: Array, group: int = -1) -> None:
        shape = self.shapes[row.molecule]
        self._put(shape, rotation, origin)
        self.neighbours.add(row.molecule, shape.atom, rotation.as_matrix(), origin, group)
        self.done.add(row, rotation, origin, group)

    def _put(self, shape: Shape, rotation: Rotation, origin: Array) -> None:
        at = origin / self.box.grid.voxel_size_angstrom
        voxel = np.rint(at).astype(np.int64)
        self.box.put(self.box.pose(shape, rotation, at - voxel), voxel[::-1])
