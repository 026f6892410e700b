"""Series from placed molecules."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.settings import SimulateCommandSettings
from template_learning.simulation.acquisition import acquire, tilt_angles
from template_learning.simulation.nuisances import draw_nuisances
from template_learning.simulation.series import placed_sample, series_engine
from template_learning.stages.simulate import simulate_sample

from ..builders import design_row, write_blob, write_placed

SETTINGS = SimulateCommandSettings(pixel_size_angstrom=8.0)


ROW = design_row()


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    position = generator.normal(size=(3000, 3)).astype(np.float32) * 12
    write_blob(tmp_path, position, generator)
    return write_placed(tmp_path, "blob", [(100, 100, 80, 0, 0, 0), (300, 180, 80, 0, 0, 0)])


def test_the_command_without_settings_takes_half_of_the_default_tomograms_voxel(placed: Path, tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text(ROW.model_dump_json())
    command = [sys.executable, "-c", "from template_learning.cli import main; main()", "simulate", "--library", str(tmp_path)]
    command += ["--placed", str(placed), "--row", str(tmp_path / "row.json"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with mrcfile.open(tmp_path / "out" / "t1.tilts.mrc", header_only=True) as handle:
        assert handle.voxel_size.x == pytest.approx(6.5)


def test_a_series_is_what_the_row_asks_for(placed: Path, tmp_path: Path) -> None:
    simulate_sample(placed, [tmp_path], ROW, SETTINGS, 1, tmp_path / "out")
    with mrcfile.open(tmp_path / "out" / "t1.tilts.mrc") as handle:
        tilts = handle.data.copy()
        assert handle.voxel_size.x == pytest.approx(8.0)
        assert handle.is_image_stack()
    assert tilts.shape == (5, 40, 52)
    assert tilts.dtype == np.float32
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out" / "t1.tlt"), [-20, -10, 0, 10, 20])
    metadata = json.loads((tmp_path / "out" / "t1.tilts.mrc.json").read_text())
    assert (metadata["stage"], metadata["seed"]) == ("simulate", 1)  # the root
    assert metadata["settings"]["microscope"]["voltage_kv"] == 300
    assert metadata["dose_per_tilt"] == pytest.approx(18)
    assert metadata["acquisition_order"] == [3, 1, 0, 2, 4]
    assert metadata["sample_shape_voxels"] == [10, 20, 26]
    assert metadata["row"]["defocus_um"] == -1
    # the detector passes 0.80 of the electrons at this rate, 160 Å of ice 0.96 of them
    assert tilts.mean() == pytest.approx(18 * 64 * 0.80 * 0.96, rel=0.02)
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
        simulate_sample(placed, [tmp_path], ROW, SimulateCommandSettings(pixel_size_angstrom=16.0), 1, tmp_path / "e", waves)


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
    lossy, none = (SETTINGS.model_copy(update={"inelastic_mean_free_path_angstrom": path}) for path in (300.0, None))
    for name, chosen in (("a", none), ("b", lossy)):
        simulate_sample(placed, [tmp_path], ROW, chosen, 1, tmp_path / name)
    a, b = (mrcfile.read(tmp_path / name / "t1.tilts.mrc").mean(axis=(1, 2)) for name in "ab")
    path = 160.0 / np.cos(np.deg2rad([-20, -10, 0, 10, 20]))
    np.testing.assert_allclose(b / a, np.exp(-path / 300.0), rtol=0.01)


def with_hydrogens(folder: Path) -> None:
    """The library's atoms, one hydrogen on each, as VOLUME writes them."""
    with np.load(folder / "blob.npz") as stored:
        columns = dict(stored)
    count = len(columns["element"])
    np.savez(folder / "blob.npz", **columns, hydrogens=np.ones(count), displaced_angstrom3=np.full(count, 17.4))


def test_hydrogens_scatter_where_the_library_has_them_and_they_are_not_refused(placed: Path, tmp_path: Path, capsys) -> None:
    """Shares of electrons that molecules take out of the image, with hydrogens and with heavy atoms alone."""
    quiet = SETTINGS.model_copy(update={"inelastic_mean_free_path_angstrom": None})
    bare = quiet.model_copy(update={"hydrogens": False})

    def darkness(chosen: SimulateCommandSettings, name: str) -> float:
        tilt = SimulateCommandSettings.model_validate(chosen.model_dump())
        simulate_sample(placed, [tmp_path], ROW, tilt, 1, tmp_path / name)
        image = mrcfile.read(tmp_path / name / "t1.tilts.mrc")[2]
        return float(1 - image[10:17, 10:17].mean() / np.median(image))

    first = darkness(quiet, "a")
    assert "no hydrogens in the library for blob" in capsys.readouterr().err
    with_hydrogens(tmp_path)
    assert darkness(bare, "b") == pytest.approx(first, abs=1e-9)
    whole = darkness(quiet, "c")
    assert "no hydrogens" not in capsys.readouterr().err
    assert whole > 1.3 * first


def test_contrast_and_grain_follow_the_settings(placed: Path, tmp_path: Path) -> None:
    engine = {}
    for grain, contrast in (("parakeet_0.6", 0.0), ("parakeet_0.4", 0.1)):
        microscope = SETTINGS.microscope.model_copy(update={"amplitude_contrast": contrast})
        chosen = SETTINGS.model_copy(update={"solvent_noise": grain, "microscope": microscope})
        engine[grain] = series_engine(*placed_sample(placed, [tmp_path]), ROW, chosen)
        assert engine[grain].amplitude_contrast == contrast
    low = np.linspace(0, 1 / 50, 9)
    assert np.mean(
        engine["parakeet_0.4"].scattering.solvent_noise_power(low) / engine["parakeet_0.6"].scattering.solvent_noise_power(low)
    ) == pytest.approx(7.8, rel=0.1)


