"""TRAIN and SEGMENT beside cryoet-deepfinder: time of a step and of a tomogram; F1 on DeepFinder's own simulated tomograms.

The peer is installed into build/bench/peer, without its pins, and run as a program of its own.  ``--only speed`` and
``--only f1`` measure one half.
"""

import argparse
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import yaml
from harness import BUILD, ROOT, SHARED, Figure, of_part, report
from numpy.typing import NDArray
from scenes import train_timed
from template_learning.common.files import read_table, write_table
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.learning.inference import classes_and_log_odds, segment_on_own_grid, segment_volume
from template_learning.learning.model_file import load_model
from template_learning.learning.patches import open_tomogram
from template_learning.learning.training import Training
from template_learning.picking.assignment import f_beta, match
from template_learning.picking.segments import find_picks
from template_learning.settings import CalibrateSettings, ClusterSettings, EvaluateSettings, SegmentSettings, TrainSettings
from template_learning.stages.calibrate import calibrate_model
from template_learning.stages.train import train_network

PEER = "cryoet-deepfinder==0.2.1"
CLASSES, PATCH, BATCH, STEPS = 3, 40, 4, 4
SMALL, LARGE = (100, 100, 100), (160, 280, 280)
VOXEL = 10.0  # the tomograms of 2019 state none; nothing depends on it
RADIUS_VOXELS = 5.0
F1_SETTINGS = TrainSettings(
    epochs=90,
    steps_per_epoch=40,
    batch_size=4,
    patch_voxels=40,
    augmentation={"random_shift_voxels": 14, "contrast_jitter": 0.1},
    optimizer={"learning_rate": 4e-3, "learning_rate_schedule": "cosine"},
    loss={"tversky_weight": 0, "class_weight_exponent": 0.5},
    network="residual",
    filters=16,
)

TIMED = {"deepfinder": "DeepFinder's network", "workstation": "presets/workstation.yml"}
PRECISIONS = {"auto": "train.precision auto", "float32": "single precision"}
SPEED = {
    "train_speedup": Figure("the peer's seconds of a training step over ours, both in single precision", ">= 1"),
    "train_speedup_peer_with_onednn": Figure("the same, oneDNN switched on for the peer too"),
    "train_speedup_automatic_precision": Figure("the same, ours in the precision that the processor is quickest in"),
    **{
        f"train_step_seconds_{name}_{precision}": Figure(f"seconds of our training step: {network}, {how}")
        for name, network in TIMED.items()
        for precision, how in PRECISIONS.items()
    },
    "train_step_seconds_peer": Figure("seconds of the peer's training step"),
    "segment_speedup": Figure("the peer's seconds for a tomogram over ours, the same network", ">= 1"),
    "segment_speedup_peer_with_onednn": Figure("the same, oneDNN switched on for the peer too"),
    "segment_voxels_per_second": Figure("voxels that we segment a second"),
    "segment_voxels_per_second_peer": Figure("voxels that the peer segments a second"),
}
F1 = {
    "f1_deepfinder_2019": Figure("F1 over all classes on the tomogram that was not trained on"),
    "f1_deepfinder_2019_published": Figure("F1 of the predictions that come with the tomograms"),
    "dice_deepfinder_2019": Figure("mean Dice index of the classes"),
    "dice_deepfinder_2019_published": Figure("mean Dice index of the predictions that come with the tomograms"),
    "f1_training_seconds": Figure("seconds of the training"),
}
FIGURES = of_part("speed", SPEED) | of_part("f1", F1)


def peer_folder() -> Path:
    """Where the peer lies, installed by uv or pip if it is not there yet."""
    folder = BUILD / "peer"
    if not (folder / "openpyxl").is_dir():
        uv = shutil.which("uv") or next((str(path) for path in ROOT.glob(".tools/*/bin/uv")), None)
        pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        subprocess.run(
            [*pip, "--quiet", "--no-deps", "--target", str(folder), PEER, "lxml", "openpyxl", "et_xmlfile"], check=True
        )
    return folder


