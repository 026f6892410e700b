"""Model files and their cards."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.learning.model_card import CARD, ModelCard, read_card
from template_learning.learning.model_file import copy_model, load_model, save_model
from template_learning.learning.network import (
    build_network,
)
from template_learning.settings import (
    SegmentSettings,
)
from template_learning.stages.segment import segment_tomogram

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_card_is_read_kept_and_replaced(trained: Path, tmp_path: Path) -> None:
    path = trained / "trained.keras"
    network, card = load_model(path)
    assert card.minimum_size_voxels is None
    copy_model(path, tmp_path / "model.keras", card.model_copy(update={"minimum_size_voxels": {1: 42}}))
    other, changed = load_model(tmp_path / "model.keras")
    assert changed.minimum_size_voxels == {1: 42}
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), other.get_weights(), strict=True))


def test_card_and_segmentation_say_how_the_training_tomograms_looked(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    card = read_card(trained / "trained.keras")
    shares = []
    for name in ("t0", "t1", "t2"):
        data, _ = read_mrc(toy[1] / f"{name}.mrc")
        grey = (data - data.mean()) / data.std()
        place = np.floor((grey + 5) / 0.125).astype(int)  # 80 bins of an eighth between -5 and 5
        inside = place[(place >= 0) & (place < 80)]
        shares.append(np.bincount(inside, minlength=80) / inside.size / 0.125)
    assert card.grey_histogram == pytest.approx(np.mean(shares, axis=0), abs=2e-4)
    segment_tomogram(trained / "trained.keras", toy[1] / "t3.mrc", "t3", SegmentSettings(), tmp_path)
    metadata = read_sidecar(tmp_path / "t3.segmentation.mrc")
    assert (metadata["training_spectrum"], metadata["training_grey_histogram"]) == (card.radial_spectrum, card.grey_histogram)


def test_models_that_cannot_be_loaded_are_refused_in_words(trained: Path, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    path.write_bytes(b"not an archive")
    with pytest.raises(BadInput, match=r"not a \.keras model file"):
        load_model(path)
    build_network(2, 4).save(path)
    with pytest.raises(BadInput, match=r"without template_learning\.json"):
        load_model(path)
    card = read_card(trained / "trained.keras")
    copy_model(trained / "trained.keras", path, card.model_copy(update={"format": 99}))
    with pytest.raises(BadInput, match="format is 99"):
        load_model(path)
    copy_model(trained / "trained.keras", path, card.model_copy(update={"classes": {1: ["a"], 2: ["b"]}}))
    with pytest.raises(BadInput, match="2 outputs, 3 were expected"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, json.dumps(card.model_dump(mode="json")))
    with pytest.raises(BadInput, match=f"Keras {keras.__version__} cannot load"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CARD, json.dumps({"format": 1, "voxel_size_angstrom": -1}))
    with pytest.raises(BadInput, match="voxel_size_angstrom"):
        load_model(path)


def test_card_survives_json() -> None:
    card = ModelCard(voxel_size_angstrom=10, classes={1: ["rod"]}, filters=4, patch_voxels=16, minimum_size_voxels={1: 3})
    assert ModelCard.model_validate(json.loads(json.dumps(card.model_dump(mode="json")))) == card


def test_a_model_of_another_version_is_loaded(tmp_path: Path) -> None:
    card = ModelCard(voxel_size_angstrom=8, classes={1: ["a"]}, filters=4, patch_voxels=16, minimum_size_voxels={1: 7})
    network = build_network(2, 4)
    save_model(tmp_path / "ours.keras", network, card)
    # A later version has written more into the card, an earlier one less.
    content = card.model_dump(mode="json") | {"versions": {"template-learning": "99.0"}, "something_new": [1, 2]}
    for gone in ("class_names", "radial_spectrum", "minimum_size_chosen"):
        del content[gone]
    with zipfile.ZipFile(tmp_path / "ours.keras") as ours, zipfile.ZipFile(tmp_path / "theirs.keras", "w") as theirs:
        for member in ours.infolist():
            theirs.writestr(member, json.dumps(content) if member.filename == CARD else ours.read(member))
    other, found = load_model(tmp_path / "theirs.keras")
    assert (found.minimum_size_voxels, found.versions, found.class_names) == ({1: 7}, {"template-learning": "99.0"}, {})
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), other.get_weights(), strict=True))
