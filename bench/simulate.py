"""SIMULATE beside Parakeet: agreement with its reference tilt series, convergence, cost, a crowded sample.

Parakeet itself takes hours and a build of MULTEM; its images come from the reference tilt series of the shared data, its
time from bench/reference/parakeet.json.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
from harness import DEMO, ROOT, SHARED, Figure, report
from numpy.typing import NDArray
from scenes import COMPARED_ANGSTROM, REFERENCE, prepared
from template_learning.common.files import write_table
from template_learning.common.geometry import angles_from_rotation, random_rotations
from template_learning.common.provenance import write_json
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow
from template_learning.simulation.parakeet_config import parakeet_acquisition, parakeet_engine, read_parakeet_config

Image = NDArray[np.float64]
BORDER_PIXELS = 10
BANDS_ANGSTROM = (200, 100, 66, 48, 33, 24, 16)
WORST = "the worst of the reference's tilts"
FIGURES = {
    "cc_min": Figure(f"correlation with Parakeet's noise-free image, own grain off, {WORST}", ">= 0.96"),
    "frc_min": Figure(f"the same in a ring of frequencies, periods of 33 to 100 Å, {WORST}", ">= 0.97"),
    "spectrum_ratio_min": Figure(f"our amplitude over Parakeet's in {len(BANDS_ANGSTROM) - 1} bands, the least", ">= 0.93"),
    "spectrum_ratio_max": Figure("the same, the greatest", "<= 1.07"),
    "contrast_ratio": Figure(f"our contrast over Parakeet's, {WORST}", "0.95 to 1.05"),
    "counts_mean_ratio": Figure(f"mean of our counts over Parakeet's, {WORST}", "0.99 to 1.01"),
    "counts_variance_ratio": Figure(f"their variance over Parakeet's, {WORST}", "0.95 to 1.05"),
    "noise_spectrum_ratio_min": Figure("power of our counts over Parakeet's in bands, all tilts, the least", ">= 0.90"),
    "noise_spectrum_ratio_max": Figure("the same, the greatest", "<= 1.10"),
    "convergence_rms": Figure("change of the image on halving pixel and slab, over its contrast, the worst tilt", "< 0.02"),
    "processor_seconds_per_tilt": Figure("processor seconds of a tilt of the reference"),
    "speedup_vs_parakeet": Figure("Parakeet's seconds a tilt, as its reference has them, over ours", ">= 100"),
    "crowded_atoms": Figure("atoms of a crowded sample of the paper's size"),
    "crowded_series_seconds": Figure("seconds of its tilt series, the program's start counted", "< 600"),
    "crowded_series_peak_gib": Figure("its peak memory in GiB"),
    "time_growth_twice_the_atoms": Figure("how much longer a series takes with twice the atoms", "<= 2"),
    "time_growth_twice_the_field": Figure("how much longer with twice the field, and so twice the atoms", "<= 2"),
}


def simulate(*arguments: str | Path) -> tuple[float, float]:
    """Run ``template-learning simulate``: seconds, and the largest memory of such a run so far in GiB."""
    begun = time.perf_counter()
    command = [str(Path(sys.executable).parent / "template-learning"), "simulate", *map(str, arguments)]
    subprocess.run(command, check=True)
    return time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def spectrum(image: Image) -> tuple[NDArray[np.complex128], Image]:
    """Transform of an image under a Hann window, and the frequencies in 1/Å."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    y, x = (np.fft.fftfreq(count, COMPARED_ANGSTROM) for count in image.shape)
    return np.fft.fft2((image - image.mean()) * window), np.hypot(y[:, None], x)


def agreement(mine: Image, theirs: Image) -> tuple[float, float]:
    """Correlation, and ring correlation from 1/100 to 1/33 1/Å."""
    ours, frequency = spectrum(mine)
    other, _ = spectrum(theirs)
    ring = (frequency > 1 / 100) & (frequency < 1 / 33)
    product = (ours[ring] * other[ring].conj()).sum().real
    norm = np.sqrt((np.abs(ours[ring]) ** 2).sum() * (np.abs(other[ring]) ** 2).sum())
    return float(np.corrcoef(mine.ravel(), theirs.ravel())[0, 1]), float(product / norm)


