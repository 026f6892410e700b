"""Engines that run other people's programs: what they are given, what is made of their output, what is said without them."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest
import yaml
from scipy import ndimage
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput, Fault
from template_learning.common.files import write_table
from template_learning.common.geometry import rotation_from_angles
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar, seed_for, write_json
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow, Reading
from template_learning.deepfinder import program as deepfinder_program
from template_learning.deepfinder import steps
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings, SegmentSettings, SimulateSettings, TrainSettings, VolumeSettings
from template_learning.simulation import parakeet
from template_learning.simulation.acquisition import acquire, tilt_angles
from template_learning.simulation.ice import Cuboid
from template_learning.simulation.parakeet_config import parakeet_acquisition, parakeet_engine, read_parakeet_config
from template_learning.simulation.series import design_lens, placed_sample
from template_learning.stages.check import check_run
from template_learning.stages.volume import build_library
from template_learning.structures.density import density_of_atoms
from template_learning.structures.molecules import read_molecule

ROW = DesignRow(
    id="t1",
    total_dose_e_per_angstrom2=90,
    defocus_um=-1,
    phase_shift_deg=90,
    tilt_range_deg=10,
    tilt_step_deg=10,
    ice_density_g_per_cm3=0.9,
)
SETTINGS = SimulateSettings(
    engine="parakeet", pixel_size_angstrom=6.5, ice_shape="cuboid", astigmatism_um=0.1, astigmatism_deg=20
)
# Stands in for the program: images whose pixels are the tilt and the seed's draw; it writes down what it was called with, and
# keeps what the sample is made of.
STAND_IN = """#!{python}
import json, os, shutil, sys, h5py, numpy, yaml
config = yaml.safe_load(open("config.yaml"))
with open("{log}", "a") as log:
    log.write(json.dumps([sys.argv[1:], config["scan"]["angles"][0], os.environ.get("CUDA_VISIBLE_DEVICES"), config["multiprocessing"]["device"]]) + "\\n")
if "sample" in sys.argv:
    open("../sample.h5", "w").write("atoms")
    shutil.copytree("..", "{log}.sample", dirs_exist_ok=True)
    assert all(os.path.isfile(m["filename"]) for m in config["sample"]["molecules"]["local"])
else:
    assert os.path.isfile("../sample.h5")
    detector = config["microscope"]["detector"]
    with h5py.File("image.h5", "w") as file:
        file["entry/data/data"] = numpy.full((1, detector["ny"], detector["nx"]), config["scan"]["angles"][0], "f4")
        file["entry/data/data"][0, 0, 0] += numpy.random.random()
    if {fails}:
        print("went wrong", file=sys.stderr)
        sys.exit(9)
"""


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """Two molecules whose atoms' mean is not their origin, in a box of 26 x 20 x 10 voxels of 16 Å."""
    generator = np.random.default_rng(0)
    position = (generator.normal(size=(200, 3)) * 12 + np.array([5.0, -3.0, 2.0])).astype(np.float32)
    np.savez(tmp_path / "blob.npz", position_angstrom=position, element=generator.choice([6, 7, 8], 200).astype(np.uint8))
    facts = {"species": "blob", "role": "template", "class_id": 1, "share": 1.0, "mass_dalton": 4e4}
    row = LibraryRow(molecule="blob", atom_count=200, density="blob.mrc", atoms="blob.npz", **facts)
    write_table(tmp_path / "library.csv", LibraryRow, [row])
    at = [(100, 100, 80, 30, 40, 50), (300, 180, 60, -70, 100, 10)]
    names = ("x_angstrom", "y_angstrom", "z_angstrom", "rot_deg", "tilt_deg", "psi_deg")
    rows = [ParticleRow(particle=i, molecule="blob", **dict(zip(names, one, strict=True))) for i, one in enumerate(at, 1)]
    path = tmp_path / "t1.placed.csv"
    write_table(path, ParticleRow, rows)
    write_json(tmp_path / "t1.placed.csv.json", {"shape_voxels": [10, 20, 26], "voxel_size_angstrom": 16.0})
    return path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch):
    """Puts a stand-in for parakeet.run first on the PATH; the function returns the calls that it saw."""
    log = tmp_path / "calls.jsonl"

    def put(fails: bool = False):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "parakeet.run").write_text(STAND_IN.format(python=sys.executable, log=log, fails=fails))
        (folder / "parakeet.run").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return put


