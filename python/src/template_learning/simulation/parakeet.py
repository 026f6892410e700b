"""The reference engine: Parakeet 0.6.8 (Parkhurst et al. 2021) on MULTEM, run as a program of its own, one tilt at a time.

Each tilt is a configuration and a run.  Its images are binned and its HDF5 files deleted before the next begins, so that
the disk holds the sample's atoms and one tilt for each worker.  MULTEM draws the ice's grain from the machine's own
entropy: two runs differ in it, whatever the seed.
"""

import os
import queue
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gemmi
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from template_learning.common.compute import processors, visible_gpus
from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id
from template_learning.common.geometry import Grid
from template_learning.common.programs import find_program, run_program, words_of
from template_learning.common.provenance import seed_for
from template_learning.common.tables import DesignRow
from template_learning.settings import NuisanceSettings, SimulateCommandSettings, SimulateSettings
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import SOLVENT_NOISE
from template_learning.simulation.series import (
    design_lens,
    placed_sample,
    settings_of_row,
    shown,
    taken_tilts,
    write_series,
)
from template_learning.structures.atoms import Atoms

PARAKEET = "parakeet.run"
BORDER_ANGSTROM = 100.0
"""Parakeet's margin, and beyond it its padding, on each side of the image."""
SLICE_ANGSTROM = 3.0
ATOM_BYTES = 60
"""Of one atom of the sample in Parakeet's file, and of one in a structure's (about 26 and 80; rounded up for HDF5's chunks)."""
STRUCTURE_ATOM_BYTES = 100
NOT_MODELLED = (
    *(name for name in NuisanceSettings.model_fields if name != "gold_diameter_angstrom"),
    "tilt_axis_distance_um",
    "ice_thickness_angstrom",
)
"""Columns of the design that are nothing else than 0 or empty with Parakeet."""
# Runs a Python program after seeding NumPy's global state, from which Parakeet draws.
SEEDED = (
    "import runpy, sys, numpy; numpy.random.seed(int(sys.argv[1])); "
    "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Images of ``shape`` [y, x] pixels, each of ``binning`` x ``binning`` detector pixels of ``pixel_angstrom``."""

    shape: tuple[int, int]
    binning: int
    pixel_angstrom: float

    @property
    def border(self) -> int:
        """Detector pixels of the margin, and of the padding."""
        return round(BORDER_ANGSTROM / self.pixel_angstrom)

    def binned(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Sums over the binned pixels of an image [y, x] of detector pixels."""
        (height, width), step = self.shape, self.binning
        return np.asarray(image, dtype=float).reshape(height, step, width, step).sum(axis=(1, 3))


def choose_detector(grid: Grid, settings: SimulateCommandSettings) -> Detector:
    """The detector whose pixel is nearest to the settings' while a whole number of them make one of the series."""
    pixel = settings.pixel_angstrom
    binning = max(1, round(pixel / settings.detector_pixel_size_angstrom))
    height, width = grid.resampled(pixel).shape[1:]
    return Detector(shape=(height, width), binning=binning, pixel_angstrom=pixel / binning)


def configuration(
    sample: Sample,
    files: Sequence[str],
    thickness_angstrom: float,
    row: DesignRow,
    settings: SimulateCommandSettings,
    detector: Detector,
) -> dict[str, Any]:
    """What all tilts have in common, in Parakeet's own terms; ``files`` are the structures of ``sample``'s kinds.

    Parakeet counts positions from the box's corner, where the first detector pixel's centre lies, and puts the mean of a
    structure's atoms at an instance's position.
    """
    height, width = (count * detector.binning for count in detector.shape)
    pixel, border = detector.pixel_angstrom, detector.border
    field = np.array([width, height]) * pixel
    length = field
    if settings.ice_shape == "slab":
        # As long as the steepest tilt sees, border included.
        steepest = np.deg2rad(row.tilt_range_deg + abs(row.tilt_offset_deg))
        seen = field + 4 * border * pixel
        length = np.array([(seen[0] + thickness_angstrom * np.sin(steepest)) / np.cos(steepest), seen[1]])
    size = np.array([*length, thickness_angstrom])
    # The detector's corner must be whole; the box is as much larger as that takes.
    half_field = (np.array([width, height]) - 1) / 2 * pixel
    origin = np.ceil(length / 2 - half_field)
    centre = np.array([*(origin + half_field), thickness_angstrom / 2])
    middle = [atoms.position_angstrom.mean(axis=0, dtype=float) for atoms in sample.atoms]
    molecules = []
    for kind, name in enumerate(files):
        poses = [
            {
                "position": (centre + sample.position_angstrom[i] + sample.rotation[i] @ middle[kind]).tolist(),
                "orientation": Rotation.from_matrix(sample.rotation[i]).as_rotvec().tolist(),
            }
            for i in np.flatnonzero(sample.kind == kind)
        ]
        molecules.append({"filename": name, "instances": poses})
    lens = design_lens(row, settings)
    return {
        "microscope": {
            "beam": {
                "energy": lens.voltage_kv,
                "energy_spread": lens.energy_spread,
                "acceleration_voltage_spread": lens.voltage_spread,
                "illumination_semiangle": lens.illumination_semiangle_mrad,
            },
            "lens": {
                "c_10": lens.defocus_angstrom,
                "c_12": lens.astigmatism_angstrom,
                "phi_12": lens.astigmatism_deg - 45.0,  # there chi has the sine of twice the angle
                "c_30": lens.spherical_aberration_mm,
                "c_c": lens.chromatic_aberration_mm,
                "current_spread": lens.current_spread,
            },
            "phase_plate": {
                "use": lens.phase_shift_deg > 0,
                "phase_shift": lens.phase_shift_deg,
                "radius": lens.phase_plate_cut_on_per_angstrom,
            },
            "detector": {"nx": width, "ny": height, "pixel_size": pixel, "origin": origin.astype(int).tolist(), "dqe": True},
        },
        "sample": {
            "box": (2 * centre).tolist(),
            "centre": centre.tolist(),
            "shape": {"type": "cuboid", "cuboid": dict(zip(("length_x", "length_y", "length_z"), size.tolist(), strict=True))},
            "molecules": {"local": molecules},
        },
        "simulation": {
            "slice_thickness": SLICE_ANGSTROM,
            "margin": border,
            "padding": border,
            "ice": True,
            "ice_parameters": {"density": row.ice_density_g_per_cm3, **_solvent_noise(settings)},
            "radiation_damage_model": settings.damage_angstrom2_per_dose > 0,
        },
    }


def _solvent_noise(settings: SimulateSettings) -> dict[str, float]:
    """The Gaussians of the ice's grain by Parakeet's names."""
    names = (("a1", "m1", "s1"), ("a2", "m2", "s2"))
    pairs = zip(names, SOLVENT_NOISE[settings.solvent_noise], strict=True)
    return {name: value for some, gaussian in pairs for name, value in zip(some, gaussian, strict=True)}


def configuration_of_tilt(
    common: Mapping[str, Any],
    settings: SimulateCommandSettings,
    angle_deg: float,
    dose_per_tilt: float,
    dose_at_end: float,
    gpu: bool,
) -> dict[str, Any]:
    """One tilt's own configuration; doses in electrons per Å^2.

    Parakeet counts the dose from its first image; the damage of those before this one goes into the sensitivity.
    """
    microscope, simulation = dict(common["microscope"]), dict(common["simulation"])
    microscope["beam"] = {**microscope["beam"], "electrons_per_angstrom": float(dose_per_tilt)}
    simulation["sensitivity_coefficient"] = float(settings.damage_angstrom2_per_dose * dose_at_end / dose_per_tilt)
    scan = {"mode": "manual", "axis": [0, 1, 0], "angles": [float(angle_deg)], "num_fractions": 1, "exposure_time": 1.0}
    # A worker sees its own GPU alone, which is then number 0.
    device = {"device": "gpu" if gpu else "cpu", "nproc": 1, "gpu_id": [0]}
    parts = {"microscope": microscope, "simulation": simulation, "scan": scan, "multiprocessing": device}
    return {**common, **parts}


def write_parakeet_structure(path: Path, atoms: Atoms) -> None:
    """Write atoms as mmCIF, all in one residue, without displacements; hydrogens that ride on them are left out."""
    residue = gemmi.Residue()
    residue.name, residue.seqid = "UNL", gemmi.SeqId("1")
    for place, number in zip(atoms.position_angstrom.tolist(), atoms.element.tolist(), strict=True):
        atom = gemmi.Atom()
        atom.element = gemmi.Element(number)
        atom.name, atom.pos, atom.b_iso = atom.element.name, gemmi.Position(*place), 0.0
        residue.add_atom(atom)
    chain, model, structure = gemmi.Chain("A"), gemmi.Model(1), gemmi.Structure()
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.make_mmcif_document().write_file(str(path))


def disk_bytes(sample: Sample, detector: Detector, tilts: int, workers: int) -> int:
    """The most that a series needs of the disk at a time: structures, the sample, one tilt a worker, the binned images."""
    atoms = np.array([len(atoms.element) for atoms in sample.atoms], dtype=np.int64)
    pixels = int(np.prod(detector.shape)) * detector.binning**2
    height, width = (count * detector.binning + 2 * detector.border for count in detector.shape)
    one_tilt = 8 * height * width + 2 * 4 * pixels  # exit wave, optics, image
    series = 2 * 4 * tilts * int(np.prod(detector.shape))  # written aside, then renamed
    placed = int(atoms[sample.kind].sum()) if len(sample.kind) else 0
    return int(STRUCTURE_ATOM_BYTES * atoms.sum() + ATOM_BYTES * placed + workers * one_tilt + series)


@dataclass(frozen=True)
class Program:
    """Where ``parakeet.run`` and its Python lie, and their versions."""

    path: str
    python: str
    versions: dict[str, str]

    @classmethod
    def find(cls) -> "Program":
        """The one on the PATH; BadInput where there is none."""
        path = find_program(PARAKEET, "simulate.engine = 'parakeet'", "run in the image `parakeet`, or take 'native'")
        with open(path, encoding="utf-8", errors="replace") as handle:
            first = handle.readline()
        python = first[2:].strip() if first.startswith("#!/") else sys.executable
        wanted = "from importlib.metadata import version as v; print(v('python-parakeet'), v('python-multem'))"
        found = words_of([python, "-c", wanted])
        parakeet, multem = found if len(found) == 2 else ("unknown", "unknown")
        return cls(path, python, {"program": "Parakeet", "program_version": parakeet, "multem_version": multem})

    def run(self, folder: Path, *arguments: str, seed: int, gpu: str | None = None) -> None:
        """Run ``parakeet.run`` in a folder on its ``config.yaml``, with its sample in the folder above.

        Raises BadInput where a GPU was given and Parakeet finds none, Fault where it fails.
        """
        command = [
            self.python,
            "-c",
            SEEDED,
            str(seed % 2**32),
            self.path,
            "-c",
            "config.yaml",
            "-s",
            "../sample.h5",
            *arguments,
        ]
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, **single, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})}
        done = run_program(PARAKEET, command, folder=folder, environment=environment)
        if gpu is not None and "GPU not present" in done.stderr:
            raise BadInput(f"simulate.device: {PARAKEET} finds no GPU (CUDA_VISIBLE_DEVICES={gpu}); cpu or auto was expected")


