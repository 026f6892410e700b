"""TETRIS beside the rule of the paper's released script on the same molecules and box; what ``plan`` predicts beside what is packed.

That rule is written plainly here and runs in the same call: one grey level for all molecules, a body that is eroded before
it is forbidden, centres well off the faces.  As it leaves the border free, concentrations and filled fractions are compared
in a core well inside.  The prediction is of ribosomes.
"""

import csv
import time
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from harness import BUILD, ROOT, Figure, report
from numpy.typing import NDArray
from scenes import make_library, molecule_row, structures_of
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion, gaussian_filter
from template_learning.common.geometry import Grid, random_rotations
from template_learning.packing.prediction import plan_sample
from template_learning.packing.tetris import MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM, Packing, Queue, pack
from template_learning.settings import TetrisSettings, VolumeSettings
from template_learning.structures.library import LibraryEntry, read_library

SHAPE, LARGE = (64, 128, 128), (64, 256, 256)
SIGMA, LEVEL, EROSION, SHELL, PENALTY = 1.65, 100.0, 2, 2, 1000.0
CENTRE_MARGIN = 192.0
VOXEL = 16.0
CORE_DEPTH = 320.0
"""From every face to the core, in ångström."""
THRESHOLD = 0.25
"""Of a molecule's maximum: what counts as filled, whatever was packed on."""
RELEASED = {
    "smoothing_voxels": SIGMA,
    "shell_voxels": SHELL,
    "excluded_volume": "released",
    "grey_level": LEVEL,
    "erosion_voxels": EROSION,
    "minimum_distance_angstrom": 0.0,
    "centre_margin_angstrom": CENTRE_MARGIN,
}
SAME_BODIES = TetrisSettings.model_validate({"shape_voxels": SHAPE, **RELEASED})
DEFAULTS = TetrisSettings(shape_voxels=SHAPE)
FINE = TetrisSettings(
    shape_voxels=SHAPE, excluded_volume="atoms", packing_voxel_size_angstrom=8.0, minimum_distance_angstrom=3.0
)
QUICK = FINE.model_copy(update={"packing_voxel_size_angstrom": 16.0})
DENSE = FINE.model_copy(update={"packing_voxel_size_angstrom": 4.0, "shell_voxels": 3.0})
PACKINGS = {"same_bodies": SAME_BODIES, "defaults": DEFAULTS, "quick": QUICK, "fine": FINE, "dense": DENSE}
RIBOSOMES_WANTED = 600
RIBOSOME_SAMPLE = TetrisSettings(shape_voxels=(64, 192, 192))
PAPER = TetrisSettings.model_validate(
    {"shape_voxels": (64, 192, 192), "distractors_per_template": 9.0, "retries": 0, **RELEASED}
)
"""As presets/ribosome.yml packs."""
PAPER_TEMPLATES = ("4ug0", "4v6x")
"""Of the paper's six, those that the shared data has."""
OF_A_PACKING = {
    "molecules": "molecules",
    "protein_mg_per_ml": "their concentration",
    "closest_approach_angstrom": "least distance of two molecules' atoms",
    "cpu_seconds": "processor seconds",
    "seconds": "seconds",
}
FILLED = "filled fraction of the core over the plain algorithm's, counted alike"
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
    "same_bodies_speedup": Figure("seconds of the plain algorithm over ours by the same rule"),
    "same_bodies_occupancy_ratio": Figure(f"ours by the same rule: {FILLED}"),
    "core_mg_per_ml_released_rule": Figure("ours by the released script's rule: concentration in the core", "222 to 272"),
    "plain_core_mg_per_ml": Figure("the plain algorithm's concentration in the core"),
    **{
        f"{name}_core_mg_per_ml": Figure(f"'{name}': concentration in the core")
        for name in ("defaults", "quick", "fine", "dense")
    },
    "ribosomes_per_box": Figure(
        "80S ribosomes in a sample by presets/ribosome.yml, with two of its templates and 81 of its 100 distractors",
        "120 to 150",
    ),
    "ribosome_box_mg_per_ml": Figure("the concentration in that sample's core"),
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
    """The released rule: the whole box filtered and correlated for each molecule, stop at the first that does not fit.

    Written from what the script does, not from its text.
    """
    densities = {
        name: np.pad(entry.density()[0].astype(np.float32), int(np.ceil(3 * SIGMA)) + SHELL) / LEVEL
        for name, entry in entries.items()
    }
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
        forbidden = binary_erosion(body, ball)
        if not forbidden.any():
            forbidden[half, half, half] = True
        kernel = binary_dilation(body, ball).astype(np.float32) - np.float32(PENALTY) * forbidden
        low = np.full(3, int(CENTRE_MARGIN / VOXEL))
        high = np.array(SHAPE) - 1 - low
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
    """Share of the core's 16 Å voxels with a density above ``THRESHOLD`` of the molecule's maximum (no Gaussian): the
    same yardstick for every packing, whatever it was packed on."""
    sample = np.zeros(packing.grid.shape, np.float32)
    densities = {name: np.pad(entry.density()[0], 2) for name, entry in entries.items()}
    for row, rotation, position in zip(packing.rows, packing.rotation, packing.position_angstrom, strict=True):
        density = densities[row.molecule] / (THRESHOLD * densities[row.molecule].max())
        molecule = _turned(density, rotation.as_matrix())
        _add(sample, molecule, np.rint(position[::-1] / 16.0).astype(int) - molecule.shape[0] // 2)
    depth = int(CORE_DEPTH / VOXEL)
    return float((sample > 1)[depth:-depth, depth:-depth, depth:-depth].mean())


def core_mg_per_ml(packing: Packing) -> float:
    """The mass of the molecules whose centres lie in the core, over its volume."""
    extent = packing.grid.extent_angstrom
    place = np.array(packing.position_angstrom) + packing.grid.voxel_size_angstrom / 2  # from the box's corner
    inside = ((place > CORE_DEPTH) & (place < extent - CORE_DEPTH)).all(axis=1)
    mass = sum(row.mass_dalton for row, counts in zip(packing.rows, inside, strict=True) if counts)
    return float(mass / np.prod(extent - 2 * CORE_DEPTH) * MG_PER_ML_OF_DALTON_PER_CUBIC_ANGSTROM)


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


def papers(entries: dict[str, LibraryEntry]) -> dict[str, LibraryEntry]:
    """Of a library, the molecules of the paper's ribosome case, the distractors with their frequencies."""
    table = csv.DictReader((ROOT / "data" / "paper" / "distractors.csv").read_text().splitlines())
    share = {row["id"]: float(row["share"]) for row in table}
    return {
        name: replace(entry, row=entry.row.model_copy(update={"share": share.get(name, 1.0)}))
        for name, entry in entries.items()
        if (entry.row.role == "distractor" and name in share) or name.startswith(PAPER_TEMPLATES)
    }


def ribosomes() -> dict[str, float]:
    """What ``plan`` says of a sample of the paper's size and of the box for 600 ribosomes, and what is packed; and the paper's."""
    entries = library("ribosome", "tetris_ribosomes")
    begun = time.process_time()
    plan = plan_sample([BUILD / "tetris_ribosomes"], RIBOSOME_SAMPLE, 1, RIBOSOMES_WANTED)
    seconds = time.process_time() - begun
    packed = Measured.of(entries, RIBOSOME_SAMPLE)
    paper = pack(papers(entries), PAPER, np.random.default_rng(1))
    return {
        "ribosomes_per_box": float(paper.count("role")["template"]),
        "ribosome_box_mg_per_ml": core_mg_per_ml(paper),
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
        "core_mg_per_ml_released_rule": core_mg_per_ml(same.packing),
        "plain_core_mg_per_ml": core_mg_per_ml(peer),
        **{f"{name}_core_mg_per_ml": core_mg_per_ml(measured[name].packing) for name in ("defaults", "quick", "fine", "dense")},
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
        "the released script's rule, plain (scipy, all processors)",
        case="128 x 128 x 64 voxels of 16 Å, six nucleosome templates, 81 distractors, five distractors for a template; "
        f"core: {CORE_DEPTH:g} Å off every face; ribosomes: 192 x 192 x 64 voxels, 80S structures as templates, the defaults",
        settings={name: settings.model_dump() for name, settings in PACKINGS.items()},
        molecules_by_species_dense=shares,
    )


if __name__ == "__main__":
    main()