def written(placed: Path, row: DesignRow, settings: SimulateSettings, index: int):
    """The configuration of one tilt, written and read back by the reader for Parakeet's users."""
    sample, grid = placed_sample(placed, [placed.parent])
    detector = parakeet.choose_detector(grid, settings)
    taken = acquire(tilt_angles(row.tilt_range_deg, row.tilt_step_deg), row.total_dose_e_per_angstrom2, settings.scheme)
    common = parakeet.configuration(sample, ["blob.cif"], float(grid.extent_angstrom[2]), row, settings, detector)
    one = parakeet.configuration_of_tilt(
        common, settings, taken.angle_deg[index], taken.dose_per_tilt, taken.dose_at_end[index], gpu=False
    )
    path = placed.parent / "config.yaml"
    path.write_text(yaml.safe_dump(one))
    parakeet.write_structure(placed.parent / "blob.cif", sample.atoms[0])
    return sample, grid, detector, taken, read_parakeet_config(path)


@pytest.mark.parametrize("ice_shape", ["slab", "cuboid"])
def test_the_configuration_says_what_the_settings_say(placed: Path, ice_shape: str) -> None:
    settings = SETTINGS.model_copy(update={"ice_shape": ice_shape})
    sample, grid, detector, taken, config = written(placed, ROW, settings, 2)
    engine = parakeet_engine(config, placed.parent, None, detector.binning)
    assert engine.lens == design_lens(ROW, settings)
    assert engine.shape == grid.resampled(6.5).shape[1:]
    assert engine.pixel_angstrom == pytest.approx(6.5)
    assert engine.centre_pixel == pytest.approx([(count - 1) / 2 for count in engine.shape])
    # Damage and dose of a tilt that is taken last.
    angle, _ = parakeet_acquisition(config)
    assert angle.angle_deg.tolist() == [10.0]
    assert taken.order[2] == 2
    assert engine.damage_angstrom2_per_dose * angle.dose_per_tilt == pytest.approx(0.08 * taken.dose_at_end[2])
    assert angle.dose_per_tilt == pytest.approx(30.0)
    # Every atom lies where the native engine has it, counted from the sample's centre.
    for i in range(2):
        ours = sample.atoms[0][0] @ sample.rotation[i].T + sample.position_angstrom[i]
        theirs = engine.sample.atoms[0][0] @ engine.sample.rotation[i].T + engine.sample.position_angstrom[i]
        assert np.abs(ours - theirs).max() < 2e-3
    assert np.array_equal(engine.sample.atoms[0][1], sample.atoms[0][1])
    assert isinstance(engine.sample.ice, Cuboid)
    x, y, z = engine.sample.ice.length_angstrom
    assert z == pytest.approx(160.0)
    if ice_shape == "cuboid":
        assert (x, y) == pytest.approx(grid.extent_angstrom[:2], abs=2 * 6.5)
    else:  # the ice fills the steepest tilt's view, Parakeet's border included
        border = 2 * detector.border * detector.pixel_angstrom
        seen = x / 2 * np.cos(np.deg2rad(10)) - z / 2 * np.sin(np.deg2rad(10))
        assert seen == pytest.approx(engine.shape[1] * 6.5 / 2 + border)
    assert min(np.array(config.sample.centre) - np.array([x, y, z]) / 2) >= 0


def test_a_series_by_the_program(placed: Path, tmp_path: Path, stand_in, monkeypatch) -> None:
    calls = stand_in()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    out = tmp_path / "out"
    parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, SETTINGS, 1, out)
    tilts, pixel = read_mrc(out / "t1.tilts.mrc")
    assert pixel == pytest.approx(6.5)
    assert tilts.shape == (3, 50, 64)
    angles = [-10, 0, 10]
    assert np.allclose(tilts[:, 1, 1], np.array(angles) * 36)  # sorted by angle, 6 x 6 detector pixels each
    assert (out / "t1.tlt").read_text().split() == [f"{angle:.2f}" for angle in angles]
    first, *others = calls()
    assert first[0] == ["-c", "config.yaml", "-s", "../sample.h5", "--steps", "sample"]
    assert sorted(call[1] for call in others) == angles
    assert all(call[0][-2:] == ["--steps", "simulate"] for call in others)
    facts = read_sidecar(out / "t1.tilts.mrc")
    assert facts["program"] == "Parakeet"
    assert facts["acquisition_order"] == [1, 0, 2]
    assert (facts["workers"], facts["device"]) == (2, "cpu")
    assert facts["sample_shape_voxels"] == [10, 20, 26]
    # Nothing of the program's own files is left; NumPy's draws come from the seed.
    assert sorted(path.name for path in out.iterdir()) == ["t1.tilts.mrc", "t1.tilts.mrc.json", "t1.tlt"]
    np.random.seed(seed_for(1, "simulate", "t1/tilt_2") % 2**32)
    assert tilts[2, 0, 0] - tilts[2, 1, 1] == pytest.approx(np.random.random(), abs=1e-4)


