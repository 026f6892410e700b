"""TETRIS: molecules of the library packed into a sample, each as close as possible to those that are there.

The paper's algorithm, in its figure: an incoming molecule in a random orientation is binarised, expanded into a shell, a large penalty
on its body is subtracted, and the two are correlated with what is placed; it goes to the maximum, if that is positive.
A penalty that no shell can outweigh is the same as leaving out the positions where the body meets something; this is
what ``voxel_box.Box`` does, and it correlates only where something can fit.  What the authors' released script does beyond
its figure is ``excluded_volume = released``: a grey level for all molecules, and a body that is eroded before it is forbidden.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from template_learning.common.device import choose_device
from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid, angles_from_rotation, move_between_grids, random_rotations
from template_learning.common.log import tell
from template_learning.common.tables import LibraryRow, ParticleRow
from template_learning.packing.atom_distances import NeighbourSearch, closest_approach_angstrom
from template_learning.packing.gpu_box import DeviceBox
from template_learning.packing.membranes import patches
from template_learning.packing.membranes_and_filaments import Assemblies, counts_by_species, place_assemblies, reserved_species
from template_learning.packing.voxel_box import Box, Shape
from template_learning.settings import TetrisSettings
from template_learning.structures.library import LibraryEntry

MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM = 1660.539
# What the guard on the grid adds to the distance asked, in voxels: less lets more positions through to the exact test of
# the atoms, which refuses more of them.
SLACK_VOXELS = {"density": 0.0, "released": 0.0, "atoms": 0.3}
Key = TypeVar("Key")
Species = tuple[str, str]


@dataclass
class Packing:
    """Molecules in a box, in the order in which they were placed; positions count from voxel (0, 0, 0) of ``grid``.

    ``first``: the vesicles and filaments among them, which come first.  ``slab_thickness_angstrom``: what they keep to about
    the middle in z, none for the whole box.
    """

    grid: Grid
    rows: list[LibraryRow] = field(default_factory=list)
    position_angstrom: list[NDArray[np.float64]] = field(default_factory=list)
    rotation: list[Rotation] = field(default_factory=list)
    first: Assemblies = field(default_factory=Assemblies)
    misfits: int = 0
    filled_fraction: float = 0.0
    filled_fraction_of_centres: float = 0.0
    ended: str = ""
    slab_thickness_angstrom: float | None = None

    @property
    def protein_mg_per_ml(self) -> float:
        """Mass of all molecules over the box's volume."""
        mass = sum(row.mass_dalton for row in self.rows)
        return float(mass / np.prod(self.grid.extent_angstrom) * MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM)

    def count(self, attribute: str) -> dict[str, int]:
        """Molecules by an attribute of their rows, sorted."""
        return dict(sorted(Counter(str(getattr(row, attribute)) for row in self.rows).items()))

    def closest_approach_angstrom(self, library: dict[str, LibraryEntry]) -> float:
        """Least distance of atoms of two molecules (100 where none are nearer); units of one filament are one thing."""
        library = {**library, **self.first.made}
        atoms: dict[str, NDArray[np.float32]] = {}
        names, position, rotation, group = [], [], [], []
        together = [*self.first.group, *[-1] * len(self.rows)]
        for number, row in enumerate(self.rows):
            pieces = [(row.molecule, np.zeros(3))]
            if row.molecule in self.first.made:
                pieces = []
                for piece, (atom, middle) in enumerate(patches(library[row.molecule].atoms()[0])):
                    atoms[f"{row.molecule}/{piece}"] = atom
                    pieces.append((f"{row.molecule}/{piece}", middle))
            for name, middle in pieces:
                names.append(name)
                position.append(self.position_angstrom[number] + middle)
                rotation.append(self.rotation[number])
                group.append(number + len(self.rows) if len(pieces) > 1 else together[number])
        atoms.update({name: library[name].atoms()[0] for name in sorted(set(names) - set(atoms))})
        if len(names) < 2:
            return 100.0
        return closest_approach_angstrom(
            atoms, names, np.array(position), Rotation.concatenate(rotation), group=np.array(group)
        )

    def particles(self) -> list[ParticleRow]:
        """The table of what is placed."""
        if not self.rows:
            return []
        angles = angles_from_rotation(Rotation.concatenate(self.rotation)) + 0.0  # no -0
        return [
            ParticleRow(
                particle=number,
                molecule=row.molecule,
                species=row.species,
                class_id=row.class_id,
                class_name=row.class_name,
                x_angstrom=float(position[0]),
                y_angstrom=float(position[1]),
                z_angstrom=float(position[2]),
                rot_deg=float(angle[0]),
                tilt_deg=float(angle[1]),
                psi_deg=float(angle[2]),
            )
            for number, (row, position, angle) in enumerate(zip(self.rows, self.position_angstrom, angles, strict=True), 1)
        ]


