"""FINETUNE: a model trained on simulations taught further on annotated tomograms, and what that gains on others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_table, write_table
from template_learning.common.geometry import Grid
from template_learning.common.log import tell
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import generator_for, versions, write_sidecar
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE, resample
from template_learning.common.tables import ParticleRow, PickRow, positions
from template_learning.labelling.labels import draw_labels
from template_learning.learning.contrast import with_sign
from template_learning.learning.inference import classes_and_log_odds, segment_volume
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model, save_model
from template_learning.learning.network import device_scope
from template_learning.learning.normalisation import BUT_CONSTANTS, Normalisation, grey_statistics, without_constants
from template_learning.learning.patches import TrainingTomogram
from template_learning.learning.spectrum import match_spectrum
from template_learning.learning.training import Training, shared_folder
from template_learning.picking.annotations import check_annotations, read_annotations
from template_learning.picking.assignment import f_beta, match
from template_learning.picking.calibration import choose_selection
from template_learning.picking.segments import select_picks
from template_learning.picking.selection import Selection, segments_by, selection_of
from template_learning.settings import AugmentationSettings, FinetuneCommandSettings, FinetuneSettings, OptimizerSettings
from template_learning.structures.library import LibraryEntry, read_library
from template_learning.template_matching.search import chosen_templates


class AnnotatedRow(BaseModel):
    """An annotated tomogram; files are relative to the table.  Other columns are left alone."""

    model_config = ConfigDict(extra="ignore")

    id: str
    path: str
    annotations: str
    voxel_size_angstrom: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="goes before the header's")

    @field_validator("voxel_size_angstrom", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value


class FinetuningRow(BaseModel):
    """The scores on one held-out tomogram; ``epochs`` 0 is the model as it came."""

    split: int
    epochs: int
    taught: int
    id: str
    annotations: int
    selected: int
    matched: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """An annotated tomogram as the network sees it: the model's voxel size, protein dark, its spectrum where that is asked for."""

    volume: TrainingTomogram
    truth: list[ParticleRow]
    grid: Grid
    band_voxels: tuple[float, float] | None  # the model's, which it is filtered to as it is segmented
    normalisation: Normalisation  # the model's too


