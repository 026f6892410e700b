import os
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from template_learning.common.errors import BadInput, Fault
from template_learning.common.geometry import Grid, tilt_matrix
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import read_sidecar, write_sidecar
from template_learning.reconstruction.back_projection import back_project, resample_images, view_weights
from template_learning.reconstruction.imod import command_lines
from template_learning.settings import ReconstructSettings
from template_learning.stages.reconstruct import read_angles, reconstruct_series

ANGLES = np.arange(-60.0, 61.0, 3.0)


def blobs_projected(points, angles, shape, sigma):
    """Images [tilt, y, x] of dark Gaussian blobs at points (x, y, z) in pixels from the centre."""
    y, x = np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2
    images = np.zeros((len(angles), *shape), dtype=np.float32)
    for image, angle in zip(images, angles, strict=True):
        for u, v, _ in np.asarray(points) @ tilt_matrix(angle).T:
            image -= np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)).astype(np.float32)
    return images + 10


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_phantom_comes_back_where_it_was(seed):
    generator = np.random.default_rng(seed)
    point = generator.uniform((-20, -20, -10), (20, 20, 10))
    volume = back_project(blobs_projected([point], ANGLES, (64, 70), 2.0), ANGLES, (40, 64, 70))
    dark = np.array(np.unravel_index(ndimage.gaussian_filter(volume, 1).argmin(), volume.shape))
    found = (dark - (np.array(volume.shape) - 1) / 2)[::-1]
    assert np.abs(found - point).max() < 1
    # Handedness: the mirror image in z, which the other sense of the tilts would give, is elsewhere.
    assert volume[tuple(dark)] < volume.mean() - 5 * volume.std()


def test_thin_and_even_and_odd_boxes():
    images = blobs_projected([(0, 0, 0)], ANGLES, (33, 40), 2.0)
    for shape in ((1, 33, 40), (21, 33, 40), (20, 33, 31)):
        volume = back_project(images, ANGLES, shape)
        assert volume.shape == shape
        middle = ndimage.center_of_mass(volume < volume.min() * 0.7)
        np.testing.assert_allclose(middle, (np.array(shape) - 1) / 2, atol=0.6)


def test_views_count_by_the_tilt_about_them():
    np.testing.assert_allclose(view_weights(ANGLES), 1)
    angles = np.array([0.0, 3, 6, 9, 10, 11, 12, 15])
    weights = view_weights(angles)
    assert weights[4] < weights[1]
    shuffled = np.random.default_rng(0).permutation(len(angles))
    np.testing.assert_allclose(view_weights(angles[shuffled]), weights[shuffled])
    np.testing.assert_allclose(view_weights(np.array([7.0])), 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(16, 60), st.integers(16, 60), st.floats(1.0, 4.0), st.floats(1.0, 8.0), st.integers(0, 10**6))
def test_resampling_keeps_waves_below_the_new_limit_and_the_mean(height, width, ratio, pixel, seed):
    voxel = pixel * ratio
    shape = Grid(shape=(2, height, width), voxel_size_angstrom=pixel).resampled(voxel).shape[1:]

    def image(shape, size):
        y, x = (np.indices(shape) - (np.array(shape) - 1)[:, None, None] / 2) * size
        extent = np.array((height, width)) * pixel
        generator = np.random.default_rng(seed)
        total = np.full(shape, 5.0)
        for _ in range(4):
            n, m = (generator.integers(0, max(1, int(0.9 * e / voxel))) for e in extent)
            along_y = np.clip(y / extent[0] + 0.5, 0, 1)
            along_x = np.clip(x / extent[1] + 0.5, 0, 1)
            total += np.cos(np.pi * n * along_y) * np.cos(np.pi * m * along_x)
        return total

    found = resample_images(image((height, width), pixel)[None], pixel, shape, voxel)[0]
    np.testing.assert_allclose(found, image(shape, voxel), atol=2e-4)


def test_resampling_removes_what_the_new_pixels_cannot_hold():
    noise = np.random.default_rng(1).standard_normal((3, 120, 120)).astype(np.float32)
    found = resample_images(noise, 4.0, (40, 40), 12.0)
    assert found.std() == pytest.approx(1 / 3, rel=0.1)
    # On a whole ratio, away from the borders, it is the Fourier crop of the same image.
    spectrum = np.fft.fftshift(np.fft.fft2(noise[0]))[40:80, 40:80]
    row = np.fft.fftshift(np.fft.fftfreq(40))
    centre = np.exp(2j * np.pi * (row[:, None] + row) * (1 / 3))  # from voxel corner to voxel centre
    crop = np.fft.ifft2(np.fft.ifftshift(spectrum * centre)).real / 9
    assert np.corrcoef(crop[6:-6, 6:-6].ravel(), found[0, 6:-6, 6:-6].ravel())[0, 1] > 0.95


def write_series(folder, images, angles, pixel, **facts):
    folder.mkdir(exist_ok=True)
    write_mrc(folder / "a.tilts.mrc", images, pixel, stack=True)
    (folder / "a.tlt").write_text("".join(f"{angle:.2f}\n" for angle in angles))
    write_sidecar(folder / "a.tilts.mrc", stage="simulate", item="a", seed=1, settings={}, **facts)
    return folder / "a.tilts.mrc", folder / "a.tlt"


