"""SIMULATE: the tilt series of one packed sample."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from template_learning.errors import BadInput
from template_learning.files import checked_id, read_table, replacing, write_mrc
from template_learning.geometry import Grid, rotation_from_angles
from template_learning.library import read_library
from template_learning.provenance import generator_for, read_sidecar, seed_for, write_sidecar
from template_learning.settings import SimulateSettings
from template_learning.simulation.acquisition import acquire, tilt_angles
from template_learning.simulation.detector import count_electrons, detector_pass
from template_learning.simulation.ice import Slab
from template_learning.simulation.matter import physical_matter
from template_learning.simulation.native import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.simulation.potential import Sample
from template_learning.tables import DesignRow, ParticleRow

STAGE = "simulate"


def processors() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the processors that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def sample_grid(placed: Path) -> Grid:
    """The grid that a table of placed molecules refers to, from its sidecar; BadInput where that does not say."""
    facts = read_sidecar(placed)
    try:
        shape = tuple(int(count) for count in facts["shape_voxels"])
        return Grid(shape=(shape[0], shape[1], shape[2]), voxel_size_angstrom=float(facts["voxel_size_angstrom"]))
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadInput(f"{placed}.json: shape_voxels and voxel_size_angstrom of the sample were expected") from None


def placed_sample(placed: Path, library_folders: Sequence[Path]) -> tuple[Sample, Grid]:
    """The molecules of a table with their atoms, and the sample's grid.

    Raises BadInput where a molecule is not in the library or has no orientation.
    """
    rows = read_table(placed, ParticleRow)
    grid = sample_grid(placed)
    library = read_library(library_folders)
    names = sorted({row.molecule for row in rows})
    for row in rows:
        if row.molecule not in library:
            raise BadInput(f"{placed}: molecule {row.molecule!r} of particle {row.particle} is not in the library")
        if None in (row.rot_deg, row.tilt_deg, row.psi_deg):
            raise BadInput(f"{placed}: particle {row.particle} has no rot_deg, tilt_deg and psi_deg")
    angles = np.array([(row.rot_deg, row.tilt_deg, row.psi_deg) for row in rows], dtype=float).reshape(-1, 3)
    position = np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows]).reshape(-1, 3)
    return Sample(
        atoms=[library[name].atoms() for name in names],
        kind=np.array([names.index(row.molecule) for row in rows], dtype=np.int64),
        rotation=rotation_from_angles(angles).as_matrix() if rows else np.zeros((0, 3, 3)),
        position_angstrom=position - grid.centre_angstrom,
        ice=Slab(float(grid.extent_angstrom[2])),
    ), grid


def design_lens(row: DesignRow, settings: SimulateSettings) -> Lens:
    """The microscope that a row of the design asks for."""
    return Lens(
        voltage_kv=settings.voltage_kv,
        defocus_angstrom=row.defocus_um * 1e4,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        chromatic_aberration_mm=settings.chromatic_aberration_mm,
        phase_shift_deg=row.phase_shift_deg,
    )


def simulate_sample(
    placed: Path,
    library_folders: Sequence[Path],
    row: DesignRow,
    settings: SimulateSettings,
    root_seed: int,
    output: Path,
) -> None:
    """Simulate the tilt series of one packed sample.

    Writes ``<row.id>.tilts.mrc`` (counted electrons, float32 [tilt, y, x], sorted by angle, protein dark) over the
    sample's field, ``<row.id>.tlt`` (degrees, one a line) and a sidecar.
    """
    begun = time.perf_counter()
    checked_id(row.id)
    if settings.pixel_size_angstrom is None:
        raise BadInput("simulate.pixel_size_angstrom: a pixel size in ångström was expected")
    sample, grid = placed_sample(placed, library_folders)
    pixel = settings.pixel_size_angstrom
    lens = design_lens(row, settings)
    reach = wavelength_angstrom(lens.voltage_kv) * abs(lens.defocus_angstrom) * 0.5 / pixel
    engine = Engine(
        sample=sample,
        shape=grid.resampled(pixel).shape[1:],
        pixel_angstrom=pixel,
        lens=lens,
        padding_angstrom=float(np.clip(reach, 48.0, 256.0)),
        propagation=settings.propagation,
        matter=physical_matter(row.ice_density_g_per_cm3),
        damage_angstrom2_per_dose=settings.damage_angstrom2_per_dose,
    )
    taken = acquire(tilt_angles(row.tilt_range_deg, row.tilt_step_deg), row.total_dose_e_per_angstrom2, settings.scheme)

    def one(index: int) -> NDArray[np.float32]:
        generator = generator_for(root_seed, STAGE, f"{row.id}/{index}")
        wave, exit_angstrom = engine.exit_wave(taken.angle_deg[index], taken.dose_at_end[index], generator)
        passed = detector_pass(engine.lens_grid.half_frequency, settings.detector_pixel_size_angstrom, taken.dose_per_tilt)
        intensity = engine.image(engine.intensity(wave, exit_angstrom), passed)
        return count_electrons(intensity, taken.dose_per_tilt * pixel**2, generator)

    workers = min(processors(), len(taken.angle_deg))
    with ThreadPoolExecutor(workers) as pool:
        images = np.stack(list(pool.map(one, range(len(taken.angle_deg)))))
    output.mkdir(parents=True, exist_ok=True)
    tilts = output / f"{row.id}.tilts.mrc"
    write_mrc(tilts, images, pixel, stack=True)
    with replacing(output / f"{row.id}.tlt") as temporary:
        temporary.write_text("".join(f"{angle:.2f}\n" for angle in taken.angle_deg))
    write_sidecar(
        tilts,
        stage=STAGE,
        item=row.id,
        seed=seed_for(root_seed, STAGE, row.id),
        settings=settings,
        row=row.model_dump(mode="json"),
        pixel_size_angstrom=pixel,
        sample_shape_voxels=list(grid.shape),
        sample_voxel_size_angstrom=grid.voxel_size_angstrom,
        angles_deg=taken.angle_deg.round(4),
        acquisition_order=taken.order,
        dose_per_tilt=taken.dose_per_tilt,
        molecules=len(sample.kind),
        atoms=int(sum(len(sample.atoms[kind][1]) for kind in sample.kind)),
        simulation_seconds=round(time.perf_counter() - begun, 3),
    )
