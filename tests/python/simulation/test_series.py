"""SIMULATE's command, from placed molecules and from Parakeet's configurations."""

import json
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter
from template_learning.common.errors import BadInput
from template_learning.common.files import write_table
from template_learning.common.provenance import write_json
from template_learning.common.tables import DesignRow, LibraryRow, ParticleRow
from template_learning.settings import SimulateSettings
from template_learning.simulation.parakeet_config import (
    parakeet_acquisition,
    parakeet_engine,
    read_parakeet_config,
    simulate_parakeet,
    structure_file,
)
from template_learning.stages.simulate import simulate_sample

SETTINGS = SimulateSettings(pixel_size_angstrom=8.0)
ROW = DesignRow(
    id="t1",
    total_dose_e_per_angstrom2=90,
    defocus_um=-1,
    phase_shift_deg=90,
    tilt_range_deg=20,
    tilt_step_deg=10,
    ice_density_g_per_cm3=0.9,
)


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    position = generator.normal(size=(3000, 3)).astype(np.float32) * 12
    element = generator.choice([6, 7, 8], 3000).astype(np.uint8)
    np.savez(tmp_path / "blob.npz", position_angstrom=position, element=element)
    facts = {"species": "blob", "role": "template", "class_id": 1, "share": 1.0, "mass_dalton": 4e4}
    row = LibraryRow(molecule="blob", atom_count=3000, density="blob.mrc", atoms="blob.npz", **facts)
    write_table(tmp_path / "library.csv", LibraryRow, [row])
    particles = [
        ParticleRow(particle=i + 1, molecule="blob", x_angstrom=x, y_angstrom=y, z_angstrom=80, rot_deg=0, tilt_deg=0, psi_deg=0)
        for i, (x, y) in enumerate([(100, 100), (300, 180)])
    ]  # fmt: skip
    path = tmp_path / "t1.placed.csv"
    write_table(path, ParticleRow, particles)
    write_json(tmp_path / "t1.placed.csv.json", {"shape_voxels": [10, 20, 26], "voxel_size_angstrom": 16.0})
    return path


def test_a_series_is_what_the_row_asks_for(placed: Path, tmp_path: Path) -> None:
    simulate_sample(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "out")
    with mrcfile.open(tmp_path / "out" / "t1.tilts.mrc") as handle:
        tilts = handle.data.copy()
        assert handle.voxel_size.x == pytest.approx(8.0)
        assert handle.is_image_stack()
    assert tilts.shape == (5, 40, 52)
    assert tilts.dtype == np.float32
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out" / "t1.tlt"), [-20, -10, 0, 10, 20])
    facts = json.loads((tmp_path / "out" / "t1.tilts.mrc.json").read_text())
    assert facts["dose_per_tilt"] == pytest.approx(18)
    assert facts["acquisition_order"] == [3, 1, 0, 2, 4]
    assert facts["sample_shape_voxels"] == [10, 20, 26]
    assert facts["row"]["defocus_um"] == -1
    # the detector passes 0.80 of the electrons at this rate
    assert tilts.mean() == pytest.approx(18 * 64 * 0.80, rel=0.02)
    # protein is dark where it was placed: (100, 100) and (300, 180) Å from the centre of the first voxel
    for x, y in ((100, 100), (300, 180)):
        row, column = int((y + 8) / 8), int((x + 8) / 8)
        assert tilts[2, row - 1 : row + 2, column - 1 : column + 2].mean() < 0.95 * np.median(tilts[2])