def band_power(image: Image, edges_angstrom: tuple[float, ...]) -> Image:
    """Mean power in each band between 1 / edges."""
    transform, frequency = spectrum(image)
    power = np.abs(transform) ** 2
    pairs = itertools.pairwise(edges_angstrom)
    return np.array([power[(frequency >= 1 / low) & (frequency < 1 / high)].mean() for low, high in pairs])


def against_parakeet(folder: Path) -> dict[str, float]:
    """Every tilt of the reference, through the door for Parakeet's configurations."""
    optics = mrcfile.read(REFERENCE / "optics_4A.mrc.gz")
    counts = mrcfile.read(REFERENCE / "counts_4A.mrc.gz").astype(float)
    door = ("--parakeet-config", REFERENCE / "config.yaml", "--structures", SHARED / "structures", "--binning", "4")
    simulate(*door, "--no-grain", "--output", folder / "plain")
    simulate(*door, "--output", folder / "grain")
    plain, grained = (mrcfile.read(folder / name / "optics.mrc") for name in ("plain", "grain"))
    counted = mrcfile.read(folder / "grain" / "image.mrc").astype(float)
    metadata = json.loads((folder / "grain" / "optics.mrc.json").read_text())
    peer = json.loads((ROOT / "bench" / "reference" / "parakeet.json").read_text())
    theirs = [prepared(image, BORDER_PIXELS) for image in optics]
    agreements = np.array(
        [agreement(prepared(image, BORDER_PIXELS), other) for image, other in zip(plain, theirs, strict=True)]
    )
    ours = [prepared(image, BORDER_PIXELS) for image in grained]
    amplitude = np.sqrt(
        [band_power(a, BANDS_ANGSTROM) / band_power(b, BANDS_ANGSTROM) for a, b in zip(ours, theirs, strict=True)]
    )
    contrast = np.array([a.std() / b.std() for a, b in zip(ours, theirs, strict=True)])
    inside = np.s_[:, 2 * BORDER_PIXELS : -2 * BORDER_PIXELS, 2 * BORDER_PIXELS : -2 * BORDER_PIXELS]
    noise = [
        sum(band_power(prepared(image, BORDER_PIXELS), (*BANDS_ANGSTROM, 11.5)) for image in stack)
        for stack in (counted, counts)
    ]
    mean = counted[inside].mean(axis=(1, 2)) / counts[inside].mean(axis=(1, 2))
    variance = counted[inside].var(axis=(1, 2)) / counts[inside].var(axis=(1, 2))
    return {
        "cc_min": agreements[:, 0].min(),
        "frc_min": agreements[:, 1].min(),
        "spectrum_ratio_min": amplitude.min(),
        "spectrum_ratio_max": amplitude.max(),
        "contrast_ratio": worst(contrast),
        "counts_mean_ratio": worst(mean),
        "counts_variance_ratio": worst(variance),
        "noise_spectrum_ratio_min": (noise[0] / noise[1]).min(),
        "noise_spectrum_ratio_max": (noise[0] / noise[1]).max(),
        "processor_seconds_per_tilt": metadata["processor_seconds"] / len(optics),
        "speedup_vs_parakeet": peer["seconds_per_tilt"] * len(optics) / metadata["processor_seconds"],
    }


def worst(ratio: Image) -> float:
    """The ratio that is farthest from 1."""
    return float(ratio[np.argmax(np.abs(ratio - 1))])


def convergence() -> float:
    """Change of the 8 Å image, rms over its contrast, when pixel and slab are halved; the worst of three tilts."""
    config = read_parakeet_config(REFERENCE / "config.yaml")
    engine = parakeet_engine(config, REFERENCE, SHARED / "structures", 4)
    finer = replace(engine, oversampling=2 * engine.oversampling, slice_angstrom=engine.slice_thickness_angstrom / 2)
    taken, _ = parakeet_acquisition(config)
    changes = []
    for tilt in (-60.0, 0.0, 40.0):
        dose = taken.dose_at_end[np.flatnonzero(taken.angle_deg == tilt)[0]]
        first, second = (prepared(e.image(e.intensity(*e.exit_wave(tilt, dose, None))), BORDER_PIXELS) for e in (engine, finer))
        changes.append((first - second).std() / second.std())
    return float(max(changes))


