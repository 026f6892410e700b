"""SIMULATE: the tilt series of one packed sample."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from template_learning.common.device import choose_device
from template_learning.common.errors import BadInput
from template_learning.common.files import existing, replacing
from template_learning.common.geometry import Grid, rotation_from_angles
from template_learning.common.log import tell
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import generator_for, read_sidecar, write_json, write_sidecar
from template_learning.common.tables import DesignRow, positions
from template_learning.packing.packed_sample import read_placed
from template_learning.settings import SimulateCommandSettings
from template_learning.simulation.acquisition import Acquisition, acquire, tilt_angles, without_missing
from template_learning.simulation.detector import count_electrons, mtf_transfer
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.nuisances import Nuisances
from template_learning.simulation.optics import Lens
from template_learning.simulation.physics import wavelength_angstrom
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import SOLVENT_NOISE, physical_scattering

Result = TypeVar("Result")


def shown(results: Iterable[Result], total: int) -> Iterable[Result]:
    """Results as they come, with a progress bar where there is a terminal."""
    console = Console(stderr=True)
    return track(results, "tilts", total, console=console, disable=not console.is_terminal)


def placed_sample(placed: Path, library_folders: Sequence[Path], *, hydrogens: bool = True) -> tuple[Sample, Grid]:
    """The molecules of a table with their atoms, and the sample's grid; without ``hydrogens`` with heavy atoms alone.

    Raises BadInput where a molecule is not in the library or has no orientation.
    """
    packed = read_placed(placed, library_folders, hydrogens=hydrogens)
    rows, grid = packed.rows, packed.grid
    names = sorted({row.molecule for row in rows})
    atoms = [packed.library[name].atoms() for name in names]
    without = [name for name, found in zip(names, atoms, strict=True) if not found.hydrogens.any()]
    if without and hydrogens:
        tell(
            f"no hydrogens in the library for {', '.join(without[:3])}{', ...' if len(without) > 3 else ''}: heavy atoms alone"
        )
    angles = np.array([(row.rot_deg, row.tilt_deg, row.psi_deg) for row in rows], dtype=float).reshape(-1, 3)
    return Sample(
        atoms=atoms if hydrogens else [found.bare() for found in atoms],
        kind=np.array([names.index(row.molecule) for row in rows], dtype=np.int64),
        rotation=rotation_from_angles(angles).as_matrix() if rows else np.zeros((0, 3, 3)),
        position_angstrom=positions(rows) - grid.centre_angstrom,
        ice=Slab(float(grid.extent_angstrom[2])),
    ), grid


def settings_of_row(settings: SimulateCommandSettings, row: DesignRow) -> SimulateCommandSettings:
    """The settings with what the row has of its own."""
    own = {"scheme": row.dose_order}
    own |= {name: getattr(row, name) for name in ("inelastic_mean_free_path_angstrom", "astigmatism_um", "astigmatism_deg")}
    microscope = {name: getattr(row, name) for name in ("voltage_kv", "amplitude_contrast")}
    given = {name: value for name, value in microscope.items() if value is not None}
    changes: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    return settings.model_copy(update={**changes, "microscope": settings.microscope.model_copy(update=given)})


def taken_tilts(row: DesignRow, settings: SimulateCommandSettings, root_seed: int) -> Acquisition:
    """The tilts that a row asks for, less those that are missing."""
    angles = tilt_angles(row.tilt_range_deg, row.tilt_step_deg, row.tilt_offset_deg)
    taken = acquire(angles, row.total_dose_e_per_angstrom2, settings.scheme, row.tilt_offset_deg)
    return without_missing(taken, row.missing_tilts, generator_for(root_seed, "simulate", f"{row.id}/missing"))


def design_lens(row: DesignRow, settings: SimulateCommandSettings) -> Lens:
    """The microscope that a row of the design asks for."""
    return Lens(
        voltage_kv=settings.microscope.voltage_kv,
        defocus_angstrom=row.defocus_um * 1e4,
        astigmatism_angstrom=settings.astigmatism_um * 1e4,
        astigmatism_deg=settings.astigmatism_deg,
        spherical_aberration_mm=settings.microscope.spherical_aberration_mm,
        chromatic_aberration_mm=settings.microscope.chromatic_aberration_mm,
        phase_shift_deg=row.phase_shift_deg,
    )


def series_engine(sample: Sample, grid: Grid, row: DesignRow, settings: SimulateCommandSettings) -> Engine:
    """The engine for a packed sample; the images' field is the sample's.

    Raises BadInput where a GPU is asked for and absent.
    """
    pixel = settings.pixel_angstrom
    lens = design_lens(row, settings)
    # How far the image's highest frequency goes astray in the microscope.
    reach = wavelength_angstrom(lens.voltage_kv) * abs(lens.defocus_angstrom) * 0.5 / pixel
    height, width = grid.resampled(pixel).shape[1:]
    return Engine(
        sample=sample,
        scattering=physical_scattering(row.ice_density_g_per_cm3, gaussians=SOLVENT_NOISE[settings.solvent_noise]),
        lens=lens,
        shape=(height, width),
        pixel_angstrom=pixel,
        padding_angstrom=float(np.clip(reach, 48.0, 256.0)),
        propagation=settings.propagation,
        damage_angstrom2_per_dose=settings.damage_angstrom2_per_dose,
        amplitude_contrast=settings.microscope.amplitude_contrast,
        device=choose_device(settings.device),
    )


def write_series(
    output: Path,
    images: NDArray[np.float32],
    pixel_angstrom: float,
    sample: Sample,
    grid: Grid,
    row: DesignRow,
    taken: Acquisition,
    settings: SimulateCommandSettings,
    root_seed: int,
    **metadata: Any,
) -> None:
    """Write a tilt series [tilt, y, x], its angles and its sidecar, the same files whichever engine made the images.

    ``metadata`` is what the engine has to say besides: figures for the sidecar.
    """
    tilts = output / f"{row.id}.tilts.mrc"
    write_mrc(tilts, images, pixel_angstrom, stack=True)
    with replacing(output / f"{row.id}.tlt") as temporary:
        temporary.write_text("".join(f"{angle:.2f}\n" for angle in taken.angle_deg))
    write_sidecar(
        tilts,
        stage="simulate",
        item=row.id,
        seed=root_seed,
        settings=settings,
        row=row.model_dump(mode="json"),
        pixel_size_angstrom=pixel_angstrom,
        sample_shape_voxels=list(grid.shape),
        sample_voxel_size_angstrom=grid.voxel_size_angstrom,
        angles_deg=taken.angle_deg.round(4),
        acquisition_order=taken.order,
        dose_per_tilt=taken.dose_per_tilt,
        molecules=len(sample.kind),
        atoms=int(sum(len(sample.atoms[kind].element) for kind in sample.kind)),
        **metadata,
    )


@dataclass(frozen=True)
class TiltImaging:
    """What turns exit waves into counts."""

    engine: Engine
    row: DesignRow
    settings: SimulateCommandSettings
    taken: Acquisition
    nuisances: Nuisances

    def counts(self, wave: Any, exit_angstrom: float, index: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Electrons counted in each pixel of a tilt."""
        engine, settings, dose = self.engine, self.settings, self.taken.dose_per_tilt
        grid = engine.lens_grid
        transfer = mtf_transfer(grid.half_frequency, settings.detector_pixel_size_angstrom, dose)
        if self.row.motion_angstrom:
            transfer = transfer * self.nuisances.motion_transfer(index, grid)
        # The detector's own pixel is in its transfer; means over the series' pixels would cost contrast that data have.
        offset = float(self.nuisances.defocus_offset_angstrom[index])
        image = engine.image(engine.intensity(wave, exit_angstrom, offset), transfer, area_means=False)
        if self.row.uneven_illumination:
            image = image * self.nuisances.illumination(engine.shape)
        if settings.inelastic_mean_free_path_angstrom is not None:
            path = engine.sample.ice.path_angstrom(self.taken.angle_deg[index])
            image = image * np.float32(np.exp(-path / settings.inelastic_mean_free_path_angstrom))
        return count_electrons(image, dose * engine.pixel_angstrom**2, generator)


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
        metadata = {**tilts, "padding_angstrom": engine.padding_angstrom, **_wave_facts(engine)}
        write_json(path.with_name(path.name + ".json"), metadata)

    @classmethod
    def read(cls, path: Path, engine: Engine, angle_deg: NDArray[np.float64]) -> "KeptWaves":
        """Waves kept earlier, left on disk; BadInput where they are not of this engine's sample, tilts and grid."""
        metadata = read_sidecar(existing(path))
        if not metadata:
            raise BadInput(f"{path}.json: no such file; it was expected beside the waves")
        if len(metadata["angles_deg"]) != len(angle_deg) or not np.allclose(metadata["angles_deg"], angle_deg):
            raise BadInput(f"{path}: waves of {len(metadata['angles_deg'])} other tilts than the {len(angle_deg)} of the row")
        for name, value in _wave_facts(engine).items():
            if metadata.get(name) != value:
                raise BadInput(f"{path}: its {name} is {metadata.get(name)}, this run's {value}; the same was expected")
        return cls(angle_deg, np.array(metadata["exit_angstrom"]), np.load(path, mmap_mode="r"))


def _wave_facts(engine: Engine) -> dict[str, Any]:
    return {
        "image_shape": list(engine.shape),
        "pixel_size_angstrom": engine.pixel_angstrom,
        "wave_shape": list(engine.grid.shape),
        "voltage_kv": engine.lens.voltage_kv,
        "amplitude_contrast": engine.amplitude_contrast,
        "molecules": len(engine.sample.kind),
    }
