"""MATCH by pytom-match-pick: a stand-in has the options of 0.14.0, refuses what it refuses and leaves the files that it leaves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from template_learning import cli
from template_learning.common.errors import BadInput, Fault
from template_learning.common.files import read_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import PickRow
from template_learning.settings import MatchCommandSettings
from template_learning.stages.match import match_tomogram
from template_learning.template_matching.pytom import with_border, with_transfer
from template_learning.template_matching.search import TiltSeriesOptics

from ..builders import IMAGED, MATCHED_VOXEL, write_matched_tomogram, write_rods

PYTOM = MatchCommandSettings(run=True, engine="pytom", angular_step_deg=15)
TAKEN = TiltSeriesOptics(**{**vars(IMAGED), "phase_shift_deg": 0.0})
# Stands in for the program.  Its score is the tomogram in the template's contrast.
STAND_IN = """#!{python}
import argparse, json, pathlib, sys
import mrcfile, numpy
def positive(text):
    if float(text) <= 0:
        raise argparse.ArgumentTypeError("must be larger than 0")
    return float(text)
def file(text):
    if not pathlib.Path(text).is_file():
        raise argparse.ArgumentTypeError("got a file path that does not exist")
    return pathlib.Path(text)
parser = argparse.ArgumentParser()
for short, name in (("-t", "--template"), ("-v", "--tomogram"), ("-m", "--mask")):
    parser.add_argument(short, name, type=file, required=True)
parser.add_argument("-d", "--destination", type=pathlib.Path, default="./")
parser.add_argument("--angular-search")
parser.add_argument("-a", "--tilt-angles", nargs="+")
parser.add_argument("--per-tilt-weighting", action="store_true")
parser.add_argument("--voxel-size-angstrom", type=positive)
parser.add_argument("--defocus")
parser.add_argument("-g", "--gpu-ids", nargs="+", type=int, required=True)
args = parser.parse_args()
print({says!r}, file=sys.stderr)
if {fails}:
    raise SystemExit(1)
(tilts,) = args.tilt_angles
assert tilts.endswith(".tlt") and len(open(tilts).read().split()) > 1
open("{log}", "w").write(json.dumps([vars(args), open(tilts).read().split()], default=str))
read = lambda path: mrcfile.read(path).T
template, mask, tomogram = (read(path) for path in (args.template, args.mask, args.tomogram))
assert len(set(template.shape)) == 1 and template.shape == mask.shape
assert abs(mrcfile.open(args.template).voxel_size.x - args.voxel_size_angstrom) < 1e-3
scores = tomogram * numpy.sign(template.sum())
scores = scores[: -1 if {cut} else None]
for name in ("scores", "angles"):
    with mrcfile.new(args.destination / f"{{args.tomogram.stem}}_{{name}}.mrc") as out:
        out.set_data(numpy.ascontiguousarray(scores.T.astype("f4")))
        out.voxel_size = args.voxel_size_angstrom
