"""The door for Parakeet's users: the native engine on an unchanged Parakeet 0.6.8 configuration.

Read are the sample, ice, beam, lens, phase plate, detector, scan and damage; the device part is ignored.  What the engine
does not model is refused in words.  Parakeet's conventions hold: positions in ångström where pixel i of the detector lies
at i times its size, orientations as rotation vectors, images in units of the vacuum's intensity.
"""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import gemmi
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from scipy.spatial.transform import Rotation

from template_learning.common.compute import processors
from template_learning.common.errors import BadInput, problems
from template_learning.common.files import read_text, replacing
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import generator_for, write_sidecar
from template_learning.simulation.acquisition import Acquisition
from template_learning.simulation.detector import count_electrons, mtf_transfer
from template_learning.simulation.ice import Cuboid
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import parakeet_scattering
from template_learning.simulation.series import shown
from template_learning.structures.atoms import Atoms, bare_atoms

STRUCTURE_SUFFIXES = (".cif.gz", ".cif", ".mmcif", ".pdb", ".pdb.gz", ".ent", ".ent.gz")
# Thinner slices than this change nothing at the resolution that damage leaves.
THINNEST_SLICE_ANGSTROM = 25.0


def _absent(name: str) -> Any:
    """A parameter that must keep the value with which it does nothing."""

    def check(value: Any) -> None:
        if value not in (None, False, 0, 0.0, [], ()):
            raise ValueError(f"{name} is not modelled by the native engine; leave it out, or run Parakeet itself")

    return Annotated[Any, BeforeValidator(check)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Beam(_Part):
    energy: float = 300.0
    energy_spread: float = 2.66e-6
    acceleration_voltage_spread: float = 0.8e-6
    electrons_per_angstrom: float = Field(140.0, gt=0)
    illumination_semiangle: float = 0.02
    theta: _absent("a tilted beam") = 0  # type: ignore[valid-type]
    phi: float = 0.0
    incident_wave: _absent("an incident wave from a file") = None  # type: ignore[valid-type]


ABERRATIONS = ("c_21", "c_23", "c_32", "c_34", "c_41", "c_43", "c_45", "c_50", "c_52", "c_54", "c_56")


class _Lens(BaseModel):
    model_config = ConfigDict(extra="allow")
    c_10: float = -20000.0
    c_12: float = 0.0
    phi_12: float = 0.0
    c_30: float = 2.7
    c_c: float = 2.7
    current_spread: float = 0.33e-6

    def model_post_init(self, _: Any) -> None:
        for name, value in (self.model_extra or {}).items():
            if not (name in ABERRATIONS or name in ("m", "inner_aper_ang", "outer_aper_ang") or name.startswith("phi_")):
                raise ValueError(f"{name} is not a parameter of Parakeet's lens")
            if value and not name.startswith("phi_"):
                raise ValueError(f"{name} is not modelled by the native engine (c_10, c_12, c_30 and c_c are)")


class _PhasePlate(_Part):
    use: bool = False
    phase_shift: float = 90.0
    radius: float = Field(0.005, gt=0)


class _Detector(_Part):
    nx: int = Field(1000, ge=2)
    ny: int = Field(1000, ge=2)
    pixel_size: float = Field(1.0, gt=0)
    dqe: bool = False
    origin: tuple[float, float] = (0.0, 0.0)


class _Microscope(_Part):
    model: Literal["krios", "talos"] | None = None
    beam: _Beam = _Beam()
    lens: _Lens = _Lens()
    phase_plate: _PhasePlate = _PhasePlate()
    objective_aperture_cutoff_freq: float | None = None
    detector: _Detector = _Detector()


class _Cube(_Part):
    length: float = Field(1000.0, gt=0)


class _CuboidShape(_Part):
    length_x: float = Field(1000.0, gt=0)
    length_y: float = Field(1000.0, gt=0)
    length_z: float = Field(1000.0, gt=0)


class _Shape(_Part):
    type: Literal["cube", "cuboid", "cylinder"] = "cube"
    cube: _Cube = _Cube()
    cuboid: _CuboidShape = _CuboidShape()
    cylinder: Any = None
    margin: Any = None


class _Pose(_Part):
    position: tuple[float, float, float] | None = None
    orientation: tuple[float, float, float] | None = None


class _Molecule(_Part):
    filename: str | None = None
    id: str | None = None
    assembly_index: int = 0
    instances: int | list[_Pose] = 1


class _Molecules(_Part):
    local: list[_Molecule] | None = None
    pdb: list[_Molecule] | None = None


class _AtomicIce(_Part):
    generate: _absent("ice of single water molecules") = False  # type: ignore[valid-type]
    density: float = 940.0


class _Sample(_Part):
    shape: _Shape = _Shape()
    box: tuple[float, float, float] = (1000.0, 1000.0, 1000.0)
    centre: tuple[float, float, float] = (500.0, 500.0, 500.0)
    coords: _absent("a sample from a coordinate file (sample.coords)") = None  # type: ignore[valid-type]
    molecules: _Molecules | None = None
    ice: _AtomicIce | None = None
    sputter: _absent("a sputtered coating") = None  # type: ignore[valid-type]
    motion: _absent("motion of the molecules") = None  # type: ignore[valid-type]


class _Scan(_Part):
    mode: Literal[
        "manual",
        "still",
        "tilt_series",
        "dose_symmetric",
        "single_particle",
        "helical_scan",
        "nhelix",
        "beam_tilt",
        "grid_scan",
    ] = "still"
    axis: tuple[float, float, float] = (0.0, 1.0, 0.0)
    start_angle: float = 0.0
    step_angle: float = 0.0
    start_pos: _absent("a moving stage (scan.start_pos)") = 0  # type: ignore[valid-type]
    step_pos: Any = None
    num_images: int | tuple[int, int] = 1
    num_fractions: int = Field(1, ge=1)
    num_nhelix: int = 1
    exposure_time: float = 1.0
    angles: list[float] | None = None
    positions: list[Any] | None = None
    defocus_offset: list[float] | None = None
    theta: _absent("a tilted beam (scan.theta)") = None  # type: ignore[valid-type]
    phi: _absent("a tilted beam (scan.phi)") = None  # type: ignore[valid-type]
    drift: _absent("drift of the stage") = None  # type: ignore[valid-type]


class _IceParameters(_Part):
    m1: float = 0.0
    m2: float = 1 / 2.88
    s1: float = Field(0.731, gt=0)
    s2: float = Field(0.081, gt=0)
    a1: float = Field(0.199, gt=0)
    a2: float = Field(0.801, gt=0)
    density: float = Field(0.94, gt=0)


class _Simulation(_Part):
    slice_thickness: float = Field(3.0, gt=0)
    margin: int = Field(100, ge=0)
    padding: int = Field(100, ge=0)
    division_thickness: int = 100
    ice: bool = False
    ice_parameters: _IceParameters = _IceParameters()
    radiation_damage_model: bool = False
    inelastic_model: _absent("inelastic scattering") = None  # type: ignore[valid-type]
    mp_loss_width: Any = None
    mp_loss_position: Any = None
    sensitivity_coefficient: float = Field(0.022, ge=0)


class ParakeetConfig(_Part):
    """A Parakeet 0.6.8 configuration, as far as the native engine models it."""

    microscope: _Microscope = _Microscope()
    sample: _Sample = _Sample()
    scan: _Scan = _Scan()
    simulation: _Simulation = _Simulation()
    multiprocessing: Any = None


def read_parakeet_config(path: Path) -> ParakeetConfig:
    """A configuration from YAML; BadInput names each parameter that is wrong or not modelled."""
    try:
        content = yaml.safe_load(read_text(path))
        return ParakeetConfig.model_validate(content)
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not YAML ({error})") from None
    except ValidationError as error:
        raise BadInput(f"{path}: " + "; ".join(f"{field}: {problem}" for field, problem in problems(error))) from None


def structure_file(name: str, beside: Path, structures: Path | None) -> tuple[Path, bool]:
    """The file for a molecule's name, and whether it is the very file that the configuration names.

    Looked for: the name itself beside the configuration and in ``structures``; then, anywhere in ``structures`` (beside the
    configuration where none is given), a structure of that stem or of its PDB id, the stem's first four characters.
    Raises BadInput where there is none.
    """
    places = [beside, *([structures] if structures else [])]
    for place in places:
        if (place / name).is_file():
            return place / name, True
    stem = name.rsplit("/", 1)[-1].split(".")[0].lower()
    below = sorted(places[-1].rglob("*") if structures else beside.glob("*"))
    for wanted in dict.fromkeys((stem, stem.split("_")[0], stem[:4])):
        names = {prefix + wanted + suffix for prefix in ("", "pdb") for suffix in STRUCTURE_SUFFIXES}
        for path in below:
            if path.name.lower() in names:
                return path, False
    raise BadInput(f"{name}: not found in {', '.join(map(str, places))}, nor a structure of that id")


def read_parakeet_molecule(path: Path, assembly_index: int | None) -> Atoms:
    """All atoms of known element, positions from their mean; none but those of the file.  BadInput where there are none.

    With an index, the assembly of the first model is built where the file has any, as Parakeet does.
    """
    try:
        structure = gemmi.read_structure(str(path))
        models = list(structure)
        if assembly_index is not None and len(structure.assemblies) and len(structure):
            if assembly_index >= len(structure.assemblies):
                raise BadInput(f"{path}: assembly_index {assembly_index}; the file has {len(structure.assemblies)} assemblies")
            models = [
                gemmi.make_assembly(structure.assemblies[assembly_index], structure[0], gemmi.HowToNameCopiedChain.AddNumber)
            ]
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"{path}: not a structure file ({' '.join(str(error).split())[:200]})") from None
    atoms = [atom for model in models for chain in model for residue in chain for atom in residue]
    atoms = [atom for atom in atoms if atom.element.atomic_number > 0]
    if not atoms:
        raise BadInput(f"{path}: the structure has no atoms of known element")
    position = np.array([atom.pos.tolist() for atom in atoms], dtype=np.float64)
    return bare_atoms(position - position.mean(axis=0), np.array([a.element.atomic_number for a in atoms], np.uint8))


