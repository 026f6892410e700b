"""What tests of more than one file are built from: small molecules, samples, series, tables and volumes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid, angles_from_rotation, rotation_from_angles, tilt_matrix
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_json, write_sidecar
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow, PickRow
from template_learning.settings import TetrisSettings
from template_learning.simulation.ice import Slab
from template_learning.simulation.multislice import Engine
from template_learning.simulation.optics import Lens
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_scattering
from template_learning.stages.tetris import pack_sample
from template_learning.structures.atoms import bare_atoms
from template_learning.structures.library import LibraryEntry, read_library
from template_learning.template_matching.search import TiltSeriesOptics


def balls(shape, centres, radius):
    z, y, x = np.indices(shape)
    volume = np.zeros(shape, dtype=np.uint8)
    for c in centres:
        volume[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 <= radius**2] = 1
    return volume


def centres_apart(generator, count, shape, least, margin=0):
    centres = []
    while len(centres) < count:
        candidate = generator.uniform(margin, np.array(shape) - 1 - margin)
        if all(np.linalg.norm(candidate - other) > least for other in centres):
            centres.append(candidate)
    return np.array(centres)


GRID = Grid(shape=(40, 100, 120), voxel_size_angstrom=10.0)


def pick(position, size=100, class_id=1, selected=True, number=1):
    x, y, z = position
    return PickRow(
        pick=number,
        class_id=class_id,
        x_angstrom=x,
        y_angstrom=y,
        z_angstrom=z,
        score=0.9,
        size_voxels=size,
        touches_edge=False,
        selected=selected,
    )


def truth_row(position, class_id=1, axis=None, number=1):
    x, y, z = position
    axis = (None, None, None) if axis is None else axis
    return ParticleRow(
        particle=number,
        class_id=class_id,
        x_angstrom=x,
        y_angstrom=y,
        z_angstrom=z,
        axis_x=axis[0],
        axis_y=axis[1],
        axis_z=axis[2],
    )


VOXEL_ANGSTROM = 16.0


def ellipsoid_molecule(
    folder: Path,
    name: str,
    *,
    role: Literal["template", "distractor"],
    axes_angstrom: tuple[float, float, float],
    share: float = 1.0,
) -> LibraryRow:
    """A molecule of atoms spread evenly in an ellipsoid, and its density."""
    generator = np.random.default_rng(len(name) + int(sum(axes_angstrom)))
    atom = generator.uniform(-1, 1, (6000, 3))
    atom = (atom[(atom**2).sum(axis=1) < 1] * axes_angstrom).astype(np.float32)
    edge = 2 * (int(max(axes_angstrom) / VOXEL_ANGSTROM) + 3) + 1
    density = np.zeros((edge,) * 3, np.float32)
    np.add.at(density, tuple(np.rint(atom[:, ::-1] / VOXEL_ANGSTROM).astype(int).T + edge // 2), 1.0)
    write_mrc(folder / f"{name}.mrc", gaussian_filter(density, 0.5), VOXEL_ANGSTROM)
    np.savez(folder / f"{name}.npz", position_angstrom=atom, element=np.full(len(atom), 6, np.uint8))
    return LibraryRow(
        molecule=name,
        species=name.split("_")[0],
        role=role,
        class_id=int(role == "template"),
        share=share,
        mass_dalton=14.0 * len(atom),
        atom_count=len(atom),
        density=f"{name}.mrc",
        atoms=f"{name}.npz",
    )


def angles_of(row: ParticleRow) -> tuple[float, float, float]:
    assert row.rot_deg is not None
    assert row.tilt_deg is not None
    assert row.psi_deg is not None
    return row.rot_deg, row.tilt_deg, row.psi_deg


def placed_atoms(particles: list[ParticleRow], library: dict[str, LibraryEntry]) -> list[np.ndarray]:
    """The atoms (N, 3) of every particle of a table, where its row puts them."""
    atoms = {name: entry.atoms()[0].astype(float) for name, entry in library.items()}
    return [
        rotation_from_angles(angles_of(row)).apply(atoms[row.molecule])
        + np.array([row.x_angstrom, row.y_angstrom, row.z_angstrom])
        for row in particles
    ]


def closest_atoms(molecules: list[np.ndarray], within_angstrom: float) -> float:
    """Least distance of atoms of different molecules (``within_angstrom`` if none are nearer), from k-d trees."""
    middle = np.array([(atoms.min(axis=0) + atoms.max(axis=0)) / 2 for atoms in molecules])
    half = np.array([np.ptp(atoms, axis=0) / 2 for atoms in molecules])
    trees = [cKDTree(atoms) for atoms in molecules]
    least = within_angstrom
    for first, second in cKDTree(middle).query_pairs(2 * half.max() + within_angstrom, p=np.inf, output_type="ndarray"):
        if (np.abs(middle[first] - middle[second]) < half[first] + half[second] + least).all():
            distance, _ = trees[first].query(molecules[second], distance_upper_bound=least)
            least = min(least, float(np.min(distance)))
    return least


def pack_and_check(folder: Path, output: Path, seed: int = 1, **options: Any) -> tuple[list[ParticleRow], dict[str, Any]]:
    """The table and sidecar of a packing, its distance checked from the atoms of the table."""
    chosen = TetrisSettings.model_validate({"shape_voxels": (24, 32, 40), **options})
    path = pack_sample([folder], "s1", chosen, seed, output)
    particles, metadata = read_table(path, ParticleRow), json.loads((output / "s1.placed.csv.json").read_text())
    closest = closest_atoms(placed_atoms(particles, read_library([folder])), chosen.minimum_distance_angstrom + 1.0)
    assert closest >= chosen.minimum_distance_angstrom - 2e-3  # the table is rounded
    return particles, metadata


CELL_OPTIONS: dict[str, Any] = {
    "shape_voxels": (30, 44, 44),
    "vesicles": {"count": 2, "radius_angstrom": (70, 110), "membrane_molecules": ["channel=8@12"]},
    "filaments": {"counts": ["unit=2"], "length_angstrom": 300},
    "minimum_distance_angstrom": 3.0,
    "excluded_volume": "atoms",
    "packing_voxel_size_angstrom": 8.0,
    "stop_at": {"molecules": 60},
}


def node_cloud(count, seed=0, spread=1.0):
    """Nodes about as dense as a protein's, none nearer than 3 Å to another."""
    generator = np.random.default_rng(seed)
    lattice = np.stack(np.meshgrid(*[np.arange(np.ceil(count ** (1 / 3)))] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return (lattice[:count] * 5.5 + generator.uniform(-1.2, 1.2, (count, 3))) * spread


class ArmedMolecule:
    """Stands for a LibraryEntry: three arms of carbon atoms, no symmetry, centred on their mean."""

    def __init__(self, scale=1.0):
        z, y, x = np.meshgrid(*[np.arange(0, 126, 5.0)] * 3, indexing="ij")
        body = ((y < 40) & (z < 40)) | ((x < 40) & (y < 90) & (z < 40)) | ((x < 30) & (y < 30) & (z < 70))
        self.position = np.stack((x[body], y[body], z[body]), axis=1) * scale
        self.position -= self.position.mean(axis=0)

    def atoms(self):
        return self.position.astype(np.float32), np.full(len(self.position), 6, dtype=np.uint8)


def placed_particle(number, position, rotation, molecule="ell", class_id=1):
    rot, tilt, psi = angles_from_rotation(rotation)
    x, y, z = position
    return ParticleRow(
        particle=number,
        molecule=molecule,
        species=molecule,
        class_id=class_id,
        x_angstrom=x,
        y_angstrom=y,
        z_angstrom=z,
        rot_deg=rot,
        tilt_deg=tilt,
        psi_deg=psi,
    )


TILT_ANGLES = np.arange(-60.0, 61.0, 3.0)


def blobs_projected(points, angles, shape, sigma):
    """Images [tilt, y, x] of dark Gaussian blobs at points (x, y, z) in pixels from the centre."""
    y, x = np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2
    images = np.zeros((len(angles), *shape), dtype=np.float32)
    for image, angle in zip(images, angles, strict=True):
        for u, v, _ in np.asarray(points) @ tilt_matrix(angle).T:
            image -= np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)).astype(np.float32)
    return images + 10


