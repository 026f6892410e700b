"""Training and segmenting on another of Keras's backends: JAX, installed for this test alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from template_learning.files import read_mrc, read_table, write_mrc, write_table
from template_learning.learning.train import HistoryRow
from template_learning.settings import SegmentSettings, TrainSettings
from template_learning.tables import DesignRow, ParticleRow

ROOT = Path(__file__).parents[2]
JAX = ("jax==0.10.2", "jaxlib==0.10.2", "opt_einsum==3.4.0")
VOXEL = 10.0
SMALL = TrainSettings(
    epochs=1,
    steps_per_epoch=2,
    batch_size=2,
    patch_voxels=16,
    random_shift_voxels=4,
    validation_steps=1,
    filters=4,
)


@pytest.fixture(scope="module")
def jax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jax")
    uv = ROOT / ".tools" / "uv" / "bin" / "uv"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", folder, *JAX], check=True
    )
    return folder


def run(backend: str, packages: Path, *arguments: str | Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(packages)}
    command = [str(Path(sys.executable).with_name("template-learning")), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_model_trained_with_jax_segments_the_same_with_tensorflow(jax: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = []
    for name, split in (("t0", "train"), ("t1", "validation")):
        data, labels = generator.standard_normal((24, 32, 40), dtype=np.float32), np.zeros((24, 32, 40), np.uint8)
        labels[10:15, 14:19, 18:23] = 1
        write_mrc(tmp_path / f"{name}.mrc", data - 3 * labels, VOXEL)
        write_mrc(tmp_path / f"{name}.labels.mrc", labels, VOXEL)
        place = {"z_angstrom": 12 * VOXEL, "y_angstrom": 16 * VOXEL, "x_angstrom": 20 * VOXEL}
        write_table(
            tmp_path / f"{name}.particles.csv", ParticleRow, [ParticleRow(particle=1, species="a", class_id=1, **place)]
        )
        how = {"total_dose_e_per_angstrom2": 100, "defocus_um": -3, "ice_density_g_per_cm3": 0.94}
        rows.append(DesignRow(id=name, split=split, tilt_range_deg=60, tilt_step_deg=3, **how))
    write_table(tmp_path / "design.csv", DesignRow, rows)
    for name, settings in (("train", SMALL), ("segment", SegmentSettings())):
        (tmp_path / f"{name}.json").write_text(json.dumps(settings.model_dump(mode="json")))
    train = (
        "train",
        "--design",
        tmp_path / "design.csv",
        "--data",
        tmp_path,
        "--settings",
        tmp_path / "train.json",
        "--seed",
        "1",
    )
    run("jax", jax, *train, "--output", tmp_path / "model")
    assert [row.epoch for row in read_table(tmp_path / "model" / "history.csv", HistoryRow)] == [1]
    found = {}
    for backend in ("jax", "tensorflow"):
        model, tomogram = tmp_path / "model" / "trained.keras", tmp_path / "t1.mrc"
        given = ("--model", model, "--tomogram", tomogram, "--id", "t1", "--settings", tmp_path / "segment.json")
        run(backend, jax, "segment", *given, "--output", tmp_path / backend)
        found[backend], _ = read_mrc(tmp_path / backend / "t1.probability.mrc")
    assert found["jax"].std() > 0.001
    np.testing.assert_allclose(found["jax"], found["tensorflow"], atol=1e-4)