def finetune_model(
    model: Path,
    tomograms: Path,
    settings: FinetuneCommandSettings,
    root_seed: int,
    output: Path,
    libraries: Sequence[Path] = (),
    state: Path | None = None,
) -> None:
    """FINETUNE: write finetuning.csv (scores on held-out tomograms, split by split) and finetuned.keras.

    The paper's protocols: the tomograms of the table are divided at random, few to teach and few epochs, then many and more
    epochs; the model goes on training on the annotations of one part, and picks in the other; its threshold, of size or score, is chosen on the part that it is trained on (the
    model as it came has its own).  ``finetuned.keras`` is trained on all of them, with the largest number of epochs.

    Parameters
    ----------
    model : Path
        The trained model.
    tomograms : Path
        Table with id, path, annotations.
    settings : FinetuneCommandSettings
        Section ``finetune`` and those that it needs; patches and batches are as ``settings.train`` says, the network is the
        model's.
    root_seed : int
        The run's seed.
    output : Path
        Folder to write to.
    libraries : sequence of Path, optional
        What VOLUME wrote, where labels are the templates' shapes instead of spheres of the model's own size.
    state : Path, optional
        Folder that keeps the trainings' states (else ``output``): the same call goes on from there.

    Raises
    ------
    BadInput
        A file cannot be read, there are fewer than two tomograms, classes that the model does not have, or a network that
        is not the one its card names.
    """
    library = read_library(list(libraries)) if settings.finetune.labels == "shape" and libraries else {}
    with device_scope(settings.train.device):
        network, card = load_model(model)
        annotated = [
            _open(row, tomograms.parent, network, card, settings, library) for row in read_table(tomograms, AnnotatedRow)
        ]
        if len(annotated) < 2:
            raise BadInput(f"{tomograms}: {len(annotated)} tomogram(s); at least two were expected, one of them to test on")
        if not any(tomogram.truth for tomogram in annotated):
            raise BadInput(
                f"{tomograms}: no annotation of a class above 0 in {len(annotated)} tomograms; something to teach was expected"
            )
        carried = selection_of(card, card.voxel_size_angstrom)
        rows: list[FinetuningRow] = []
        shared = shared_folder(state) if state else None
        for split in range(1, settings.finetune.splits + 1):
            for fraction, epochs in zip(settings.finetune.training_fraction, settings.finetune.epochs, strict=True):
                trained, tested = divide(annotated, fraction, root_seed, split)
                rows += _scores(network, carried, trained, tested, settings, split, 0)
                kept = shared or output / f"split{split}_{len(trained)}_{epochs}_state.npz"
                finetuned = _train_further(network, card, trained, settings, epochs, root_seed, kept)
                selection = _choose_selection(finetuned, card, trained, settings)
                rows += _scores(finetuned, selection, trained, tested, settings, split, epochs)
        epochs = max(settings.finetune.epochs)
        kept = shared or output / "finetuned_state.npz"
        finetuned = _train_further(network, card, annotated, settings, epochs, root_seed, kept)
        selection = _choose_selection(finetuned, card, annotated, settings)
    names = ", ".join(tomogram.volume.identifier for tomogram in annotated)
    finetuning = {
        "tomograms": len(annotated),
        "annotations": sum(len(tomogram.truth) for tomogram in annotated),
        "epochs": epochs,
        "settings": settings.model_dump(mode="json"),
        "seed": root_seed,
    }
    card = card.model_copy(
        update={
            "training": {**card.training, "finetuning": finetuning},
            "versions": versions(),
            **asdict(selection),
            "minimum_size_chosen": f"best F1 by {settings.evaluate.rank} on the {len(annotated)} tomograms that were taught: {names}",
            "segments_by": segments_by(settings.segment.probability_threshold, settings.cluster),
        }
    )
    save_model(output / "finetuned.keras", finetuned, card)
    write_table(output / "finetuning.csv", FinetuningRow, rows)
    mean = {
        f"{taught} taught, {number} epochs": round(
            float(np.mean([row.f1 for row in rows if (row.taught, row.epochs) == (taught, number)])), 4
        )
        for taught, number in sorted({(row.taught, row.epochs) for row in rows})
    }
    for name in ("finetuned.keras", "finetuning.csv"):
        write_sidecar(
            output / name, stage="finetune", item="model", seed=root_seed, settings=settings, mean_f1_after_epochs=mean
        )


def divide(
    annotated: Sequence[Annotated], training_fraction: float, root_seed: int, split: int
) -> tuple[list[Annotated], list[Annotated]]:
    """A random division into taught and tested tomograms, at least one of each."""
    order = generator_for(root_seed, "finetune", f"split-{split}").permutation(len(annotated))
    trained = int(np.clip(round(training_fraction * len(annotated)), 1, len(annotated) - 1))
    return [annotated[i] for i in sorted(order[:trained])], [annotated[i] for i in sorted(order[trained:])]


