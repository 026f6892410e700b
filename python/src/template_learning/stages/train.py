"""TRAIN: simulated tomograms and their labels in, a trained network out."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.provenance import seed_for, versions, write_sidecar
from template_learning.common.tables import DesignRow
from template_learning.deepfinder import program as deepfinder_program
from template_learning.deepfinder import steps
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model, save_model
from template_learning.learning.network import (
    device_scope,
    takes_gpu,
)
from template_learning.learning.patches import open_tomogram
from template_learning.learning.training import (
    STATE,
    HistoryRow,
    Training,
    check_labels,
    check_patches_fit,
    check_same_voxel_size,
    class_names,
    dtype_policy,
    label_radii_angstrom,
    mean_spectrum_and_histogram,
    shared_folder,
)
from template_learning.settings import TrainSettings


def train_network(
    design: Path,
    data: Path,
    settings: TrainSettings,
    root_seed: int,
    output: Path,
    state: Path | None = None,
    start: Path | None = None,
    without: Collection[str] = (),
) -> None:
    """TRAIN the network and write trained.keras, history.csv and their sidecars.

    The model kept is the best on the "validation" rows, the last where there are none; with ``optimizer.weight_averaging_fraction``
    the candidates of the last epochs are means of weights (Izmailov et al., UAI 2018).

    Parameters
    ----------
    design : Path
        Table of DesignRow; rows with split "train" are learnt.
    data : Path
        Folder with <id>.mrc, <id>.labels.mrc and <id>.particles.csv of each row.
    settings : TrainSettings
        Section ``train``.
    root_seed : int
        The run's seed.
    output : Path
        Folder to write to.
    state : Path, optional
        Folder that keeps a state, replaced after each epoch (else ``output``): the same call goes on from there, to the same
        result.  DeepFinder's engine keeps none.
    start : Path, optional
        A trained model whose weights are begun with instead of random ones, under the same settings of the network.
    without : collection of str
        Ids of rows that could not be made: passed over.

    Raises
    ------
    BadInput
        Wrong tables or data, or a model of another network.
    Fault
        The loss is no longer a number.
    """
    rows = [row for row in read_table(design, DesignRow) if row.id not in without]
    tomograms = {
        split: [open_tomogram(data, row.id, row, settings.normalisation) for row in rows if row.split == split]
        for split in ("train", "validation")
    }
    if not tomograms["train"]:
        raise BadInput(f"{design}: no row has split = train")
    check_same_voxel_size([*tomograms["train"], *tomograms["validation"]])
    check_patches_fit([*tomograms["train"], *tomograms["validation"]], settings)
    classes = class_names(tomograms["train"])
    check_labels([*tomograms["train"], *tomograms["validation"]], max(classes))
    if settings.precision == "mixed_float16" and not takes_gpu(settings.device):
        raise BadInput("train.precision = mixed_float16 needs a GPU; set float32 or mixed_bfloat16")
    program: dict[str, str] = {}
    if settings.engine == "deepfinder" and start is not None:
        raise BadInput("train.engine = deepfinder begins with random weights; without a model to start from it was expected")
    weights, before = (None, {}) if start is None else _begun_with(start, settings, classes)
    if settings.engine == "deepfinder":
        program = deepfinder_program.program("train")
        settings = deepfinder_program.effective_settings(settings)
        seed = seed_for(root_seed, "train", "deepfinder")
        network, epochs = steps.train(tomograms, settings, seed, 1 + max(classes))
        history = [
            HistoryRow(
                epoch=n,
                steps=n * settings.steps_per_epoch,
                learning_rate=settings.optimizer.learning_rate,
                best=n == len(epochs),  # it keeps the last
                **row,
            )
            for n, row in enumerate(epochs, start=1)
        ]
    else:
        kept = shared_folder(state) if state else output / STATE
        with device_scope(settings.device):
            training = Training(tomograms, settings, root_seed, 1 + max(classes), kept, start=weights)
            training.run()
            network, history = training.model(), training.history
    spectrum, histogram = mean_spectrum_and_histogram(tomograms["train"])
    card = ModelCard(
        voxel_size_angstrom=tomograms["train"][0].voxel_size_angstrom,
        classes=classes,
        filters=settings.filters,
        network=settings.network,
        batch_normalisation=settings.batch_normalisation,
        patch_voxels=settings.patch_voxels,
        normalisation=settings.normalisation,
        band_pass_angstrom=settings.band_pass_angstrom,
        class_names={number: name for tomogram in tomograms["train"] for number, name in tomogram.class_names.items()},
        label_radius_angstrom=label_radii_angstrom(tomograms["train"]),
        radial_spectrum=spectrum,
        grey_histogram=histogram,
        training={
            "tomograms": len(tomograms["train"]),
            "validation_tomograms": len(tomograms["validation"]),
            "particles": sum(len(tomogram.class_id) for tomogram in tomograms["train"]),
            **({"left_out": sorted(without)} if without else {}),
            "design": summarise_design([row for row in rows if row.split == "train"]),
            "settings": settings.model_dump(mode="json"),
            "arithmetic": dtype_policy(settings),
            "seed": root_seed,
            "best_epoch": next((row.epoch for row in reversed(history) if row.best), len(history)),
            **({"start": before} if before else {}),
            **program,
        },
        versions=versions(),
    )
    save_model(output / "trained.keras", network, card)
    write_table(output / "history.csv", HistoryRow, history)
    metadata = {
        "epochs": history[-1].epoch,
        "best_epoch": card.training["best_epoch"],
        "voxel_size_angstrom": card.voxel_size_angstrom,
        **program,
    }
    for name in ("trained.keras", "history.csv"):
        write_sidecar(output / name, stage="train", item="model", seed=root_seed, settings=settings, **metadata)


def _begun_with(
    model: Path, settings: TrainSettings, classes: Mapping[int, list[str]]
) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    """A trained model's weights and what its card says of its training; BadInput where it sees tomograms otherwise, or is another network, than the settings'."""
    network, card = load_model(model)
    for name in ("network", "filters", "batch_normalisation", "band_pass_angstrom"):
        theirs, asked = getattr(card, name), getattr(settings, name)
        if theirs != asked:
            raise BadInput(f"{model}: its {name} is {theirs}; train.{name} = {asked} was expected")
    if set(card.classes) != set(classes):
        raise BadInput(
            f"{model}: its classes are {sorted(card.classes)}; those of the tomograms, {sorted(classes)}, were expected"
        )
    return network.get_weights(), card.training


def summarise_design(rows: list[DesignRow]) -> dict[str, Any]:
    """The least and the largest value of each imaging condition."""
    plain = [row.model_dump(exclude={"id", "split"}) for row in rows]
    return {name: [min(row[name] for row in plain), max(row[name] for row in plain)] for name in plain[0]}
