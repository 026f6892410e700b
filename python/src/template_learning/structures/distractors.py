"""A set of distractors from a folder of structures: masses in a range, shapes as different as can be.

Each structure is described by the logarithm of its mass and by how far its atoms lie from one another (the quantiles of the
distances of random pairs, a description that turning does not change; Osada et al. 2002).  The set grows by the structure
that is farthest from all that were chosen, and from the templates, so that no two are much alike.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.progress import track

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, write_table
from template_learning.common.provenance import write_sidecar
from template_learning.structures.structure import SUFFIXES, Structure, read_structure

PAIRS = 20_000
QUANTILES = np.linspace(0.05, 0.95, 19)


class DistractorRow(BaseModel):
    """One row of the table that ``--distractors`` takes; ``path`` is relative to the table's folder."""

    id: str
    path: str
    share: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A structure that may be chosen."""

    path: Path
    structure: Structure
    description: NDArray[np.float64]


def description_of(structure: Structure) -> NDArray[np.float64]:
    """(20,) numbers that turning does not change: logarithms of the mass's cube root and of quantiles of pair distances."""
    generator = np.random.default_rng(0)
    pair = generator.integers(0, len(structure.element), (PAIRS, 2))
    place = structure.position_angstrom
    distance = np.linalg.norm(place[pair[:, 0]] - place[pair[:, 1]], axis=1)
    quantile = np.log(np.maximum(np.quantile(distance, QUANTILES), 1.0))
    return np.concatenate([quantile, [np.sqrt(len(QUANTILES)) * np.log(structure.mass_dalton) / 3]])


def dissimilarity(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """How different two descriptions are: about the relative difference in size, or in shape at one size."""
    return float(np.sqrt(((first - second) ** 2).sum() / (2 * len(QUANTILES))))


def choose_distractors(
    folder: Path,
    output: Path,
    *,
    count: int,
    minimum_kilodalton: float = 30.0,
    maximum_kilodalton: float = 1000.0,
    minimum_dissimilarity: float = 0.02,
    templates: list[Path] | None = None,
    share: Literal["equal", "mass"] = "equal",
) -> list[DistractorRow]:
    """Write the table of at most ``count`` structures of ``folder`` (searched through) that differ most; its rows.

    ``share``: ``equal`` gives each species as many molecules, ``mass`` each species the same mass.  The rows are in
    the order of choice, so that the first n are a good set of n.  Raises BadInput where no structure qualifies.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    avoided = [description_of(read_structure(path)) for path in templates or []]
    console = Console(stderr=True)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(SUFFIXES))
    candidates: list[Candidate] = []
    for path in track(paths, description="distractors", console=console, transient=True, disable=not console.is_terminal):
        structure = read_structure(path)
        if minimum_kilodalton <= structure.mass_dalton / 1000 <= maximum_kilodalton:
            candidates.append(Candidate(path, structure, description_of(structure)))
    if not candidates:
        raise BadInput(
            f"{folder}: none of {len(paths)} structures weighs {minimum_kilodalton:g} to {maximum_kilodalton:g} kDa; one was expected"
        )
    chosen = _farthest_first(candidates, avoided, count, minimum_dissimilarity)
    rows = []
    for candidate in chosen:
        weight = 1.0 if share == "equal" else chosen[0].structure.mass_dalton / candidate.structure.mass_dalton
        relative = os.path.relpath(candidate.path.resolve(), output.resolve().parent)
        rows.append(DistractorRow(id=checked_id(candidate.structure.name), path=relative, share=weight))
    write_table(output, DistractorRow, rows)
    write_sidecar(
        output,
        stage="distractors",
        item=output.stem,
        seed=None,
        settings={
            "count": count,
            "minimum_kilodalton": minimum_kilodalton,
            "maximum_kilodalton": maximum_kilodalton,
            "minimum_dissimilarity": minimum_dissimilarity,
            "share": share,
        },
        searched=len(paths),
        in_mass_range=len(candidates),
        kilodalton={c.structure.name: round(c.structure.mass_dalton / 1000, 1) for c in chosen},
    )
    return rows


def _farthest_first(
    candidates: list[Candidate], avoided: list[NDArray[np.float64]], count: int, least: float
) -> list[Candidate]:
    """Candidates in the order of choice: each the farthest from those before it and from what is avoided."""
    described = np.stack([candidate.description for candidate in candidates])
    nearest = np.full(len(candidates), np.inf)
    for other in avoided:
        nearest = np.minimum(nearest, [dissimilarity(description, other) for description in described])
    if not avoided:
        # The first is the most ordinary one.
        middle = np.median(described, axis=0)
        nearest = -np.array([dissimilarity(description, middle) for description in described])
    chosen: list[Candidate] = []
    while len(chosen) < min(count, len(candidates)):
        best = int(nearest.argmax())
        if (chosen or avoided) and nearest[best] < least:
            break
        chosen.append(candidates[best])
        away = np.array([dissimilarity(description, described[best]) for description in described])
        nearest = away if len(chosen) == 1 and not avoided else np.minimum(nearest, away)
    return chosen
