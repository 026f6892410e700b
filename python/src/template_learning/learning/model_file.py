"""Model files: one ``.keras`` archive with a JSON card inside that says what the network was trained for."""

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

import keras
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from template_learning.errors import BadInput
from template_learning.files import existing, replacing

CARD = "template_learning.json"
FORMAT = 1


class ModelCard(BaseModel):
    """What a network was trained for, and on what."""

    model_config = ConfigDict(extra="ignore")

    format: int = FORMAT
    voxel_size_angstrom: float = Field(gt=0, description="of the tomograms that it was trained on")
    contrast: Literal["protein_dark"] = "protein_dark"
    classes: dict[int, list[str]] = Field(description="class id to the species that belong to it; 0 is the background")
    filters: int
    network: Literal["deepfinder", "residual"] = "deepfinder"
    batch_normalisation: bool = False
    patch_voxels: int
    band_pass_angstrom: tuple[float, float] | None = Field(default=None, description="see TRAIN's setting of that name")
    class_names: dict[int, str] = Field(default_factory=dict)
    radial_spectrum: list[float] | None = Field(default=None, description="of the training tomograms (see spectrum.py)")
    grey_histogram: list[float] | None = Field(default=None, description="of the training tomograms (see spectrum.py)")
    training: dict[str, Any] = Field(default_factory=dict, description="design, settings, seed and best epoch")
    versions: dict[str, str] = Field(default_factory=dict)
    minimum_size_voxels: dict[int, int] | None = Field(default=None, description="class id to the smallest segment that counts")
    minimum_score: dict[int, float] | None = Field(default=None, description="class id to the lowest score that counts")
    score_probability: dict[int, list[tuple[float, float]]] | None = Field(
        default=None,
        description="class id to steps: from this confidence (score times share of a whole segment) on, the share that is right",
    )
    whole_size_voxels: dict[int, float] | None = Field(
        default=None, description="class id to the size of whole segments, of which a confidence takes the share"
    )
    minimum_size_chosen: str = Field(default="not chosen", description="how the smallest segment or score was chosen")

    @property
    def band_voxels(self) -> tuple[float, float] | None:
        """The band that tomograms are filtered to before the network sees them, in its voxels."""
        if self.band_pass_angstrom is None:
            return None
        short, long = self.band_pass_angstrom
        return short / self.voxel_size_angstrom, long / self.voxel_size_angstrom


def save_model(path: Path, network: Any, card: ModelCard) -> None:
    """Write network and card as one ``.keras`` file, by write-then-rename."""
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


def read_card(path: Path) -> ModelCard:
    """The card of a model file; BadInput for anything that is not a model of this package or of a newer format."""
    existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(CARD))
    except zipfile.BadZipFile:
        raise BadInput(f"{path}: not a .keras model file") from None
    except KeyError:
        raise BadInput(f"{path}: a .keras file without {CARD}; a model trained by this package was expected") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: {CARD} inside is not JSON ({error})") from None
    written = content.get("format") if isinstance(content, dict) else None
    if not isinstance(written, int) or written > FORMAT:
        raise BadInput(
            f"{path}: the model's format is {written!r}, this version reads up to {FORMAT}; update template-learning"
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {CARD} inside, {field!r}: {first['msg']}") from None


def load_model(path: Path) -> tuple[Any, ModelCard]:
    """The network (not compiled) and the card of a model file.

    Raises BadInput where the card or the network cannot be read, or the two disagree.
    """
    card = read_card(path)
    try:
        network = keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        writer = card.versions.get("keras", "unknown")
        raise BadInput(f"{path}: Keras {keras.__version__} cannot load this model, written by {writer} ({first})") from None
    if network.output_shape[-1] != len(card.classes) + 1:
        raise BadInput(
            f"{path}: the network has {network.output_shape[-1]} outputs, {len(card.classes) + 1} were expected"
            " (background and the card's classes)"
        )
    return network, card