class Queue:
    """Which molecule comes next, so that every role and species keeps to its share at any time.

    The role that lags most behind its share is next, in it the species that lags most, of it any molecule; equals are
    drawn by lot.  A molecule counts only when it was placed, so that one that does not fit is tried again.
    """

    def __init__(self, rows: Sequence[LibraryRow], settings: TetrisSettings, generator: np.random.Generator) -> None:
        self.generator = generator
        self.molecules: dict[Species, list[LibraryRow]] = {}
        for row in rows:
            self.molecules.setdefault((row.role, row.species), []).append(row)
        self.role_share = {"template": 1.0, "distractor": settings.distractors_per_template}
        self.open = {key: members[0].share for key, members in self.molecules.items() if self.role_share[key[0]] > 0}
        known = {species for _, species in self.molecules}
        self.limit = {
            name: count for name, (count, _) in counts_by_species("maximum_counts", settings.maximum_counts, known).items()
        }
        self.limit.update(dict.fromkeys(reserved_species(settings), 0))
        self.placed: Counter[Species] = Counter()
        self.placed_of_role: Counter[str] = Counter()
        for key in list(self.open):
            self._close_if_complete(key)

    def draw(self) -> LibraryRow | None:
        """The next molecule to try, or None if nothing is left to place."""
        roles = sorted({role for role, _ in self.open})
        if not roles:
            return None
        role = self._lagging([(role, self.role_share[role], self.placed_of_role[role]) for role in roles])
        key = self._lagging([(key, share, self.placed[key]) for key, share in self.open.items() if key[0] == role])
        members = self.molecules[key]
        return members[int(self.generator.integers(len(members)))]

    def count(self, row: LibraryRow) -> None:
        """Note that ``row`` was placed."""
        self.placed[row.role, row.species] += 1
        self.placed_of_role[row.role] += 1
        self._close_if_complete((row.role, row.species))

    def drop(self, row: LibraryRow) -> None:
        """Place no more of the species of ``row``."""
        self.open.pop((row.role, row.species), None)

    def _close_if_complete(self, key: Species) -> None:
        if self.placed[key] >= self.limit.get(key[1], np.inf):
            self.open.pop(key, None)

    def _lagging(self, candidates: list[tuple[Key, float, int]]) -> Key:
        turn = np.array([(count + 0.5) / share for _, share, count in candidates])
        first = np.flatnonzero(turn <= turn.min() * (1 + 1e-9))
        return candidates[int(self.generator.choice(first))][0]