def test_a_gpu_asked_for_and_absent(placed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    with pytest.raises(BadInput, match="a GPU was asked for and there is none"):
        simulate_sample(placed, [tmp_path], ROW, SETTINGS.model_copy(update={"device": "gpu"}), 1, tmp_path / "out")
    simulate_sample(placed, [tmp_path], ROW, SETTINGS.model_copy(update={"device": "auto"}), 1, tmp_path / "out")
    assert capsys.readouterr().err.count("no GPU") == 1


def test_a_row_has_its_microscope_its_tilts_and_its_ice(placed: Path, tmp_path: Path) -> None:
    own = {
        "tilt_offset_deg": 12.0,
        "missing_tilts": 0.4,
        "dose_order": "continuous",
        "ice_thickness_angstrom": 1600.0,
        "inelastic_mean_free_path_angstrom": 800.0,
        "voltage_kv": 200.0,
        "amplitude_contrast": 0.1,
        "astigmatism_um": 0.2,
        "tilt_axis_distance_um": 2.0,
    }
    simulate_sample(placed, [tmp_path], ROW.model_copy(update=own), SETTINGS, 1, tmp_path / "own")
    told = json.loads((tmp_path / "own" / "t1.tilts.mrc.json").read_text())
    assert set(told["angles_deg"]) < {-8, 2, 12, 22, 32}
    assert len(told["angles_deg"]) == 3
    assert told["acquisition_order"] == [round((angle + 8) / 10) for angle in told["angles_deg"]]
    settings = told["settings"]
    assert (settings["scheme"], settings["inelastic_mean_free_path_angstrom"], settings["astigmatism_um"]) == (
        "continuous",
        800,
        0.2,
    )
    assert (settings["microscope"]["voltage_kv"], settings["microscope"]["amplitude_contrast"]) == (200, 0.1)
    np.testing.assert_allclose(told["nuisances"]["defocus_offset_angstrom"], 2e4 * np.sin(np.deg2rad(told["angles_deg"])))
    tilts = mrcfile.read(tmp_path / "own" / "t1.tilts.mrc").mean(axis=(1, 2))
    through = 18 * 64 * 0.80 * np.exp(-1600 / 800 / np.cos(np.deg2rad(told["angles_deg"])))
    np.testing.assert_allclose(tilts, through, rtol=0.03)


def test_ice_that_does_not_hold_the_molecules_is_refused(placed: Path, tmp_path: Path) -> None:
    deep = write_placed(tmp_path, "blob", [(100, 100, 140, 0, 0, 0)])
    with pytest.raises(BadInput, match=r"design\.ice_thickness_angstrom = 100: molecules are packed over 136 Å"):
        simulate_sample(deep, [tmp_path], ROW.model_copy(update={"ice_thickness_angstrom": 100.0}), SETTINGS, 1, tmp_path)


def test_a_defocus_offset_is_another_defocus(placed: Path, tmp_path: Path) -> None:
    near, far = (
        series_engine(*placed_sample(placed, [tmp_path]), ROW.model_copy(update={"defocus_um": defocus}), SETTINGS)
        for defocus in (-1.0, -1.5)
    )
    far = replace(far, padding_angstrom=near.padding_angstrom)
    wave, exit_angstrom = near.exit_wave(10.0, 0.0, None)
    seen, expected = near.intensity(wave, exit_angstrom, -5000.0), far.intensity(wave, exit_angstrom)
    assert np.abs(seen - expected).max() < 0.02 * np.abs(near.intensity(wave, exit_angstrom) - expected).max()


def test_errors_of_alignment_are_drawn_after_all_else_and_leave_the_labels_in_place() -> None:
    taken = acquire(tilt_angles(60, 3), 120, "dose-symmetric")
    angle = np.deg2rad(taken.angle_deg)
    before = {"gold_fiducials": 5.0, "shift_error_angstrom": 3.0, "motion_angstrom": 2.0, "uneven_illumination": 0.1}
    new = {"slow_drift_angstrom": 8.0, "tilt_axis_error_deg": 1.0, "tilt_angle_error_deg": 0.5, "defocus_error_um": 0.1}
    walks = []
    for seed in range(200):
        old, both = (
            draw_nuisances(ROW.model_copy(update=one), np.array([400.0, 300.0, 160.0]), taken, np.random.default_rng(seed))
            for one in (before, before | new)
        )
        np.testing.assert_array_equal(old.gold, both.gold)
        np.testing.assert_array_equal(old.motion_angstrom, both.motion_angstrom)
        assert np.ptp(both.rotation_deg - old.rotation_deg) == pytest.approx(0, abs=1e-12)
        walks.append(both.shift_angstrom - old.shift_angstrom)
    drift = np.array(walks)
    for basis, axis in ((np.cos(angle), 0), (np.sin(angle), 0), (np.ones(len(angle)), 1)):
        np.testing.assert_allclose(drift[:, :, axis] @ basis, 0, atol=1e-9)
    in_order = drift[:, np.argsort(taken.order), 1]
    assert np.diff(in_order, axis=1).std() == pytest.approx(8 / np.sqrt(len(angle)), rel=0.05)  # a walk's steps
    assert (in_order[:, -1] - in_order[:, 0]).std() == pytest.approx(8, rel=0.15)