def write_tilt_series(folder, images, angles, pixel, **metadata):
    folder.mkdir(exist_ok=True)
    write_mrc(folder / "a.tilts.mrc", images, pixel, stack=True)
    (folder / "a.tlt").write_text("".join(f"{angle:.2f}\n" for angle in angles))
    write_sidecar(folder / "a.tilts.mrc", stage="simulate", item="a", seed=1, settings={}, **metadata)
    return folder / "a.tilts.mrc", folder / "a.tlt"


VACUUM = replace(physical_scattering(), ice_volt=0.0)


def one_molecule(position, element, ice=None, centre=(0.0, 0.0, 0.0)) -> Sample:
    return Sample(
        atoms=[bare_atoms(np.array(position, np.float32).reshape(-1, 3), np.array(element, np.uint8))],
        kind=np.zeros(1, np.int64),
        rotation=np.eye(3)[None],
        position_angstrom=np.array([centre], dtype=float),
        ice=ice or Slab(200.0),
    )


def engine_of(sample: Sample, **changes) -> Engine:
    given_values = {
        "sample": sample,
        "scattering": VACUUM,
        "lens": Lens(defocus_angstrom=-10000.0),
        "shape": (64, 64),
        "pixel_angstrom": 4.0,
        "padding_angstrom": 0.0,
        "damage_angstrom2_per_dose": 0.0,
    }
    return Engine(**{**given_values, **changes})


def atom_blob(generator: np.random.Generator, radius: float, count: int = 300) -> np.ndarray:
    return generator.normal(size=(count, 3)) * radius


