"""LABEL: its files, and labels on a tomogram that was simulated."""

import numpy as np
import pytest
from scipy import ndimage
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid, random_rotations, rotation_from_angles
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow
from template_learning.labelling.labels import molecule_axis
from template_learning.settings import LabelSettings, ReconstructSettings, SimulateCommandSettings, TreatmentSettings
from template_learning.stages.label import label_sample
from template_learning.stages.reconstruct import reconstruct_series
from template_learning.stages.simulate import simulate_sample

from ..builders import ArmedMolecule, placed_particle

SAMPLE = Grid(shape=(30, 40, 50), voxel_size_angstrom=16.0)


def library_on_disk(folder, molecules):
    folder.mkdir()
    rows = []
    for name, molecule, class_id in molecules:
        position, element, *_ = molecule.atoms()
        np.savez(folder / f"{name}.atoms.npz", position_angstrom=position, element=element)
        rows.append(
            LibraryRow(
                molecule=name,
                species=name,
                role="template" if class_id else "distractor",
                class_id=class_id,
                share=1,
                mass_dalton=1e5,
                atom_count=len(element),
                density=f"{name}.mrc",
                atoms=f"{name}.atoms.npz",
            )
        )
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


def test_files_of_one_sample(tmp_path):
    library = library_on_disk(tmp_path / "library", [("ell", ArmedMolecule(), 1), ("small", ArmedMolecule(0.5), 0)])
    generator = np.random.default_rng(5)
    rotations = random_rotations(4, generator)
    positions = [(200, 200, 150), (200, 450, 250), (550, 200, 300), (550, 450, 200)]
    names = ["ell", "ell", "small", "small"]
    rows = [placed_particle(i + 1, positions[i], rotations[i], names[i], 1 if names[i] == "ell" else 0) for i in range(4)]
    placed = tmp_path / "a.placed.csv"
    write_table(placed, ParticleRow, rows)
    write_sidecar(
        placed, stage="tetris", item="a", seed=1, settings={}, shape_voxels=list(SAMPLE.shape), voxel_size_angstrom=16.0
    )
    grid = SAMPLE.resampled(10.0)
    write_mrc(tmp_path / "a.mrc", np.zeros(grid.shape, np.float32), 10.0)
    label_sample(placed, [library], tmp_path / "a.mrc", "a", LabelSettings(), tmp_path / "out")

    labels, voxel_size = read_mrc(tmp_path / "out" / "a.labels.mrc")
    instances, _ = read_mrc(tmp_path / "out" / "a.instances.mrc")
    found = read_table(tmp_path / "out" / "a.particles.csv", ParticleRow)
    assert labels.shape == grid.shape
    assert voxel_size == 10.0
    assert set(np.unique(labels)) == {0, 1}
    assert set(np.unique(instances)) == {0, 1, 2, 3, 4}
    assert ((labels == 1) == np.isin(instances, (1, 2))).all()
    for row, name, rotation in zip(found, names, rotations, strict=True):
        z, y, x = (axis.mean() * 10.0 for axis in np.nonzero(instances == row.particle))
        assert np.linalg.norm(np.array((x, y, z)) - (row.x_angstrom, row.y_angstrom, row.z_angstrom)) < 10
        axis = rotation.apply(molecule_axis(ArmedMolecule().position))
        assert abs(axis @ (row.axis_x, row.axis_y, row.axis_z)) > 0.999
        assert (row.class_id == 1) == (name == "ell")


def test_unknown_molecule_and_missing_sidecar(tmp_path):
    library = library_on_disk(tmp_path / "library", [("ell", ArmedMolecule(), 1)])
    write_mrc(tmp_path / "a.mrc", np.zeros((10, 10, 10), np.float32), 10.0)
    placed = tmp_path / "a.placed.csv"
    write_table(placed, ParticleRow, [placed_particle(1, (1, 1, 1), rotation_from_angles((0, 0, 0)), "other")])
    with pytest.raises(BadInput, match="shape_voxels"):
        label_sample(placed, [library], tmp_path / "a.mrc", "a", LabelSettings(), tmp_path)
    write_sidecar(placed, stage="tetris", item="a", seed=1, settings={}, shape_voxels=[9, 9, 9], voxel_size_angstrom=16.0)
    with pytest.raises(BadInput, match="'other'"):
        label_sample(placed, [library], tmp_path / "a.mrc", "a", LabelSettings(), tmp_path)


@pytest.mark.long
def test_labels_lie_on_the_dark_places_of_a_simulated_tomogram(tmp_path):
    """From placed molecules through simulation and reconstruction: no shift, no mirror, protein dark."""
    library = library_on_disk(tmp_path / "library", [("ell", ArmedMolecule(), 1)])
    sample = Grid(shape=(12, 22, 24), voxel_size_angstrom=16.0)
    places = [(100.0, 90.0, 60.0), (270.0, 110.0, 120.0), (120.0, 250.0, 110.0), (280.0, 260.0, 70.0)]
    rotations = random_rotations(4, np.random.default_rng(8))
    rows = [placed_particle(i + 1, place, rotations[i]) for i, place in enumerate(places)]
    placed = tmp_path / "a.placed.csv"
    write_table(placed, ParticleRow, rows)
    metadata = {"shape_voxels": list(sample.shape), "voxel_size_angstrom": 16.0}
    write_sidecar(placed, stage="tetris", item="a", seed=1, settings={}, **metadata)
    imaging = DesignRow(
        id="a",
        total_dose_e_per_angstrom2=1000,
        defocus_um=-1.5,
        tilt_range_deg=60,
        tilt_step_deg=6,
        ice_density_g_per_cm3=0.94,
    )
    simulate_sample(placed, [library], imaging, SimulateCommandSettings(pixel_size_angstrom=6.0), 1, tmp_path)
    for treatment in (
        TreatmentSettings(),
        TreatmentSettings(
            ctf_correction="phase_flip", dose_weighting=True, border_voxels=3, border="mean", grey_values="uint8"
        ),
        TreatmentSettings(method="sirt", iterations=8, deconvolution="isonet"),
    ):
        settings = ReconstructSettings(voxel_size_angstrom=10.0, treatment=treatment)
        reconstruct_series(tmp_path / "a.tilts.mrc", tmp_path / "a.tlt", "a", settings, tmp_path)
        label_sample(placed, [library], tmp_path / "a.mrc", "a", LabelSettings(), tmp_path)
        tomogram, _ = read_mrc(tmp_path / "a.mrc")
        labels, _ = read_mrc(tmp_path / "a.labels.mrc")
        check_labels_lie_on_dark_places(labels, tomogram, treatment.border_voxels)


def check_labels_lie_on_dark_places(labels: np.ndarray, tomogram: np.ndarray, border: int) -> None:
    """No shift, no mirror, protein dark, within the ``border`` that was added."""

    def blurred(volume):
        volume = volume.astype(float)
        band = ndimage.gaussian_filter(volume, 1.5) - ndimage.gaussian_filter(volume, 6)
        return (band - band.mean()) / band.std()

    def agreement(shape, shift=(0, 0, 0)):
        inside = tuple(slice(border + margin, -border - margin) for margin in (2, 4, 4))
        return -(blurred(tomogram)[inside] * np.roll(blurred(shape), shift, axis=(0, 1, 2))[inside]).mean()

    here = agreement(labels)
    assert here > 0.3
    for axis in range(3):
        for step in (-1, 1):
            assert agreement(labels, np.roll((step, 0, 0), axis)) < here
        assert agreement(np.flip(labels, axis)) < 0.7 * here
