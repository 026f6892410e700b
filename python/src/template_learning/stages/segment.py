"""SEGMENT: a tomogram and a model in, the class of each voxel out."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE
from template_learning.deepfinder import program as deepfinder_program
from template_learning.deepfinder import steps
from template_learning.learning.contrast import with_sign
from template_learning.learning.domain import domain_distance
from template_learning.learning.fit import check_fits
from template_learning.learning.inference import classes_and_log_odds, segment_on_own_grid
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model
from template_learning.learning.network import device_scope
from template_learning.picking.selection import scaled_minimum_size, scaled_whole_size
from template_learning.settings import SegmentSettings


def segment_tomogram(
    model: Path,
    tomogram: Path,
    identifier: str,
    settings: SegmentSettings,
    output: Path,
    voxel_size_angstrom: float | None = None,
) -> None:
    """SEGMENT: write <id>.segmentation.mrc (classes) and <id>.log_odds.mrc (those of the likeliest target class), [z, y, x].

    With ``settings.keep_probabilities`` also every class's own, <id>.probabilities.mrc.gz (volumes of half precision).  A
    tomogram whose voxel size is not the model's (beyond 1 %) is resampled for the network, and the probabilities back to
    the tomogram's grid.  The segmentation's sidecar carries the model's size thresholds in voxels of the tomogram.

    Parameters
    ----------
    model : Path
        The model.
    tomogram : Path
        [z, y, x], protein as ``settings.contrast`` says (auto: as is found, and told).
    identifier : str
        Start of the files' names.
    settings : SegmentSettings
        Section ``segment``.
    output : Path
        Folder to write to.
    voxel_size_angstrom : float, optional
        Stands in for the header's where that is wrong or missing.

    Raises
    ------
    BadInput
        A file cannot be read, or the tomogram cannot be brought to the model's voxel size (see learning/fit.py).
    """
    checked_id(identifier)
    with device_scope(settings.device):
        network, card = load_model(model)
        data, header_voxel_size = read_mrc(tomogram, need_voxel_size=voxel_size_angstrom is None)
        voxel_size = voxel_size_angstrom or header_voxel_size
        check_fits(Grid(shape=data.shape, voxel_size_angstrom=voxel_size), card, str(tomogram))
        signed, found = with_sign(network, card, data, voxel_size, settings, str(tomogram))
        if settings.engine == "deepfinder":
            probability = _by_deepfinder(network, card, data, voxel_size, signed, str(tomogram))
        else:
            probability = segment_on_own_grid(network, card, data, voxel_size, signed, str(tomogram))
    classes, log_odds = classes_and_log_odds(probability, settings)
    minimum = scaled_minimum_size(card, voxel_size)
    metadata: dict[str, Any] = {
        "voxel_size_angstrom": voxel_size,
        "model_voxel_size_angstrom": card.voxel_size_angstrom,
        "model_band_pass_angstrom": card.band_pass_angstrom,
        "contrast": signed.contrast,
        "contrast_found": None if found is None else found.metadata(),
        "domain_distance": asdict(domain_distance(data, voxel_size, card, signed)),
        "object_radius_angstrom": {number: card.radius_angstrom(number) for number in card.classes},
    }
    # What the report sets the tomogram beside, where the training tomograms are not in the run.
    looks = {"training_spectrum": card.radial_spectrum, "training_grey_histogram": card.grey_histogram}
    if settings.engine == "deepfinder":
        metadata |= deepfinder_program.program("segment")
    for name, volume, more in (
        (
            "segmentation",
            classes,
            {
                "minimum_size_voxels": minimum,
                "minimum_score": card.minimum_score,
                "score_kind": card.score_kind,
                "score_probability": card.score_probability,
                "score_quartiles": card.score_quartiles,
                "segment_recall": card.segment_recall,
                "whole_size_voxels": scaled_whole_size(card, voxel_size),
                "minimum_size_chosen": card.minimum_size_chosen,
                "segments_by": card.segments_by,
                **looks,
            },
        ),
        ("log_odds", log_odds, {}),
    ):
        path = output / f"{identifier}.{name}.mrc"
        write_mrc(path, volume, voxel_size)
        write_sidecar(path, stage="segment", item=identifier, seed=None, settings=settings, **metadata, **more)
    if settings.keep_probabilities:
        # Half precision: its steps below 1 are 0.0005 at most, and it compresses better.
        volumes = np.moveaxis(probability, -1, 0).astype(np.float16)
        write_mrc(output / f"{identifier}.probabilities.mrc.gz", volumes, voxel_size)


def _by_deepfinder(
    network: Any, card: ModelCard, data: NDArray[Any], voxel_size_angstrom: float, settings: SegmentSettings, name: str
) -> NDArray[np.float32]:
    deepfinder_program.program("segment")
    if card.band_pass_angstrom is not None:
        raise BadInput(
            f"{name}: the model was trained on filtered tomograms (train.band_pass_angstrom); DeepFinder does not filter"
        )
    if abs(card.voxel_size_angstrom / voxel_size_angstrom - 1) > VOXEL_SIZE_TOLERANCE:
        raise BadInput(
            f"{name}: voxels of {voxel_size_angstrom:g} Å; DeepFinder does not resample,"
            f" the model's {card.voxel_size_angstrom:g} Å were expected"
        )
    return steps.segment(network, data, settings)
