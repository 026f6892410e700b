"""Other people's programs in their images: Parakeet simulates two nucleosomes, DeepFinder trains, segments and picks.

`make containers NAME="parakeet deepfinder"` builds the images beforehand; where they have not been, the first test does.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar, write_json
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow, PickRow
from template_learning.settings import ClusterSettings, ExportSettings, SegmentSettings, SimulateCommandSettings, TrainSettings
from template_learning.stages.export import export_picks
from template_learning.stages.simulate import simulate_sample
from template_learning.structures.structure import read_structure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "containers"))

import images  # noqa: E402

missing = [tool for tool in ("buildah", "apptainer") if shutil.which(tool) is None]
pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing), reason=f"no {' '.join(missing)}")]
CONDITIONS = {"total_dose_e_per_angstrom2": 150, "defocus_um": -2, "ice_density_g_per_cm3": 0.94}


def image(name: str) -> Path:
    """The SIF of an image, built where it or what it holds is new."""
    done = subprocess.run([sys.executable, ROOT / "containers/build.py", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (one,) = images.read_images(name)
    return images.BUILT / f"{one.stem}.sif"


def inside(sif: Path, folder: Path, *command: str) -> str:
    """Run a command in an image, in a folder that it shares with us, on one processor; what it says."""
    user = ["--userns"] if os.geteuid() == 0 else []
    here = ["apptainer", "-q", "exec", *user, "--containall", "--no-home", "--bind", f"{folder}:{folder}", "--pwd", str(folder)]
    words = [*here, "--env", "OMP_NUM_THREADS=1", str(sif), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def two_nucleosomes(folder: Path) -> Path:
    """A library of one nucleosome and a table of two in a box of 14 x 14 x 10 voxels of 16 Å."""
    molecule = read_structure(ROOT / "data" / "demo" / "templates" / "2pyo.cif.gz")
    position = molecule.position_angstrom.astype(np.float32)
    np.savez(folder / "2pyo.npz", position_angstrom=position, element=molecule.element)
    facts = {"role": "template", "class_id": 1, "share": 1.0, "mass_dalton": 2e5, "density": "none", "atoms": "2pyo.npz"}
    row = LibraryRow(molecule="2pyo", species="2pyo", atom_count=len(position), **facts)
    write_table(folder / "library.csv", LibraryRow, [row])
    names = ("x_angstrom", "y_angstrom", "z_angstrom", "rot_deg", "tilt_deg", "psi_deg")
    placed = [(56, 60, 64, 10, 50, 20), (160, 150, 80, 80, 100, -30)]
    rows = [ParticleRow(particle=i, molecule="2pyo", **dict(zip(names, one, strict=True))) for i, one in enumerate(placed, 1)]
    write_table(folder / "two.placed.csv", ParticleRow, rows)
    write_json(folder / "two.placed.csv.json", {"shape_voxels": [10, 14, 14], "voxel_size_angstrom": 16.0})
    return folder / "two.placed.csv"


@pytest.mark.parametrize("phase_shift_deg", [0.0, 90.0])
def test_parakeet_simulates_two_nucleosomes(tmp_path: Path, phase_shift_deg: float) -> None:
    placed = two_nucleosomes(tmp_path)
    row = DesignRow(id="two", phase_shift_deg=phase_shift_deg, tilt_range_deg=20, tilt_step_deg=20, **CONDITIONS)
    settings = SimulateCommandSettings(engine="parakeet", pixel_size_angstrom=4.0, ice_shape="cuboid")
    write_json(tmp_path / "row.json", row.model_dump(mode="json"))
    write_json(tmp_path / "settings.json", settings.model_dump(mode="json"))
    inputs = ["--placed", placed.name, "--library", ".", "--row", "row.json", "--settings", "settings.json"]
    inside(image("parakeet"), tmp_path, "template-learning", "simulate", *inputs, "--output", "out")
    theirs, pixel = read_mrc(tmp_path / "out" / "two.tilts.mrc")
    facts = read_sidecar(tmp_path / "out" / "two.tilts.mrc")
    assert (facts["program"], facts["program_version"], facts["multem_version"]) == ("Parakeet", "0.6.8", "0.4.1")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["two.tilts.mrc", "two.tilts.mrc.json", "two.tlt"]
    # Parakeet has no hydrogens that ride on atoms, no loss in the ice and no absorption.
    as_theirs = {"hydrogens": False, "inelastic_mean_free_path_angstrom": None, "microscope": {"amplitude_contrast": 0.0}}
    native = settings.changed({"engine": "native", **as_theirs})
    simulate_sample(placed, [tmp_path], row, native, 1, tmp_path / "native")
    ours, other = read_mrc(tmp_path / "native" / "two.tilts.mrc")
    assert pixel == pytest.approx(other)
    assert theirs.shape == ours.shape
    # Same place, hand and sign; the ice's grain and the counts are two draws.
    for one, two in zip(theirs, ours, strict=True):
        first, second = ((gaussian_filter(v, 2.0) - gaussian_filter(v, 20.0))[4:-4, 4:-4].ravel() for v in (one, two))
        assert np.corrcoef(first, second)[0, 1] > 0.5
        mirrored = (gaussian_filter(one[::-1], 2.0) - gaussian_filter(one[::-1], 20.0))[4:-4, 4:-4].ravel()
        assert np.corrcoef(first, second)[0, 1] > np.corrcoef(mirrored, second)[0, 1] + 0.1
    if not phase_shift_deg:  # a phase plate brings the ice's ends, which the two pad differently, into the whole field
        assert theirs.mean() == pytest.approx(ours.mean(), rel=0.05)


def test_deepfinder_trains_segments_and_picks(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sif, rows = image("deepfinder"), []
    z, y, x = np.ogrid[:60, :64, :64]
    for number, split in enumerate(("train", "validation")):
        grey, labels, particles = (
            generator.standard_normal((60, 64, 64)).astype(np.float32),
            np.zeros((60, 64, 64), np.uint8),
            [],
        )
        for particle in range(1, 9):
            at, kind = generator.integers(6, (54, 58, 58)), 1 + particle % 2
            ball = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= 16
            labels[ball] = kind
            grey[ball] -= 3 * kind
            place = {f"{axis}_angstrom": 10.0 * value for axis, value in zip("zyx", at, strict=True)}
            particles.append(ParticleRow(particle=particle, class_id=kind, species="s", **place))
        name = f"t{number}"
        write_mrc(tmp_path / f"{name}.mrc", grey, 10.0)
        write_mrc(tmp_path / f"{name}.labels.mrc", labels, 10.0)
        write_table(tmp_path / f"{name}.particles.csv", ParticleRow, particles)
        rows.append(DesignRow(id=name, split=split, tilt_range_deg=60, tilt_step_deg=2, **CONDITIONS))
    write_table(tmp_path / "design.csv", DesignRow, rows)
    sections = {
        "train": TrainSettings(
            engine="deepfinder", epochs=1, steps_per_epoch=2, batch_size=2, patch_voxels=24, validation_steps=1
        ),
        "segment": SegmentSettings(engine="deepfinder", tile_voxels=104, contrast="protein_dark"),
        "native": SegmentSettings(tile_voxels=64, contrast="protein_dark"),
        "cluster": ClusterSettings(engine="deepfinder", radius_voxels=5),
    }
    for name, settings in sections.items():
        write_json(tmp_path / f"{name}.json", settings.model_dump(mode="json"))
    said = inside(sif, tmp_path, "template-learning", "train", "--design", "design.csv", "--data", ".", "--settings", "train.json", "--output", ".")  # fmt: skip
    assert "its own ways hold: background_fraction, normalisation, augmentation.rotation, loss.crossentropy_weight" in said
    facts = read_sidecar(tmp_path / "trained.keras")
    assert (facts["program"], facts["program_version"], facts["epochs"]) == ("cryoet-deepfinder", "0.2.1", 1)
    for name in ("segment", "native"):
        call = ["--model", "trained.keras", "--tomogram", "t1.mrc", "--id", name, "--settings", f"{name}.json", "--output", "."]
        inside(sif, tmp_path, "template-learning", "segment", *call)
    theirs, ours = (expit(read_mrc(tmp_path / f"{name}.log_odds.mrc")[0]) for name in ("segment", "native"))
    # The two divide a tomogram in their own ways; `make bench BENCH=parity` compares the networks themselves.
    assert theirs.shape == ours.shape
    assert theirs.min() < theirs.max()
    assert theirs.mean() == pytest.approx(ours.mean(), rel=0.05)
    truth, _ = read_mrc(tmp_path / "t1.labels.mrc")
    write_mrc(tmp_path / "l.segmentation.mrc", truth.astype(np.uint8), 10.0)
    write_mrc(tmp_path / "l.log_odds.mrc", np.where(truth > 0, 9.0, -9.0).astype(np.float32), 10.0)
    files = ["--segmentation", "l.segmentation.mrc", "--log-odds", "l.log_odds.mrc", "--id", "l"]
    inside(sif, tmp_path, "template-learning", "cluster", *files, "--settings", "cluster.json", "--output", ".")
    picks = read_table(tmp_path / "l.picks.csv", PickRow)
    assert sum(pick.size_voxels for pick in picks) == int((truth > 0).sum())
    assert json.loads((tmp_path / "l.picks.csv.json").read_text())["program"] == "cryoet-deepfinder"


# Runs DeepFinder's own reader: object list in, what it made of each object out.
READ_OBJECTS = """
import json, sys
from deepfinder.utils.objl import read
with open(sys.argv[2], "w") as written:
    json.dump(read(sys.argv[1]), written)
