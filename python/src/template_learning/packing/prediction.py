"""What TETRIS will place, before the run: counts, concentration, and the box that a number of templates needs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from template_learning.common.errors import BadInput
from template_learning.common.provenance import generator_for
from template_learning.packing.tetris import (
    MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM,
    Packing,
    Queue,
    pack,
    slab_thickness_angstrom,
)
from template_learning.settings import TetrisSettings
from template_learning.structures.library import LibraryEntry, read_library

PILOT_EDGES_VOXELS = (64, 96)


@dataclass(frozen=True)
class Plan:
    """What is expected in one sample of the shape asked for."""

    molecules_by_species: dict[str, int]
    templates: int
    distractors: int
    protein_mg_per_ml: float
    templates_that_fit: float
    """in a box of the shape asked for, packed until no more fit"""
    edge_for_templates_voxels: int | None
    """x and y of a square box, of the depth asked for, in which the templates asked for fit; None if none were asked for"""


def plan_sample(
    library_folders: Sequence[Path], settings: TetrisSettings, root_seed: int, templates: int | None = None
) -> Plan:
    """Predict the packing of one sample from small ones.

    Two square boxes of the depth asked for are packed until no more fit.  A box holds molecules in proportion to
    (x - w)(y - w), w being what the walls cost; both constants come from the two.  A box no larger than these is packed
    itself.  What vesicles and filaments take away is not counted.

    Parameters
    ----------
    library_folders : sequence of Path
        What VOLUME wrote.
    settings : TetrisSettings
        The sample asked for.
    root_seed : int
        The run's seed.
    templates : int, optional
        How many templates are wanted.

    Returns
    -------
    Plan
        What to expect in a sample, and how large a box must be for the templates wanted.

    Raises
    ------
    BadInput
        As ``pack`` does; or templates are wanted and no molecule is one.
    """
    library = read_library(library_folders)
    slab = slab_thickness_angstrom(library, settings, float(np.mean(settings.filled_thickness_fraction)))
    settings = settings.model_copy(update={"slab_thickness_angstrom": slab})
    depth, *edges = settings.shape_voxels
    if max(edges) <= PILOT_EDGES_VOXELS[1]:
        first = second = _pilot(library, settings, settings.shape_voxels, root_seed)
        dalton, wall = _dalton(first) / (edges[0] * edges[1]), 0.0
    else:
        first, second = (
            _pilot(library, settings, (depth, *(min(edge, pilot) for edge in edges)), root_seed) for pilot in PILOT_EDGES_VOXELS
        )
        dalton, wall = _fitted(first, second)
    capacity = dalton * (edges[0] - wall) * (edges[1] - wall)
    role = Counter(row.role for row in second.rows)
    template_dalton = _dalton(second) / role["template"] if role["template"] else np.inf
    if templates is not None and not role["template"]:
        raise BadInput(f"{templates} templates are wanted, but no template is placed; a template in the library was expected")
    volume = float(np.prod(np.array(settings.shape_voxels) * second.grid.voxel_size_angstrom))
    if settings.stop_at.protein_mg_per_ml is not None:
        capacity = min(capacity, settings.stop_at.protein_mg_per_ml * volume / MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM)
    placed, mass = _counted(library, settings, capacity, root_seed)
    return Plan(
        molecules_by_species=dict(sorted((key[1], count) for key, count in placed.items())),
        templates=sum(count for key, count in placed.items() if key[0] == "template"),
        distractors=sum(count for key, count in placed.items() if key[0] == "distractor"),
        protein_mg_per_ml=float(mass / volume * MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM),
        templates_that_fit=float(capacity / template_dalton),
        edge_for_templates_voxels=None
        if templates is None
        else int(np.ceil(np.sqrt(templates * template_dalton / dalton) + wall)),
    )


def _pilot(library: dict[str, LibraryEntry], settings: TetrisSettings, shape: tuple[int, ...], root_seed: int) -> Packing:
    limits = {"stop_at": {"molecules": None, "templates": None, "protein_mg_per_ml": None}, "maximum_counts": []}
    changed = settings.changed({**limits, "shape_voxels": shape, **_without_assemblies(settings)})
    return pack(library, changed, generator_for(root_seed, "plan", "x".join(map(str, shape))))


def _without_assemblies(settings: TetrisSettings) -> dict[str, Any]:
    """Their species still go nowhere else."""

    def none_of(texts: list[str]) -> list[str]:
        return [text.partition("=")[0] + "=0" for text in texts]

    vesicles, filaments = settings.vesicles, settings.filaments
    return {
        "vesicles": {"count": 0, "membrane_molecules": none_of(vesicles.membrane_molecules)},
        "filaments": {"counts": none_of(filaments.counts), "microtubules": none_of(filaments.microtubules)},
    }


def _dalton(packing: Packing) -> float:
    return sum(row.mass_dalton for row in packing.rows)


def _fitted(first: Packing, second: Packing) -> tuple[float, float]:
    """Mass for a voxel of x times y, and what the walls take of each edge, from two packings (square, or cut by the box)."""
    small, large = (np.array(packing.grid.shape[1:], float) for packing in (first, second))
    # (x - w)(y - w) of the two in the ratio of their masses: a quadratic in w, of which the root nearest zero is meant
    ratio = _dalton(first) / _dalton(second)
    roots = np.roots([1 - ratio, -(small.sum() - ratio * large.sum()), small.prod() - ratio * large.prod()])
    real = roots.real[np.abs(roots.imag) < 1e-9]
    wall = float(real[np.argmin(np.abs(real))]) if len(real) else 0.0
    return float(_dalton(second) / np.prod(large - wall)), wall


def _counted(
    library: dict[str, LibraryEntry], settings: TetrisSettings, capacity_dalton: float, root_seed: int
) -> tuple[Counter[tuple[str, str]], float]:
    """Molecules by species that the shares and limits give up to a mass."""
    queue = Queue([entry.row for entry in library.values()], settings, generator_for(root_seed, "plan", "queue"))
    mass = 0.0
    while (row := queue.draw()) is not None and mass + row.mass_dalton <= capacity_dalton:
        mass += row.mass_dalton
        queue.count(row)
        stop = settings.stop_at
        if queue.placed.total() == stop.molecules or queue.placed_of_role["template"] == stop.templates:
            break
    return queue.placed, mass