def test_same_seed_same_series_another_seed_another(placed: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_sample(placed, [tmp_path], ROW, SETTINGS, seed, tmp_path / name)
    a, b, c = (mrcfile.read(tmp_path / name / "t1.tilts.mrc") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.5


def test_bad_input_is_named(placed: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "t1.placed.csv"
    bare.parent.mkdir()
    bare.write_bytes(placed.read_bytes())
    with pytest.raises(BadInput, match=r"t1\.placed\.csv\.json: shape_voxels"):
        simulate_sample(bare, [tmp_path], ROW, SETTINGS, 1, tmp_path)
    with pytest.raises(BadInput, match="pixel_size_angstrom"):
        simulate_sample(placed, [tmp_path], ROW, SimulateSettings(), 1, tmp_path)
    placed.write_text(placed.read_text().replace("blob", "nothing"))
    with pytest.raises(BadInput, match="'nothing' of particle 1 is not in the library"):
        simulate_sample(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path)


def test_kept_waves_imaged_again(placed: Path, tmp_path: Path) -> None:
    """The same optics give the same bytes; a twin differs, and is what propagating again gives."""
    keep = SETTINGS.model_copy(update={"keep_waves": True})
    simulate_sample(placed, [tmp_path], ROW, keep, 1, tmp_path / "a")
    waves = tmp_path / "a" / "t1.waves.npy"
    simulate_sample(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "b", waves)
    a, b = (mrcfile.read(tmp_path / name / "t1.tilts.mrc") for name in "ab")
    np.testing.assert_array_equal(a, b)
    twin = ROW.model_copy(update={"defocus_um": -2.0, "phase_shift_deg": 0.0})
    simulate_sample(placed, [tmp_path], twin, SETTINGS, 1, tmp_path / "c", waves)
    simulate_sample(placed, [tmp_path], twin, SETTINGS, 1, tmp_path / "d")
    c, d = (mrcfile.read(tmp_path / name / "t1.tilts.mrc") for name in "cd")
    np.testing.assert_array_equal(c, d)
    assert (a != c).mean() > 0.1
    far = ROW.model_copy(update={"defocus_um": -8.0})  # would have a wider border of its own
    simulate_sample(placed, [tmp_path], far, SETTINGS, 1, tmp_path / "far", waves)
    fewer = ROW.model_copy(update={"tilt_range_deg": 10.0})
    with pytest.raises(BadInput, match="waves of 5 other tilts than the 3"):
        simulate_sample(placed, [tmp_path], fewer, SETTINGS, 1, tmp_path / "e", waves)
    with pytest.raises(BadInput, match="its image_shape is"):
        simulate_sample(placed, [tmp_path], ROW, SimulateSettings(pixel_size_angstrom=16.0), 1, tmp_path / "e", waves)


def test_nuisances_are_drawn_and_told(placed: Path, tmp_path: Path) -> None:
    row = ROW.model_copy(
        update={
            "gold_fiducials": 4.0,
            "carbon_edge": 0.3,
            "shift_error_angstrom": 6.0,
            "rotation_error_deg": 1.0,
            "motion_angstrom": 5.0,
            "uneven_illumination": 0.2,
        }
    )
    simulate_sample(placed, [tmp_path], row, SETTINGS, 3, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "t1.tilts.mrc.json").read_text())["nuisances"]
    tilts = mrcfile.read(tmp_path / "out" / "t1.tilts.mrc")
    assert np.shape(told["shift_angstrom"]) == np.shape(told["motion_angstrom"]) == (5, 2)
    assert np.hypot(*np.array(told["motion_angstrom"]).T) == pytest.approx(5.0)
    assert len(told["rotation_deg"]) == 5
    gold = np.array(told["gold_fiducials_angstrom"])
    assert len(gold) > 0
    field = np.array([26, 20]) * 16.0
    inside = gold[(np.abs(gold[:, :2]) < field / 2 - 30).all(axis=1)]
    assert len(inside) > 0
    for x, y, _ in inside:  # at no tilt a bead is where it lies, shifted by that tilt's error, and black
        shift = told["shift_angstrom"][2]
        column, row_ = ((np.array([x, y]) + shift) / 8 + np.array([51, 39]) / 2).round().astype(int)
        assert tilts[2, row_ - 1 : row_ + 2, column - 1 : column + 2].mean() < 0.85 * np.median(tilts[2])


def test_off_nuisances_change_nothing(placed: Path, tmp_path: Path) -> None:
    simulate_sample(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "a")
    told = json.loads((tmp_path / "a" / "t1.tilts.mrc.json").read_text())["nuisances"]
    assert told["gold_fiducials_angstrom"] == []
    assert told["carbon_edge"] is None
    assert not np.any(told["shift_angstrom"])


def test_electrons_lost_in_the_ice(placed: Path, tmp_path: Path) -> None:
    lossy = SETTINGS.model_copy(update={"inelastic_mean_free_path_angstrom": 300.0})
    for name, chosen in (("a", SETTINGS), ("b", lossy)):
        simulate_sample(placed, [tmp_path], ROW, chosen, 1, tmp_path / name)
    a, b = (mrcfile.read(tmp_path / name / "t1.tilts.mrc").mean(axis=(1, 2)) for name in "ab")
    path = 160.0 / np.cos(np.deg2rad([-20, -10, 0, 10, 20]))
    np.testing.assert_allclose(b / a, np.exp(-path / 300.0), rtol=0.01)


def test_a_gpu_asked_for_and_absent(placed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    with pytest.raises(BadInput, match="a GPU was asked for and there is none"):
        simulate_sample(placed, [tmp_path], ROW, SETTINGS.model_copy(update={"device": "gpu"}), 1, tmp_path / "out")
    simulate_sample(placed, [tmp_path], ROW, SETTINGS.model_copy(update={"device": "auto"}), 1, tmp_path / "out")
    assert capsys.readouterr().err.count("no GPU") == 1


PDB = """ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  ALA A   1      11.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C   ALA A   1      12.697   7.118  -4.898  1.00  0.00           C
ATOM      4  O   ALA A   1      12.947   7.995  -5.732  1.00  0.00           O
END
"""


def configuration(folder: Path, **changes: object) -> Path:
    """A small Parakeet configuration; ``changes`` replace values, their keys as a__b__c."""
    content: dict = {
        "microscope": {
            "beam": {"electrons_per_angstrom": 4.0},
            "detector": {"nx": 64, "ny": 48, "pixel_size": 1.0, "dqe": True},
            "lens": {"c_10": -20000.0},
        },
        "sample": {
            "box": [64, 48, 60],
            "centre": [32, 24, 30],
            "shape": {"type": "cuboid", "cuboid": {"length_x": 64, "length_y": 48, "length_z": 60}},
            "molecules": {
                "local": [{"filename": "ala.pdb", "instances": [{"position": [20, 30, 30], "orientation": [0, 0, 1]}]}]
            },
        },
        "scan": {"mode": "dose_symmetric", "start_angle": -20, "step_angle": 20, "num_images": 3},
        "simulation": {"ice": True, "margin": 0, "padding": 20, "radiation_damage_model": True},
        "multiprocessing": {"device": "gpu", "nproc": 7},
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        part = content
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
    (folder / "ala.pdb").write_text(PDB)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config.yaml"


def test_a_parakeet_configuration_runs(tmp_path: Path) -> None:
    simulate_parakeet(configuration(tmp_path), None, 4, 1, tmp_path / "out")
    optics, counts = (mrcfile.read(tmp_path / "out" / f"{name}.mrc") for name in ("optics", "image"))
    assert optics.shape == counts.shape == (3, 12, 16)
    assert optics.mean() == pytest.approx(1.0, abs=0.03)
    share = 0.95 - 0.15 * 2.5 / 3.5  # of the electrons that the detector passes at 4 a pixel and second
    assert counts.mean() == pytest.approx(4.0 * 16 * share, rel=0.03)
    assert (tmp_path / "out" / "tilts.tlt").read_text().split() == ["-20.00", "0.00", "20.00"]
    assert (tmp_path / "out" / "acquisition_order.txt").read_text().split() == ["1", "0", "2"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("simulation__inelastic_model", "zero_loss", "inelastic scattering is not modelled"),
        ("sample__motion", {"velocity": 1}, "motion of the molecules is not modelled"),
        ("sample__sputter", {"element": "C", "thickness": 20}, "sputtered coating is not modelled"),
        ("sample__shape__type", "cylinder", "cylinder is not modelled"),
        ("scan__mode", "helical_scan", "helical_scan is not modelled"),
        ("scan__axis", [1, 0, 0], "scan.axis"),
        ("scan__num_fractions", 3, "num_fractions"),
        ("scan__drift", {"x": 1.0}, "drift of the stage is not modelled"),
        ("microscope__lens__c_21", 100.0, "c_21 is not modelled"),
        ("microscope__lens__defocus", 100.0, "defocus is not a parameter of Parakeet's lens"),
        ("microscope__beam__theta", 0.1, "tilted beam is not modelled"),
        ("microscope__detector__pixel_size", -1, "greater than 0"),
        ("simulation__ice_thickness", 3, "ice_thickness"),
        ("sample__molecules", {"local": [{"filename": "ala.pdb", "instances": 3}]}, "without position or orientation"),
        ("sample__molecules", {"local": [{"filename": "none.pdb", "instances": 1}]}, "none.pdb: not found"),
    ],
)
def test_what_is_not_modelled_is_refused_in_words(tmp_path: Path, name: str, value: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        simulate_parakeet(configuration(tmp_path, **{name: value}), None, 4, 1, tmp_path / "out")


def test_scan_modes_and_the_phase_plate(tmp_path: Path) -> None:
    config = read_parakeet_config(
        configuration(
            tmp_path,
            scan={"mode": "manual", "angles": [10, -5, 0], "defocus_offset": [1, 2, 3]},
            microscope__phase_plate={"use": True, "phase_shift": 80, "radius": 0.01},
            microscope__model="talos",
        )
    )
    taken, offset = parakeet_acquisition(config)
    np.testing.assert_allclose(taken.angle_deg, [-5, 0, 10])
    np.testing.assert_array_equal(taken.order, [1, 2, 0])
    np.testing.assert_allclose(offset, [2, 3, 1])
    np.testing.assert_allclose(taken.dose_at_end, [8, 12, 4])
    lens = parakeet_engine(config, tmp_path, None, 2).lens
    assert (lens.voltage_kv, lens.phase_shift_deg, lens.phase_plate_cut_on_per_angstrom) == (200.0, 80.0, 0.01)
    plain = read_parakeet_config(configuration(tmp_path, scan={"mode": "tilt_series", "start_angle": -3, "step_angle": 3, "num_images": 3}))  # fmt: skip
    np.testing.assert_allclose(parakeet_acquisition(plain)[0].order, [0, 1, 2])


def test_structures_are_found_by_name_then_by_id(tmp_path: Path) -> None:
    beside, structures = tmp_path / "beside", tmp_path / "structures"
    (structures / "deep").mkdir(parents=True)
    beside.mkdir()
    compressed = structures / "deep" / "1abc.cif.gz"
    compressed.write_bytes(b"x")
    assert structure_file("1abc_centered.pdb", beside, structures) == (compressed, False)
    named = beside / "1abc_centered.pdb"
    named.write_text("x")
    assert structure_file("1abc_centered.pdb", beside, structures) == (named, True)
    with pytest.raises(BadInput, match=r"2xyz_centered\.pdb: not found"):
        structure_file("2xyz_centered.pdb", beside, structures)


@pytest.mark.shared
def test_agreement_with_parakeets_images(shared_data: Path) -> None:
    """Three tilts of the reference without noise: correlation above 100 Å and high-passed, as the benchmark measures it."""
    reference = shared_data / "parakeet_reference"
    config = read_parakeet_config(reference / "config.yaml")
    engine = parakeet_engine(config, reference, shared_data / "structures", 4)
    taken, _ = parakeet_acquisition(config)
    optics = mrcfile.read(reference / "optics_4A.mrc.gz")
    for tilt in (-60.0, 0.0, 24.0):
        index = int(np.flatnonzero(taken.angle_deg == tilt)[0])
        wave, distance = engine.exit_wave(tilt, taken.dose_at_end[index], None)
        pair = [engine.image(engine.intensity(wave, distance)), optics[index]]
        coarse = [image.reshape(128, 2, 128, 2).mean(axis=(1, 3)) for image in pair]
        mine, theirs = ((image - gaussian_filter(image, 21.2))[10:-10, 10:-10] for image in coarse)
        assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.96
        assert mine.std() / theirs.std() == pytest.approx(1.0, abs=0.05)