def parakeet_sample(config: ParakeetConfig, beside: Path, structures: Path | None) -> Sample:
    """The molecules and the ice of a configuration that lies in ``beside``."""
    centre = np.array(config.sample.centre)
    molecules = config.sample.molecules or _Molecules()
    # A file that is listed again replaces its first entry, as in Parakeet.
    by_name = {item.filename or item.id or "": item for item in [*(molecules.local or []), *(molecules.pdb or [])]}
    listed = list(by_name.values())
    count = sum(item.instances if isinstance(item.instances, int) else len(item.instances) for item in listed)
    atoms, kind, rotation, position = [], [], [], []
    for item in listed:
        name = item.filename or item.id or ""
        poses = [_Pose()] * item.instances if isinstance(item.instances, int) else item.instances
        if not poses:
            continue
        path, named = structure_file(name, beside, structures)
        atoms.append(read_parakeet_molecule(path, item.assembly_index if named else None))
        for pose in poses:
            if count > 1 and (pose.position is None or pose.orientation is None):
                raise BadInput(f"sample.molecules: {name} has an instance without position or orientation; Parakeet draws it at random each time, the native engine wants it given")  # fmt: skip
            kind.append(len(atoms) - 1)
            position.append(centre if pose.position is None else np.array(pose.position))
            rotation.append(Rotation.from_rotvec(pose.orientation or (0.0, 0.0, 0.0)).as_matrix())
    shape, pixel = config.sample.shape, config.microscope.detector.pixel_size
    if shape.type == "cylinder":
        raise BadInput("sample.shape.type: a cylinder is not modelled by the native engine; cube or cuboid was expected")
    length = (shape.cube.length,) * 3 if shape.type == "cube" else (shape.cuboid.length_x, shape.cuboid.length_y, shape.cuboid.length_z)  # fmt: skip
    return Sample(
        atoms=atoms,
        kind=np.array(kind, dtype=np.int64),
        rotation=np.array(rotation).reshape(-1, 3, 3),
        position_angstrom=np.array(position).reshape(-1, 3) - centre,
        # Parakeet's ice lies half a pixel off its atoms.
        ice=Cuboid(length, (-pixel / 2, -pixel / 2)),
    )


