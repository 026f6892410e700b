"""LABEL: a packed sample and its tomogram in, the truth on that tomogram's grid out."""

from collections import Counter
from pathlib import Path

import numpy as np

from template_learning.common.files import checked_id, write_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import ParticleRow
from template_learning.labelling.labels import draw_labels, molecule_axis, moved_particle
from template_learning.packing.packed_sample import read_placed
from template_learning.settings import LabelSettings


def label_sample(
    placed: Path, libraries: list[Path], tomogram: Path, identifier: str, settings: LabelSettings, output: Path
) -> None:
    """LABEL: write ``<id>.labels.mrc``, ``<id>.instances.mrc`` and ``<id>.particles.csv`` on the tomogram's grid [z, y, x].

    ``labels`` holds the class of each voxel (uint8; 0 for background and distractors), ``instances`` the number of the
    particle in it (all molecules), and the table all placed molecules, distractors with class 0, with positions in Å from
    the tomogram's voxel (0, 0, 0) and the direction of each molecule's axis.  Where two molecules claim a voxel the one
    whose density is nearer to its own maximum has it.

    Parameters
    ----------
    placed : Path
        The sample's ``<id>.placed.csv``, its sidecar beside it.
    libraries : list of Path
        What VOLUME wrote.
    tomogram : Path
        Of the sample.
    identifier : str
        Start of the files' names.
    settings : LabelSettings
        Section ``label``.
    output : Path
        Folder to write to.

    Raises
    ------
    BadInput
        A molecule is not in the library or has no orientation.
    """
    checked_id(identifier)
    packed = read_placed(placed, libraries)
    rows, library, sample = packed.rows, packed.library, packed.grid
    data, voxel_size = read_mrc(tomogram, memory_map=True)
    grid = Grid(shape=(data.shape[0], data.shape[1], data.shape[2]), voxel_size_angstrom=voxel_size)
    axes = {name: molecule_axis(library[name].atoms()[0]) for name in sorted({row.molecule for row in rows})}
    particles = [moved_particle(row, sample, grid, axes[row.molecule]) for row in rows]
    labels, instances = draw_labels(particles, library, grid, settings)
    write_mrc(output / f"{identifier}.labels.mrc", labels, voxel_size)
    # MRC has no 32-bit integers; float32 is exact to 16 million particles.
    write_mrc(
        output / f"{identifier}.instances.mrc", instances.astype(np.uint16 if len(rows) < 2**16 else np.float32), voxel_size
    )
    table = output / f"{identifier}.particles.csv"
    write_table(table, ParticleRow, particles)
    metadata = {
        "shape_voxels": list(grid.shape),
        "voxel_size_angstrom": voxel_size,
        "particles_by_class": {str(number): count for number, count in sorted(Counter(p.class_id for p in particles).items())},
        "species_of_class": {str(p.class_id): p.species for p in sorted(particles, key=lambda p: p.species) if p.class_id},
    }
    voxels = {str(number): int((labels == number).sum()) for number in sorted({p.class_id for p in particles} - {0})}
    for path in (table, output / f"{identifier}.labels.mrc", output / f"{identifier}.instances.mrc"):
        write_sidecar(path, stage="label", item=identifier, seed=None, settings=settings, voxels_by_class=voxels, **metadata)