def test_a_density_maps_pseudoatoms_reach_the_program(tmp_path: Path, stand_in) -> None:
    """From a map by VOLUME to the structure and instances that Parakeet is given; those atoms, turned back, are the map."""
    generator = np.random.default_rng(5)
    lobes = {(0, 0, 0): 600, (36, 0, 0): 400, (0, 30, 0): 300, (0, 0, 26): 200}  # no mirror image of itself
    cloud = np.concatenate([generator.normal(size=(count, 3)) * 7 + at for at, count in lobes.items()])
    volume = density_of_atoms(cloud, np.full(len(cloud), 7, np.uint8), 6.0, 18.0, (24, 26, 28))
    write_mrc(tmp_path / "m.mrc", volume, 6.0)
    reading = {"mass_dalton": 12_000, "resolution_angstrom": 18.0}
    entry = {"molecule": "m", "species": "m", "role": "template", "class_id": 1, "file": "m.mrc", "reading": reading}
    (tmp_path / "molecules.json").write_text(json.dumps([entry]))
    build_library(tmp_path / "molecules.json", VolumeSettings(voxel_size_angstrom=16.0), tmp_path)
    names = ("x_angstrom", "y_angstrom", "z_angstrom", "rot_deg", "tilt_deg", "psi_deg")
    at = [(100.0, 110.0, 80.0, 30.0, 40.0, 50.0), (300.0, 180.0, 60.0, -70.0, 100.0, 10.0)]
    rows = [ParticleRow(particle=i, molecule="m", **dict(zip(names, one, strict=True))) for i, one in enumerate(at, 1)]
    write_table(tmp_path / "t1.placed.csv", ParticleRow, rows)
    write_json(tmp_path / "t1.placed.csv.json", {"shape_voxels": [10, 20, 26], "voxel_size_angstrom": 16.0})
    stand_in()
    row = ROW.model_copy(update={"tilt_range_deg": 5.0})
    parakeet.simulate_by_parakeet(tmp_path / "t1.placed.csv", [tmp_path], row, SETTINGS, 1, tmp_path / "out")

    kept = tmp_path / "calls.jsonl.sample"
    sample = yaml.safe_load((kept / "sample" / "config.yaml").read_text())["sample"]
    (kind,) = sample["molecules"]["local"]
    given = gemmi.read_structure(str(kept / "sample" / kind["filename"]))  # kept: atoms are views of it
    atoms = [one.atom for one in given[0].all()]
    expected = read_molecule(tmp_path / "m.mrc", Reading(**reading)).element
    assert Counter(atom.element.atomic_number for atom in atoms) == Counter(expected.tolist())
    own = np.array([atom.pos.tolist() for atom in atoms])
    middle = (ndimage.center_of_mass(volume) - (np.array(volume.shape) - 1) / 2)[::-1] * 6.0
    half = np.array([25, 19, 9]) / 2 * 16.0  # of the sample, whose centre is Parakeet's
    for instance, (x, y, z, *angles) in zip(kind["instances"], at, strict=True):
        # Parakeet turns a structure about the mean of its atoms and puts that at the instance's position.
        put = Rotation.from_rotvec(instance["orientation"]).apply(own - own.mean(axis=0)) + instance["position"]
        back = rotation_from_angles(angles).inv().apply(put - sample["centre"] + half - (x, y, z)) + middle
        for turned, agrees in ((back, True), (back * (1, 1, -1), False), (back[:, ::-1], False)):
            density = density_of_atoms(turned, expected, 6.0, 18.0, volume.shape)
            assert (np.corrcoef(density.ravel(), volume.ravel())[0, 1] > 0.97) == agrees


def test_tilts_are_spread_over_the_gpus_that_are_given(placed: Path, tmp_path: Path, stand_in, monkeypatch) -> None:
    calls = stand_in()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    settings = SETTINGS.model_copy(update={"device": "gpu"})
    parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, settings, 1, tmp_path / "out")
    assert {call[2] for call in calls()} == {"2", "5"}
    assert {call[3] for call in calls()} == {"gpu"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInput, match=r"simulate\.device: a GPU was asked for"):
        parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, settings, 1, tmp_path / "out")


