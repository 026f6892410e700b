"""The reference engine of TRAIN, SEGMENT and CLUSTER: cryoet-deepfinder (Moebel et al. 2021), run as a program of its own.

It runs in this Python but in a process of its own (launcher.py), with files in and out of a temporary folder.
Its network is ours, so weights pass both ways (weights.py).
"""

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.log import tell
from template_learning.common.programs import run_program
from template_learning.settings import RandomImagingSettings, TrainSettings, flat

PACKAGE = "cryoet-deepfinder"
LAUNCHER = Path(__file__).with_name("launcher.py")
OWN_WAYS: dict[str, Any] = {
    "background_fraction": 0.0,
    "normalisation": "patch",
    "band_pass_angstrom": None,
    "dose_curriculum_fraction": 0.0,
    "augmentation": {
        "rotation": "tilt_axis",
        "contrast_jitter": 0.0,
        "minimum_dose_e_per_angstrom2": None,
        "missing_wedge_jitter_deg": 0.0,
        "random_imaging": RandomImagingSettings().model_dump(),
    },
    "phases": [],
    "loss": {"tversky_weight": 1.0, "crossentropy_weight": 0.0, "class_weight_exponent": 1.0, "top_view_weight": 1.0},
    "optimizer": {"name": "adam", "learning_rate_schedule": "constant", "weight_averaging_fraction": 0.0},
    "early_stopping_epochs": None,
    "network": "deepfinder",
    "batch_normalisation": False,
    "filters": 32,
    "precision": "float32",
}
"""Settings of TRAIN that DeepFinder does not have, and what it does instead."""
OVERLAP = 55
"""Voxels that DeepFinder's tiles overlap by, of which it cuts 25 from each side."""


def program(section: str) -> dict[str, str]:
    """Name and version for the sidecars; BadInput where the package is not installed."""
    try:
        return {"program": PACKAGE, "program_version": metadata.version(PACKAGE)}
    except metadata.PackageNotFoundError:
        raise BadInput(
            f"{section}.engine = 'deepfinder': {PACKAGE} is not installed here; run in the image `deepfinder`, or take 'native'"
        ) from None


def run(
    step: Literal["train", "segment", "cluster"], folder: Path, task: dict[str, Any], device: Literal["cpu", "gpu", "auto"]
) -> None:
    """Run one step of DeepFinder on a folder's files; Fault where it fails."""
    (folder / "task.json").write_text(json.dumps(task))
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "MPLCONFIGDIR": str(folder)}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-P", str(LAUNCHER), step, str(folder)]
    left = {"train": "net_weights_FINAL.h5", "segment": "scores.npy", "cluster": "objects.json"}[step]
    # It ends with 0 where it refuses its input, and leaves nothing.
    run_program(f"{PACKAGE}, {step}:", command, folder=folder, environment=environment, leaves=folder / left)


def effective_settings(settings: TrainSettings) -> TrainSettings:
    """The settings as DeepFinder follows them; names those that it does not have, where they ask for something else."""
    asked = flat(settings.model_dump())
    other = [name for name, value in flat(OWN_WAYS).items() if asked[name] != value]
    if other:
        tell(f"train.engine = 'deepfinder': not settings of DeepFinder, its own ways hold: {', '.join(other)}")
    return settings.changed(OWN_WAYS)


def cluster_centres(labels: NDArray[Any], radius_voxels: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """DeepFinder's clusters of a label volume [z, y, x], 0 = background: the class of each, and its centre z, y, x in voxels (N x 3)."""
    present = np.unique(labels[labels > 0])
    if len(present) == 0:
        return np.zeros(0, np.intp), np.zeros((0, 3))
    with TemporaryDirectory() as name:
        folder = Path(name)
        # It counts the classes that are there, and takes them to be 1, 2, ...
        np.save(folder / "labels.npy", np.where(labels > 0, np.searchsorted(present, labels) + 1, 0).astype(np.int8))
        run("cluster", folder, {"radius_voxels": max(1, round(radius_voxels)), "seed": 0}, "cpu")
        objects = json.loads((folder / "objects.json").read_text())
    classes = np.array([int(present[one[0] - 1]) for one in objects], dtype=np.intp)
    return classes, np.array([one[1:4] for one in objects], dtype=float).reshape(-1, 3)