"""


def test_deepfinder_reads_the_exported_picks(tmp_path: Path) -> None:
    voxels = np.array([(10.25, 20.5, 30.0), (0.0, 0.0, 0.0), (80.0, 59.0, 39.0)])  # x, y, z, each its own range
    names = ("x_angstrom", "y_angstrom", "z_angstrom")
    rows = [
        PickRow(
            **dict(zip(names, voxel * 13.48, strict=True)),
            **{"pick": number, "class_id": kind, "score": 0.875, "size_voxels": 100 * number},
            **{"touches_edge": False, "selected": True},
        )
        for number, (voxel, kind) in enumerate(zip(voxels, (1, 3, 2), strict=True), 1)
    ]
    write_table(tmp_path / "t.picks.csv", PickRow, rows)
    write_json(tmp_path / "t.picks.csv.json", {"shape_voxels": [40, 60, 81], "voxel_size_angstrom": 13.48})
    (path,) = export_picks(tmp_path / "t.picks.csv", "t", ExportSettings(formats=["deepfinder"]), tmp_path)
    inside(image("deepfinder"), tmp_path, "python3", "-c", READ_OBJECTS, path.name, "objects.json")
    objects = json.loads((tmp_path / "objects.json").read_text())
    np.testing.assert_allclose([[one[axis] for axis in "xyz"] for one in objects], voxels, atol=1e-3)
    assert [(one["label"], one["cluster_size"], one["tomo_idx"]) for one in objects] == [(1, 100, 0), (3, 200, 0), (2, 300, 0)]