def parakeet_acquisition(config: ParakeetConfig) -> tuple[Acquisition, NDArray[np.float64]]:
    """The tilts sorted by angle, and each one's defocus offset in ångström."""
    scan = config.scan
    if scan.mode not in ("manual", "still", "tilt_series", "dose_symmetric") or not isinstance(scan.num_images, int):
        raise BadInput(f"scan.mode: {scan.mode} is not modelled by the native engine; manual, still, tilt_series or dose_symmetric was expected")  # fmt: skip
    axis = np.array(scan.axis) / np.linalg.norm(scan.axis)
    if not np.allclose(axis, (0, 1, 0)):
        raise BadInput(f"scan.axis: {scan.axis} is not modelled by the native engine; (0, 1, 0) was expected")
    if scan.num_fractions != 1:
        raise BadInput(f"scan.num_fractions: {scan.num_fractions} is not modelled by the native engine; 1 was expected")
    if scan.positions and np.any(np.array(scan.positions, dtype=float)):
        raise BadInput("scan.positions: a moving stage is not modelled by the native engine; zeros were expected")
    if scan.mode == "manual":
        angle = np.array(scan.angles if scan.angles is not None else np.zeros(len(scan.positions or [0])), dtype=float)
    elif scan.mode == "still":
        angle = np.full(scan.num_images, scan.start_angle)
    else:
        angle = scan.start_angle + scan.step_angle * np.arange(scan.num_images)
        if scan.mode == "dose_symmetric":
            angle = angle[np.argsort(np.abs(angle), kind="stable")]
    offset = np.zeros(len(angle))
    if scan.mode == "manual" and scan.defocus_offset is not None:
        offset = np.array(scan.defocus_offset, dtype=float)
        if len(offset) != len(angle):
            raise BadInput(f"scan.defocus_offset: {len(offset)} values for {len(angle)} angles")
    order = np.argsort(angle, kind="stable")
    return Acquisition(angle[order], order, config.microscope.beam.electrons_per_angstrom), offset[order]


