"""MATCH by pytme: what the program is given, what is made of its output."""

import stat
import sys

import mrcfile
import numpy as np
import pytest
from template_learning.common.errors import BadInput, Fault
from template_learning.common.files import read_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import grid_of, read_sidecar
from template_learning.common.tables import PickRow
from template_learning.settings import MatchCommandSettings
from template_learning.stages.match import match_tomogram
from template_learning.template_matching.pytme import pytme_command
from template_learning.template_matching.search import TiltSeriesOptics

from ..builders import IMAGED, MATCHED_VOXEL, rods_of_two_classes, write_matched_tomogram


def test_the_program_gets_its_own_units(tmp_path):
    def option(command, name):
        return command[command.index(name) + 1]

    command = pytme_command(tmp_path, IMAGED, MatchCommandSettings(angular_step_deg=20), invert=True)
    assert float(option(command, "--phase-shift")) == pytest.approx(np.pi / 2, abs=1e-5)
    assert float(option(command, "--defocus")) == 25000
    assert float(option(command, "--spherical-aberration")) == 2.7e7
    assert option(command, "--ctf-correction") == "raw"
    assert option(command, "--wedge-axes") == "2,0"
    assert "--invert-target-contrast" in command
    flipped = TiltSeriesOptics(**{**vars(IMAGED), "ctf_corrected": True})
    assert option(pytme_command(tmp_path, flipped, MatchCommandSettings(), invert=False), "--ctf-correction") == "phase-flip"
    none = pytme_command(tmp_path, TiltSeriesOptics.of_settings(MatchCommandSettings()), MatchCommandSettings(), invert=False)
    assert not {"--defocus", "--phase-shift", "--invert-target-contrast"} & set(none)


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
    return write_matched_tomogram(tmp_path, data, phase_shift_deg=0.0, spherical_aberration_mm=2.7)


def test_picks_come_out_where_the_program_scores(program, tomogram, tmp_path):
    program()
    library = rods_of_two_classes(tmp_path / "library")
    sidecar = tmp_path / "t1.tilts.mrc.json"
    match_tomogram(tomogram, [library], "t1", MatchCommandSettings(run=True), tmp_path, tilt_facts=sidecar)
    picks = read_table(tmp_path / "t1.picks.csv", PickRow)
    assert [(p.x_angstrom, p.y_angstrom, p.z_angstrom, p.score) for p in picks[:2]] == [(240, 160, 80, 2), (64, 96, 200, 1)]
    assert [pick.selected for pick in picks[:3]] == [True, True, False]
    metadata = read_sidecar(tmp_path / "t1.picks.csv")
    assert metadata["templates"] == ["b_c000", "a"]
    assert metadata["imaging"]["defocus_um"] == -1
    assert metadata["program_version"] == "9.9"
    assert grid_of(tmp_path / "t1.picks.csv").shape == (40, 44, 48)
    scores, voxel = read_mrc(tmp_path / "t1.scores.mrc")
    assert (scores.argmax(), voxel) == (np.ravel_multi_index((10, 20, 30), scores.shape), MATCHED_VOXEL)


def test_bright_protein_is_not_inverted(program, tomogram, tmp_path):
    program()
    with mrcfile.open(tomogram, "r+") as opened:
        opened.data[:] *= -1
    match_tomogram(
        tomogram, [rods_of_two_classes(tmp_path / "library")], "t1", MatchCommandSettings(), tmp_path, contrast="protein_bright"
    )
    assert read_table(tmp_path / "t1.picks.csv", PickRow)[0].score == 2


def test_complaints_name_what_is_missing(program, tomogram, tmp_path):
    library = rods_of_two_classes(tmp_path / "library")
    with pytest.raises(BadInput, match=r"pytme is not on the PATH; run in the image `match`"):
        match_tomogram(tomogram, [library], "t1", MatchCommandSettings(), tmp_path)
    program(fails=True)
    with pytest.raises(Fault, match="exit code 1: no memory"):
        match_tomogram(tomogram, [library], "t1", MatchCommandSettings(), tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadInput, match=r"bad\.json: angles_deg, row and settings"):
        match_tomogram(tomogram, [library], "t1", MatchCommandSettings(), tmp_path, tilt_facts=tmp_path / "bad.json")
    write_mrc(tmp_path / "small.mrc", np.zeros((12, 12, 12), np.float32), MATCHED_VOXEL)
    with pytest.raises(BadInput, match="fewer than the template's box"):
        match_tomogram(tmp_path / "small.mrc", [library], "t1", MatchCommandSettings(defocus_um=-2), tmp_path)
    assert not list(tmp_path.glob("*.picks.csv"))