def pack(
    library: dict[str, LibraryEntry],
    settings: TetrisSettings,
    generator: np.random.Generator,
    progress: Callable[[int], None] = lambda placed: None,
) -> Packing:
    """Pack molecules of a library in a box.

    Parameters
    ----------
    library : dict of str to LibraryEntry
        Molecules by name, all with densities on one voxel size.
    settings : TetrisSettings
        The box, ``shape_voxels`` as [z, y, x] in the library's voxels, and how it is filled.
    generator : numpy.random.Generator
        Where the draws come from.
    progress : callable, optional
        Called with the number of molecules placed so far.

    Returns
    -------
    Packing
        Positions (x, y, z) in Å from the centre of voxel (0, 0, 0), and active rotations, molecule to sample.

    Raises
    ------
    BadInput
        The library's voxel sizes differ, or a molecule is larger than the box.

    References
    ----------
    Harastani et al., Nature Communications (2025).
    """
    shapes, voxel_size_angstrom = _shapes(library, settings)
    packing = Packing(Grid(shape=settings.shape_voxels, voxel_size_angstrom=voxel_size_angstrom))
    box, packing.slab_thickness_angstrom = _box_that_holds(shapes, packing.grid, settings)
    if 2 * box.centre_margin >= min(box.grid.shape):
        raise BadInput(
            f"tetris.centre_margin_angstrom = {settings.centre_margin_angstrom:g}: no room for a centre in a box of "
            f"{_by(packing.grid.extent_angstrom)} Å; a larger tetris.shape_voxels was expected"
        )
    room = np.sort(np.array(box.grid.shape) - 2.0 * box.margin) * box.grid.voxel_size_angstrom
    for name, shape in shapes.items():
        extent = shape.extent_angstrom()
        if (extent > room).any():
            raise BadInput(
                f"molecule {name!r}: {_by(extent)} Å is larger than the box of {_by(room)} Å (margins taken off); "
                "take a larger tetris.shape_voxels or leave the molecule out"
            )
    place = box.place_best if settings.placer == "tetris" else box.place_random
    queue = Queue([entry.row for entry in library.values()], settings, generator)
    neighbours = NeighbourSearch(settings.minimum_distance_angstrom)
    first = packing.first = place_assemblies(library, shapes, settings, box, neighbours, generator)
    packing.rows.extend(first.rows)
    packing.rotation.extend(first.rotation)
    packing.position_angstrom.extend(move_between_grids(origin, box.grid, packing.grid) for origin in first.origin)
    in_a_row = 0
    while not packing.ended:
        row = queue.draw()
        if row is None:
            packing.ended = "all that was asked for is placed"
            break
        rotation = random_rotations(1, generator)[0]
        shift = generator.uniform(-0.5, 0.5, 3)
        shape = shapes[row.molecule]
        pose = box.pose(shape, rotation, shift)
        turned = row.molecule, shape.atom, rotation.as_matrix()

        def clear(voxel: NDArray[Any], shift: Any = shift, turned: Any = turned) -> bool:
            origin = (voxel[::-1] + shift) * box.grid.voxel_size_angstrom
            return not neighbours.clashes(turned[0], turned[1], turned[2], origin)

        position = place(pose, generator, clear)
        if position is not None:
            in_a_row = 0
            if settings.density_gradient * position[2] / box.grid.shape[2] > generator.random():
                box.exclude(pose, position)
                continue
            queue.count(row)
            packing.rows.append(row)
            origin = (position[::-1] + shift) * box.grid.voxel_size_angstrom
            neighbours.add(*turned, origin)
            packing.position_angstrom.append(move_between_grids(origin, box.grid, packing.grid))
            packing.rotation.append(rotation)
            packing.ended = _reached(packing, queue, box, settings)
            progress(len(packing.rows))
            continue
        packing.misfits += 1
        in_a_row += 1
        if in_a_row > settings.retries:
            in_a_row = 0
            if settings.keep_shares:
                packing.ended = f"no room for {row.species}"
            queue.drop(row)
    packing.filled_fraction = box.filled_fraction()
    packing.filled_fraction_of_centres = box.filled_fraction(where_centres_may_be=True)
    return packing


def _shapes(library: dict[str, LibraryEntry], settings: TetrisSettings) -> tuple[dict[str, Shape], float]:
    shapes: dict[str, Shape] = {}
    voxel_size_angstrom = 0.0
    for name, entry in library.items():
        density, voxel = entry.density()
        if voxel_size_angstrom and not np.isclose(voxel, voxel_size_angstrom, rtol=1e-4):
            raise BadInput(f"molecule {name!r}: voxels of {voxel:g} Å, those before it have {voxel_size_angstrom:g} Å")
        voxel_size_angstrom = voxel_size_angstrom or voxel
        atom = entry.atoms()[0]
        shapes[name] = (
            Shape.from_atoms(atom) if settings.excluded_volume == "atoms" else _body(name, density, voxel, atom, settings)
        )
    return shapes, voxel_size_angstrom


