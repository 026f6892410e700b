"""Runs cryoet-deepfinder on files, by its API: ``python launcher.py train|segment|cluster FOLDER``.

A program of its own: nothing of this package is imported here, nothing imports this file, and data pass as files of the
folder (see program.py, which writes and reads them).  The package asks for an optimizer that Keras 3 has
dropped; it gets today's instead, with the same numbers.
"""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

legacy: Any = types.ModuleType("tensorflow.keras.optimizers.legacy")
legacy.Adam = lambda lr, beta_1, beta_2, epsilon, decay: keras.optimizers.Adam(lr, beta_1, beta_2, epsilon)
sys.modules["tensorflow.keras.optimizers.legacy"] = legacy


def train(folder: Path, task: dict[str, Any]) -> None:
    """Train on tomogram_<n>.h5 and target_<n>.h5; writes net_weights_FINAL.h5 and net_train_history.h5."""
    from deepfinder.training import Train  # type: ignore[import-not-found]

    training = Train(Ncl=task["classes"], dim_in=task["patch_voxels"])
    training.path_out = f"{folder}/"
    training.batch_size, training.epochs = task["batch_size"], task["epochs"]
    training.steps_per_epoch, training.steps_per_valid = task["steps_per_epoch"], task["validation_steps"]
    training.flag_batch_bootstrap, training.Lrnd = task["bootstrap"], task["random_shift_voxels"]
    training.optimizer = keras.optimizers.Adam(task["learning_rate"], epsilon=1e-8)
    paths = [[str(folder / f"{kind}_{n}.h5") for n in range(task["tomograms"])] for kind in ("tomogram", "target")]
    training.launch(*paths, task["objects"], task["validation_objects"])


def segment(folder: Path, task: dict[str, Any]) -> None:
    """Scores of each class, scores.npy [z, y, x, class], of volume.npy with the weights of weights.h5."""
    from deepfinder.inference import Segment  # type: ignore[import-not-found]

    network = Segment(Ncl=task["classes"], path_weights=str(folder / "weights.h5"), patch_size=task["patch_voxels"])
    np.save(folder / "scores.npy", network.launch(np.load(folder / "volume.npy")))


def cluster(folder: Path, task: dict[str, Any]) -> None:
    """Objects, objects.json as [label, z, y, x, voxels], of labels.npy [z, y, x]."""
    from deepfinder.inference import Cluster

    objects = Cluster(clustRadius=task["radius_voxels"]).launch(np.load(folder / "labels.npy"))
    plain = [[int(one["label"]), *(float(one[axis]) for axis in "zyx"), int(one["cluster_size"])] for one in objects]
    (folder / "objects.json").write_text(json.dumps(plain))


if __name__ == "__main__":
    place = Path(sys.argv[2])
    asked = json.loads((place / "task.json").read_text())
    keras.utils.set_random_seed(asked["seed"])
    {"train": train, "segment": segment, "cluster": cluster}[sys.argv[1]](place, asked)