def test_the_tomogram_shares_the_samples_box(tmp_path):
    sample = Grid(shape=(10, 20, 24), voxel_size_angstrom=16.0)
    pixel_grid = sample.resampled(6.5)
    point = np.array([60.0, -50.0, 35.0])
    images = blobs_projected([point / 6.5], ANGLES, pixel_grid.shape[1:], 25 / 6.5)
    series = write_series(tmp_path, images, ANGLES, 6.5, sample_shape_voxels=sample.shape, sample_voxel_size_angstrom=16.0)
    for voxel in (13.0, 10.0, 6.5):
        reconstruct_series(*series, "a", ReconstructSettings(voxel_size_angstrom=voxel), tmp_path / "out")
        tomogram, size = read_mrc(tmp_path / "out" / "a.mrc")
        grid = sample.resampled(voxel)
        assert (tomogram.shape, tomogram.dtype, size) == (grid.shape, np.float32, voxel)
        found = np.array(np.unravel_index(tomogram.argmin(), tomogram.shape))[::-1] * voxel
        assert np.abs(found - (grid.centre_angstrom + point)).max() <= voxel
        assert read_sidecar(tmp_path / "out" / "a.mrc")["shape_voxels"] == list(grid.shape)
    thick = ReconstructSettings(voxel_size_angstrom=13.0, thickness_angstrom=260.0)
    reconstruct_series(*series, "a", thick, tmp_path / "out")
    assert read_mrc(tmp_path / "out" / "a.mrc")[0].shape == (20, *sample.resampled(13.0).shape[1:])


def test_bad_series(tmp_path):
    images = np.zeros((len(ANGLES), 20, 20), np.float32)
    tilts, angles = write_series(tmp_path, images, ANGLES, 5.0)
    wide = ReconstructSettings(voxel_size_angstrom=10.0)
    with pytest.raises(BadInput, match="thickness_angstrom"):
        reconstruct_series(tilts, angles, "a", wide, tmp_path)
    with pytest.raises(BadInput, match="at least the pixel"):
        reconstruct_series(tilts, angles, "a", ReconstructSettings(voxel_size_angstrom=4.0), tmp_path)
    (tmp_path / "a.tlt").write_text("1\n2\n")
    with pytest.raises(BadInput, match="2 angles for the 41 images"):
        reconstruct_series(tilts, angles, "a", wide, tmp_path)
    for text in ("1\nx\n", "1\n120\n", "nan\n"):
        (tmp_path / "a.tlt").write_text(text)
        with pytest.raises(BadInput, match=r"a\.tlt"):
            read_angles(angles)


@pytest.mark.shared
def test_agrees_with_imods_tilt(shared_data):
    folder = shared_data / "imod_reference"
    series, _ = read_mrc(folder / "series_8A.mrc.gz")
    expected, _ = read_mrc(folder / "tomogram_cosinterp0.mrc.gz")
    found = back_project(series.astype(np.float32), read_angles(folder / "tilts.tlt"), expected.shape)
    difference = found - expected
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99999
    # The scale is IMOD's own too.
    assert difference.std() < 0.002 * expected.std()
    assert abs(difference.mean()) < 0.001 * expected.std()
    default, _ = read_mrc(folder / "tomogram_default.mrc.gz")
    assert np.corrcoef(found.ravel(), default.ravel())[0, 1] > 0.99


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
    images = np.ones((len(ANGLES), *sample.resampled(6.5).shape[1:]), np.float32)
    series = write_series(tmp_path, images, ANGLES, 6.5, sample_shape_voxels=sample.shape, sample_voxel_size_angstrom=16.0)
    z, y, x = grid = sample.resampled(13.0).shape
    expected = np.random.default_rng(0).standard_normal(grid).astype(np.float32)
    np.save(stand_ins / "expected.npy", expected)
    reconstruct_series(*series, "a", ReconstructSettings(engine="imod", voxel_size_angstrom=13.0), tmp_path)
    np.testing.assert_array_equal(read_mrc(tmp_path / "a.mrc")[0], expected)
    facts = read_sidecar(tmp_path / "a.mrc")
    assert (facts["program"], facts["program_version"]) == ("IMOD", "4.8.2")
    assert facts["commands"] == [
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
    newstack, tilt, _ = command_lines(tmp_path / "a.mrc", tmp_path, grid, 30, ratio, true_sigma=False)
    assert f"binned.mrc {bins} " in " ".join(newstack)
    assert newstack[newstack.index("-size") + 1] == "30,20"
    assert "-FalloffIsTrueSigma" not in tilt


def test_newer_tilts_are_told_what_the_falloff_means(tmp_path):
    grid = Grid(shape=(10, 20, 24), voxel_size_angstrom=8.0)
    _, tilt, _ = command_lines(tmp_path / "a.mrc", tmp_path, grid, 24, 2.0, true_sigma=True)
    assert tilt[tilt.index("-FalloffIsTrueSigma") + 1] == "1"


def test_an_imod_program_that_is_missing_or_fails(tmp_path, stand_ins, monkeypatch):
    series = write_series(tmp_path, np.ones((len(ANGLES), 20, 20), np.float32), ANGLES, 5.0)
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
    series = write_series(tmp_path, blobs_projected(points, ANGLES, (80, 80), 3.0), ANGLES, 5.0)
    found = {}
    for engine in ("native", "imod"):
        asked = ReconstructSettings(engine=engine, voxel_size_angstrom=10.0, thickness_angstrom=200.0)
        reconstruct_series(*series, engine, asked, tmp_path)
        found[engine], _ = read_mrc(tmp_path / f"{engine}.mrc")
    assert np.corrcoef(found["native"].ravel(), found["imod"].ravel())[0, 1] > 0.99
