"""Parakeet's configurations, simulated by the native engine."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter
from template_learning.common.errors import BadInput
from template_learning.simulation.parakeet_config import (
    parakeet_acquisition,
    parakeet_engine,
    read_parakeet_config,
    simulate_parakeet,
    structure_file,
)

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
