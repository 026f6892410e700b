"""Toy tomograms to train on: dark, lopsided particles among round ones, in noise."""

from pathlib import Path

import numpy as np
from scipy import ndimage
from template_learning.common.files import write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.settings import (
    TrainSettings,
)

VOXEL = 10.0
SHAPE = (24, 40, 48)
SMALL = TrainSettings(
    epochs=3,
    steps_per_epoch=4,
    batch_size=2,
    patch_voxels=16,
    augmentation={"random_shift_voxels": 4},
    validation_steps=2,
    optimizer={"learning_rate": 2e-3},
    filters=4,
)


def toy_tomogram(folder: Path, identifier: str, seed: int, targets: int = 6) -> None:
    """A tomogram with ``targets`` dark rods (class 1) and as many dark balls (class 0), noise of deviation one."""
    generator = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    data = generator.standard_normal(SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    rows = []
    cells = generator.permutation([(i, j, k) for i in range(2) for j in range(3) for k in range(4)])
    for number, cell in enumerate(cells[: 2 * targets], start=1):
        centre = np.array(cell) * 12 + generator.uniform(5, 7, 3)
        rod = number <= targets
        reach = (2.0, 2.0, 5.0) if rod else (3.0, 3.0, 3.0)
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, reach, strict=True)) < 1
        data[inside] -= 3
        if rod:
            labels[inside] = 1
        position = dict(zip(("z_angstrom", "y_angstrom", "x_angstrom"), centre * VOXEL, strict=True))
        rows.append(ParticleRow(particle=number, species="rod" if rod else "ball", class_id=int(rod), **position))
    write_mrc(folder / f"{identifier}.mrc", ndimage.gaussian_filter(data, 0.5), VOXEL)
    write_mrc(folder / f"{identifier}.labels.mrc", labels, VOXEL)
    write_table(folder / f"{identifier}.particles.csv", ParticleRow, rows)


def imaged(dose: float) -> DesignRow:
    """How a tomogram of that dose was imaged."""
    tilts = {"tilt_range_deg": 60, "tilt_step_deg": 3}
    return DesignRow(id="t", total_dose_e_per_angstrom2=dose, defocus_um=-3, ice_density_g_per_cm3=0.94, **tilts)
