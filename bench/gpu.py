"""What a GPU is worth: SIMULATE and TETRIS through CuPy, TRAIN and SEGMENT through Keras, beside the processors of the same machine.

Needs CuPy, and a GPU that Keras' backend (KERAS_BACKEND) can use.  The sample is packed with the demo's structures, as they are.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Figure, report
from scenes import demo_structures, make_library, molecule_row, reconstruct_and_label, train_timed
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import DesignRow
from template_learning.learning.inference import segment_volume
from template_learning.learning.network import device_scope
from template_learning.learning.patches import open_tomogram
from template_learning.settings import SegmentSettings, Settings, TrainSettings
from template_learning.stages.simulate import simulate_sample
from template_learning.stages.tetris import pack_sample

SEED = 1
SHAPE, VOXEL = [40, 96, 96], 8.0
IMAGING = {"total_dose_e_per_angstrom2": 120, "defocus_um": -3, "tilt_range_deg": 60, "tilt_step_deg": 3}
ROW = DesignRow(id="t001", ice_density_g_per_cm3=0.94, **IMAGING)
NETWORKS = {
    "deepfinder": {"batch_size": 25, "patch_voxels": 52},
    "residual": {"batch_size": 4, "patch_voxels": 48, "network": "residual", "filters": 16},
}
PROPAGATIONS = ("multislice", "projection")
SEGMENTED = (200, 400, 400)
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
DEVICES = {"cpu": "the processors", "gpu": "the GPU"}
TRAINED = {f"{network}_{precision}": f"{network}, {precision}" for network in NETWORKS for precision in PRECISIONS}
FIGURES = {
    **{f"tetris_seconds_{device}": Figure(f"TETRIS by {name}") for device, name in DEVICES.items()},
    "tetris_same_placements": Figure("1 where both wrote the same table, byte for byte", "1"),
    **{
        f"simulate_seconds_{propagation}_{device}": Figure(f"SIMULATE by {name}, {propagation}")
        for propagation in PROPAGATIONS
        for device, name in DEVICES.items()
    },
    **{f"simulate_speedup_{one}": Figure(f"seconds of the processors over the GPU's, {one}") for one in PROPAGATIONS},
    **{
        f"simulate_equal_counts_{one}": Figure(f"share of pixels with the same count, {one}", ">= 0.99") for one in PROPAGATIONS
    },
    **{f"simulate_correlation_{one}": Figure(f"correlation of the two series, {one}") for one in PROPAGATIONS},
    **{f"train_steps_per_second_{name}": Figure(f"training steps a second: {what}") for name, what in TRAINED.items()},
    **{f"train_loss_{name}": Figure(f"loss of the last epoch: {what}") for name, what in TRAINED.items()},
    **{f"train_loss_fell_{name}": Figure(f"how much it fell since the first: {what}") for name, what in TRAINED.items()},
    **{f"segment_voxels_per_second_{name}": Figure(f"voxels segmented a second: {what}") for name, what in TRAINED.items()},
}


def library_of_demo(folder: Path) -> Path:
    """Densities and atoms of the demo's structures."""
    templates = [molecule_row(path, "nucleosome") for path in demo_structures("templates")]
    distractors = [molecule_row(path) for path in demo_structures("distractors")]
    return make_library(templates + distractors, Settings().volume, folder)


def seconds_of(call: Any, *arguments: Any) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def packing(library: Path, folder: Path) -> tuple[dict[str, float], Path]:
    """The same sample packed on both: whether the tables are the same, and the seconds."""
    figures, tables = {}, []
    for device in ("cpu", "gpu"):
        settings = Settings.model_validate({"tetris": {"shape_voxels": SHAPE, "device": device}}).tetris
        for run in ("first", "again"):  # the first compiles
            tables.append(folder / device / run / f"{ROW.id}.placed.csv")
            figures[f"tetris_seconds_{device}"] = seconds_of(pack_sample, [library], ROW.id, settings, SEED, tables[-1].parent)
    figures["tetris_same_placements"] = float(len({table.read_bytes() for table in tables}) == 1)
    return figures, tables[0]


def simulating(placed: Path, library: Path, folder: Path) -> tuple[dict[str, float], Path]:
    """The same tilt series on both, for both propagations: seconds, and how the counts agree."""
    figures = {}
    for propagation in PROPAGATIONS:
        images = {}
        for device in ("cpu", "gpu"):
            changed = {"pixel_size_angstrom": VOXEL / 2, "propagation": propagation, "device": device}
            settings = Settings.model_validate({"simulate": changed}).simulate
            for run in ("first", "again"):
                output = folder / propagation / device / run
                seconds = seconds_of(simulate_sample, placed, [library], ROW, settings, SEED, output)
            figures[f"simulate_seconds_{propagation}_{device}"] = seconds
            images[device] = read_mrc(output / f"{ROW.id}.tilts.mrc")[0]
        ratio = figures[f"simulate_seconds_{propagation}_cpu"] / figures[f"simulate_seconds_{propagation}_gpu"]
        figures |= {
            f"simulate_speedup_{propagation}": ratio,
            f"simulate_equal_counts_{propagation}": float((images["cpu"] == images["gpu"]).mean()),
            f"simulate_correlation_{propagation}": float(np.corrcoef(images["cpu"].ravel(), images["gpu"].ravel())[0, 1]),
        }
    return figures, output


def learning(series: Path, placed: Path, library: Path, folder: Path) -> dict[str, float]:
    """Training steps a second and voxels segmented a second, in single and in half precision; what the loss does."""
    data = folder / "data"
    chosen = Settings.model_validate({"reconstruct": {"voxel_size_angstrom": VOXEL}})
    reconstruct_and_label(ROW, placed, library, chosen, series, data)
    tomogram = open_tomogram(data, ROW.id, ROW)
    volume = np.random.default_rng(SEED).standard_normal(SEGMENTED).astype(np.float32)
    figures: dict[str, float] = {}
    for name, network in NETWORKS.items():
        for precision in PRECISIONS:
            settings = TrainSettings.model_validate(
                {
                    **network,
                    "precision": precision,
                    "device": "gpu",
                    "epochs": 4,
                    "steps_per_epoch": 25,
                    "optimizer": {"learning_rate": 1e-3},
                }
            )
            training, step = train_timed(tomogram, settings, 2, folder / f"{name}_{precision}.npz")
            figures[f"train_steps_per_second_{name}_{precision}"] = 1 / step
            figures[f"train_loss_{name}_{precision}"] = training.history[-1].loss
            figures[f"train_loss_fell_{name}_{precision}"] = training.history[0].loss - training.history[-1].loss
            with device_scope("gpu"):
                model = training.model()
                segment_volume(model, volume[:, :200, :200], SegmentSettings())  # compiles
                segment = seconds_of(segment_volume, model, volume, SegmentSettings())
            figures[f"segment_voxels_per_second_{name}_{precision}"] = volume.size / segment
    return figures


def gpu_name() -> str:
    """The GPU's own name."""
    import cupy

    return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


def main() -> None:
    """Measure and report."""
    import keras  # not at the top: before the package it would load TensorFlow as it comes, without oneDNN

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = library_of_demo(folder / "library")
        packed, placed = packing(library, folder / "packed")
        simulated, series = simulating(placed, library, folder / "simulated")
        learnt = learning(series, placed, library, folder)
    figures = {**packed, **simulated, **learnt}
    metadata = {"gpu": gpu_name(), "backend": f"{keras.backend.backend()} {keras.__version__}", "processors": os.cpu_count()}
    report("gpu", figures, FIGURES, "the same machine's processors", **metadata)


if __name__ == "__main__":
    main()
