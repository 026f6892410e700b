"""SIMULATE: the tilt series of one packed sample."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from template_learning.errors import BadInput
from template_learning.files import checked_id, existing, replacing, write_mrc
from template_learning.geometry import Grid, rotation_from_angles
from template_learning.machine_code import processors
from template_learning.placed import read_placed
from template_learning.provenance import generator_for, read_sidecar, seed_for, write_json, write_sidecar
from template_learning.settings import SimulateSettings
from template_learning.simulation.acquisition import Acquisition, acquire, tilt_angles
from template_learning.simulation.detector import count_electrons, detector_pass
from template_learning.simulation.device import choose_device
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.matter import physical_matter
from template_learning.simulation.native import Engine
from template_learning.simulation.nuisances import Nuisances, draw_nuisances
from template_learning.simulation.optics import Lens
from template_learning.simulation.overlaps import with_ice_put_back
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.simulation.potential import Sample
from template_learning.tables import DesignRow

STAGE = "simulate"
Result = TypeVar("Result")


def shown(results: Iterable[Result], total: int) -> Iterable[Result]:
    """Results as they come, with a progress bar where there is a terminal."""
    console = Console(stderr=True)
    return track(results, "tilts", total, console=console, disable=not console.is_terminal)


def placed_sample(placed: Path, library_folders: Sequence[Path]) -> tuple[Sample, Grid]:
    """The molecules of a table with their atoms, and the sample's grid.

    Raises BadInput where a molecule is not in the library or has no orientation.
    """
    packed = read_placed(placed, library_folders)
    rows, grid = packed.rows, packed.grid
    names = sorted({row.molecule for row in rows})
    angles = np.array([(row.rot_deg, row.tilt_deg, row.psi_deg) for row in rows], dtype=float).reshape(-1, 3)
    position = np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows]).reshape(-1, 3)
    return Sample(
        atoms=[packed.library[name].atoms() for name in names],
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
        astigmatism_angstrom=settings.astigmatism_um * 1e4,
        astigmatism_deg=settings.astigmatism_deg,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        chromatic_aberration_mm=settings.chromatic_aberration_mm,
        phase_shift_deg=row.phase_shift_deg,
    )


def series_engine(sample: Sample, grid: Grid, row: DesignRow, settings: SimulateSettings) -> Engine:
    """The engine for a packed sample; the images' field is the sample's.

    Raises BadInput where no pixel size is set or a GPU is asked for and absent.
    """
    pixel = settings.pixel_size_angstrom
    if pixel is None:
        raise BadInput("simulate.pixel_size_angstrom: a pixel size in ångström was expected")
    lens = design_lens(row, settings)
    # How far the image's highest frequency goes astray in the microscope.
    reach = wavelength_angstrom(lens.voltage_kv) * abs(lens.defocus_angstrom) * 0.5 / pixel
    height, width = grid.resampled(pixel).shape[1:]
    return Engine(
        sample=sample,
        matter=physical_matter(row.ice_density_g_per_cm3),
        lens=lens,
        shape=(height, width),
        pixel_angstrom=pixel,
        padding_angstrom=float(np.clip(reach, 48.0, 256.0)),
        propagation=settings.propagation,
        damage_angstrom2_per_dose=settings.damage_angstrom2_per_dose,
        device=choose_device(settings.device),
    )


@dataclass(frozen=True)
class Imaging:
    """What turns exit waves into counts."""

    engine: Engine
    row: DesignRow
    settings: SimulateSettings
    taken: Acquisition
    nuisances: Nuisances

    def counts(self, wave: Any, exit_angstrom: float, index: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Electrons counted in each pixel of a tilt."""
        engine, settings, dose = self.engine, self.settings, self.taken.dose_per_tilt
        grid = engine.lens_grid
        passed = detector_pass(grid.half_frequency, settings.detector_pixel_size_angstrom, dose)
        if self.row.motion_angstrom:
            passed = passed * self.nuisances.motion_pass(index, grid)
        image = engine.image(engine.intensity(wave, exit_angstrom), passed)
        if self.row.uneven_illumination:
            image = image * self.nuisances.illumination(engine.shape)
        if settings.inelastic_mean_free_path_angstrom is not None:
            path = engine.sample.ice.path_angstrom(self.taken.angle_deg[index])
            image = image * np.float32(np.exp(-path / settings.inelastic_mean_free_path_angstrom))
        return count_electrons(image, dose * engine.pixel_angstrom**2, generator)