def choose_workers(settings: SimulateCommandSettings, tilts: int) -> list[str | None]:
    """The GPU of each worker (none: the processor), as many workers as work at one time; BadInput without a GPU asked for."""
    gpus = visible_gpus(os.environ) if settings.device != "cpu" else []
    if settings.device == "gpu" and not gpus:
        raise BadInput("simulate.device: a GPU was asked for and there is none; cpu or auto was expected")
    return [*gpus[:tilts]] or [None] * min(processors(), tilts)


def check_asked(nuisances: Mapping[str, float], settings: SimulateSettings) -> None:
    """BadInput for what Parakeet does not model: ``nuisances`` (a row's, or the largest of a design) and settings."""
    asked: dict[str, Any] = {
        f"design.{'nuisances.' if name in NuisanceSettings.model_fields else ''}{name}": nuisances[name]
        for name in NOT_MODELLED
        if nuisances[name]
    }
    if settings.propagation != "multislice":
        asked["simulate.propagation"] = settings.propagation
    # What differs from the default was asked for.
    own = SimulateSettings.model_fields["inelastic_mean_free_path_angstrom"].default
    if settings.inelastic_mean_free_path_angstrom not in (None, own):
        asked["simulate.inelastic_mean_free_path_angstrom"] = settings.inelastic_mean_free_path_angstrom
    if settings.keep_waves:
        asked["simulate.keep_waves"] = True
    if asked:
        words = ", ".join(f"{name} = {value}" for name, value in asked.items())
        raise BadInput(f"{words}: not done with simulate.engine = 'parakeet'; leave it out, or take 'native'")


