"""The folder of a run, as published: which files it has, read when asked for."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from template_learning.common.errors import BadInput, first_problem
from template_learning.common.files import read_json, read_table
from template_learning.common.geometry import Grid
from template_learning.common.provenance import read_sidecar
from template_learning.common.stages import NAMES
from template_learning.common.tables import DesignRow, ParticleRow, PickRow
from template_learning.picking.annotations import read_annotations
from template_learning.settings import Settings, present_names
from template_learning.structures.library import LibraryEntry, read_library

TOMOGRAM_SUFFIXES = (".mrc", ".rec", ".map", ".mrc.gz", ".rec.gz", ".map.gz")
MATCHED = "_matched"
"""What a set's name ends with where template matching's picks were scored."""
ANNOTATION_SUFFIXES = (".csv", ".star", ".json", ".xml")


PER_TOMOGRAM = (
    ("tetris", ".placed.csv"),
    ("simulate", ".tilts.mrc.json"),
    ("reconstruct", ".mrc.json"),
    ("label", ".particles.csv"),
)
"""Stages with a result of each row of the design, and what it ends with."""


@dataclass(frozen=True)
class Run:
    """A folder laid out as ``index.KINDS`` says; any part of it may be missing.  BadInput, on reading, for a broken file."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in a folder; BadInput where the folder is missing or holds no stage."""
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder")
        if not any((folder / stage).is_dir() for stage in NAMES):
            raise BadInput(f"{folder}: none of a run's folders in it ({', '.join(NAMES)})")
        return cls(folder)

    def files(self, stage: str, suffix: str) -> dict[str, Path]:
        """The files ``<stage>/<id><suffix>`` by id, sorted; an id of ``reconstruct`` has no dot-separated kind."""
        found = {path.name.removesuffix(suffix): path for path in sorted((self.folder / stage).glob(f"*{suffix}"))}
        return {item: path for item, path in found.items() if item and path.is_file()}

    @property
    def failed(self) -> dict[str, str]:
        """The ids of the design that a stage has no result of, while it has others', and that stage."""
        found: dict[str, str] = {}
        for stage, suffix in PER_TOMOGRAM:
            there = self.files(stage, suffix)
            if there:
                found |= {row.id: stage for row in self.design if row.id not in there and row.id not in found}
        return found

    def table(self, path: str) -> list[dict[str, str]]:
        """The rows of a CSV file as they are, none where the file is missing."""
        full = self.folder / path
        if not full.is_file():
            return []
        with full.open(newline="", encoding="utf-8") as handle:
            return [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(handle)]

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON object, None where the file is missing."""
        full = self.folder / path
        if not full.is_file():
            return None
        return read_json(full)

    @cached_property
    def settings(self) -> Settings | None:
        """The run's settings, None where they were not published."""
        content = self.json("check/settings.json")
        if content is None:
            return None
        try:
            return Settings.model_validate(present_names(content))
        except ValidationError as error:
            name, problem = first_problem(error)
            raise BadInput(f"{self.folder / 'check/settings.json'}: {name}: {problem}") from None

    @cached_property
    def design(self) -> list[DesignRow]:
        """The rows of the design, none where there is no table."""
        path = self.folder / "design/design.csv"
        return read_table(path, DesignRow) if path.is_file() else []

    @cached_property
    def library(self) -> dict[str, LibraryEntry]:
        """The molecules, none where no library was published."""
        folder = self.folder / "volume"
        return read_library([folder]) if any(folder.glob("*/library.csv")) else {}

    @cached_property
    def placed(self) -> dict[str, Path]:
        """The tables of placed molecules by sample."""
        return self.files("tetris", ".placed.csv")

    @cached_property
    def picks(self) -> dict[str, list[PickRow]]:
        """The picks by tomogram."""
        return {item: read_table(path, PickRow) for item, path in self.files("cluster", ".picks.csv").items()}

    def particles(self, item: str, grid: Grid) -> list[ParticleRow] | None:
        """The particles of target classes that are there: simulated, or annotated in ``tomograms/``; None where nobody says."""
        path = self.folder / f"label/{item}.particles.csv"
        beside = (self.folder / "tomograms" / (item + suffix) for suffix in ANNOTATION_SUFFIXES)
        path = path if path.is_file() else next((other for other in beside if other.is_file()), path)
        if not path.is_file():
            return None
        return [row for row in read_annotations(path, item, grid) if row.class_id > 0]

    def tomogram(self, item: str) -> Path | None:
        """A tomogram's grey values: simulated, or laid beside the run's folders in ``tomograms/``."""
        beside = [self.folder / "tomograms" / (item + suffix) for suffix in TOMOGRAM_SUFFIXES]
        candidates = [self.folder / f"reconstruct/{item}.mrc", *beside]
        return next((path for path in candidates if path.is_file()), None)

    def voxel_size(self, item: str) -> float | None:
        """The voxel size in ångström that the user's table gives a tomogram, None where it leaves that to the header."""
        rows = (self.json("check/inputs.json") or {}).get("tomograms", [])
        return next((row.get("voxel_size_angstrom") for row in rows if row["id"] == item), None)

    def minimum_sizes(self, items: Iterable[str]) -> list[int]:
        """The different sizes in voxels from which on segments of these tomograms were selected, as CLUSTER says."""
        sidecars = (read_sidecar(self.folder / f"cluster/{item}.picks.csv") for item in items)
        return sorted({int(size) for sidecar in sidecars for size in (sidecar.get("minimum_size_voxels") or {}).values()})

    def minimum_scores(self, items: Iterable[str]) -> list[float]:
        """The different scores from which on segments of these tomograms were selected; none where any score counted."""
        sidecars = (read_sidecar(self.folder / f"cluster/{item}.picks.csv") for item in items)
        return sorted(
            {
                float(score)
                for sidecar in sidecars
                for score in (sidecar.get("minimum_score") or {}).values()
                if score > 0 or sidecar.get("score_kind") == "log_odds"
            }
        )

    def score_name(self, items: Iterable[str]) -> str:
        """What the threshold of scores is on, in words."""
        kinds = {read_sidecar(self.folder / f"cluster/{item}.picks.csv").get("score_kind") for item in items}
        return "least score (log-odds)" if kinds == {"log_odds"} else "least score (mean probability)"

    def pick_facts(self, item: str) -> dict[str, Any]:
        """What CLUSTER says of a tomogram's picks: contrast, distance from the training, what is expected of them."""
        return read_sidecar(self.folder / f"cluster/{item}.picks.csv")

    @cached_property
    def minimum_size_origin(self) -> str:
        """Where the size or score threshold comes from, in the words of CLUSTER and of the model's card."""
        picks = (read_sidecar(path) for path in self.files("cluster", ".picks.csv").values())
        segmentations = (read_sidecar(path) for path in self.files("segment", ".segmentation.mrc").values())
        origin = next((str(sidecar["minimum_size_from"]) for sidecar in picks if sidecar.get("minimum_size_from")), "settings")
        chosen = next(
            (str(sidecar["minimum_size_chosen"]) for sidecar in segmentations if sidecar.get("minimum_size_chosen")), ""
        )
        return f"the {origin} ({chosen})" if origin == "model" and chosen else f"the {origin}"

    @cached_property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The evaluation of each set of tomograms, the simulated first; template matching's are not among them."""
        paths = {
            which: path for which, path in self.files("evaluate", ".evaluation.json").items() if not which.endswith(MATCHED)
        }
        return {which: read_json(paths[which]) for which in sorted(paths, key=lambda which: (which != "simulated", which))}

    def matching(self, which: str) -> dict[str, Any] | None:
        """The evaluation of template matching on a set of tomograms, None where it was not run."""
        return self.json(f"evaluate/{which}{MATCHED}.evaluation.json")

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose network was kept, None where nobody says."""
        return int(self._kept["epoch"]) if self._kept else None

    @property
    def kept_epochs(self) -> str:
        """The epoch whose network was kept, or the epochs whose mean was, in words; empty where nobody says."""
        if self.best_epoch is None:
            return ""
        if self.averaged_epochs == 1:
            return f"epoch {self.best_epoch}"
        return f"mean of epochs {self.best_epoch - self.averaged_epochs + 1} to {self.best_epoch}"

    @property
    def averaged_epochs(self) -> int:
        """Of how many epochs the network kept is the mean."""
        return int(self._kept.get("averaged") or 1)

    @cached_property
    def _kept(self) -> dict[str, str]:
        best = [row for row in self.table("train/history.csv") if row.get("best") == "True"]
        return best[-1] if best else {}

    @cached_property
    def sidecars(self) -> list[dict[str, Any]]:
        """Every sidecar (a JSON that names its stage and file), sorted by path."""
        folders = [self.folder / stage for stage in NAMES]
        contents = [read_json(path) for folder in folders for path in sorted(folder.rglob("*.json"))]
        return [content for content in contents if "stage" in content and "versions" in content]
