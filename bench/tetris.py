"""TETRIS beside the paper's algorithm on the same molecules and box; what ``plan`` predicts beside what is packed.

The paper's algorithm is written as its figure draws it and runs in the same call.  The prediction is of ribosomes.
"""

import time
from dataclasses import dataclass

import numpy as np
import scipy.fft
from harness import BUILD, Figure, report
from numpy.typing import NDArray
from scenes import make_library, molecule_row, structures_of
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter
from template_learning.common.geometry import Grid, random_rotations
from template_learning.packing.prediction import plan_sample
from template_learning.packing.tetris import Packing, Queue, pack
from template_learning.settings import TetrisSettings, VolumeSettings
from template_learning.structures.library import LibraryEntry, read_library

SHAPE, LARGE = (64, 128, 128), (64, 256, 256)
SIGMA, THRESHOLD, SHELL, PENALTY = 1.65, 0.25, 2, 1000.0
SAME_BODIES = TetrisSettings(
    shape_voxels=SHAPE, smoothing_voxels=SIGMA, density_threshold=THRESHOLD, shell_voxels=SHELL, minimum_distance_angstrom=0.0
)
DEFAULTS = TetrisSettings(shape_voxels=SHAPE)
FINE = TetrisSettings(
    shape_voxels=SHAPE, excluded_volume="atoms", packing_voxel_size_angstrom=8.0, minimum_distance_angstrom=3.0
)
QUICK = FINE.model_copy(update={"packing_voxel_size_angstrom": 16.0})
DENSE = FINE.model_copy(update={"packing_voxel_size_angstrom": 4.0, "shell_voxels": 3.0})
PACKINGS = {"same_bodies": SAME_BODIES, "defaults": DEFAULTS, "quick": QUICK, "fine": FINE, "dense": DENSE}
RIBOSOMES_WANTED = 600
RIBOSOME_SAMPLE = TetrisSettings(shape_voxels=(64, 192, 192))
OF_A_PACKING = {
    "molecules": "molecules",
    "protein_mg_per_ml": "their concentration",
    "closest_approach_angstrom": "least distance of two molecules' atoms",
    "cpu_seconds": "processor seconds",
    "seconds": "seconds",
}
FILLED = "filled fraction over the plain algorithm's, counted alike"
FIGURES = {
    "speedup_vs_plain": Figure("seconds of the plain algorithm over those of the packing 'quick'", ">= 20"),
    "occupancy_ratio_vs_plain": Figure(f"'quick': {FILLED}", ">= 1.25"),
    "closest_approach_angstrom": Figure(
        "least distance of two molecules' atoms in 'quick', 'fine', 'dense' and the larger box", ">= 3 (as asked)"
    ),
    "molecules": Figure("molecules of the packing 'dense'"),
    "protein_mg_per_ml": Figure("their concentration", ">= 200, 250 if it can be had"),
    "time_per_molecule_growth": Figure("processor seconds a molecule in a box four times as large, over 'fine'", "<= 1.5"),
    "dense_species": Figure("species in 'dense', of all in the library"),
    "fine_occupancy_ratio_vs_plain": Figure(f"'fine': {FILLED}"),
    "dense_occupancy_ratio_vs_plain": Figure(f"'dense': {FILLED}"),
    "same_bodies_speedup": Figure("seconds of the plain algorithm over ours with the paper's bodies alone"),
    "same_bodies_occupancy_ratio": Figure(f"the paper's bodies alone: {FILLED}"),
    "large_molecules": Figure("molecules in the larger box"),
    "large_cpu_seconds": Figure("processor seconds for them"),
    "plain_seconds": Figure("the plain algorithm, all processors"),
    "plain_cpu_seconds": Figure("its processor seconds"),
    "plain_molecules": Figure("molecules that it places"),
    "plain_protein_mg_per_ml": Figure("their concentration"),
    "plain_occupancy": Figure("its filled fraction"),
    "plain_closest_approach_angstrom": Figure("least distance of two molecules' atoms in it"),
    **{f"{name}_{key}": Figure(f"'{name}': {meaning}") for name in PACKINGS for key, meaning in OF_A_PACKING.items()},
    "ribosomes_planned": Figure("80S ribosomes that `plan` expects in a sample of the paper's size"),
    "ribosomes_packed": Figure("80S ribosomes that are packed there"),
    "edge_for_600_ribosomes_voxels": Figure(
        f"edge of the sample that `plan` asks for {RIBOSOMES_WANTED} ribosomes, voxels of 16 Å"
    ),
    "plan_cpu_seconds": Figure("processor seconds of `plan`"),
    "ribosome_sample_cpu_seconds": Figure("processor seconds of the packing"),
}