def parakeet_lens(config: ParakeetConfig) -> Lens:
    """The microscope of a configuration; a named model overrides part of it, as in Parakeet."""
    beam, lens, plate = config.microscope.beam, config.microscope.lens, config.microscope.phase_plate
    if config.microscope.model is not None:
        energy = {"krios": 300.0, "talos": 200.0}[config.microscope.model]
        beam = beam.model_copy(update={"energy": energy, "energy_spread": 2.66e-6, "acceleration_voltage_spread": 0.8e-6})
        lens = lens.model_copy(update={"c_30": 2.7, "c_c": 2.7, "current_spread": 0.33e-6})
    return Lens(
        voltage_kv=beam.energy,
        defocus_angstrom=lens.c_10,
        astigmatism_angstrom=lens.c_12,
        astigmatism_deg=lens.phi_12 + 45.0,  # there chi has the sine of twice the angle
        spherical_aberration_mm=lens.c_30,
        chromatic_aberration_mm=lens.c_c,
        energy_spread=beam.energy_spread,
        voltage_spread=beam.acceleration_voltage_spread,
        current_spread=lens.current_spread,
        illumination_semiangle_mrad=beam.illumination_semiangle,
        phase_shift_deg=plate.phase_shift if plate.use else 0.0,
        phase_plate_cut_on_per_angstrom=plate.radius,
        aperture_per_angstrom=config.microscope.objective_aperture_cutoff_freq or math.inf,
    )