def simulate_sample(
    placed: Path,
    library_folders: Sequence[Path],
    row: DesignRow,
    settings: SimulateSettings,
    root_seed: int,
    output: Path,
    waves: Path | None = None,
) -> None:
    """Simulate the tilt series of one packed sample.

    Writes ``<row.id>.tilts.mrc`` (counted electrons, float32 [tilt, y, x], sorted by angle, protein dark) over the
    sample's field, ``<row.id>.tlt`` (nominal degrees, one a line) and a sidecar; with ``settings.keep_waves`` also
    ``<row.id>.waves.npy`` (exit waves, complex64).  ``waves``: such a file of the same sample and tilts, imaged again with
    this row's optics and dose instead of propagating; its ice, damage, gold, carbon and misalignment stay.

    Raises BadInput for wrong input, a GPU asked for and absent, or waves of other tilts or another grid.
    """
    begun = time.perf_counter()
    checked_id(row.id)
    packed, grid = placed_sample(placed, library_folders)
    sample, water = with_ice_put_back(packed)
    if settings.ice_shape == "cuboid":
        x, y, z = map(float, grid.extent_angstrom)
        sample = replace(sample, ice=Cuboid((x, y, z)))
    engine = series_engine(sample, grid, row, settings)
    angles = tilt_angles(row.tilt_range_deg, row.tilt_step_deg)
    kept = None
    if waves is not None:
        engine = replace(engine, padding_angstrom=read_sidecar(waves).get("padding_angstrom", engine.padding_angstrom))
        kept = KeptWaves.read(waves, engine, angles)
    taken = acquire(angles, row.total_dose_e_per_angstrom2, settings.scheme)
    generator = generator_for(root_seed, STAGE, f"{row.id}/nuisances")
    imaging = Imaging(engine, row, settings, taken, draw_nuisances(row, grid.extent_angstrom, len(angles), generator))
    keep = KeptWaves.new(engine, angles) if settings.keep_waves else None

    def one(index: int) -> NDArray[np.float32]:
        if kept is not None:
            wave, exit_angstrom = engine.device.put(kept.wave[index]), float(kept.exit_angstrom[index])
        else:
            view = imaging.nuisances.view(index, angles[index])
            grain = generator_for(root_seed, STAGE, f"{row.id}/{index}/ice")
            screens = imaging.nuisances.screens(engine, view)
            wave, exit_angstrom = engine.exit_wave(view, taken.dose_at_end[index], grain, screens)
        if keep is not None:
            keep.wave[index], keep.exit_angstrom[index] = engine.device.get(wave), exit_angstrom
        return imaging.counts(wave, exit_angstrom, index, generator_for(root_seed, STAGE, f"{row.id}/{index}/counts"))

    with ThreadPoolExecutor(min(processors(), len(angles))) as pool:
        images = np.stack(list(shown(pool.map(one, range(len(angles))), len(angles))))
    output.mkdir(parents=True, exist_ok=True)
    tilts = output / f"{row.id}.tilts.mrc"
    write_mrc(tilts, images, engine.pixel_angstrom, stack=True)
    if keep is not None:
        keep.write(output / f"{row.id}.waves.npy", engine)
    with replacing(output / f"{row.id}.tlt") as temporary:
        temporary.write_text("".join(f"{angle:.2f}\n" for angle in angles))
    write_sidecar(
        tilts,
        stage=STAGE,
        item=row.id,
        seed=seed_for(root_seed, STAGE, row.id),
        settings=settings,
        row=row.model_dump(mode="json"),
        pixel_size_angstrom=engine.pixel_angstrom,
        sample_shape_voxels=list(grid.shape),
        sample_voxel_size_angstrom=grid.voxel_size_angstrom,
        angles_deg=angles.round(4),
        acquisition_order=taken.order,
        dose_per_tilt=taken.dose_per_tilt,
        molecules=len(packed.kind),
        atoms=int(sum(len(packed.atoms[kind][1]) for kind in packed.kind)),
        water_put_back=water,
        nuisances=imaging.nuisances.facts(),
        device=engine.device.name,
        waves=None if waves is None else waves.name,
        simulation_seconds=round(time.perf_counter() - begun, 3),
    )


@dataclass(frozen=True)
class KeptWaves:
    """Exit waves [tilt, y, x] of a sample on an engine's grid, with their distances from the tilt axis's plane."""

    angle_deg: NDArray[np.float64]
    exit_angstrom: NDArray[np.float64]
    wave: NDArray[np.complex64]

    @classmethod
    def new(cls, engine: Engine, angle_deg: NDArray[np.float64]) -> "KeptWaves":
        """Room for the waves of these tilts."""
        return cls(angle_deg, np.zeros(len(angle_deg)), np.zeros((len(angle_deg), *engine.grid.shape), np.complex64))

    def write(self, path: Path, engine: Engine) -> None:
        """Write the waves, and beside them what they belong to."""
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.save(handle, self.wave)
        tilts = {"angles_deg": self.angle_deg, "exit_angstrom": self.exit_angstrom}
        facts = {**tilts, "padding_angstrom": engine.padding_angstrom, **_wave_facts(engine)}
        write_json(path.with_name(path.name + ".json"), facts)

    @classmethod
    def read(cls, path: Path, engine: Engine, angle_deg: NDArray[np.float64]) -> "KeptWaves":
        """Waves kept earlier, left on disk; BadInput where they are not of this engine's sample, tilts and grid."""
        facts = read_sidecar(existing(path))
        if not facts:
            raise BadInput(f"{path}.json: no such file; it was expected beside the waves")
        if len(facts["angles_deg"]) != len(angle_deg) or not np.allclose(facts["angles_deg"], angle_deg):
            raise BadInput(f"{path}: waves of {len(facts['angles_deg'])} other tilts than the {len(angle_deg)} of the row")
        for name, value in _wave_facts(engine).items():
            if facts.get(name) != value:
                raise BadInput(f"{path}: its {name} is {facts.get(name)}, this run's {value}; the same was expected")
        return cls(angle_deg, np.array(facts["exit_angstrom"]), np.load(path, mmap_mode="r"))


def _wave_facts(engine: Engine) -> dict[str, Any]:
    return {
        "image_shape": list(engine.shape),
        "pixel_size_angstrom": engine.pixel_angstrom,
        "wave_shape": list(engine.grid.shape),
        "voltage_kv": engine.lens.voltage_kv,
        "molecules": len(engine.sample.kind),
    }
