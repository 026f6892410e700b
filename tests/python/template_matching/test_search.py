import json
import stat
import sys

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from scipy import ndimage
from template_learning.common.errors import BadInput, Fault
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import grid_of, read_sidecar
from template_learning.common.tables import LibraryRow, PickRow
from template_learning.settings import MatchSettings
from template_learning.stages.match import match_tomogram
from template_learning.structures.library import read_library
from template_learning.template_matching.pytme import command_line
from template_learning.template_matching.search import Imaging, chosen_templates, find_peaks, template_in_box

VOXEL = 8.0
TAKEN = Imaging(
    angles_deg=(-60.0, 0.0, 60.0),
    defocus_um=-2.5,
    phase_shift_deg=90.0,
    voltage_kv=300.0,
    spherical_aberration_mm=2.7,
    ctf_corrected=False,
)


def make_library(folder):
    """Two classes: of class 1 two templates, the first in two conformers; a distractor.  All are rods of atoms along x."""
    rows = []
    for name, species, class_id in [
        ("b_c001", "b", 1),
        ("b_c000", "b", 1),
        ("a", "a", 2),
        ("c", "c", 1),
        ("other", "other", 0),
    ]:
        position = np.zeros((40, 3), np.float32)
        position[:, 0] = np.linspace(-40, 40, 40)
        folder.mkdir(exist_ok=True)
        np.savez(folder / f"{name}.npz", position_angstrom=position, element=np.full(40, 6, np.uint8))
        role = "template" if class_id else "distractor"
        one = {"molecule": name, "species": species, "role": role, "class_id": class_id, "share": 1, "mass_dalton": 480}
        rows.append(LibraryRow(**one, atom_count=40, density=f"{name}.mrc", atoms=f"{name}.npz"))
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


@checks(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 2**31), st.floats(8, 40), st.integers(1, 60))
def test_peaks_are_the_best_of_their_surroundings_and_no_maximum_is_lost(seed, radius, most):
    generator = np.random.default_rng(seed)
    scores = ndimage.gaussian_filter(generator.standard_normal((9, 12, 15)), 0.8).astype(np.float32)
    classes = generator.integers(1, 3, scores.shape).astype(np.int16)
    picks = find_peaks(scores, classes, VOXEL, radius, most, 0.1)
    position = np.array([(pick.z_angstrom, pick.y_angstrom, pick.x_angstrom) for pick in picks])
    value = np.array([pick.score for pick in picks])
    assert (np.diff(value) <= 0).all()
    apart = np.linalg.norm(position[:, None] - position[None], axis=2)[np.triu_indices(len(picks), 1)]
    assert (apart > radius).all()
    voxel = tuple((position / VOXEL).round().astype(int).T)
    assert [pick.class_id for pick in picks] == list(classes[voxel])
    assert value == pytest.approx(scores[voxel])
    assert [pick.selected for pick in picks] == list(value >= 0.1)
    if len(picks) < most:
        maxima = np.argwhere(scores == ndimage.maximum_filter(scores, 3)) * VOXEL
        near = np.linalg.norm(maxima[:, None] - position[None], axis=2) <= radius
        best = np.where(near, value[None], -np.inf).max(axis=1)
        assert (best >= scores[tuple((maxima / VOXEL).astype(int).T)]).all()


def test_the_template_lies_in_the_middle_of_an_odd_box_that_holds_what_defocus_spreads():
    position = np.random.default_rng(1).uniform(-50, 50, (300, 3))
    position -= position.mean(axis=0)
    element = np.full(300, 6, np.uint8)
    density, mask = template_in_box(position, element, VOXEL, TAKEN, MatchSettings())
    edge = density.shape[0]
    assert density.shape == mask.shape == (edge,) * 3
    assert edge % 2 == 1
    assert ndimage.center_of_mass(density) == pytest.approx([(edge - 1) / 2] * 3, abs=0.05)
    assert mask[density > 0.05 * density.max()].min() == 1
    assert np.array_equal(mask, mask.transpose(2, 0, 1))
    assert np.array_equal(mask, mask[::-1])
    spread = 0.0197 * 25000 / 16  # wavelength times defocus over Nyquist's period
    assert edge * VOXEL / 2 > np.linalg.norm(position, axis=1).max() + spread
    sharp = template_in_box(position, element, VOXEL, Imaging(**{**vars(TAKEN), "defocus_um": None}), MatchSettings())[0]
    assert sharp.shape[0] < edge


def test_the_program_gets_its_own_units(tmp_path):
    def option(command, name):
        return command[command.index(name) + 1]

    command = command_line(tmp_path, TAKEN, MatchSettings(angular_step_deg=20), invert=True)
    assert float(option(command, "--phase-shift")) == pytest.approx(np.pi / 2, abs=1e-5)
    assert float(option(command, "--defocus")) == 25000
    assert float(option(command, "--spherical-aberration")) == 2.7e7
    assert option(command, "--ctf-correction") == "raw"
    assert option(command, "--wedge-axes") == "2,0"
    assert "--invert-target-contrast" in command
    flipped = Imaging(**{**vars(TAKEN), "ctf_corrected": True})
    assert option(command_line(tmp_path, flipped, MatchSettings(), invert=False), "--ctf-correction") == "phase-flip"
    none = command_line(tmp_path, Imaging.of_settings(MatchSettings()), MatchSettings(), invert=False)
    assert not {"--defocus", "--phase-shift", "--invert-target-contrast"} & set(none)


