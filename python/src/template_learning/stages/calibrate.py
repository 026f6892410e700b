"""CALIBRATE: the threshold, of size or score, that goes with a model, chosen on tomograms with known truth."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import read_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import generator_for, write_sidecar
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.learning.inference import classes_and_log_odds, segment_on_own_grid
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.network import device_scope
from template_learning.learning.noise import noise_share, of_lower_dose
from template_learning.learning.normalisation import grey_statistics
from template_learning.learning.random_imaging import imaged_anew, passes_all
from template_learning.picking.calibration import choose_selection
from template_learning.picking.segments import find_picks
from template_learning.picking.selection import segments_by
from template_learning.settings import CalibrateSettings, RandomImagingSettings
from template_learning.simulation.acquisition import Tilts

IMAGED_ANEW = 4
"""So often each tomogram is imaged anew, where the training did that."""
TRAINING_TOMOGRAMS = 2
"""How many training tomograms stand in where there are none for validation."""


def calibrate_model(
    model: Path, design: Path, data: Path, settings: CalibrateSettings, output: Path, without: Collection[str] = ()
) -> None:
    """CALIBRATE: write model.keras, with the threshold in its card that gives the best F1 on validation tomograms.

    It is on the segments' size or on their score, as ``settings.evaluate.rank`` says.  The card also gets how often segments of a
    score are right (``score_probability``), with rank = score also at lower doses than the tomograms', down to the least that
    the network was trained for (``train.augmentation.minimum_dose_e_per_angstrom2``).  A network that learnt tomograms
    imaged anew is shown these so here too.  A class of which nothing was found keeps a threshold of 1.

    Parameters
    ----------
    model : Path
        The trained model.
    design : Path
        Table of DesignRow; without rows of split "validation" the first two training tomograms are taken, and the card
        says so.
    data : Path
        Folder with <id>.mrc and <id>.particles.csv of each row.
    settings : CalibrateSettings
        Sections ``segment``, ``cluster`` and ``evaluate``.
    output : Path
        Folder to write to.
    without : collection of str
        Ids of rows that could not be made: passed over.

    Raises
    ------
    BadInput
        A file cannot be read.
    """
    rows = [row for row in read_table(design, DesignRow) if row.id not in without]
    chosen = [row for row in rows if row.split == "validation"]
    on = f"{len(chosen)} simulated validation tomogram(s)"
    if not chosen:
        chosen = [row for row in rows if row.split == "train"][:TRAINING_TOMOGRAMS]
        on = f"{len(chosen)} training tomogram(s), as there are none for validation"
    if not chosen:
        raise BadInput(f"{design}: no row has split = validation or train")
    picks, truth, grids = {}, {}, {}
    segment = settings.segment.model_copy(update={"contrast": "protein_dark"})  # that of the user's tomograms may differ
    with device_scope(settings.segment.device):
        network, card = load_model(model)
        for row in chosen:
            path = data / f"{row.id}.mrc"
            tomogram, voxel_size = read_mrc(path)
            particles = read_table(data / f"{row.id}.particles.csv", ParticleRow)
            grid = Grid(shape=tomogram.shape, voxel_size_angstrom=voxel_size)
            shares = shares_of_dose(row, card) if settings.evaluate.rank == "score" else [1.0]
            for name, seen in [*at_shares_of_dose(tomogram, row, shares, card), *imaged_otherwise(tomogram, grid, row, card)]:
                probability = segment_on_own_grid(network, card, seen, voxel_size, segment, str(path))
                # Every segment counts here: the settings' own threshold is about picking.
                picks[name] = find_picks(*classes_and_log_odds(probability, segment), voxel_size, settings.cluster, {})
                truth[name], grids[name] = particles, grid
    own_dose = {row.id: picks.pop(row.id) for row in chosen}
    selection = choose_selection(card.classes, own_dose, truth, grids, settings.evaluate, also=picks)
    how = f"best F1 by {settings.evaluate.rank} on {on}: {', '.join(row.id for row in chosen)}"
    changes = {
        **asdict(selection),
        "minimum_size_chosen": how,
        "segments_by": segments_by(settings.segment.probability_threshold, settings.cluster),
    }
    copy_model(model, output / "model.keras", card.model_copy(update=changes))
    metadata: dict[str, Any] = {
        "minimum_score": {str(number): score for number, score in selection.minimum_score.items()},
        "score_kind": selection.score_kind,
        "minimum_size_voxels": {str(number): size for number, size in selection.minimum_size_voxels.items()},
        "whole_size_voxels": {str(number): size for number, size in selection.whole_size_voxels.items()},
        "minimum_size_chosen": how,
        "voxel_size_angstrom": card.voxel_size_angstrom,
        "segments": {identifier: len(found) for identifier, found in {**own_dose, **picks}.items()},
        "particles": {row.id: sum(particle.class_id > 0 for particle in truth[row.id]) for row in chosen},
    }
    write_sidecar(output / "model.keras", stage="calibrate", item="model", seed=None, settings=settings, **metadata)


def shares_of_dose(row: DesignRow, card: ModelCard) -> list[float]:
    """1 and smaller shares of a tomogram's dose, evenly spaced in their logarithm and at most a factor of two apart.

    The last one leaves the least dose that the model was trained for; 1 alone where there is none, or where the noise of low
    doses is part of what is imaged anew.
    """
    augmentation = card.training.get("settings", {}).get("augmentation", {})
    least = augmentation.get("minimum_dose_e_per_angstrom2")
    if augmentation.get("random_imaging", {}).get("fraction") or not least or least >= row.total_dose_e_per_angstrom2:
        return [1.0]
    lowest = least / row.total_dose_e_per_angstrom2
    return [float(share) for share in np.geomspace(1.0, lowest, 1 + math.ceil(-math.log2(lowest)))]


def at_shares_of_dose(
    tomogram: NDArray[Any], row: DesignRow, shares: Sequence[float], card: ModelCard
) -> Iterator[tuple[str, NDArray[Any]]]:
    """By name the tomogram at each of ``shares``, the first of them 1: as it is, below of zero mean and unit deviation, noisier."""
    yield row.id, tomogram
    if len(shares) == 1:
        return
    grey, tilts = _normalised(tomogram), _tilts(row)
    noisy = noise_share(grey, 0.0, 1.0, tilts)
    for share in shares[1:]:
        generator = generator_for(card.training.get("seed", 0), "calibrate", f"{row.id}-{share:g}")
        yield f"{row.id} at {share:g} of its dose", of_lower_dose(grey, share, noisy, tilts, generator)


def imaged_otherwise(tomogram: NDArray[Any], grid: Grid, row: DesignRow, card: ModelCard) -> Iterator[tuple[str, NDArray[Any]]]:
    """By name the tomogram imaged anew a few times, as the model's training did it; none where it did not."""
    settings = RandomImagingSettings.model_validate(
        card.training.get("settings", {}).get("augmentation", {}).get("random_imaging", {})
    )
    if not settings.fraction:
        return
    grey, tilts = _normalised(tomogram), _tilts(row)
    for number in range(1, IMAGED_ANEW + 1):
        generator = generator_for(card.training.get("seed", 0), "calibrate", f"{row.id}-imaged-{number}")
        yield f"{row.id} imaged anew ({number})", imaged_anew(grey, grid, tilts, passes_all(row), settings, generator)


def _normalised(tomogram: NDArray[Any]) -> NDArray[np.float32]:
    """Of zero mean and unit deviation."""
    mean, std = grey_statistics(tomogram)
    return ((np.asarray(tomogram, dtype=np.float32) - mean) / std).astype(np.float32)


def _tilts(row: DesignRow) -> Tilts:
    return Tilts(row.tilt_range_deg, row.tilt_step_deg, row.tilt_offset_deg)