def draw_spheres(
    shape: tuple[int, int, int],
    centre: NDArray[np.float64],
    class_id: NDArray[np.int64],
    radius_voxels: float | NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Labels [z, y, x]: spheres of a radius, or one (N,) each, about ``centre`` (N, 3) z, y, x in voxels."""
    labels = np.zeros(shape, dtype=np.uint8)
    for position, number, radius in zip(centre, class_id, np.broadcast_to(radius_voxels, len(centre)), strict=True):
        low = np.maximum(0, np.ceil(position - radius).astype(int))
        high = np.minimum(shape, np.floor(position + radius).astype(int) + 1)
        if (low >= high).any():
            continue
        window = tuple(slice(begin, end) for begin, end in zip(low, high, strict=True))
        axes = np.ogrid[window]
        distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, position, strict=True))
        labels[window][distance <= radius**2] = number
    return labels


def draw_shapes(
    truth: Sequence[ParticleRow], library: dict[str, LibraryEntry], grid: Grid, settings: FinetuneCommandSettings, name: str
) -> NDArray[np.uint8]:
    """Labels [z, y, x]: the annotated molecules' shapes, that of their class's first template where none is named.

    Raises BadInput where there is no template of a class and where an annotation, of the file ``name``, has no orientation.
    """
    first = {entry.row.class_id: entry.row.molecule for entry in chosen_templates(library, 1)}
    rows = []
    for number, particle in enumerate(truth, start=1):
        if None in (particle.rot_deg, particle.tilt_deg, particle.psi_deg):
            raise BadInput(f"{name}: annotation {number} has no orientation; finetune.labels = shape needs rot, tilt and psi")
        molecule = particle.molecule if particle.molecule in library else first.get(particle.class_id)
        if molecule is None:
            raise BadInput(f"finetune.labels = shape: no template of class {particle.class_id} in the library")
        rows.append(particle.model_copy(update={"molecule": molecule, "particle": number}))
    return draw_labels(rows, library, grid, settings.label.model_copy(update={"kind": "shape"}))[0]


def sphere_radius_angstrom(card: ModelCard, class_id: int, settings: FinetuneSettings) -> float:
    """The radius of a class's spheres: the one given, else the model's: of its labels, or of the whole segments it finds.

    Raises BadInput where the card knows of neither.
    """
    if settings.sphere_radius_angstrom is not None:
        return settings.sphere_radius_angstrom
    radius = card.radius_angstrom(class_id)
    if radius is not None:
        return radius
    raise BadInput(
        f"finetune.sphere_radius_angstrom: the model's card does not say how large its class {class_id} is; a radius was expected"
    )


def _augmentation(card: ModelCard, settings: FinetuneCommandSettings) -> AugmentationSettings:
    """The model's own, without what needs a tomogram's dose or tilts."""
    own = card.training.get("settings", {}).get("augmentation")
    if settings.finetune.augmentation == "train" or own is None:
        return settings.train.augmentation
    known = {name: value for name, value in own.items() if name in AugmentationSettings.model_fields}
    return AugmentationSettings.model_validate({**known, "minimum_dose_e_per_angstrom2": None, "missing_wedge_jitter_deg": 0.0})


def _open(
    row: AnnotatedRow,
    folder: Path,
    network: Any,
    card: ModelCard,
    settings: FinetuneCommandSettings,
    library: dict[str, LibraryEntry],
) -> Annotated:
    checked_id(row.id)
    path = folder / row.path
    data, header_voxel_size = read_mrc(path, memory_map=True, need_voxel_size=row.voxel_size_angstrom is None)
    voxel_size = row.voxel_size_angstrom or header_voxel_size
    annotated = Grid(shape=data.shape, voxel_size_angstrom=voxel_size)
    particles = read_annotations(folder / row.annotations, row.id, annotated)
    check_annotations(particles, annotated, folder / row.annotations)
    truth = [particle for particle in particles if particle.class_id > 0]
    unknown = sorted({particle.class_id for particle in truth} - set(card.classes))
    if unknown:
        raise BadInput(f"{folder / row.annotations}: class {unknown[0]}; the model knows {', '.join(map(str, card.classes))}")
    if abs(card.voxel_size_angstrom / voxel_size - 1) > VOXEL_SIZE_TOLERANCE:
        tell(f"{path}: resampled from {voxel_size:g} to the model's {card.voxel_size_angstrom:g} Å")
        data, voxel_size = resample(data, card.voxel_size_angstrom / voxel_size), card.voxel_size_angstrom
    signed, _ = with_sign(network, card, data, voxel_size, settings.segment, str(path))
    if signed.contrast == "protein_bright":
        data = -np.asarray(data, dtype=np.float32)
    mean, std = grey_statistics(data, card.normalisation)
    if not np.isfinite(std) or std == 0:
        raise BadInput(f"{path}: grey values are NaN, infinite or all the same; a tomogram was expected")
    if card.normalisation in BUT_CONSTANTS:
        data = without_constants(data, mean)
    if settings.segment.match_spectrum:
        grey = (np.asarray(data, dtype=np.float32) - np.float32(mean)) / np.float32(std)
        data = match_spectrum(grey, card.radial_spectrum)
        mean, std = grey_statistics(data, card.normalisation)
    grid = Grid(shape=data.shape, voxel_size_angstrom=voxel_size)
    centre = positions(truth)[:, ::-1] / voxel_size
    class_id = np.array([particle.class_id for particle in truth], dtype=np.int64)
    if settings.finetune.labels == "shape":
        labels = draw_shapes(truth, library, grid, settings, row.annotations)
    else:
        radius = np.array([sphere_radius_angstrom(card, int(number), settings.finetune) for number in class_id])
        labels = draw_spheres(data.shape, centre, class_id, radius / voxel_size)
    volume = TrainingTomogram(
        identifier=row.id,
        data=data,
        labels=labels,
        voxel_size_angstrom=voxel_size,
        mean=mean,
        std=std,
        centre=np.round(centre).astype(np.int64),
        class_id=class_id,
        along_beam=np.array([particle.axis_z for particle in truth], dtype=float),
        species=tuple(particle.species for particle in truth),
        class_names=card.class_names,
    )
    return Annotated(volume=volume, truth=truth, grid=grid, band_voxels=card.band_voxels, normalisation=card.normalisation)


def _train_further(
    network: Any,
    card: ModelCard,
    trained: Sequence[Annotated],
    settings: FinetuneCommandSettings,
    epochs: int,
    root_seed: int,
    state: Path,
) -> Any:
    """The network trained further, to the end."""
    chosen = settings.train.model_copy(
        update={
            "epochs": epochs,
            "phases": [],
            "steps_per_epoch": settings.finetune.steps_per_epoch,
            # Annotations seldom say how a particle lies.
            "loss": settings.train.loss.model_copy(update={"top_view_weight": 1.0}),
            "optimizer": OptimizerSettings(learning_rate=settings.finetune.learning_rate),
            "early_stopping_epochs": None,
            "augmentation": _augmentation(card, settings),
            "normalisation": card.training.get("settings", {}).get("normalisation", card.normalisation),
            # No dose is known, and all tomograms are taught from the first step.
            "dose_curriculum_fraction": 0.0,
            "filters": card.filters,
            "network": card.network,
            "batch_normalisation": card.batch_normalisation,
            "band_pass_angstrom": card.band_pass_angstrom,
        }
    )
    volumes: dict[str, list[TrainingTomogram]] = {"train": [tomogram.volume for tomogram in trained], "validation": []}
    training = Training(volumes, chosen, root_seed, len(card.classes) + 1, state, start=network.get_weights())
    training.run()
    return training.model()


def _picks(network: Any, tomogram: Annotated, selection: Selection, settings: FinetuneCommandSettings) -> list[PickRow]:
    # Sign and spectrum of the volume are the model's already.
    segment = settings.segment.model_copy(update={"contrast": "protein_dark", "match_spectrum": False})
    probability = segment_volume(
        network, tomogram.volume.data, segment, band_voxels=tomogram.band_voxels, normalisation=tomogram.normalisation
    )
    classes, log_odds = classes_and_log_odds(probability, segment)
    picks, _ = select_picks(classes, log_odds, tomogram.grid.voxel_size_angstrom, settings.cluster, selection)
    return picks


def _choose_selection(
    network: Any, card: ModelCard, trained: Sequence[Annotated], settings: FinetuneCommandSettings
) -> Selection:
    everything = Selection(minimum_size_voxels={}, minimum_score={}, score_probability=None)
    return choose_selection(
        card.classes,
        {tomogram.volume.identifier: _picks(network, tomogram, everything, settings) for tomogram in trained},
        {tomogram.volume.identifier: tomogram.truth for tomogram in trained},
        {tomogram.volume.identifier: tomogram.grid for tomogram in trained},
        settings.evaluate,
    )


def _scores(
    network: Any,
    selection: Selection,
    trained: Sequence[Annotated],
    tested: Sequence[Annotated],
    settings: FinetuneCommandSettings,
    split: int,
    epochs: int,
) -> list[FinetuningRow]:
    rows = []
    for tomogram in tested:
        picks = [pick for pick in _picks(network, tomogram, selection, settings) if pick.selected]
        radius = settings.evaluate.match_radius_voxels * tomogram.grid.voxel_size_angstrom
        matched = sum(
            len(
                match(
                    positions([pick for pick in picks if pick.class_id == number]),
                    positions([particle for particle in tomogram.truth if particle.class_id == number]),
                    radius,
                )
            )
            for number in {particle.class_id for particle in tomogram.truth}
        )
        rows.append(
            FinetuningRow(
                split=split,
                epochs=epochs,
                taught=len(trained),
                id=tomogram.volume.identifier,
                annotations=len(tomogram.truth),
                selected=len(picks),
                matched=matched,
                precision=matched / len(picks) if picks else 0.0,
                recall=matched / len(tomogram.truth) if tomogram.truth else 0.0,
                f1=f_beta(matched, len(picks), len(tomogram.truth), 1.0),
            )
        )
    return rows
