"""TRAIN: DeepFinder's network on tomograms with known truth, with a state to go on from after a kill."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from template_learning.common.compute import multiplies_bfloat16, processors
from template_learning.common.errors import UNREADABLE, BadInput, Fault
from template_learning.common.files import replacing
from template_learning.common.provenance import seed_for, versions
from template_learning.learning.model_card import ball_radius
from template_learning.learning.network import (
    JIT_COMPILE,
    build_network,
    labels_and_weights,
    takes_gpu,
    training_loss,
)
from template_learning.learning.optimizers import build_optimizer
from template_learning.learning.patches import Patches, TrainingTomogram
from template_learning.learning.spectrum import grey_histogram, radial_spectrum
from template_learning.settings import TrainSettings

STATE = "training_state.npz"


class HistoryRow(BaseModel):
    """One epoch: its loss, the same loss on validation, and F1 over voxels there, mean of the target classes.

    What is validated is the mean of the weights after the last ``averaged`` epochs, this one's alone where that is 1.
    Epochs and steps are counted over all phases; ``best`` is of those of its phase.
    """

    phase: int = 1
    epoch: int
    steps: int
    learning_rate: float
    loss: float
    validation_loss: float | None = None
    validation_f1: float | None = None
    best: bool = False
    averaged: int = 1


class Training:
    """A training under way: network, optimizer, history, and the state file that they are saved to."""

    def __init__(
        self,
        tomograms: dict[str, list[TrainingTomogram]],
        settings: TrainSettings,
        root_seed: int,
        classes: int,
        state: Path,
        start: list[NDArray[Any]] | None = None,
        first_batch: int = 0,
    ) -> None:
        """``state`` is the state's file, or a folder that trainings share: there it is named after the fingerprint.

        ``start`` are weights to begin with (fine-tuning, a later phase) instead of random ones; ``first_batch`` is how many batches
        the phases before have drawn: no two phases see the same ones.
        """
        self.first_batch = first_batch
        self.tomograms, self.settings, self.root_seed = tomograms, settings, root_seed
        self.history: list[HistoryRow] = []
        keras.utils.set_random_seed(seed_for(root_seed, "train", "weights") % 2**32)
        self.network = self._build(classes, dtype_policy(settings), to_train=True)
        if start is not None:
            if [weight.shape for weight in start] != [weight.shape for weight in self.network.get_weights()]:
                raise BadInput(
                    f"the model's network is not the one that its card names ({settings.network}, filters = {settings.filters});"
                    " a model of this version was expected"
                )
            self.network.set_weights(start)
        self.best: list[NDArray[Any]] = self.network.get_weights()
        self.mean = self.best  # of the epochs that are averaged, the last one's before them
        self.network.compile(
            optimizer=build_optimizer(self.network, settings), loss=training_loss(settings), jit_compile=JIT_COMPILE
        )
        self.fingerprint = self._fingerprint(classes)
        self.state = state / f"training_{self.fingerprint}.npz" if state.is_dir() else state
        self._go_on()

    def run(self) -> None:
        """Train until the last epoch, or until the validation loss has stopped falling."""
        settings = self.settings

        def patches(split: Literal["train", "validation"], count: int, workers: int) -> Patches:
            begins = self.first_batch if split == "train" else 0
            return Patches(
                self.tomograms[split], settings, self.root_seed, split=split, first=begins, count=count, workers=workers
            )

        # A GPU would wait for patches; without one the next ones are cut while the network's threads wait for each other.
        first = patches("train", settings.steps_per_epoch, processors() if takes_gpu(settings.device) else 2)
        if keras.backend.backend() != "tensorflow":
            # Else the first fit looks at a batch to build the metrics, and with batches cut ahead it then takes that one last.
            self.network.test_on_batch(*first[0])
        validation = None
        if self.tomograms["validation"]:
            chosen = patches("validation", settings.validation_steps, 1)
            validation = [chosen[index] for index in range(len(chosen))]
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        console = Console(stderr=True)
        # Threads cut patches already; more of BLAS's in each would wait for the network's processors, and it for them.
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress, threadpool_limits(1, "blas"):
            task = progress.add_task("", total=settings.epochs, completed=len(self.history))
            while len(self.history) < settings.epochs and not self._stopped():
                row = self._epoch(first, validation)
                progress.update(task, advance=1, description=describe(row))

    def model(self) -> Any:
        """The network as a model keeps it: the best weights, Keras's own layers, in single precision whatever it was trained in."""
        network = self._build(self.network.output_shape[-1], "float32")
        network.set_weights(self.best)
        return network

    def _build(self, classes: int, policy: str, to_train: bool = False) -> Any:
        # The policy is global to Keras: it is put back, for whatever else this process builds.
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            chosen = self.settings
            return build_network(classes, chosen.filters, chosen.network, chosen.batch_normalisation, to_train)
        finally:
            keras.config.set_dtype_policy(before)

    def _epoch(self, patches: Patches, validation: list[tuple[NDArray[Any], NDArray[Any]]] | None) -> HistoryRow:
        epoch = len(self.history) + 1
        patches.first = self.first_batch + (epoch - 1) * self.settings.steps_per_epoch
        rate = float(keras.ops.convert_to_tensor(self.network.optimizer.learning_rate))
        result = self.network.fit(patches, epochs=1, shuffle=False, verbose=0)
        row = HistoryRow(
            epoch=epoch,
            steps=epoch * self.settings.steps_per_epoch,
            learning_rate=rate,
            loss=float(result.history["loss"][-1]),
        )
        if not np.isfinite(row.loss):
            raise Fault(f"training: the loss is {row.loss} in epoch {epoch}; a smaller train.optimizer.learning_rate may help")
        learnt = self.network.get_weights()
        row.averaged = max(
            1, epoch - self.settings.epochs + round(self.settings.optimizer.weight_averaging_fraction * self.settings.epochs)
        )
        if row.averaged == 1:
            self.mean = learnt
        else:  # batch normalisation's moving means too: with the small steps of a training's end that is near enough
            self.mean = [mean + (weight - mean) / row.averaged for mean, weight in zip(self.mean, learnt, strict=True)]
        if validation is not None:
            self.network.set_weights(self.mean)
            row.validation_loss, row.validation_f1 = validate(self.network, validation, training_loss(self.settings))
            self.network.set_weights(learnt)
        before = [old.validation_loss for old in self.history if old.validation_loss is not None]
        row.best = row.validation_loss is None or row.validation_loss < min(before, default=np.inf)
        self.history.append(row)
        if row.best:
            self.best = self.mean
        self._save()
        return row

    def _stopped(self) -> bool:
        patience = self.settings.early_stopping_epochs
        return patience is not None and len(self.history) > patience and not any(row.best for row in self.history[-patience:])

    def _fingerprint(self, classes: int) -> str:
        """What the training depends on: a state of another training is not taken up."""
        volumes = [(split, training_fingerprint(one)) for split, tomograms in self.tomograms.items() for one in tomograms]
        start = [float(np.sum(weight, dtype=np.float64)) for weight in self.best]
        settings = self.settings.model_dump(mode="json")
        content = json.dumps([volumes, settings, self.root_seed, self.first_batch, classes, start, versions()], default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def _save(self) -> None:
        arrays = {f"weight_{i}": value for i, value in enumerate(self.network.get_weights())}
        arrays |= {f"best_{i}": value for i, value in enumerate(self.best)}
        arrays |= {f"mean_{i}": value for i, value in enumerate(self.mean)}
        arrays |= {f"optimizer_{i}": variable.numpy() for i, variable in enumerate(self.network.optimizer.variables)}
        history = json.dumps([row.model_dump() for row in self.history])
        with replacing(self.state) as temporary, temporary.open("wb") as handle:
            np.savez(handle, fingerprint=self.fingerprint, history=history, **arrays)

    def _go_on(self) -> None:
        if not self.state.is_file():
            return
        try:
            with np.load(self.state) as stored:
                saved = {name: stored[name] for name in stored.files}
        except (*UNREADABLE, ValueError) as error:
            raise BadInput(
                f"{self.state}: the state of the training is broken ({error}); without this file it begins anew"
            ) from None
        if str(saved.get("fingerprint")) != self.fingerprint:
            return
        count = len(self.best)
        self.network.set_weights([saved[f"weight_{i}"] for i in range(count)])
        self.best = [saved[f"best_{i}"] for i in range(count)]
        self.mean = [saved[f"mean_{i}"] for i in range(count)]
        for i, variable in enumerate(self.network.optimizer.variables):
            variable.assign(saved[f"optimizer_{i}"])
        self.history = [HistoryRow.model_validate(row) for row in json.loads(str(saved["history"]))]


def dtype_policy(settings: TrainSettings) -> str:
    """Keras's name of the precision that the settings come to on this machine."""
    if settings.precision != "auto":
        return settings.precision
    return "mixed_bfloat16" if multiplies_bfloat16() and not takes_gpu(settings.device) else "float32"


def shared_folder(folder: Path) -> Path:
    """A folder for the states of trainings, made if need be; BadInput where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}; a folder for the training's state was expected") from None
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{folder}: cannot be written; a folder for the training's state was expected")
    return folder


def training_fingerprint(tomogram: TrainingTomogram) -> list[Any]:
    """What a training depends on in a tomogram: grey values by their statistics, labels and particles by their SHA-256."""
    digest = hashlib.sha256()
    for part in (*tomogram.labels, tomogram.centre, tomogram.class_id, tomogram.along_beam):
        digest.update(np.ascontiguousarray(part).tobytes())
    t = tomogram
    imaging = [*t.tilts, t.total_dose_e_per_angstrom2]
    return [t.identifier, t.data.shape, t.mean, t.std, *imaging, digest.hexdigest()]


def validate(
    network: Any, batches: list[tuple[NDArray[Any], NDArray[Any]]], loss: Callable[[Any, Any], Any]
) -> tuple[float, float]:
    """Mean loss of batches, and the F1 over their voxels, mean of the target classes that are there."""
    losses, counts = [], np.zeros((3, network.output_shape[-1]))
    for grey, labels in batches:
        probability = network.predict_on_batch(grey)
        losses.append(float(loss(labels, keras.ops.convert_to_tensor(probability))))
        labels = np.asarray(labels_and_weights(labels)[0], dtype=np.int32)
        found = probability.argmax(axis=-1)
        for number, voxels in enumerate((labels[found == labels], found, labels)):
            counts[number] += np.bincount(voxels.ravel(), minlength=counts.shape[1])
    right, predicted, true = counts[:, 1:]
    there = true > 0
    f1 = float(np.mean(2 * right[there] / (predicted + true)[there])) if there.any() else 0.0
    return float(np.mean(losses)), f1


def check_same_voxel_size(tomograms: list[TrainingTomogram]) -> None:
    """BadInput where voxel sizes differ by more than one per cent."""
    first = tomograms[0]
    for other in tomograms:
        if abs(other.voxel_size_angstrom / first.voxel_size_angstrom - 1) > 0.01:
            raise BadInput(
                f"{other.identifier}: voxel size {other.voxel_size_angstrom:g} Å, that of {first.identifier},"
                f" {first.voxel_size_angstrom:g} Å, was expected"
            )


def check_labels(tomograms: list[TrainingTomogram], largest: int) -> None:
    """BadInput where a label volume holds anything but 0 to ``largest``."""
    for tomogram in tomograms:
        low = min(int(section.min()) for section in tomogram.labels)
        high = max(int(section.max()) for section in tomogram.labels)
        if low < 0 or high > largest:
            raise BadInput(
                f"{tomogram.identifier}.labels.mrc: labels {low} to {high}; 0 (background) to {largest},"
                " the classes of the particle tables, were expected"
            )


def check_patches_fit(tomograms: list[TrainingTomogram], settings: TrainSettings) -> None:
    """Raise BadInput for a simulated tomogram that is smaller than a patch, much of which would be its mirror image."""
    for tomogram in tomograms:
        if min(tomogram.data.shape) < settings.patch_voxels:
            raise BadInput(
                f"{tomogram.identifier}: the tomogram's {tomogram.data.shape} voxels (z, y, x) are smaller than the patch;"
                f" train.patch_voxels = {settings.patch_voxels} must be at most {min(tomogram.data.shape) // 4 * 4}"
            )


def class_names(tomograms: list[TrainingTomogram]) -> dict[int, list[str]]:
    """Class id to the species that carry it, for each class up to the largest; BadInput where there are no particles."""
    pairs = Counter(
        (int(number), name) for tomogram in tomograms for number, name in zip(tomogram.class_id, tomogram.species, strict=True)
    )
    if not pairs:
        raise BadInput("no particles of a target class in the train tomograms; rows with class_id > 0 were expected")
    largest = max(number for number, _ in pairs)
    return {number: sorted({name for other, name in pairs if other == number and name}) for number in range(1, largest + 1)}


def label_radii_angstrom(tomograms: list[TrainingTomogram]) -> dict[int, float]:
    """Class id to the radius of a ball as large as the class's labels, a particle; classes without either are left out."""
    voxels: Counter[int] = Counter()
    particles: Counter[int] = Counter()
    for tomogram in tomograms:
        for number, count in enumerate(np.bincount(np.asarray(tomogram.labels).ravel())):
            voxels[number] += int(count)
        particles.update(int(number) for number in tomogram.class_id)
    size = tomograms[0].voxel_size_angstrom
    return {
        number: round(ball_radius(voxels[number] / count) * size, 2)
        for number, count in sorted(particles.items())
        if number > 0 and voxels[number]
    }


def mean_spectrum_and_histogram(tomograms: list[TrainingTomogram]) -> tuple[list[float], list[float]]:
    """Root mean square of the normalised tomograms' radial spectra, and the mean of their histograms of grey values."""
    power, shares = [], []
    for tomogram in tomograms:  # each is read once
        grey = tomogram.normalised()
        power.append(radial_spectrum(grey) ** 2)
        shares.append(grey_histogram(grey))
    return np.sqrt(np.mean(power, axis=0)).round(6).tolist(), np.mean(shares, axis=0).round(6).tolist()


def describe(row: HistoryRow) -> str:
    """One epoch in a few words."""
    text = f"loss {row.loss:.3f}"
    if row.validation_loss is not None:
        text += f", validation {row.validation_loss:.3f}, F1 over voxels {row.validation_f1:.3f}"
    return text