def test_tilts_of_settings():
    taken = Imaging.of_settings(MatchSettings(tilt_range_deg=60, tilt_step_deg=4, defocus_um=-3))
    assert len(taken.angles_deg) == 31
    assert (taken.angles_deg[0], taken.angles_deg[-1], taken.defocus_um) == (-60, 60, -3)
    assert Imaging.of_settings(MatchSettings(tilt_range_deg=50, tilt_step_deg=3)).angles_deg[-1] == 48


def test_first_templates_of_every_class_in_their_first_conformers(tmp_path):
    library = read_library([make_library(tmp_path)])
    assert [entry.row.molecule for entry in chosen_templates(library, 1)] == ["b_c000", "a"]
    assert [entry.row.molecule for entry in chosen_templates(library, 5)] == ["b_c000", "c", "a"]


PROGRAM = """#!{python}
import sys
import h5py, mrcfile, numpy as np
if "--version" in sys.argv:
    print("pytme 9.9"); raise SystemExit
if {fails}:
    print("no memory", file=sys.stderr); raise SystemExit(1)
with mrcfile.open(sys.argv[sys.argv.index("-m") + 1]) as target:
    data = target.data.T * (-1 if "--invert-target-contrast" in sys.argv else 1)
with h5py.File(sys.argv[sys.argv.index("-o") + 1], "w") as file:
    file["item_0"] = data.astype(np.float16)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A stand-in for pytme whose score is the bright tomogram itself, axes x, y, z as the program's."""

    def install(fails=False):
        path = tmp_path / "bin" / "pytme"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM.format(python=sys.executable, fails=fails))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(path.parent))

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return install


@pytest.fixture
def tomogram(tmp_path):
    data = np.zeros((40, 44, 48), np.float32)
    data[10, 20, 30], data[25, 12, 8] = -2, -1
    write_mrc(tmp_path / "t1.mrc", data, VOXEL)
    facts = {
        "angles_deg": [-60, 0, 60],
        "row": {"defocus_um": -1.0, "phase_shift_deg": 0.0},
        "settings": {"voltage_kv": 300, "spherical_aberration_mm": 2.7},
    }
    (tmp_path / "t1.tilts.mrc.json").write_text(json.dumps(facts))
    return tmp_path / "t1.mrc"


def test_picks_come_out_where_the_program_scores(program, tomogram, tmp_path):
    program()
    library = make_library(tmp_path / "library")
    sidecar = tmp_path / "t1.tilts.mrc.json"
    match_tomogram(tomogram, [library], "t1", MatchSettings(run=True), tmp_path, tilt_facts=sidecar)
    picks = read_table(tmp_path / "t1.picks.csv", PickRow)
    assert [(p.x_angstrom, p.y_angstrom, p.z_angstrom, p.score) for p in picks[:2]] == [(240, 160, 80, 2), (64, 96, 200, 1)]
    assert [pick.selected for pick in picks[:3]] == [True, True, False]
    facts = read_sidecar(tmp_path / "t1.picks.csv")
    assert facts["templates"] == ["b_c000", "a"]
    assert facts["imaging"]["defocus_um"] == -1
    assert facts["program_version"] == "9.9"
    assert grid_of(tmp_path / "t1.picks.csv").shape == (40, 44, 48)
    scores, voxel = read_mrc(tmp_path / "t1.scores.mrc")
    assert (scores.argmax(), voxel) == (np.ravel_multi_index((10, 20, 30), scores.shape), VOXEL)


def test_bright_protein_is_not_inverted(program, tomogram, tmp_path):
    program()
    with mrcfile.open(tomogram, "r+") as opened:
        opened.data[:] *= -1
    match_tomogram(tomogram, [make_library(tmp_path / "library")], "t1", MatchSettings(), tmp_path, dark=False)
    assert read_table(tmp_path / "t1.picks.csv", PickRow)[0].score == 2


def test_complaints_name_what_is_missing(program, tomogram, tmp_path):
    library = make_library(tmp_path / "library")
    with pytest.raises(BadInput, match=r"pytme is not on the PATH; run in the image `match`"):
        match_tomogram(tomogram, [library], "t1", MatchSettings(), tmp_path)
    program(fails=True)
    with pytest.raises(Fault, match="exit code 1: no memory"):
        match_tomogram(tomogram, [library], "t1", MatchSettings(), tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadInput, match=r"bad\.json: angles_deg, row and settings"):
        match_tomogram(tomogram, [library], "t1", MatchSettings(), tmp_path, tilt_facts=tmp_path / "bad.json")
    write_mrc(tmp_path / "small.mrc", np.zeros((12, 12, 12), np.float32), VOXEL)
    with pytest.raises(BadInput, match="fewer than the template's box"):
        match_tomogram(tmp_path / "small.mrc", [library], "t1", MatchSettings(defocus_um=-2), tmp_path)
    assert not list(tmp_path.glob("*.picks.csv"))
