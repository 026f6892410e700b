"""The native engines beside the programs of the paper, on the same input: Parakeet, EMAN2, DeepFinder.

A program is called where it is on the PATH (DeepFinder: installed in this Python), else in its image
build/containers/<name>-<version>.sif with apptainer; where that is missing too its figure is left out, in words.
(IMOD is `make bench BENCH=reconstruct`.)
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from harness import DEMO, ROOT, Figure, report
from numpy.typing import NDArray
from scenes import prepared
from template_learning.common.geometry import Grid, random_rotations
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import DesignRow
from template_learning.deepfinder import program as deepfinder_program
from template_learning.deepfinder.weights import save_weights
from template_learning.learning.network import build_network
from template_learning.settings import SimulateCommandSettings
from template_learning.simulation import parakeet
from template_learning.simulation.ice import Slab
from template_learning.simulation.parakeet_config import parakeet_engine, read_parakeet_config
from template_learning.simulation.potential import Sample
from template_learning.structures import eman2
from template_learning.structures.density import density_of_atoms, gaussian_width_angstrom
from template_learning.structures.structure import read_structure

NUCLEOSOME = DEMO / "templates" / "2pyo.cif.gz"
TILTS_DEG = (0.0, 40.0)
PIXEL_ANGSTROM = 4.0
BORDER_PIXELS = 8
CROP_VOXELS = 25  # that DeepFinder cuts from each side of a tile
EDGE_VOXELS = 104  # of DeepFinder's volume and tile, the least for which it needs two tiles along an axis
OF_TWO = f"correlation of noise-free images of two nucleosomes, the lower of {len(TILTS_DEG)} tilts"
FIGURES = {
    "parakeet_cc": Figure(f"{OF_TWO}: with ice, whose grain is Parakeet's alone and new in each run", ">= 0.95"),
    "parakeet_cc_no_ice": Figure(f"{OF_TWO}: without ice"),
    "parakeet_cc_phase_plate": Figure(f"{OF_TWO}: with ice and a phase plate"),
    "eman2_formula_error": Figure(
        "our density from EMAN2's formula summed atom by atom: largest difference over the largest value", "< 1e-4"
    ),
    "eman2_program_error": Figure("the same from EMAN2's own map, both divided by their largest value"),
    "deepfinder_output_error": Figure(
        "class probabilities with the same weights on the same tile: largest difference", "< 1e-3"
    ),
    "deepfinder_output_deviation": Figure("standard deviation of DeepFinder's probabilities there"),
}


def image_of(name: str) -> Path | None:
    """The newest SIF of an image that was built here."""
    found = sorted((ROOT / "build" / "containers").glob(f"{name}-[0-9]*.sif"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found and shutil.which("apptainer") else None


def call(image: str, program: str, here: bool, bound: Path) -> list[str] | None:
    """The words that call a program: itself, or in its image with a folder bound; none where there is neither."""
    if here:
        return [program]
    sif = image_of(image)
    if sif is None:
        print(f"parity: neither {program} nor build/containers/{image}-<version>.sif is here; its figure is left out")
        return None
    user = ["--userns"] if os.geteuid() == 0 else []
    return [
        "apptainer",
        "-q",
        "exec",
        *user,
        "--containall",
        "--bind",
        f"{bound}:{bound}",
        "--pwd",
        str(bound),
        str(sif),
        program,
    ]


def in_folder(command: list[str], folder: Path) -> list[str]:
    """The same call in a folder below the bound one."""
    if "--pwd" not in command:
        return command
    at = command.index("--pwd") + 1
    return [*command[:at], str(folder), *command[at + 1 :]]


def two_nucleosomes() -> tuple[Sample, Grid]:
    """Two nucleosomes in a box of 24 x 24 x 12 voxels of 16 Å."""
    molecule = read_structure(NUCLEOSOME)
    grid = Grid(shape=(12, 24, 24), voxel_size_angstrom=16.0)
    return Sample(
        atoms=[molecule.atoms.bare()],
        kind=np.zeros(2, np.int64),
        rotation=random_rotations(2, np.random.default_rng(3)).as_matrix(),
        position_angstrom=np.array([[-55.0, -40.0, -12.0], [50.0, 45.0, 15.0]]),
        ice=Slab(float(grid.extent_angstrom[2])),
    ), grid


def parakeet_figures(folder: Path) -> dict[str, float]:
    """Correlation of noise-free images, the least of two tilts: with ice, whose grain is Parakeet's alone, without, and with a phase plate."""
    run = call("parakeet", parakeet.PARAKEET, shutil.which(parakeet.PARAKEET) is not None, folder)
    if run is None:
        return {}
    sample, grid = two_nucleosomes()
    row = DesignRow(id="two", total_dose_e_per_angstrom2=60, defocus_um=-2.5, tilt_range_deg=40, tilt_step_deg=20, ice_density_g_per_cm3=0.94)  # fmt: skip
    settings = SimulateCommandSettings(engine="parakeet", pixel_size_angstrom=PIXEL_ANGSTROM, ice_shape="slab")
    detector = parakeet.choose_detector(grid, settings)
    parakeet.write_parakeet_structure(folder / "molecule_0.cif", sample.atoms[0])
    common = parakeet.configuration(sample, ["../molecule_0.cif"], float(grid.extent_angstrom[2]), row, settings, detector)
    figures: dict[str, float] = {}
    for name, ice, plate in (
        ("parakeet_cc", True, False),
        ("parakeet_cc_no_ice", False, False),
        ("parakeet_cc_phase_plate", True, True),
    ):
        found = []
        for index, tilt in enumerate(TILTS_DEG):
            one = parakeet.configuration_of_tilt(common, settings, tilt, 12.0, 12.0 * (index + 1), gpu=False)
            one["simulation"]["ice"] = ice
            one["microscope"]["phase_plate"].update({"use": plate, "phase_shift": 90.0})
            inside = folder / f"{name}_{index}"
            inside.mkdir()
            (inside / "config.yaml").write_text(yaml.safe_dump(one))
            steps = ["-c", "config.yaml", "--steps", "sample", "simulate.exit_wave", "simulate.optics"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([*in_folder(run, inside), *steps], cwd=inside, env=environment, check=True, capture_output=True)
            theirs = detector.binned(parakeet.read_images(inside / "optics.h5")) / detector.binning**2
            engine = parakeet_engine(read_parakeet_config(inside / "config.yaml"), inside, None, detector.binning)
            ours = engine.image(engine.intensity(*engine.exit_wave(tilt, 12.0, None)))
            images = [prepared(image, BORDER_PIXELS).ravel() for image in (ours, theirs)]
            found.append(np.corrcoef(*images)[0, 1])
        figures[name] = float(min(found))
    return figures


def formula(position: NDArray[Any], element: NDArray[Any], voxel: float, resolution: float, edge: int) -> NDArray[np.float64]:
    """EMAN2's density, its formula atom by atom: Z exp(-r^2 / w^2), w = resolution / pi, nowhere cut off."""
    axis = (np.arange(edge) - edge // 2) * voxel
    density = np.zeros((edge, edge, edge))
    for (x, y, z), weight in zip(position, element, strict=True):
        square = (axis[:, None, None] - z) ** 2 + (axis[:, None] - y) ** 2 + (axis - x) ** 2
        density += float(weight) * np.exp(-square * (np.pi / resolution) ** 2)
    return density


def eman2_figures(folder: Path) -> dict[str, float]:
    """Largest difference over the largest value: ours from the formula, and from EMAN2's own map where it is there."""
    molecule = read_structure(NUCLEOSOME)
    voxel, resolution = 16.0, 32.0
    ours = density_of_atoms(molecule.position_angstrom, molecule.element, voxel, resolution)
    edge = ours.shape[0]
    assert gaussian_width_angstrom(resolution) == resolution / np.pi
    expected = formula(molecule.position_angstrom, molecule.element, voxel, resolution, edge)
    figures = {"eman2_formula_error": float(np.abs(ours - expected).max() / expected.max())}
    run = call("eman2", eman2.E2PDB2MRC, shutil.which(eman2.E2PDB2MRC) is not None, folder)
    if run is not None:
        eman2.write_pdb(folder / "atoms.pdb", molecule.position_angstrom, molecule.element)
        words = eman2.eman2_command(folder / "atoms.pdb", folder / "density.mrc", voxel, resolution, edge)
        subprocess.run([*run, *words[1:]], check=True, capture_output=True)
        theirs, _ = read_mrc(folder / "density.mrc", need_voxel_size=False)
        figures["eman2_program_error"] = float(np.abs(ours / ours.max() - theirs / theirs.max()).max())
    return figures


def deepfinder_figures(folder: Path) -> dict[str, float]:
    """Largest difference of the class probabilities, DeepFinder's from our network's, with the same weights.

    On the part of a volume that comes from DeepFinder's first tile alone, which our network gets as DeepFinder makes it:
    the two divide a tomogram in their own ways, and the poolings' grid with it.
    """
    here = importlib.util.find_spec("deepfinder") is not None
    run = call("deepfinder", sys.executable if here else "python3", here, folder)
    if run is None:
        return {}
    generator = np.random.default_rng(20)
    network = build_network(3)
    spread = [np.sqrt(2 / np.prod(weight.shape[:-1])) if weight.ndim > 1 else 0.1 for weight in network.get_weights()]
    network.set_weights([generator.normal(0, s, w.shape) for s, w in zip(spread, network.get_weights(), strict=True)])
    volume = generator.standard_normal((EDGE_VOXELS,) * 3).astype(np.float32)
    save_weights(network, folder / "weights.h5")
    np.save(folder / "volume.npy", volume)
    (folder / "task.json").write_text(json.dumps({"classes": 3, "patch_voxels": EDGE_VOXELS, "seed": 0}))
    launcher = shutil.copy(deepfinder_program.LAUNCHER, folder)
    environment: Mapping[str, str] = {**os.environ, "KERAS_BACKEND": "tensorflow", "MPLCONFIGDIR": str(folder)}
    command = [*run, "-P", str(launcher), "segment", str(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    alone = EDGE_VOXELS - deepfinder_program.OVERLAP + 1
    theirs = np.load(folder / "scores.npy")[:alone, :alone, :alone].astype(np.float32)
    tile = np.pad((volume - volume.mean()) / volume.std(), CROP_VOXELS)[:EDGE_VOXELS, :EDGE_VOXELS, :EDGE_VOXELS]
    part = (slice(CROP_VOXELS, CROP_VOXELS + alone),) * 3
    ours = network.predict_on_batch(tile[None, ..., None])[0][part]
    return {"deepfinder_output_error": float(np.abs(ours - theirs).max()), "deepfinder_output_deviation": float(theirs.std())}


def main() -> None:
    """Measure and report."""
    figures: dict[str, float] = {}
    for measured in (eman2_figures, parakeet_figures, deepfinder_figures):
        with tempfile.TemporaryDirectory() as name:
            figures |= measured(Path(name).resolve())
    report("parity", figures, FIGURES, "Parakeet 0.6.8, EMAN2, cryoet-deepfinder 0.2.1")


if __name__ == "__main__":
    main()
