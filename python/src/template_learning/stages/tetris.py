"""TETRIS: a library of molecules in, the table of those packed into one sample out."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from template_learning.common.files import checked_id, write_table
from template_learning.common.provenance import generator_for, write_sidecar
from template_learning.common.tables import ParticleRow
from template_learning.packing.tetris import pack, slab_thickness_angstrom
from template_learning.settings import TetrisSettings
from template_learning.structures.library import read_library


def pack_sample(
    library_folders: Sequence[Path], sample_id: str, settings: TetrisSettings, root_seed: int, output: Path
) -> Path:
    """TETRIS: pack one sample and write ``<id>.placed.csv`` with its sidecar.

    Positions are (x, y, z) in Å from the centre of voxel (0, 0, 0) of the sample's grid (``shape_voxels`` and
    ``voxel_size_angstrom`` in the sidecar).

    Parameters
    ----------
    library_folders : sequence of Path
        What VOLUME wrote.
    sample_id : str
        Start of the files' names.
    settings : TetrisSettings
        Section ``tetris``.
    root_seed : int
        The run's seed.
    output : Path
        Folder to write to.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    BadInput
        A bad id, a library that cannot be read, or a molecule larger than the box.
    """
    checked_id(sample_id, "sample id")
    library = read_library(library_folders)
    started = time.perf_counter()
    console = Console(stderr=True)
    generator = generator_for(root_seed, "tetris", sample_id)
    least, most = settings.filled_thickness_fraction
    slab = slab_thickness_angstrom(library, settings, float(generator.uniform(least, most)) if least < most else least)
    with console.status("TETRIS", spinner="line") if console.is_terminal else nullcontext() as status:
        packing = pack(
            library,
            settings.model_copy(update={"slab_thickness_angstrom": slab}),
            generator,
            lambda placed: status.update(f"TETRIS: {placed} molecules placed") if status else None,
        )
    seconds = time.perf_counter() - started
    path = output / f"{sample_id}.placed.csv"
    write_table(path, ParticleRow, packing.particles())
    write_sidecar(
        path,
        stage="tetris",
        item=sample_id,
        seed=root_seed,
        settings=settings,
        shape_voxels=packing.grid.shape,
        voxel_size_angstrom=packing.grid.voxel_size_angstrom,
        slab_thickness_angstrom=packing.slab_thickness_angstrom,
        notes=packing.first.notes,
        molecules=len(packing.rows),
        molecules_by_species=packing.count("species"),
        molecules_by_role=packing.count("role"),
        vesicles=packing.first.vesicles,
        filaments=packing.first.filaments,
        ended=packing.ended,
        misfits=packing.misfits,
        filled_fraction=packing.filled_fraction,
        filled_fraction_of_centres=packing.filled_fraction_of_centres,
        closest_approach_angstrom=packing.closest_approach_angstrom(library),
        protein_mg_per_ml=packing.protein_mg_per_ml,
        packing_seconds=seconds,
    )
    return path