ASSEMBLY_CIF = """data_X
_pdbx_struct_assembly.id 1
_pdbx_struct_assembly.details author_defined_assembly
_pdbx_struct_assembly.method_details ?
_pdbx_struct_assembly.oligomeric_details dimeric
_pdbx_struct_assembly.oligomeric_count 2
_pdbx_struct_assembly_gen.assembly_id 1
_pdbx_struct_assembly_gen.oper_expression 1,2
_pdbx_struct_assembly_gen.asym_id_list A
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.type
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.vector[3]
1 "identity operation" 1 0 0 0 1 0 0 0 1 0 0 0
2 "point symmetry operation" -1 0 0 0 -1 0 0 0 1 30 0 0
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.auth_asym_id
_atom_site.auth_seq_id
ATOM 1 C CA . GLY A 1 1 2 3 A 1
ATOM 2 C CA . GLY A 2 4 2 3 A 2
"""


MATCHED_VOXEL = 8.0


IMAGED = TiltSeriesOptics(
    angles_deg=(-60.0, 0.0, 60.0),
    defocus_um=-2.5,
    phase_shift_deg=90.0,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    ctf_corrected=False,
)


def write_rods(folder: Path, molecules: list[tuple[str, str, int]]) -> Path:
    """A library of rods of carbons along x, by name, species and class; class 0 are distractors."""
    folder.mkdir(exist_ok=True)
    position = np.zeros((40, 3), np.float32)
    position[:, 0] = np.linspace(-40, 40, 40)
    rows = []
    for name, species, class_id in molecules:
        np.savez(folder / f"{name}.npz", position_angstrom=position, element=np.full(40, 6, np.uint8))
        rows.append(
            LibraryRow(
                molecule=name,
                species=species,
                role="template" if class_id else "distractor",
                class_id=class_id,
                share=1,
                mass_dalton=480,
                atom_count=40,
                density=f"{name}.mrc",
                atoms=f"{name}.npz",
            )
        )
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


def rods_of_two_classes(folder: Path) -> Path:
    """A library: of class 1 two templates, the first in two conformers; one of class 2; a distractor."""
    return write_rods(folder, [("b_c001", "b", 1), ("b_c000", "b", 1), ("a", "a", 2), ("c", "c", 1), ("other", "other", 0)])


def write_matched_tomogram(folder: Path, grey: np.ndarray, phase_shift_deg: float, spherical_aberration_mm: float) -> Path:
    """A tomogram t1.mrc, and beside it the facts of its tilt series."""
    write_mrc(folder / "t1.mrc", grey, MATCHED_VOXEL)
    metadata = {
        "angles_deg": [-60, 0, 60],
        "row": {"defocus_um": -1.0, "phase_shift_deg": phase_shift_deg},
        "settings": {"microscope": {"voltage_kv": 300, "spherical_aberration_mm": spherical_aberration_mm}},
    }
    write_json(folder / "t1.tilts.mrc.json", metadata)
    return folder / "t1.mrc"


def design_row(**changes: float) -> DesignRow:
    """How a small sample t1 is imaged: three tilts about 0 degrees."""
    row = DesignRow(
        id="t1",
        total_dose_e_per_angstrom2=90,
        defocus_um=-1,
        phase_shift_deg=90,
        tilt_range_deg=20,
        tilt_step_deg=10,
        ice_density_g_per_cm3=0.9,
    )
    return row.model_copy(update=changes)


Pose = tuple[float, float, float, float, float, float]


def write_placed(folder: Path, molecule: str, poses: list[Pose]) -> Path:
    """A table t1.placed.csv of one molecule at positions and angles, in a box of 26 x 20 x 10 voxels of 16 Å."""
    names = ("x_angstrom", "y_angstrom", "z_angstrom", "rot_deg", "tilt_deg", "psi_deg")
    rows = [
        ParticleRow(particle=number, molecule=molecule, **dict(zip(names, pose, strict=True)))
        for number, pose in enumerate(poses, 1)
    ]
    write_table(folder / "t1.placed.csv", ParticleRow, rows)
    write_json(folder / "t1.placed.csv.json", {"shape_voxels": [10, 20, 26], "voxel_size_angstrom": 16.0})
    return folder / "t1.placed.csv"


def write_blob(folder: Path, position: np.ndarray, generator: np.random.Generator) -> None:
    """A library of one template, blob, with atoms of carbon, nitrogen and oxygen at these places."""
    count = len(position)
    np.savez(folder / "blob.npz", position_angstrom=position, element=generator.choice([6, 7, 8], count).astype(np.uint8))
    row = LibraryRow(
        molecule="blob",
        species="blob",
        role="template",
        class_id=1,
        share=1.0,
        mass_dalton=4e4,
        atom_count=count,
        density="blob.mrc",
        atoms="blob.npz",
    )
    write_table(folder / "library.csv", LibraryRow, [row])
