"""The JSON card inside a model file: what its network was trained for.  Read without Keras."""

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.files import existing
from template_learning.common.tables import ScoreKind
from template_learning.settings import RENAMED, present_names, present_section

CARD = "template_learning.json"
FORMAT = 3
"""3: scores are log-odds; 2: settings by the names of version 1.0; 1: by those of 0.1.0.  All are read."""


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
    normalisation: Literal["tomogram", "patch", "robust", "percentile"] = Field(
        default="tomogram", description="see TRAIN's setting of that name; models of before it had another carry none"
    )
    band_pass_angstrom: tuple[float, float] | None = Field(default=None, description="see TRAIN's setting of that name")
    class_names: dict[int, str] = Field(default_factory=dict)
    radial_spectrum: list[float] | None = Field(default=None, description="of the training tomograms (see spectrum.py)")
    grey_histogram: list[float] | None = Field(default=None, description="of the training tomograms (see spectrum.py)")
    training: dict[str, Any] = Field(default_factory=dict, description="design, settings, seed and best epoch")
    versions: dict[str, str] = Field(default_factory=dict)
    minimum_size_voxels: dict[int, int] | None = Field(default=None, description="class id to the smallest segment that counts")
    minimum_score: dict[int, float] | None = Field(default=None, description="class id to the lowest score that counts")
    score_kind: ScoreKind = Field(
        default="mean_probability", description="what scores are (see picking/pick_score.py); models of before 1.0 carry none"
    )
    score_probability: dict[int, list[tuple[float, float]]] | None = Field(
        default=None,
        description="class id to steps: from this confidence (score times share of a whole segment) on, the share that is right",
    )
    score_quartiles: dict[int, tuple[float, float, float]] | None = Field(
        default=None, description="class id to the quartiles of the scores of the segments that were right"
    )
    segment_recall: dict[int, float] | None = Field(
        default=None, description="class id to the share of the particles that any segment, selected or not, stood for"
    )
    whole_size_voxels: dict[int, float] | None = Field(
        default=None, description="class id to the size of whole segments, of which a confidence takes the share"
    )
    label_radius_angstrom: dict[int, float] | None = Field(
        default=None,
        description="class id to the radius of a ball as large as its labels, a particle, in the training tomograms",
    )
    minimum_size_chosen: str = Field(default="not chosen", description="how the smallest segment or score was chosen")
    segments_by: dict[str, Any] | None = Field(
        default=None, description="the settings that the segments were found by when it was chosen (see picking/cluster.py)"
    )

    def radius_angstrom(self, class_id: int) -> float | None:
        """The radius of a ball as large as a class's labels, or as the whole segments that were found; None where neither is known."""
        if class_id in (self.label_radius_angstrom or {}):
            return (self.label_radius_angstrom or {})[class_id]
        if class_id in (self.whole_size_voxels or {}):
            return ball_radius((self.whole_size_voxels or {})[class_id]) * self.voxel_size_angstrom
        return None

    @property
    def band_voxels(self) -> tuple[float, float] | None:
        """The band that tomograms are filtered to before the network sees them, in its voxels."""
        if self.band_pass_angstrom is None:
            return None
        short, long = self.band_pass_angstrom
        return short / self.voxel_size_angstrom, long / self.voxel_size_angstrom


def ball_radius(volume: float) -> float:
    """The radius of a ball of that volume."""
    return float((3 * volume / (4 * math.pi)) ** (1 / 3))


def read_card(path: Path) -> ModelCard:
    """The card of a model file.

    Parameters
    ----------
    path : Path
        A ``.keras`` file of this package.

    Returns
    -------
    ModelCard
        What the network was trained for, and on what.

    Raises
    ------
    BadInput
        The file is no model of this package, or of a newer format.
    """
    existing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(CARD))
    except zipfile.BadZipFile:
        raise BadInput(f"{path}: not a .keras model file") from None
    except KeyError:
        raise BadInput(f"{path}: a .keras file without {CARD}; a model trained by this package was expected") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {CARD} inside is not JSON ({error})") from None
    except (zlib.error, EOFError, NotImplementedError) as error:
        raise BadInput(f"{path}: the model file is broken ({error}); copy it again") from None
    written = content.get("format") if isinstance(content, dict) else None
    if not isinstance(written, int) or written > FORMAT:
        raise BadInput(
            f"{path}: the model's format is {written!r}, this version reads up to {FORMAT}; update template-learning"
        )
    try:
        return ModelCard.model_validate(_present(content) if written < FORMAT else content)
    except ValidationError as error:
        field, problem = first_problem(error)
        raise BadInput(f"{path}: {CARD} inside, {field!r}: {problem}") from None


def check_whole(path: Path) -> None:
    """Raise BadInput for a model file of which a part is broken; the network itself is not built."""
    with zipfile.ZipFile(path) as archive:
        try:
            broken = archive.testzip()
        except (zlib.error, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise BadInput(f"{path}: the model file is broken ({error}); copy it again") from None
        if broken is not None:
            raise BadInput(f"{path}: the model file is broken, its part {broken} is not what was written; copy it again")


def _present(content: dict[str, Any]) -> dict[str, Any]:
    """A card of an earlier format as the present one writes it."""
    new = {**content, "format": FORMAT}
    if isinstance(content.get("training"), dict):
        new["training"] = _present_training(content["training"])
    if isinstance(content.get("segments_by"), dict):
        new["segments_by"] = {RENAMED.get(name, name): value for name, value in content["segments_by"].items()}
    return new


def _present_training(training: dict[str, Any]) -> dict[str, Any]:
    """The same of what a card says of its training, and of those before it."""
    new = dict(training)
    if isinstance(training.get("settings"), dict):
        new["settings"] = present_section("train", training["settings"])
    if isinstance(training.get("finetuning"), dict):
        finetuning = training["finetuning"]
        new["finetuning"] = {**finetuning, "settings": present_names(finetuning.get("settings", {}))}
    if isinstance(training.get("start"), dict):
        new["start"] = _present_training(training["start"])
    return new