(args.destination / f"{{args.tomogram.stem}}_job.json").write_text('{{"pytom_tm_version_number": "0.14.0"}}')
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch):
    """Puts a stand-in alone on the PATH, beside two GPUs; the function returns the last call's options and tilts."""
    log = tmp_path / "call.json"

    def install(*, fails: bool = False, says: str = "", cut: bool = False):
        path = tmp_path / "bin" / "pytom_match_template.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN.format(python=sys.executable, log=log, fails=fails, says=says, cut=cut))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        return lambda: json.loads(log.read_text())

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return install


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One template, a rod of carbons along x."""
    return write_rods(tmp_path / "library", [("a", "a", 2)])


@pytest.fixture
def tomogram(tmp_path: Path) -> Path:
    """Dark at two voxels, far from zero elsewhere; the sides differ."""
    data = np.full((40, 44, 48), 100, np.float32)
    data[10, 20, 30], data[39, 12, 0] = 80, 90
    return write_matched_tomogram(tmp_path, data, phase_shift_deg=90.0, spherical_aberration_mm=0)


def test_picks_come_out_where_the_program_scores(stand_in, library, tomogram, tmp_path) -> None:
    call = stand_in()
    match_tomogram(tomogram, [library], "t1", PYTOM, tmp_path, tilt_facts=tmp_path / "t1.tilts.mrc.json")
    picks = read_table(tmp_path / "t1.picks.csv", PickRow)
    assert [(p.x_angstrom, p.y_angstrom, p.z_angstrom, p.class_id) for p in picks[:2]] == [(240, 160, 80, 2), (0, 96, 312, 2)]
    assert [pick.selected for pick in picks[:3]] == [True, True, False]
    scores, voxel = read_mrc(tmp_path / "t1.scores.mrc")
    assert (scores.shape, scores.argmax(), voxel) == (
        (40, 44, 48),
        np.ravel_multi_index((10, 20, 30), scores.shape),
        MATCHED_VOXEL,
    )
    metadata = read_sidecar(tmp_path / "t1.picks.csv")
    assert (metadata["program"], metadata["program_version"]) == ("pytom-match-pick", "0.14.0")
    assert metadata["commands"][0].startswith("pytom_match_template.py --template ./template.mrc --tomogram ./target.mrc")
    asked, tilts = call()
    assert (asked["gpu_ids"], asked["angular_search"], asked["per_tilt_weighting"]) == ([0, 1], "15", True)
    assert [float(tilt) for tilt in tilts] == [-60, 0, 60]
    assert asked["defocus"] is None  # it would multiply the tomogram with the transfer too


def test_bright_protein(stand_in, library, tomogram, tmp_path) -> None:
    stand_in()
    data, _ = read_mrc(tomogram)
    write_mrc(tomogram, -data, MATCHED_VOXEL)
    match_tomogram(tomogram, [library], "t1", PYTOM, tmp_path, contrast="protein_bright")
    assert read_table(tmp_path / "t1.picks.csv", PickRow)[0].x_angstrom == 240


@pytest.mark.parametrize("ctf_corrected", [False, True])
@pytest.mark.parametrize(("defocus_um", "phase_shift_deg"), [(-2.5, 0.0), (-0.5, 90.0), (1.5, 0.0)])
def test_the_template_has_the_contrast_transfer(defocus_um: float, phase_shift_deg: float, ctf_corrected: bool) -> None:
    """A point becomes the transfer's own image; the transfer is written out here for 300 kV (0.01969 Å), Cs 2.7 mm."""
    taken = {"defocus_um": defocus_um, "phase_shift_deg": phase_shift_deg, "ctf_corrected": ctf_corrected}
    point = np.zeros((21, 21, 21), np.float32)
    point[10, 10, 10] = 1
    image = with_transfer(point, MATCHED_VOXEL, TiltSeriesOptics(**{**vars(TAKEN), **taken}), 0.07)
    assert image[10, 12, 13] == pytest.approx(image[13, 10, 8], abs=1e-6)  # the same in all directions
    found = np.fft.fftn(np.fft.ifftshift(image))[:11, 0, 0]
    k = np.arange(11) / (21 * MATCHED_VOXEL)
    chi = np.pi * 0.01969 * -defocus_um * 1e4 * k**2 - np.pi / 2 * 2.7e7 * 0.01969**3 * k**4
    expected = np.sin(chi + np.arcsin(0.07) + np.deg2rad(phase_shift_deg))
    np.testing.assert_allclose(found, np.abs(expected) if ctf_corrected else expected, atol=2e-3)


def test_the_template_is_untouched_without_a_defocus() -> None:
    point = np.random.default_rng(0).normal(size=(5, 5, 5)).astype(np.float32)
    assert np.array_equal(
        with_transfer(point, MATCHED_VOXEL, TiltSeriesOptics(**{**vars(TAKEN), "defocus_um": None}), 0.07), point
    )


def test_the_border_is_empty_and_the_grey_is_of_mean_0_and_deviation_1() -> None:
    grey = np.random.default_rng(1).normal(1e-9, 1e-12, (12, 13, 14)).astype(np.float32)
    wide = with_border(grey, 3)
    assert wide.shape == (18, 19, 20)
    inner = wide[3:-3, 3:-3, 3:-3]
    assert (wide**2).sum() == pytest.approx((inner**2).sum())
    assert (inner.mean(), inner.std()) == pytest.approx((0, 1), abs=1e-3)
    assert np.corrcoef(inner.ravel(), grey.ravel())[0, 1] > 0.999
    assert not with_border(np.ones((4, 4, 4)), 1).any()


def test_complaints_name_what_is_missing(stand_in, library, tomogram, tmp_path, monkeypatch) -> None:
    def match(settings: MatchCommandSettings = PYTOM) -> None:
        match_tomogram(tomogram, [library], "t1", settings, tmp_path)

    with pytest.raises(BadInput, match=r"match\.engine = 'pytom': pytom_match_template\.py is not on the PATH"):
        match()
    stand_in(fails=True, says="CUDARuntimeError: cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    with pytest.raises(BadInput, match=r"finds no GPU that it can use \(CUDARuntimeError: cudaErrorInsufficientDriver"):
        match()
    stand_in(fails=True, says="ModuleNotFoundError: No module named 'cupy'")
    with pytest.raises(BadInput, match=r"No module named 'cupy'\); take 'pytme'"):
        match()
    stand_in(fails=True, says="OutOfMemoryError: Out of memory allocating 3 bytes")
    with pytest.raises(Fault, match=r"exit code 1: OutOfMemoryError: Out of memory"):
        match()
    stand_in(cut=True)
    with pytest.raises(Fault, match=r"gave scores of \("):
        match()
    with pytest.raises(BadInput, match=r"one tilt of 0 degrees; two or more"):
        match(PYTOM.model_copy(update={"tilt_range_deg": 2.0}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInput, match=r"needs a GPU and there is none"):
        match()
    assert not list(tmp_path.glob("*.picks.csv"))


def test_a_missing_program_is_one_line_and_exit_code_2(stand_in, library, tomogram, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "settings.json").write_text(PYTOM.model_dump_json())
    words = [
        "--tomogram",
        str(tomogram),
        "--library",
        str(library),
        "--id",
        "t1",
        "--settings",
        str(tmp_path / "settings.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["template-learning", "match", *words, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "pytom_match_template.py is not on the PATH" in line
