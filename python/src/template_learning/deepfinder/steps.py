"""TRAIN and SEGMENT by cryoet-deepfinder: tomograms and weights as files to its program, weights and probabilities back."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.deepfinder.program import OVERLAP, run
from template_learning.deepfinder.weights import load_weights, save_weights
from template_learning.learning.network import build_network
from template_learning.settings import SegmentSettings, TrainSettings


def train(
    tomograms: dict[str, list[Any]], settings: TrainSettings, seed: int, classes: int
) -> tuple[Any, list[dict[str, Any]]]:
    """A network of ours with the weights of DeepFinder's training, and its history, one entry an epoch.

    ``tomograms``: by split "train" and "validation", as TRAIN opens them.  Without validation tomograms DeepFinder's
    own validation, which it cannot do without, is one step on the training's objects, and is left out of the history.
    """
    every = [*tomograms["train"], *tomograms["validation"]]
    objects: dict[str, list[dict[str, int]]] = {"train": [], "validation": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number, tomogram in enumerate(every):
            split = "train" if number < len(tomograms["train"]) else "validation"
            for kind, volume, kept in (("tomogram", tomogram.data, np.float32), ("target", tomogram.labels, np.int8)):
                with h5py.File(folder / f"{kind}_{number}.h5", "w") as file:
                    stored = file.create_dataset("dataset", volume.shape, kept, chunks=True)
                    for z, section in enumerate(volume):
                        stored[z] = section
            for (z, y, x), label in zip(tomogram.centre.tolist(), tomogram.class_id.tolist(), strict=True):
                objects[split].append({"tomo_idx": number, "label": label, "x": x, "y": y, "z": z})
        task = {
            "classes": classes,
            "tomograms": len(every),
            "objects": objects["train"],
            "validation_objects": objects["validation"] or objects["train"],
            "validation_steps": settings.validation_steps if objects["validation"] else 1,
            "seed": seed % 2**32,
            **settings.model_dump(include={"patch_voxels", "batch_size", "epochs", "steps_per_epoch", "bootstrap"}),
            "random_shift_voxels": settings.augmentation.random_shift_voxels,
            "learning_rate": settings.optimizer.learning_rate,
        }
        run("train", folder, task, settings.device)
        network = build_network(classes, 32)
        load_weights(network, folder / "net_weights_FINAL.h5")
        with h5py.File(folder / "net_train_history.h5") as file:
            # Keras gives the mean since the epoch's first step.
            history: list[dict[str, Any]] = [{"loss": float(steps[-1])} for steps in file["loss"]]
            if objects["validation"]:
                for row, loss, f1 in zip(history, file["val_loss"], file["val_f1"], strict=True):
                    scores = np.asarray(f1, dtype=float)[..., 1:]
                    row |= {"validation_loss": float(np.mean(loss, dtype=float)), "validation_f1": float(scores.mean())}
    return network, history


def segment(network: Any, data: NDArray[Any], settings: SegmentSettings) -> NDArray[np.float32]:
    """DeepFinder's class probabilities [z, y, x, class] of a tomogram [z, y, x] at the model's voxel size.

    A tomogram shorter than a tile is continued by its mirror image.  Raises BadInput for what DeepFinder does not do.
    """
    if settings.test_time_augmentation or settings.match_spectrum:
        raise BadInput(
            "segment.engine = 'deepfinder': test_time_augmentation and match_spectrum are not done; false was expected for both"
        )
    tile = settings.tile_voxels
    if tile <= OVERLAP:
        raise BadInput(
            f"segment.tile_voxels = {tile}: DeepFinder's tiles overlap by {OVERLAP}; at least {OVERLAP // 4 * 4 + 4} were expected"
        )
    sign = -1.0 if settings.contrast == "protein_bright" else 1.0
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_weights(network, folder / "weights.h5")
        # No axis may be shorter than a tile.
        padding = [(0, max(0, tile - count)) for count in data.shape]
        grey = np.pad(np.asarray(data, dtype=np.float32) * np.float32(sign), padding, mode="symmetric")
        np.save(folder / "volume.npy", grey)
        run("segment", folder, {"classes": network.output_shape[-1], "patch_voxels": tile, "seed": 0}, settings.device)
        z, y, x = data.shape
        return np.asarray(np.load(folder / "scores.npy")[:z, :y, :x], dtype=np.float32)