def crowded_sample(folder: Path, width_voxels: int = 192, share: float = 1.0, tilt_step_deg: float = 2) -> int:
    """A crowded sample of width x 192 x 64 voxels of 16 Å from the shipped structures, and its number of atoms.

    ``share`` of its places are taken.
    """
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows, extent = [], []
    for path in sorted(DEMO.rglob("*.cif.gz")):
        model = gemmi.read_structure(str(path))[0]
        atoms = [atom for chain in model for residue in chain for atom in residue if atom.element.atomic_number > 1]
        position = np.array([atom.pos.tolist() for atom in atoms])
        position -= position.mean(axis=0)
        name = path.name.split(".")[0]
        element = np.array([atom.element.atomic_number for atom in atoms], np.uint8)
        np.savez(folder / f"{name}.npz", position_angstrom=position.astype(np.float32), element=element)
        extent.append(2 * np.linalg.norm(position, axis=1).max())
        metadata = {"species": name, "role": "distractor", "class_id": 0, "share": 1.0, "mass_dalton": 1.0}
        rows.append(LibraryRow(molecule=name, atom_count=len(atoms), density="none", atoms=f"{name}.npz", **metadata))
    write_table(folder / "library.csv", LibraryRow, rows)
    cell = float(np.median(extent)) * 0.8
    shape, voxel = np.array([width_voxels, 192, 64]), 16.0
    axes = [np.arange(cell / 2, count * voxel - cell / 4, cell) for count in shape]
    place = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3) + generator.uniform(
        -8, 8, (int(np.prod([len(a) for a in axes])), 3)
    )
    place = place[generator.permutation(len(place))[: round(share * len(place))]]
    angle = angles_from_rotation(random_rotations(len(place), generator))
    which = generator.integers(len(rows), size=len(place))
    placed = [
        ParticleRow(particle=i + 1, molecule=rows[k].molecule, x_angstrom=x, y_angstrom=y, z_angstrom=z, rot_deg=a, tilt_deg=b, psi_deg=c)
        for i, (k, (x, y, z), (a, b, c)) in enumerate(zip(which, place, angle, strict=True))
    ]  # fmt: skip
    write_table(folder / "crowded.placed.csv", ParticleRow, placed)
    write_json(folder / "crowded.placed.csv.json", {"shape_voxels": shape[::-1].tolist(), "voxel_size_angstrom": voxel})
    row = DesignRow(id="crowded", total_dose_e_per_angstrom2=120, defocus_um=-3.25, tilt_range_deg=60, tilt_step_deg=tilt_step_deg, ice_density_g_per_cm3=0.91)  # fmt: skip
    write_json(folder / "row.json", row.model_dump())
    write_json(folder / "settings.json", {"pixel_size_angstrom": 6.5})
    return int(sum(rows[k].atom_count for k in which))


def simulated(folder: Path) -> tuple[float, float]:
    """Simulate a crowded sample: seconds and GiB as ``simulate``."""
    inputs = {"library": "", "placed": "crowded.placed.csv", "row": "row.json", "settings": "settings.json"}
    options = [part for key, file in inputs.items() for part in (f"--{key}", folder / file)]
    return simulate(*options, "--output", folder / "out")


def growth(folder: Path) -> dict[str, float]:
    """How much longer a series takes with twice the atoms, and with twice the field (and so twice the atoms)."""
    cases = {"whole": (192, 1.0), "half_atoms": (192, 0.5), "half_field": (96, 1.0)}
    seconds = {}
    for name, (width_voxels, share) in cases.items():
        crowded_sample(folder / name, width_voxels, share, tilt_step_deg=6)
        seconds[name] = simulated(folder / name)[0]
    return {
        "time_growth_twice_the_atoms": seconds["whole"] / seconds["half_atoms"],
        "time_growth_twice_the_field": seconds["whole"] / seconds["half_field"],
    }


def main() -> None:
    """Measure and report."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["crowded_atoms"] = crowded_sample(folder / "crowded")
        seconds, gibibytes = simulated(folder / "crowded")
        figures |= {"crowded_series_seconds": seconds, "crowded_series_peak_gib": gibibytes}
        figures |= growth(folder)
        if REFERENCE.is_dir():
            figures |= against_parakeet(folder)
            figures["convergence_rms"] = convergence()
    peer = "Parakeet 0.6.8 on MULTEM 0.4.1: its images and its time a tilt from the reference tilt series"
    report("simulate", {k: float(v) for k, v in figures.items()}, FIGURES, peer, processors=len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
