"""Model files: one ``.keras`` archive with a JSON card inside that says what the network was trained for."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from template_learning.common.errors import BadInput
from template_learning.common.files import replacing
from template_learning.learning.model_card import CARD, ModelCard, check_whole, read_card


def save_model(path: Path, network: Any, card: ModelCard) -> None:
    """Write network and card as one ``.keras`` file, by write-then-rename.

    Parameters
    ----------
    path : Path
        The file to write.
    network : keras.Model
        As ``build_network`` makes it, without ``to_train``.
    card : ModelCard
        What it was trained for, and on what.
    """
    with replacing(path) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            _add_card(archive, card)


def copy_model(source: Path, target: Path, card: ModelCard) -> None:
    """Copy a model file with another card."""
    read_card(source)
    with (
        replacing(target) as temporary,
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            if member.filename != CARD:
                new.writestr(member, old.read(member))
        _add_card(new, card)


def _add_card(archive: zipfile.ZipFile, card: ModelCard) -> None:
    # A ZipInfo of its own keeps the time of writing out of the file.
    archive.writestr(zipfile.ZipInfo(CARD), json.dumps(card.model_dump(mode="json"), indent=2) + "\n")


def load_model(path: Path) -> tuple[Any, ModelCard]:
    """The network (not compiled) and the card of a model file.

    Parameters
    ----------
    path : Path
        A ``.keras`` file of this package.

    Returns
    -------
    network : keras.Model
        ``[batch, z, y, x, 1]`` to class probabilities ``[batch, z, y, x, classes]``.
    card : ModelCard
        What it was trained for, and on what.

    Raises
    ------
    BadInput
        The card or the network cannot be read, or the two disagree.
    """
    card = read_card(path)
    check_whole(path)  # Keras and HDF5 read past what is broken
    try:
        network = keras.saving.load_model(path, compile=False)
    except MemoryError:
        raise
    except Exception as error:  # Keras, HDF5 and the archive fail in their own ways where a part of the file is broken
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        writer = card.versions.get("keras", "unknown")
        raise BadInput(f"{path}: Keras {keras.__version__} cannot load this model, written by {writer} ({first})") from None
    if network.output_shape[-1] != len(card.classes) + 1:
        raise BadInput(
            f"{path}: the network has {network.output_shape[-1]} outputs, {len(card.classes) + 1} were expected"
            " (background and the card's classes)"
        )
    spoiled = sum(int(np.size(weight) - np.isfinite(weight).sum()) for weight in network.get_weights())
    if spoiled:
        raise BadInput(f"{path}: {spoiled} of the network's weights are NaN or infinite; a model that was trained was expected")
    return network, card