def test_what_parakeet_cannot_do_is_refused(placed: Path, tmp_path: Path, stand_in, monkeypatch) -> None:
    with pytest.raises(BadInput, match=r"parakeet\.run is not on the PATH; run in the image `parakeet`"):
        parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "out")
    stand_in(fails=True)
    with pytest.raises(Fault, match=r"parakeet\.run ended with exit code 9: went wrong"):
        parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    gold = ROW.model_copy(update={"gold_fiducials": 5.0})
    with pytest.raises(BadInput, match=r"design\.gold_fiducials = 5\.0: not done"):
        parakeet.simulate_by_parakeet(placed, [tmp_path], gold, SETTINGS, 1, tmp_path / "out")
    monkeypatch.setattr(parakeet.shutil, "disk_usage", lambda _: type("", (), {"free": 1_000_000})())
    with pytest.raises(BadInput, match=r"0\.0 GB free; Parakeet needs about 0\.0 GB there for t1"):
        parakeet.simulate_by_parakeet(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "out")


def test_a_series_of_the_papers_size_needs_a_few_gigabytes(placed: Path) -> None:
    """3072 x 3072 detector pixels, 61 tilts at 6.5 Å, 25 million atoms, one GPU."""
    sample, _ = placed_sample(placed, [placed.parent])
    detector = parakeet.Detector(shape=(512, 512), binning=6, pixel_angstrom=1.0)
    crowd = type(sample)(
        atoms=sample.atoms,
        kind=np.zeros(125_000, np.int64),
        rotation=np.broadcast_to(np.eye(3), (125_000, 3, 3)),
        position_angstrom=np.zeros((125_000, 3)),
        ice=sample.ice,
    )
    assert parakeet.disk_bytes(crowd, detector, 61, 1) < 3e9
    assert parakeet.disk_bytes(crowd, detector, 61, 4) - parakeet.disk_bytes(crowd, detector, 61, 1) < 1e9


# Stands in for e2pdb2mrc.py: the sum of Gaussians, atom by atom, of the PDB file that it is given.
EMAN2 = """#!{python}
import json, sys, mrcfile, numpy
given = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
open("{log}", "a").write(json.dumps(sys.argv[1:]) + "\\n")
edge, apix, width = int(given["box"]), float(given["apix"]), float(given["res"]) / numpy.pi
axis = (numpy.arange(edge) - edge // 2) * apix
weight = dict(C=6, N=7, O=8)
density = numpy.zeros((edge,) * 3)
for line in open(sys.argv[-2]):
    if line.startswith("ATOM"):
        x, y, z = (numpy.exp(-((axis - float(line[at : at + 8])) / width) ** 2) for at in (30, 38, 46))
        density += weight[line[12:14].strip()] * z[:, None, None] * y[:, None] * x
with mrcfile.new(sys.argv[-1]) as file:
    file.set_data(density.astype("f4"))
"""


def molecule(folder: Path) -> Path:
    """A structure of 60 atoms and the list that VOLUME takes."""
    generator = np.random.default_rng(1)
    atoms = (generator.normal(size=(60, 3)).astype(np.float32) * 15, generator.choice([6, 7, 8], 60).astype(np.uint8))
    parakeet.write_structure(folder / "m.cif", atoms)
    entry = {"molecule": "m", "species": "m", "role": "distractor", "class_id": 0, "file": "m.cif"}
    (folder / "molecules.json").write_text(json.dumps([entry]))
    return folder / "molecules.json"


def test_volume_by_eman2(tmp_path: Path, monkeypatch) -> None:
    listed, log = molecule(tmp_path), tmp_path / "calls.jsonl"
    settings = VolumeSettings(engine="eman2", voxel_size_angstrom=8.0, resolution_angstrom=20.0)
    with pytest.raises(BadInput, match=r"e2pdb2mrc\.py is not on the PATH; run in the image `eman2`"):
        build_library(listed, settings, tmp_path / "out")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "e2pdb2mrc.py").write_text(EMAN2.format(python=sys.executable, log=log))
    (tmp_path / "bin" / "e2version.py").write_text("#!/bin/sh\necho 'EMAN 2.99.66 (GITHUB: 2024)'\n")
    for path in (tmp_path / "bin").iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    build_library(listed, settings, tmp_path / "eman2")
    build_library(listed, settings.model_copy(update={"engine": "native"}), tmp_path / "native")
    theirs, voxel = read_mrc(tmp_path / "eman2" / "m.mrc")
    ours, _ = read_mrc(tmp_path / "native" / "m.mrc")
    assert voxel == 8.0
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 2e-4 * ours.max()  # PDB's third decimal, and where ours ends the Gaussians
    called = json.loads(log.read_text())
    assert called[:4] == ["--apix=8", "--res=20", f"--box={ours.shape[0]}", "--quiet"]
    facts = read_sidecar(tmp_path / "eman2" / "library.csv")
    assert (facts["program"], facts["program_version"]) == ("EMAN2", "2.99.66")


