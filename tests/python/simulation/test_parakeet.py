"""SIMULATE by Parakeet: what the program is given, what is made of its output, what is said without it."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
import yaml
from scipy import ndimage
from scipy.spatial.transform import Rotation
from template_learning.common.errors import BadInput, Fault
from template_learning.common.geometry import rotation_from_angles
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar, seed_for
from template_learning.common.tables import DesignRow, MoleculeInput
from template_learning.settings import SimulateCommandSettings, VolumeSettings
from template_learning.simulation import parakeet
from template_learning.simulation.acquisition import acquire, tilt_angles
from template_learning.simulation.ice import Cuboid
from template_learning.simulation.parakeet_config import parakeet_acquisition, parakeet_engine, read_parakeet_config
from template_learning.simulation.series import design_lens, placed_sample
from template_learning.stages.volume import build_library
from template_learning.structures.density import density_of_atoms
from template_learning.structures.molecules import read_molecule

from ..builders import design_row, write_blob, write_placed

ROW = design_row(tilt_range_deg=10.0)


SETTINGS = SimulateCommandSettings(
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
    write_blob(tmp_path, position, generator)
    return write_placed(tmp_path, "blob", [(100, 100, 80, 30, 40, 50), (300, 180, 60, -70, 100, 10)])


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


def written(placed: Path, row: DesignRow, settings: SimulateCommandSettings, index: int):
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
    parakeet.write_parakeet_structure(placed.parent / "blob.cif", sample.atoms[0])
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
    own = SETTINGS.model_copy(update={"solvent_noise": "parakeet_0.4", "ice_shape": ice_shape})
    grain = written(placed, ROW, own, 2)[-1].simulation.ice_parameters
    assert (grain.a1, grain.s1, grain.a2, grain.s2) == (0.72, 0.1, 0.28, 0.5)
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
    metadata = read_sidecar(out / "t1.tilts.mrc")
    assert metadata["program"] == "Parakeet"
    assert metadata["acquisition_order"] == [1, 0, 2]
    assert (metadata["workers"], metadata["device"]) == (2, "cpu")
    assert metadata["sample_shape_voxels"] == [10, 20, 26]
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
    at = [(100.0, 110.0, 80.0, 30.0, 40.0, 50.0), (300.0, 180.0, 60.0, -70.0, 100.0, 10.0)]
    write_placed(tmp_path, "m", at)
    stand_in()
    row = ROW.model_copy(update={"tilt_range_deg": 5.0})
    parakeet.simulate_by_parakeet(tmp_path / "t1.placed.csv", [tmp_path], row, SETTINGS, 1, tmp_path / "out")

    kept = tmp_path / "calls.jsonl.sample"
    sample = yaml.safe_load((kept / "sample" / "config.yaml").read_text())["sample"]
    (kind,) = sample["molecules"]["local"]
    given = gemmi.read_structure(str(kept / "sample" / kind["filename"]))  # kept: atoms are views of it
    atoms = [one.atom for one in given[0].all()]
    expected = read_molecule(tmp_path / "m.mrc", MoleculeInput(**reading)).element
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
    with pytest.raises(BadInput, match=r"design\.nuisances\.gold_fiducials = 5\.0: not done"):
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