def library(templates: str, name: str) -> dict[str, LibraryEntry]:
    """The templates of a folder of the shared structures and 81 distractors, as VOLUME makes them, kept in ``name``."""
    molecules = [molecule_row(path, templates) for path in structures_of(templates)]
    molecules += [molecule_row(path) for path in structures_of("distractors")]
    return read_library([make_library(molecules, VolumeSettings(), BUILD / name)])


def plain(entries: dict[str, LibraryEntry], generator: np.random.Generator) -> Packing:
    """The paper's algorithm: the whole box filtered and correlated for each molecule, stop at the first that does not fit.

    Bodies may lie anywhere inside the box (the authors' script keeps half a molecule's box clear of each border).
    """
    densities = {}
    for name, entry in entries.items():
        density = np.pad(entry.density()[0].astype(np.float32), int(np.ceil(3 * SIGMA)) + SHELL)
        densities[name] = density / (THRESHOLD * gaussian_filter(density, SIGMA).max())
    offset = np.stack(np.meshgrid(*[np.arange(-SHELL, SHELL + 1)] * 3, indexing="ij"))
    ball = (offset**2).sum(axis=0) <= SHELL**2
    largest = max(density.shape[0] for density in densities.values())
    padded = [scipy.fft.next_fast_len(edge + largest, real=True) for edge in SHAPE]
    packing = Packing(Grid(shape=SHAPE, voxel_size_angstrom=16.0))
    queue = Queue([entry.row for entry in entries.values()], SAME_BODIES, generator)
    sample = np.zeros(SHAPE, np.float32)
    while (row := queue.draw()) is not None:
        rotation = random_rotations(1, generator)[0]
        molecule = _turned(densities[row.molecule], rotation.as_matrix())
        half = molecule.shape[0] // 2
        body = gaussian_filter(molecule, SIGMA) > 1
        kernel = binary_dilation(body, ball).astype(np.float32) - np.float32(PENALTY) * body
        inside = np.argwhere(body) - half
        low, high = -inside.min(axis=0), np.array(SHAPE) - 1 - inside.max(axis=0)
        position = np.array(SHAPE) // 2
        if packing.rows:
            occupied = (gaussian_filter(sample, SIGMA) > 1).astype(np.float32)
            spectrum = scipy.fft.rfftn(occupied, padded, workers=-1) * scipy.fft.rfftn(kernel, padded, workers=-1).conj()
            correlation = np.roll(scipy.fft.irfftn(spectrum, padded, workers=-1), (half,) * 3, (0, 1, 2))
            allowed = correlation[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
            position = low + np.unravel_index(allowed.argmax(), allowed.shape)
            if correlation[tuple(position)] < 0.5:
                break
        _add(sample, molecule, position - half)
        queue.count(row)
        packing.rows.append(row)
        packing.rotation.append(rotation)
        packing.position_angstrom.append(position[::-1] * 16.0)
    return packing


def _turned(density: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    inverse = matrix.T[::-1, ::-1]  # of (z, y, x)
    centre = (np.array(density.shape) - 1) / 2
    return np.asarray(affine_transform(density, inverse, centre - inverse @ centre, order=1))


def _add(sample: NDArray[np.float32], molecule: NDArray[np.float32], corner: NDArray[np.int64]) -> None:
    first, last = np.maximum(corner, 0), np.minimum(corner + molecule.shape, sample.shape)
    target = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    sample[target] += molecule[tuple(slice(a, b) for a, b in zip(first - corner, last - corner, strict=True))]


def occupancy(packing: Packing, entries: dict[str, LibraryEntry]) -> float:
    """Share of the sample's 16 Å voxels with a density above ``THRESHOLD`` of the molecule's maximum (no Gaussian): the
    same yardstick for every packing, whatever it was packed on."""
    sample = np.zeros(packing.grid.shape, np.float32)
    densities = {name: np.pad(entry.density()[0], 2) for name, entry in entries.items()}
    for row, rotation, position in zip(packing.rows, packing.rotation, packing.position_angstrom, strict=True):
        density = densities[row.molecule] / (THRESHOLD * densities[row.molecule].max())
        molecule = _turned(density, rotation.as_matrix())
        _add(sample, molecule, np.rint(position[::-1] / 16.0).astype(int) - molecule.shape[0] // 2)
    return float((sample > 1).mean())


@dataclass
class Measured:
    """A packing and what it cost."""

    packing: Packing
    seconds: float
    cpu_seconds: float

    @classmethod
    def of(cls, entries: dict[str, LibraryEntry], settings: TetrisSettings, seed: int = 1) -> "Measured":
        """Pack and measure."""
        wall, cpu = time.perf_counter(), time.process_time()
        packing = pack(entries, settings, np.random.default_rng(seed))
        return cls(packing, time.perf_counter() - wall, time.process_time() - cpu)


def ribosomes() -> dict[str, float]:
    """What ``plan`` says of a sample of the paper's size and of the box for 600 ribosomes, and what is packed."""
    entries = library("ribosome", "tetris_ribosomes")
    begun = time.process_time()
    plan = plan_sample([BUILD / "tetris_ribosomes"], RIBOSOME_SAMPLE, 1, RIBOSOMES_WANTED)
    seconds = time.process_time() - begun
    packed = Measured.of(entries, RIBOSOME_SAMPLE)
    return {
        "ribosomes_planned": float(plan.templates),
        "ribosomes_packed": float(packed.packing.count("role")["template"]),
        "edge_for_600_ribosomes_voxels": float(plan.edge_for_templates_voxels or 0),
        "plan_cpu_seconds": seconds,
        "ribosome_sample_cpu_seconds": packed.cpu_seconds,
    }


def main() -> None:
    """Measure and report."""
    entries = library("nucleosome", "tetris_library")
    for settings in PACKINGS.values():  # machine code, once
        pack(entries, settings.changed({"stop_at": {"molecules": 3}}), np.random.default_rng(0))
    measured = {name: Measured.of(entries, settings) for name, settings in PACKINGS.items()}
    quick, fine, dense, same = (measured[name] for name in ("quick", "fine", "dense", "same_bodies"))
    large = Measured.of(entries, FINE.model_copy(update={"shape_voxels": LARGE}))
    begun, cpu_begun = time.perf_counter(), time.process_time()
    peer = plain(entries, np.random.default_rng(1))
    plain_seconds, plain_cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    plain_occupancy = occupancy(peer, entries)
    shares = dense.packing.count("species")
    closest = {name: one.packing.closest_approach_angstrom(entries) for name, one in measured.items()}
    figures = {
        "speedup_vs_plain": plain_seconds / quick.seconds,
        "occupancy_ratio_vs_plain": occupancy(quick.packing, entries) / plain_occupancy,
        "closest_approach_angstrom": min(
            closest["quick"], closest["fine"], closest["dense"], large.packing.closest_approach_angstrom(entries)
        ),
        "molecules": float(len(dense.packing.rows)),
        "protein_mg_per_ml": dense.packing.protein_mg_per_ml,
        "time_per_molecule_growth": (large.cpu_seconds / len(large.packing.rows)) / (fine.cpu_seconds / len(fine.packing.rows)),
        "dense_species": float(len(shares)),
        "fine_occupancy_ratio_vs_plain": occupancy(fine.packing, entries) / plain_occupancy,
        "dense_occupancy_ratio_vs_plain": occupancy(dense.packing, entries) / plain_occupancy,
        "same_bodies_speedup": plain_seconds / same.seconds,
        "same_bodies_occupancy_ratio": occupancy(same.packing, entries) / plain_occupancy,
        "large_molecules": float(len(large.packing.rows)),
        "large_cpu_seconds": large.cpu_seconds,
        "plain_seconds": plain_seconds,
        "plain_cpu_seconds": plain_cpu_seconds,
        "plain_molecules": float(len(peer.rows)),
        "plain_protein_mg_per_ml": peer.protein_mg_per_ml,
        "plain_occupancy": plain_occupancy,
        "plain_closest_approach_angstrom": peer.closest_approach_angstrom(entries),
    }
    for name, one in measured.items():
        figures |= {
            f"{name}_molecules": float(len(one.packing.rows)),
            f"{name}_protein_mg_per_ml": one.packing.protein_mg_per_ml,
            f"{name}_closest_approach_angstrom": closest[name],
            f"{name}_cpu_seconds": one.cpu_seconds,
            f"{name}_seconds": one.seconds,
        }
    report(
        "tetris",
        figures | ribosomes(),
        FIGURES,
        "the paper's algorithm, plain (scipy, all processors)",
        case="128 x 128 x 64 voxels of 16 Å, six nucleosome templates, 81 distractors, five distractors for a template; "
        "ribosomes: 192 x 192 x 64 voxels, 80S structures as templates, the defaults",
        settings={name: settings.model_dump() for name, settings in PACKINGS.items()},
        molecules_by_species_dense=shares,
    )


if __name__ == "__main__":
    main()
