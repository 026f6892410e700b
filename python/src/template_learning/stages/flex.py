"""FLEX: a template in, its conformers out."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from template_learning.common.files import checked_id
from template_learning.common.log import tell
from template_learning.common.provenance import generator_for, made_with, write_json
from template_learning.common.tables import MoleculeInput
from template_learning.flexing.conformers import RMSD_POINTS, Geometry, draw_conformer, find_modes, rms
from template_learning.settings import FlexSettings
from template_learning.structures.molecules import read_molecule
from template_learning.structures.structure import StructureWriter


def flex_template(
    structure: Path,
    template_id: str,
    settings: FlexSettings,
    root_seed: int,
    output: Path,
    reading: MoleculeInput | None = None,
) -> None:
    """FLEX one template: write ``<id>_c000.cif.gz``, ``<id>_c001.cif.gz`` ... (all-atom mmCIF) and ``<id>.flex.json``.

    Conformer n depends on the template, its id, n and the root seed only, not on how many are asked for.

    Parameters
    ----------
    structure : Path
        Structure file or density map.
    template_id : str
        Start of the files' names.
    settings : FlexSettings
        Section ``flex``.
    root_seed : int
        The run's seed.
    output : Path
        Folder to write to.
    reading : MoleculeInput, optional
        The biological assembly to build; or a map's resolution in Å, threshold (grey value) and mass in dalton.
    """
    checked_id(template_id, "template")
    molecule = read_molecule(structure, reading)
    modes = find_modes(molecule, settings)
    console = Console(stderr=True)
    for note in modes.notes:
        tell(f"{template_id}: {note}")
    geometry = Geometry.of(molecule)
    writer = StructureWriter(molecule)
    conformers: list[dict[str, Any]] = []
    numbers = track(
        range(settings.conformers),
        description=f"FLEX {template_id}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for number in numbers:
        item = f"{template_id}_c{number:03d}"
        drawn = draw_conformer(modes, geometry, settings, generator_for(root_seed, "flex", item))
        writer.write(output / f"{item}.cif.gz", item, molecule.position_angstrom + drawn.displacement)
        conformers.append(
            {
                "id": item,
                "rmsd_angstrom": round(rms(drawn.displacement), 4),
                "broken_bonds": round(drawn.broken, 6),
                "clashing_atoms": round(drawn.clashing, 6),
                "draws": drawn.draws,
                "accepted": drawn.accepted,
                "amplitude_angstrom": drawn.amplitude.round(4),
            }
        )
    distances = np.array([c["rmsd_angstrom"] for c in conformers])
    rejected = sum(int(c["draws"]) - bool(c["accepted"]) for c in conformers)
    tell(
        f"{template_id}: {len(conformers)} conformers, RMSD {distances.min():.1f} to {distances.max():.1f} Å "
        f"(median {np.median(distances):.1f}), {rejected} draws rejected"
    )
    write_json(
        output / f"{template_id}.flex.json",
        {
            "stage": "flex",
            "id": template_id,
            "structure": structure.name,
            "reading": (reading or MoleculeInput()).model_dump(exclude_none=True),
            "seed": root_seed,
            "settings": settings.model_dump(mode="json"),
            **made_with(),
            "notes": list(modes.notes),
            **modes.metadata,
            "eigenvalue": modes.eigenvalue,
            "collectivity": modes.collectivity,
            "rejected_draws": rejected,
            "bonds": len(geometry.bond),
            "clashes_of_template": geometry.clashes,
            "damaged_conformers": sum(not c["accepted"] for c in conformers),
            "rmsd_angstrom": dict(zip(RMSD_POINTS, np.percentile(distances, list(RMSD_POINTS.values())), strict=True)),
            "conformers": conformers,
        },
    )