def read_images(path: Path) -> NDArray[Any]:
    """The first image [y, x] of one of Parakeet's HDF5 files."""
    import h5py

    with h5py.File(path) as file:
        return np.asarray(file["entry/data/data"][0])


def simulate_by_parakeet(
    placed: Path,
    library_folders: Sequence[Path],
    row: DesignRow,
    settings: SimulateCommandSettings,
    root_seed: int,
    output: Path,
) -> None:
    """Simulate the tilt series of one packed sample with Parakeet; the files are those of the native engine.

    Tilts are spread over the GPUs of CUDA_VISIBLE_DEVICES, or over processors.  Raises BadInput for wrong input, a missing
    program or GPU, what Parakeet does not model, and too small a disk; Fault where Parakeet fails.
    """
    started = time.perf_counter()
    checked_id(row.id)
    check_asked({name: getattr(row, name) for name in NOT_MODELLED}, settings)
    settings = settings_of_row(settings, row)
    program = Program.find()
    sample, grid = placed_sample(placed, library_folders, hydrogens=False)
    detector = choose_detector(grid, settings)
    taken = taken_tilts(row, settings, root_seed)
    count = len(taken.angle_deg)
    workers = choose_workers(settings, count)
    output.mkdir(parents=True, exist_ok=True)
    needed = disk_bytes(sample, detector, count, len(workers))
    free = shutil.disk_usage(output).free
    if free < needed:
        raise BadInput(f"{output}: {free / 1e9:.1f} GB free; Parakeet needs about {needed / 1e9:.1f} GB there for {row.id}")
    free_workers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for worker in workers:
        free_workers.put(worker)
    with TemporaryDirectory(dir=output, prefix=".parakeet_") as name:
        folder = Path(name).resolve()
        files = [f"molecule_{kind}.cif" for kind in range(len(sample.atoms))]
        for file, atoms in zip(files, sample.atoms, strict=True):
            write_parakeet_structure(folder / file, atoms)
        paths = [f"../{file}" for file in files]
        common = configuration(sample, paths, float(grid.extent_angstrom[2]), row, settings, detector)

        def run(name: str, index: int, gpu: str | None, *steps: str) -> Path:
            inside = folder / name
            inside.mkdir()
            tilt = configuration_of_tilt(
                common, settings, taken.angle_deg[index], taken.dose_per_tilt, taken.dose_at_end[index], gpu is not None
            )
            (inside / "config.yaml").write_text(yaml.safe_dump(tilt, sort_keys=False))
            program.run(inside, "--steps", *steps, seed=seed_for(root_seed, "simulate", f"{row.id}/{name}"), gpu=gpu)
            return inside

        def tilt(index: int) -> NDArray[np.float32]:
            worker = free_workers.get()
            try:
                inside = run(f"tilt_{index}", index, worker, "simulate")
                return detector.binned(read_images(inside / "image.h5")).astype(np.float32)
            finally:
                free_workers.put(worker)
                shutil.rmtree(folder / f"tilt_{index}", ignore_errors=True)

        run("sample", 0, workers[0], "sample")
        with ThreadPoolExecutor(len(workers)) as pool:
            images = np.stack(list(shown(pool.map(tilt, range(count)), count)))
    write_series(
        output,
        images,
        detector.pixel_angstrom * detector.binning,
        sample,
        grid,
        row,
        taken,
        settings,
        root_seed,
        detector_pixel_size_angstrom=detector.pixel_angstrom,
        device="cpu" if workers[0] is None else "gpu",
        workers=len(workers),
        disk_bytes_expected=needed,
        simulation_seconds=round(time.perf_counter() - started, 3),
        **program.versions,
    )