def test_deepfinder_is_named_where_it_is_missing() -> None:
    with pytest.raises(
        BadInput, match=r"train\.engine = 'deepfinder': cryoet-deepfinder is not installed here; run in the image"
    ):
        deepfinder_program.program("train")


def test_deepfinders_own_ways_hold_and_are_named(capsys) -> None:
    settings = TrainSettings(engine="deepfinder", filters=16, epochs=7, normalisation="patch")
    effective = deepfinder_program.effective_settings(settings)
    assert (effective.epochs, effective.filters, effective.crossentropy_weight) == (7, 32, 0.0)
    said = capsys.readouterr().err
    assert "filters" in said
    assert "normalisation" not in said


def test_a_tomogram_by_deepfinder(monkeypatch) -> None:
    """Its sign, its padding to a tile and back, the weights' file; the class order of the scores stays."""
    network = SimpleNamespace(output_shape=(None, None, None, None, 3))
    asked: dict[str, object] = {}
    grey = np.random.default_rng(0).normal(size=(40, 90, 70)).astype(np.float32)

    def run(step: str, folder: Path, task: dict[str, object], device: str) -> None:
        asked.update(task, step=step, device=device)
        assert (folder / "weights.h5").is_file()
        volume = np.load(folder / "volume.npy")
        assert volume.shape == (60, 90, 70)
        np.save(folder / "scores.npy", np.stack([volume, -volume, 2 * volume], axis=-1).astype(np.float16))

    monkeypatch.setattr(steps, "run", run)
    monkeypatch.setattr(steps, "save_weights", lambda _, path: path.write_text("weights"))
    settings = SegmentSettings(engine="deepfinder", tile_voxels=60, contrast="protein_bright", device="cpu")
    scores = steps.segment(network, grey, settings)
    assert scores.shape == (*grey.shape, 3)
    assert np.abs(scores[..., 1] - grey).max() < 2e-3
    assert asked == {"step": "segment", "device": "cpu", "classes": 3, "patch_voxels": 60, "seed": 0}
    with pytest.raises(BadInput, match=r"segment\.tile_voxels = 48"):
        steps.segment(network, grey, settings.model_copy(update={"tile_voxels": 48}))
    with pytest.raises(BadInput, match="half_turns"):
        steps.segment(network, grey, settings.model_copy(update={"half_turns": True}))


def test_picks_by_deepfinder(monkeypatch) -> None:
    """Classes that are not 1, 2, ... go to DeepFinder as such and come back as they were."""
    classes = np.zeros((20, 24, 28), np.uint8)
    classes[3:7, 4:8, 5:9], classes[12:16, 15:19, 20:24] = 2, 5

    def run(step: str, folder: Path, task: dict[str, object], device: str) -> None:
        labels = np.load(folder / "labels.npy")
        assert sorted(np.unique(labels)) == [0, 1, 2]
        assert task["radius_voxels"] == 5
        found = [[n, *np.argwhere(labels == n).mean(axis=0).tolist(), int((labels == n).sum())] for n in (1, 2)]
        (folder / "objects.json").write_text(json.dumps(found))

    monkeypatch.setattr(deepfinder_program, "run", run)
    settings = ClusterSettings(engine="deepfinder", radius_voxels=5.2)
    picks = find_picks(classes, np.where(classes > 0, 0.75, 0.0), 10.0, settings, {})
    assert [(p.class_id, p.x_angstrom, p.y_angstrom, p.z_angstrom, p.size_voxels, p.score) for p in picks] == [
        (2, 65.0, 55.0, 45.0, 64, 0.75),
        (5, 215.0, 165.0, 135.0, 64, 0.75),
    ]
    assert find_picks(np.zeros_like(classes), np.zeros(classes.shape), 10.0, settings, {}) == []


def test_a_run_that_parakeet_cannot_do_ends_before_it_begins(tmp_path: Path) -> None:
    parameters = {
        "simulate": {"engine": "parakeet"},
        "design": {"gold_fiducials": [0, 10]},
        "from_results": "r",
        "start_at": "design",
    }
    (tmp_path / "request.json").write_text(json.dumps({"params": parameters}))
    with pytest.raises(BadInput, match=r"design\.gold_fiducials = 10\.0: not done with simulate\.engine = 'parakeet'"):
        check_run(tmp_path / "request.json", tmp_path / "out")