def _box_that_holds(shapes: dict[str, Shape], sample: Grid, settings: TetrisSettings) -> tuple[Box, float | None]:
    """The grid that is packed on and its slab's thickness, a thicker one where a molecule would not go into it even flat."""
    box, slab = _box(sample, settings), settings.slab_thickness_angstrom
    voxel = box.grid.voxel_size_angstrom
    least = max(float(shape.extent_angstrom()[0]) for shape in shapes.values())
    if slab is None or (box.grid.shape[0] - 2 * box.margin[0]) * voxel >= least:
        return box, slab
    thicker = least + 2 * voxel
    tell(f"TETRIS: the slab is {thicker:.0f} Å thick instead of {slab:.0f} Å, to hold the largest molecule")
    return _box(sample, settings.model_copy(update={"slab_thickness_angstrom": thicker})), thicker


def _body(
    name: str, density: NDArray[Any], voxel_size_angstrom: float, atom: NDArray[np.float32], settings: TetrisSettings
) -> Shape:
    released = settings.excluded_volume == "released"
    cut: dict[str, float] = {"level": settings.grey_level} if released else {"threshold": settings.density_threshold}
    try:
        return Shape.from_density(density, voxel_size_angstrom, atom, smoothing_voxels=settings.smoothing_voxels, **cut)
    except BadInput as error:
        raise BadInput(f"molecule {name!r}: {error} (tetris.grey_level)") from None


def _box(sample: Grid, settings: TetrisSettings) -> Box:
    """The grid that is packed on: the sample's, or a finer or coarser one inside it with the same centre."""
    voxel = settings.packing_voxel_size_angstrom or sample.voxel_size_angstrom
    depth, height, width = (int(edge / voxel + 1e-6) for edge in sample.extent_angstrom[::-1])
    margin = np.full(3, settings.margin_angstrom)
    if settings.slab_thickness_angstrom is not None:
        margin[0] = max(margin[0], (depth * voxel - settings.slab_thickness_angstrom) / 2.0)
    packed_on = Grid(shape=(depth, height, width), voxel_size_angstrom=voxel)
    options: dict[str, Any] = {
        "margin_angstrom": tuple(margin),
        "centre_margin_angstrom": settings.centre_margin_angstrom,
        "erosion_voxels": settings.erosion_voxels if settings.excluded_volume == "released" else 0.0,
        "distance_angstrom": settings.minimum_distance_angstrom,
        "shell_voxels": settings.shell_voxels,
        "slack_voxels": SLACK_VOXELS[settings.excluded_volume],
    }
    device = choose_device(settings.device, "tetris")
    return Box(packed_on, **options) if device.name == "cpu" else DeviceBox(packed_on, device, **options)


def _reached(packing: Packing, queue: Queue, box: Box, settings: TetrisSettings) -> str:
    """Which of the limits asked for is reached, in words; empty if none is."""
    stop = settings.stop_at
    if stop.molecules is not None and queue.placed.total() >= stop.molecules:
        return "molecules as asked"
    if stop.templates is not None and queue.placed_of_role["template"] >= stop.templates:
        return "templates as asked"
    if stop.protein_mg_per_ml is not None and packing.protein_mg_per_ml >= stop.protein_mg_per_ml:
        return "concentration as asked"
    if stop.occupancy is not None and box.body_voxels >= stop.occupancy * np.prod(box.grid.shape):
        return "occupancy as asked"
    return ""


def _by(extent_angstrom: NDArray[Any]) -> str:
    return " x ".join(f"{edge:.0f}" for edge in extent_angstrom)


def slab_thickness_angstrom(
    library: dict[str, LibraryEntry], settings: TetrisSettings, filled_thickness_fraction: float
) -> float | None:
    """The thickness about the middle in z that molecules keep to where they fill that share of it; none for the whole box."""
    if filled_thickness_fraction == 1:
        return settings.slab_thickness_angstrom
    _, voxel_size_angstrom = next(iter(library.values())).density()
    thickness = filled_thickness_fraction * settings.shape_voxels[0] * voxel_size_angstrom
    return min(thickness, settings.slab_thickness_angstrom or thickness)