def last_line(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """The JSON in the last line that a program prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speed() -> dict[str, float]:
    """Seconds of a training step and of a tomogram's segmentation, ours and the peer's, same network and sizes."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grey = generator.standard_normal(SMALL).astype(np.float32)
        labels = (generator.random(SMALL) < 0.05).astype(np.uint8)
        large = generator.standard_normal(LARGE).astype(np.float32)
        centre = generator.integers(20, 80, (50, 3))
        for file, array in (("tomogram", grey), ("target", labels.astype(np.int8)), ("large", large)):
            with h5py.File(folder / f"{file}.h5", "w") as opened:
                opened["dataset"] = array
        objects = [
            {"tomo_idx": 0, "label": 1 + i % 2, "x": int(x), "y": int(y), "z": int(z)} for i, (z, y, x) in enumerate(centre)
        ]
        wanted = {"classes": CLASSES, "patch": PATCH, "batch": BATCH, "steps": STEPS, "objects": objects, "segment_patch": 192}
        as_it_comes = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
        peer = [
            sys.executable,
            str(Path(__file__).with_name("peer_deepfinder.py")),
            str(peer_folder()),
            name,
            json.dumps(wanted),
        ]
        # As it comes, and with oneDNN, which TensorFlow leaves out on processors without AVX-512 and this package asks for.
        theirs = last_line(peer, as_it_comes)
        helped = last_line(peer, {**as_it_comes, "TF_ENABLE_ONEDNN_OPTS": "1"})
        write_mrc(folder / "t.mrc", grey, VOXEL)
        write_mrc(folder / "t.labels.mrc", labels, VOXEL)
        rows = [
            ParticleRow(particle=i, class_id=1 + i % 2, x_angstrom=x * VOXEL, y_angstrom=y * VOXEL, z_angstrom=z * VOXEL)
            for i, (z, y, x) in enumerate(centre, start=1)
        ]
        write_table(folder / "t.particles.csv", ParticleRow, rows)
        tomogram = open_tomogram(folder, "t")
        preset = yaml.safe_load((ROOT / "presets" / "workstation.yml").read_text())["train"]
        trained: dict[str, Training] = {}
        step: dict[str, float] = {}
        for network, size in (("deepfinder", {"batch_size": BATCH, "patch_voxels": PATCH}), ("workstation", preset)):
            for precision in ("auto", "float32"):
                changes = {"precision": precision, "epochs": 2, "steps_per_epoch": STEPS}
                chosen = TrainSettings.model_validate({**size, **changes})
                kind = f"{network}_{precision}"
                trained[kind], step[kind] = train_timed(tomogram, chosen, CLASSES, folder / f"{kind}.npz")
        model = trained["deepfinder_float32"].model()
        begun = time.perf_counter()
        segment_volume(model, large, SegmentSettings())
        segment = time.perf_counter() - begun
    return {
        "train_speedup": theirs["train_seconds"] / step["deepfinder_float32"],
        "train_speedup_peer_with_onednn": helped["train_seconds"] / step["deepfinder_float32"],
        "train_speedup_automatic_precision": theirs["train_seconds"] / step["deepfinder_auto"],
        **{f"train_step_seconds_{name}": seconds for name, seconds in step.items()},
        "train_step_seconds_peer": theirs["train_seconds"],
        "segment_speedup": theirs["segment_seconds"] / segment,
        "segment_speedup_peer_with_onednn": helped["segment_seconds"] / segment,
        "segment_voxels_per_second": large.size / segment,
        "segment_voxels_per_second_peer": large.size / theirs["segment_seconds"],
    }


def objects_of(path: Path) -> NDArray[np.float64]:
    """Rows class, x, y, z (voxels) of a DeepFinder object list."""
    names = ("class_label", "x", "y", "z")
    return np.array([[float(item.get(name, "nan")) for name in names] for item in ElementTree.parse(path).getroot()])


def f1_of(picks: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """F1 over all classes, a pick right within 5 voxels of a particle of its class."""
    matched = sum(
        len(match(picks[picks[:, 0] == number, 1:], truth[truth[:, 0] == number, 1:], RADIUS_VOXELS))
        for number in np.unique(truth[:, 0])
    )
    return f_beta(matched, len(picks), len(truth), 1.0)


def f1_deepfinder_2019() -> dict[str, float]:
    """Trained on four of DeepFinder's tomograms of 2019, tested on the fifth, beside the predictions published with it."""
    source = SHARED / "tomograms" / "deepfinder_2019"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for number in range(1, 6):
            for kind, ending in (("data", ".mrc"), ("target", ".labels.mrc")):
                with h5py.File(io.BytesIO(gzip.decompress((source / f"tomo{number}_{kind}.h5.gz").read_bytes()))) as file:
                    array = file["dataset"][:].T  # the files are [x, y, z], as their positions tell
                write_mrc(folder / f"t{number}{ending}", array.astype(np.uint8) if kind == "target" else array, VOXEL)
            particles = [
                ParticleRow(particle=i, class_id=int(c), x_angstrom=x * VOXEL, y_angstrom=y * VOXEL, z_angstrom=z * VOXEL)
                for i, (c, x, y, z) in enumerate(objects_of(source / f"tomo{number}_objlist.xml"), start=1)
            ]
            write_table(folder / f"t{number}.particles.csv", ParticleRow, particles)
            row = {"total_dose_e_per_angstrom2": 1, "defocus_um": 0, "tilt_range_deg": 60, "tilt_step_deg": 2}
            if number < 5:
                rows.append(DesignRow(id=f"t{number}", ice_density_g_per_cm3=1, **row))
        write_table(folder / "design.csv", DesignRow, rows)
        begun = time.perf_counter()
        train_network(folder / "design.csv", folder, F1_SETTINGS, 1, folder)
        seconds = time.perf_counter() - begun
        chosen = CalibrateSettings(
            cluster=ClusterSettings(radius_voxels=5), evaluate=EvaluateSettings(match_radius_voxels=RADIUS_VOXELS)
        )
        calibrate_model(folder / "trained.keras", folder / "design.csv", folder, chosen, folder)
        network, card = load_model(folder / "model.keras")
        tomogram, _ = read_mrc(folder / "t5.mrc")
        classes, log_odds = classes_and_log_odds(
            segment_on_own_grid(network, card, tomogram, VOXEL, chosen.segment, "t5"), chosen.segment
        )
        labels, _ = read_mrc(folder / "t5.labels.mrc")
        found = find_picks(classes, log_odds, VOXEL, chosen.cluster, card.minimum_size_voxels or {})
        picks = np.array(
            [(p.class_id, p.x_angstrom / VOXEL, p.y_angstrom / VOXEL, p.z_angstrom / VOXEL) for p in found if p.selected]
        ).reshape(-1, 4)
        assert len(read_table(folder / "t5.particles.csv", ParticleRow)) == 27
    truth = objects_of(source / "tomo5_objlist.xml")
    with h5py.File(io.BytesIO(gzip.decompress((source / "result_tomo5_labelmap.h5.gz").read_bytes()))) as file:
        published = file["dataset"][:].T
    return {
        "f1_deepfinder_2019": f1_of(picks, truth),
        "f1_deepfinder_2019_published": f1_of(objects_of(source / "result_tomo5_objlist.xml"), truth),
        "dice_deepfinder_2019": mean_dice(classes, labels),
        "dice_deepfinder_2019_published": mean_dice(published, labels),
        "f1_training_seconds": seconds,
    }


def mean_dice(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean over the target classes of the overlap of two label volumes."""
    scores = [
        2 * ((found == n) & (truth == n)).sum() / max(1, (found == n).sum() + (truth == n).sum())
        for n in range(1, int(truth.max()) + 1)
    ]
    return float(np.mean(scores))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["speed", "f1"])
    only = parser.parse_args().only
    figures: dict[str, float] = {}
    if only != "f1":
        figures |= speed()
    if only != "speed" and SHARED.is_dir():
        figures |= f1_deepfinder_2019()
    report("learning", figures, FIGURES, f"{PEER} on this Keras")


if __name__ == "__main__":
    main()