def parakeet_engine(config: ParakeetConfig, beside: Path, structures: Path | None, binning: int) -> Engine:
    """The native engine for a configuration; its images are the means over ``binning`` x ``binning`` detector pixels."""
    detector, simulation = config.microscope.detector, config.simulation
    pixel = detector.pixel_size
    shape = (detector.ny // binning, detector.nx // binning)
    if min(shape) < 2:
        raise BadInput(f"binning {binning}: the detector of {detector.nx} x {detector.ny} pixels is too small for it")
    parameters = simulation.ice_parameters
    gaussians = ((parameters.a1, parameters.m1, parameters.s1), (parameters.a2, parameters.m2, parameters.s2))
    scattering = parakeet_scattering(parameters.density, pixel, simulation.slice_thickness, gaussians)
    if not simulation.ice:
        scattering = replace(scattering, ice_volt=0.0, solvent_exclusion=None, solvent_noise_power=np.zeros_like)
    centre_x, centre_y = (
        (middle - start) / pixel for middle, start in zip(config.sample.centre[:2], detector.origin, strict=True)
    )
    engine = Engine(
        sample=parakeet_sample(config, beside, structures),
        scattering=scattering,
        lens=parakeet_lens(config),
        shape=shape,
        pixel_angstrom=pixel * binning,
        centre_pixel=((centre_y - (binning - 1) / 2) / binning, (centre_x - (binning - 1) / 2) / binning),
        oversampling=min(binning, 3),
        padding_angstrom=(simulation.margin + simulation.padding) * pixel,
        lens_padding_angstrom=simulation.margin * pixel,
        damage_angstrom2_per_dose=simulation.sensitivity_coefficient if simulation.radiation_damage_model else 0.0,
    )
    return replace(engine, slice_angstrom=max(engine.slice_thickness_angstrom, THINNEST_SLICE_ANGSTROM))


def simulate_parakeet(
    config_file: Path, structures: Path | None, binning: int, root_seed: int, output: Path, *, grain: bool = True
) -> None:
    """Simulate the tilt series of a Parakeet configuration with the native engine.

    Writes ``optics.mrc`` (noise-free, mean over the binned pixels, vacuum = 1) and ``image.mrc`` (electrons counted, their
    sum), both float32 [tilt, y, x] sorted by angle, ``tilts.tlt`` with the angles, ``acquisition_order.txt`` with each
    image's place in the acquisition, and sidecars.  Structures are looked for beside the configuration and in ``structures``.

    Raises BadInput for what is wrong or not modelled.
    """
    started, used = time.perf_counter(), time.process_time()
    config = read_parakeet_config(config_file)
    if structures is not None and not structures.is_dir():
        raise BadInput(f"{structures}: no such folder")
    if binning < 1:
        raise BadInput(f"binning {binning}: 1 or more was expected")
    engine = parakeet_engine(config, config_file.parent, structures, binning)
    taken, defocus_offset = parakeet_acquisition(config)
    detector = config.microscope.detector
    grained = grain and config.simulation.ice

    def simulate_tilt(index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        generator = generator_for(root_seed, "simulate", f"{config_file.name}/{index}")
        wave, exit_angstrom = engine.exit_wave(taken.angle_deg[index], taken.dose_at_end[index], generator if grained else None)
        intensity = engine.intensity(wave, exit_angstrom, defocus_offset[index])
        transfer = None
        if detector.dqe:
            transfer = mtf_transfer(
                engine.lens_grid.half_frequency, detector.pixel_size, taken.dose_per_tilt, config.scan.exposure_time or 1.0
            )
        counts = count_electrons(engine.image(intensity, transfer), taken.dose_per_tilt * engine.pixel_angstrom**2, generator)
        return engine.image(intensity), counts

    with ThreadPoolExecutor(min(processors(), len(taken.angle_deg))) as pool:
        images = list(shown(pool.map(simulate_tilt, range(len(taken.angle_deg))), len(taken.angle_deg)))
    output.mkdir(parents=True, exist_ok=True)
    seconds = {
        "simulation_seconds": round(time.perf_counter() - started, 3),
        "processor_seconds": round(time.process_time() - used, 3),
    }
    for name, which in (("optics.mrc", 0), ("image.mrc", 1)):
        write_mrc(output / name, np.stack([pair[which] for pair in images]), engine.pixel_angstrom, stack=True)
        write_sidecar(
            output / name,
            stage="simulate",
            item=config_file.name,
            seed=root_seed,
            settings=config,
            binning=binning,
            pixel_size_angstrom=engine.pixel_angstrom,
            angles_deg=taken.angle_deg.round(4),
            acquisition_order=taken.order,
            dose_per_tilt=taken.dose_per_tilt,
            molecules=len(engine.sample.kind),
            **seconds,
        )
    for name, lines in (
        ("tilts.tlt", [f"{angle:.2f}" for angle in taken.angle_deg]),
        ("acquisition_order.txt", [str(place) for place in taken.order]),
    ):
        with replacing(output / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n")
