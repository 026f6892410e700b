"""RECONSTRUCT by IMOD's programs: what they are given, what is made of their output."""

import os
import shutil
import sys

import numpy as np
import pytest
from template_learning.common.errors import BadInput, Fault
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.reconstruction.imod import imod_commands
from template_learning.settings import ReconstructSettings
from template_learning.stages.reconstruct import reconstruct_series

from ..builders import TILT_ANGLES, blobs_projected, write_tilt_series

# Stand-ins for IMOD's programs that leave files in IMOD's layouts: tilt's slices are [y, z from the other side, x], and
# trimvol -rx turns them to [z, y, x].  What tilt would compute lies in expected.npy.
STAND_INS = {
    "newstack": """
        width, height = map(int, option("-size").split(","))
        mrcfile.write(option("-output"), np.zeros((7, height, width), np.float32))
    """,
    "tilt": """
        volume = np.load(Path(sys.argv[0]).parent / "expected.npy")
        assert volume.shape == (int(option("-THICKNESS")), mrcfile.read(option("-InputProjections")).shape[1], int(option("-WIDTH")))
        assert len(np.loadtxt(option("-TILTFILE"))) == 41
        mrcfile.write(option("-OutputFile"), np.ascontiguousarray(volume[::-1].transpose(1, 0, 2)))
    """,
    "trimvol": """
        mrcfile.write(sys.argv[-1], np.ascontiguousarray(mrcfile.read(sys.argv[-2]).transpose(1, 0, 2)[::-1]))
    """,
}


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, work in STAND_INS.items():
        (folder / name).write_text(
            f"#!{sys.executable}\n"
            "import sys\nfrom pathlib import Path\n"
            "if sys.argv[1:] == ['-help']:\n    print('-RADIAL'); sys.exit()\n"
            "import mrcfile\nimport numpy as np\n"
            "def option(name):\n    return sys.argv[sys.argv.index(name) + 1]\n"
            + "\n".join(line.strip() for line in work.splitlines())
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMOD_DIR", str(folder))
    (folder / "VERSION").write_text("4.8.2\n")
    return folder


def test_the_imod_engine_calls_the_three_programs(tmp_path, stand_ins):
    sample = Grid(shape=(10, 20, 24), voxel_size_angstrom=16.0)
    images = np.ones((len(TILT_ANGLES), *sample.resampled(6.5).shape[1:]), np.float32)
    series = write_tilt_series(
        tmp_path, images, TILT_ANGLES, 6.5, sample_shape_voxels=sample.shape, sample_voxel_size_angstrom=16.0
    )
    z, y, x = grid = sample.resampled(13.0).shape
    expected = np.random.default_rng(0).standard_normal(grid).astype(np.float32)
    np.save(stand_ins / "expected.npy", expected)
    reconstruct_series(*series, "a", ReconstructSettings(engine="imod", voxel_size_angstrom=13.0), tmp_path)
    np.testing.assert_array_equal(read_mrc(tmp_path / "a.mrc")[0], expected)
    metadata = read_sidecar(tmp_path / "a.mrc")
    assert (metadata["program"], metadata["program_version"]) == ("IMOD", "4.8.2")
    assert metadata["commands"] == [
        f"newstack -input a.tilts.mrc -output ./binned.mrc -bin 2 -antialias 6 -size {x},{y} -mode 2",
        f"tilt -InputProjections ./binned.mrc -OutputFile ./slices.rec -TILTFILE ./angles.tlt -THICKNESS {z} -WIDTH {x} "
        "-RADIAL 0.5,0.5 -MODE 2 -PERPENDICULAR",
        "trimvol -rx ./slices.rec ./tomogram.mrc",
    ]


@pytest.mark.parametrize(
    ("ratio", "bins"), [(3.0, "-bin 3 -antialias 6"), (1.7, "-shrink 1.700000 -antialias 6"), (1.0, "-size")]
)
def test_binning_by_whole_and_other_numbers(tmp_path, ratio, bins):
    grid = Grid(shape=(10, 20, 24), voxel_size_angstrom=8.0)
    newstack, tilt, _ = imod_commands(tmp_path / "a.mrc", tmp_path, grid, 30, ratio, true_sigma=False)
    assert f"binned.mrc {bins} " in " ".join(newstack)
    assert newstack[newstack.index("-size") + 1] == "30,20"
    assert "-FalloffIsTrueSigma" not in tilt


def test_newer_tilts_are_told_what_the_falloff_means(tmp_path):
    grid = Grid(shape=(10, 20, 24), voxel_size_angstrom=8.0)
    _, tilt, _ = imod_commands(tmp_path / "a.mrc", tmp_path, grid, 24, 2.0, true_sigma=True)
    assert tilt[tilt.index("-FalloffIsTrueSigma") + 1] == "1"


def test_an_imod_program_that_is_missing_or_fails(tmp_path, stand_ins, monkeypatch):
    series = write_tilt_series(tmp_path, np.ones((len(TILT_ANGLES), 20, 20), np.float32), TILT_ANGLES, 5.0)
    asked = ReconstructSettings(engine="imod", voxel_size_angstrom=10.0, thickness_angstrom=100.0)
    (stand_ins / "tilt").write_text("#!/bin/sh\necho 'ERROR: TILT - out of memory'\nexit 1\n")
    with pytest.raises(Fault, match="tilt ended with exit code 1: ERROR: TILT - out of memory"):
        reconstruct_series(*series, "a", asked, tmp_path)
    assert not (tmp_path / "a.mrc").exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="newstack is not on the PATH; run in the image `imod`"):
        reconstruct_series(*series, "a", asked, tmp_path)


@pytest.mark.skipif(shutil.which("tilt") is None or shutil.which("trimvol") is None, reason="IMOD is not installed")
def test_the_real_imod_agrees(tmp_path):
    points = np.random.default_rng(3).uniform((-28, -28, -12), (28, 28, 12), (30, 3))
    series = write_tilt_series(tmp_path, blobs_projected(points, TILT_ANGLES, (80, 80), 3.0), TILT_ANGLES, 5.0)
    found = {}
    for engine in ("native", "imod"):
        asked = ReconstructSettings(engine=engine, voxel_size_angstrom=10.0, thickness_angstrom=200.0)
        reconstruct_series(*series, engine, asked, tmp_path)
        found[engine], _ = read_mrc(tmp_path / f"{engine}.mrc")
    assert np.corrcoef(found["native"].ravel(), found["imod"].ravel())[0, 1] > 0.99
