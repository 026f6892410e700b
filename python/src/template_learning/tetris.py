"""TETRIS: molecules of the library packed into a sample, each as close as possible to those that are there.

The paper's algorithm: an incoming molecule in a random orientation is binarised, expanded into a shell, a large penalty
on its body is subtracted, and the two are correlated with what is placed; it goes to the maximum, if that is positive.
A penalty that no shell can outweigh is the same as leaving out the positions where the body meets something; this is
what ``packing.Box`` does, and it correlates only where something can fit.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from template_learning.errors import BadInput
from template_learning.files import checked_id, write_table
from template_learning.geometry import Grid, angles_from_rotation, random_rotations
from template_learning.library import LibraryEntry, read_library
from template_learning.packing import Box, Shape
from template_learning.provenance import generator_for, seed_for, write_sidecar
from template_learning.settings import TetrisSettings
from template_learning.tables import LibraryRow, ParticleRow

DALTON_PER_ANGSTROM3_IN_MG_PER_ML = 1660.539
Key = TypeVar("Key")


@dataclass
class Packing:
    """Molecules in a box, in the order in which they were placed."""

    grid: Grid
    rows: list[LibraryRow] = field(default_factory=list)
    position_angstrom: list[NDArray[np.float64]] = field(default_factory=list)
    rotation: list[Rotation] = field(default_factory=list)
    misfits: int = 0
    filled_fraction: float = 0.0
    filled_fraction_of_centres: float = 0.0

    @property
    def protein_mg_per_ml(self) -> float:
        """Mass of all molecules over the box's volume."""
        mass = sum(row.mass_dalton for row in self.rows)
        return float(mass / np.prod(self.grid.extent_angstrom) * DALTON_PER_ANGSTROM3_IN_MG_PER_ML)

    def particles(self) -> list[ParticleRow]:
        """The table of what is placed."""
        if not self.rows:
            return []
        angles = angles_from_rotation(Rotation.concatenate(self.rotation))
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
    drawn.  ``order`` counts a molecule only when it was placed.
    """

    def __init__(self, rows: Sequence[LibraryRow], distractors_per_template: float, generator: np.random.Generator) -> None:
        self.generator = generator
        self.molecules: dict[tuple[str, str], list[LibraryRow]] = {}
        for row in rows:
            self.molecules.setdefault((row.role, row.species), []).append(row)
        weight = {"template": 1.0, "distractor": distractors_per_template}
        roles = {role for role, _ in self.molecules if weight[role] > 0}
        total = sum(weight[role] for role in roles)
        self.share: dict[tuple[str, str], float] = {}
        for role in sorted(roles):
            species = {key: members[0].share for key, members in self.molecules.items() if key[0] == role}
            for key, share in species.items():
                self.share[key] = share / sum(species.values()) * weight[role] / total
        self.placed: Counter[tuple[str, str]] = Counter()

    def draw(self) -> LibraryRow:
        """The next molecule to try."""
        roles = sorted({key[0] for key in self.share})
        count = {role: sum(n for key, n in self.placed.items() if key[0] == role) for role in roles}
        share = {role: sum(s for key, s in self.share.items() if key[0] == role) for role in roles}
        role = self._lagging([(role, share[role], count[role]) for role in roles])
        key = self._lagging([(key, s, self.placed[key]) for key, s in self.share.items() if key[0] == role])
        members = self.molecules[key]
        return members[int(self.generator.integers(len(members)))]

    def count(self, row: LibraryRow) -> None:
        """Note that ``row`` was placed."""
        self.placed[row.role, row.species] += 1

    def _lagging(self, candidates: list[tuple[Key, float, int]]) -> Key:
        turn = np.array([(count + 0.5) / share for _, share, count in candidates])
        first = np.flatnonzero(turn <= turn.min() * (1 + 1e-9))
        return candidates[int(self.generator.choice(first))][0]


def pack(library: dict[str, LibraryEntry], settings: TetrisSettings, generator: np.random.Generator) -> Packing:
    """Molecules of ``library`` in a box of ``settings.shape_voxels`` of the library's voxels.

    Raises BadInput for a library whose voxel sizes differ, or a molecule larger than the box.
    """
    shapes: dict[str, Shape] = {}
    voxel_size_angstrom = 0.0
    for name, entry in library.items():
        density, voxel = entry.density()
        if voxel_size_angstrom and not np.isclose(voxel, voxel_size_angstrom, rtol=1e-4):
            raise BadInput(f"{name}: voxel size {voxel:g} Å, the molecules before it have {voxel_size_angstrom:g} Å")
        voxel_size_angstrom = voxel_size_angstrom or voxel
        shapes[name] = Shape.from_density(
            density, voxel, entry.atoms()[0], smoothing_voxels=settings.smoothing_voxels, threshold=settings.threshold
        )
    grid = Grid(shape=settings.shape_voxels, voxel_size_angstrom=voxel_size_angstrom)
    room = np.sort(grid.extent_angstrom) - 2 * settings.margin_angstrom
    for name, shape in shapes.items():
        if (shape.extent_angstrom() > room).any():
            raise BadInput(
                f"molecule {name!r}: {_by(shape.extent_angstrom())} Å is larger than the box of {_by(room)} Å; "
                "take a larger tetris.shape_voxels or leave the molecule out"
            )
    box = Box(
        grid,
        margin_angstrom=settings.margin_angstrom,
        distance_angstrom=settings.minimum_distance_angstrom,
        shell_voxels=settings.shell_voxels,
    )
    queue = Queue([entry.row for entry in library.values()], settings.distractors_per_template, generator)
    packing = Packing(grid)
    in_a_row = 0
    while in_a_row <= settings.retries and len(packing.rows) != settings.molecules:
        row = queue.draw()
        rotation = random_rotations(1, generator)[0]
        shift = generator.uniform(-0.5, 0.5, 3)
        pose = box.pose(shapes[row.molecule], rotation, shift)
        position = box.settle(pose, generator)
        if position is None:
            in_a_row += 1
            packing.misfits += 1
            continue
        in_a_row = 0
        queue.count(row)
        packing.rows.append(row)
        packing.position_angstrom.append((position[::-1] + shift) * voxel_size_angstrom)
        packing.rotation.append(rotation)
    packing.filled_fraction = box.filled_fraction()
    packing.filled_fraction_of_centres = box.filled_fraction(where_centres_may_be=True)
    return packing


def _by(extent_angstrom: NDArray[np.float64]) -> str:
    return " x ".join(f"{edge:.0f}" for edge in extent_angstrom)


def pack_sample(
    library_folders: Sequence[Path], sample_id: str, settings: TetrisSettings, root_seed: int, output: Path
) -> Path:
    """Pack one sample and write ``<id>.placed.csv`` with its sidecar; returns the table's path.

    Positions are in ångström from the centre of voxel (0, 0, 0) of the sample's grid (``shape_voxels`` and
    ``voxel_size_angstrom`` in the sidecar).

    Raises BadInput for a bad id, a library that cannot be read, or a molecule larger than the box.
    """
    checked_id(sample_id, "sample id")
    library = read_library(library_folders)
    started = time.perf_counter()
    packing = pack(library, settings, generator_for(root_seed, "tetris", sample_id))
    seconds = time.perf_counter() - started
    path = output / f"{sample_id}.placed.csv"
    write_table(path, ParticleRow, packing.particles())
    write_sidecar(
        path,
        stage="tetris",
        item=sample_id,
        seed=seed_for(root_seed, "tetris", sample_id),
        settings=settings,
        shape_voxels=packing.grid.shape,
        voxel_size_angstrom=packing.grid.voxel_size_angstrom,
        molecules=len(packing.rows),
        molecules_by_species=dict(sorted(Counter(row.species for row in packing.rows).items())),
        molecules_by_role=dict(sorted(Counter(row.role for row in packing.rows).items())),
        misfits=packing.misfits,
        filled_fraction=packing.filled_fraction,
        filled_fraction_of_centres=packing.filled_fraction_of_centres,
        protein_mg_per_ml=packing.protein_mg_per_ml,
        packing_seconds=seconds,
    )
    return path
