"""TRAIN: simulated tomograms and their labels in, a trained network out."""

from collections.abc import Collection, Mapping, Sequence
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
from template_learning.learning.patches import TrainingTomogram, open_tomogram
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

    The model kept is the best on the "validation" rows, the last where there are none; a later phase of ``settings.phases``
    begins with what the phase before it kept; with ``optimizer.weight_averaging_fraction``
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
    asked = settings
    rows = [row for row in read_table(design, DesignRow) if row.id not in without]
    opened = [
        (row, open_tomogram(data, row.id, row, settings.normalisation)) for row in rows if row.split in ("train", "validation")
    ]
    taught = [tomogram for row, tomogram in opened if row.split == "train"]
    if not taught:
        raise BadInput(f"{design}: no row has split = train")
    every = [*taught, *(tomogram for row, tomogram in opened if row.split == "validation")]
    check_same_voxel_size(every)
    phases = settings.of_phases()
    groups = [phase.groups for phase in settings.phases] or [[]]
    tomograms = [_of_groups(opened, names, design) for names in groups]
    for phase, seen in zip(phases, tomograms, strict=True):
        check_patches_fit([*seen["train"], *seen["validation"]], phase)
        if phase.precision == "mixed_float16" and not takes_gpu(phase.device):
            raise BadInput("train.precision = mixed_float16 needs a GPU; set float32 or mixed_bfloat16")
    classes = class_names(taught)
    check_labels(every, max(classes))
    program: dict[str, str] = {}
    if settings.engine == "deepfinder" and start is not None:
        raise BadInput("train.engine = deepfinder begins with random weights; without a model to start from it was expected")
    weights, before = (None, {}) if start is None else _begun_with(start, settings, classes)
    if settings.engine == "deepfinder":
        program = deepfinder_program.program("train")
        asked = settings = deepfinder_program.effective_settings(settings)
        seed = seed_for(root_seed, "train", "deepfinder")
        network, epochs = steps.train(tomograms[0], settings, seed, 1 + max(classes))
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
        with device_scope(settings.device):
            states = [
                shared_folder(state) if state else output / (STATE if number == 1 else f"phase{number}_{STATE}")
                for number in range(1, len(phases) + 1)
            ]
            network, history = train_phases(phases, tomograms, root_seed, 1 + max(classes), states, weights)
        settings = phases[-1]
    spectrum, histogram = mean_spectrum_and_histogram(taught)
    card = ModelCard(
        voxel_size_angstrom=taught[0].voxel_size_angstrom,
        classes=classes,
        filters=settings.filters,
        network=settings.network,
        batch_normalisation=settings.batch_normalisation,
        patch_voxels=settings.patch_voxels,
        normalisation=settings.normalisation,
        band_pass_angstrom=settings.band_pass_angstrom,
        class_names={number: name for tomogram in taught for number, name in tomogram.class_names.items()},
        label_radius_angstrom=label_radii_angstrom(taught),
        radial_spectrum=spectrum,
        grey_histogram=histogram,
        training={
            "tomograms": len(taught),
            "validation_tomograms": len(every) - len(taught),
            "particles": sum(len(tomogram.class_id) for tomogram in taught),
            **({"left_out": sorted(without)} if without else {}),
            "design": summarise_design([row for row in rows if row.split == "train"]),
            "settings": settings.model_dump(mode="json"),
            "arithmetic": dtype_policy(settings),
            "seed": root_seed,
            "best_epoch": next((row.epoch for row in reversed(history) if row.best), len(history)),
            **({"phases": _told(phases, groups, tomograms, history)} if len(phases) > 1 else {}),
            **({"start": before} if before else {}),
            **program,
        },
        versions=versions(),
    )
    save_model(output / "trained.keras", network, card)
    write_table(output / "history.csv", HistoryRow, history)
    metadata = {
        "epochs": len(history),
        "best_epoch": card.training["best_epoch"],
        "voxel_size_angstrom": card.voxel_size_angstrom,
        **program,
    }
    for name in ("trained.keras", "history.csv"):
        write_sidecar(output / name, stage="train", item="model", seed=root_seed, settings=asked, **metadata)


def train_phases(
    phases: Sequence[TrainSettings],
    tomograms: Sequence[dict[str, list[TrainingTomogram]]],
    root_seed: int,
    classes: int,
    states: Sequence[Path],
    start: list[NDArray[Any]] | None = None,
) -> tuple[Any, list[HistoryRow]]:
    """Trainings one after another, each from the network that the one before it kept.

    Parameters
    ----------
    phases : sequence of TrainSettings
        Settings of each.
    tomograms : sequence of dict
        "train" and "validation" of each phase.
    root_seed : int
        The run's seed.
    classes : int
        With the background.
    states : sequence of Path
        Where each phase keeps its state.
    start : list of array, optional
        Weights that the first begins with instead of random ones.

    Returns
    -------
    Any, list of HistoryRow
        The last phase's network, and the epochs of all.
    """
    history: list[HistoryRow] = []
    network: Any = None
    for number, (settings, seen, state) in enumerate(zip(phases, tomograms, states, strict=True), start=1):
        steps_before = history[-1].steps if history else 0
        training = Training(seen, settings, root_seed, classes, state, start=start, first_batch=steps_before)
        training.run()
        epochs_before = len(history)
        history += [
            row.model_copy(update={"phase": number, "epoch": epochs_before + row.epoch, "steps": steps_before + row.steps})
            for row in training.history
        ]
        network = training.model()
        start = network.get_weights()
    return network, history


def _of_groups(
    opened: Sequence[tuple[DesignRow, TrainingTomogram]], groups: Sequence[str], design: Path
) -> dict[str, list[TrainingTomogram]]:
    """The tomograms of these groups, of all where none is named; BadInput where there are none to train on."""
    seen = {
        split: [tomogram for row, tomogram in opened if row.split == split and (not groups or row.group in groups)]
        for split in ("train", "validation")
    }
    if not seen["train"]:
        raise BadInput(f"{design}: no row of the groups {', '.join(groups)} has split = train; a phase is taught on them")
    return seen


def _told(
    phases: Sequence[TrainSettings],
    groups: Sequence[Sequence[str]],
    tomograms: Sequence[dict[str, list[TrainingTomogram]]],
    history: Sequence[HistoryRow],
) -> list[dict[str, Any]]:
    """What a card says of each phase."""
    told = []
    for number, (settings, names, seen) in enumerate(zip(phases, groups, tomograms, strict=True), start=1):
        rows = [row for row in history if row.phase == number]
        told.append(
            {
                "groups": list(names) or "all",
                "tomograms": len(seen["train"]),
                "validation_tomograms": len(seen["validation"]),
                "epochs": len(rows),
                "best_epoch": next(row.epoch for row in reversed(rows) if row.best),
                "settings": settings.model_dump(mode="json", exclude={"phases"}),
            }
        )
    return told


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
    """The least and the largest value of each imaging condition, all values of those that are words."""
    summary: dict[str, Any] = {}
    for name in DesignRow.model_fields:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        if values and name not in ("id", "split"):
            summary[name] = sorted(set(values)) if isinstance(values[0], str) else [min(values), max(values)]
    return summary
