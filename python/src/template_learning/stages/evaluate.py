"""EVALUATE: picks and truth in, scores out."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_table, write_table
from template_learning.common.mrc import read_mask
from template_learning.common.provenance import grid_of, made_with, write_json
from template_learning.common.tables import CurveRow, PickRow, TableRow, TomogramScoreRow
from template_learning.picking.annotations import read_annotations
from template_learning.picking.evaluation import (
    Region,
    Tomogram,
    classes_of,
    curve_of,
    curve_rows,
    region_score,
    tomogram_score,
)
from template_learning.settings import EvaluateSettings


class EvaluateRow(TableRow):
    """A tomogram to score; files are relative to the table."""

    model_config = ConfigDict(extra="forbid")

    id: str
    picks: str
    truth: str
    mask: str | None = None


def evaluate_picks(table: Path, identifier: str, settings: EvaluateSettings, output: Path) -> None:
    """EVALUATE: score tomograms together and one by one.

    Writes ``<id>.evaluation.json``, ``<id>.curve.csv`` (CurveRow) and ``<id>.per_tomogram.csv`` (TomogramScoreRow).
    A pick is right within the match radius of a particle of its class, one to one.  Everything is given over the whole
    tomograms (region ``all``) and, where there are masks, within them (``masked``).  With ``also_within_voxels`` the joint
    figures are there for that radius too, under ``also_within``.

    Parameters
    ----------
    table : Path
        CSV with id, picks, truth, mask.
    identifier : str
        Start of the files' names.
    settings : EvaluateSettings
        Section ``evaluate``; the match radius is in voxels.
    output : Path
        Folder to write to.
    """
    checked_id(identifier)
    if settings.also_within_voxels is not None:
        settings, nearer = (
            settings.model_copy(update={"match_radius_voxels": radius, "also_within_voxels": None})
            for radius in (settings.match_radius_voxels, settings.also_within_voxels)
        )
    else:
        nearer = None
    tomograms = [_read(row, table.parent) for row in read_table(table, EvaluateRow)]
    if not tomograms:
        raise BadInput(f"{table}: no tomograms to score")
    regions: list[Region] = ["all", "masked"] if any(t.mask is not None for t in tomograms) else ["all"]
    classes = classes_of(tomograms)
    scores: dict[str, Any] = {}
    curves: list[CurveRow] = []
    single: list[TomogramScoreRow] = []
    for region in regions:
        inside = [t.within(settings.border_voxels, region == "masked") for t in tomograms]
        groups = {0: [inside] if len(classes) < 2 else [[t.of_class(c) for t in inside] for c in classes]}
        groups |= {c: [[t.of_class(c) for t in inside]] for c in classes}
        scores[region] = {"classes": {}}
        for class_id, parts in groups.items():
            pooled = [tomogram for part in parts for tomogram in part]
            curve = curve_of(pooled, settings)
            score = region_score(parts, curve, settings)
            if nearer is not None:
                score["also_within"] = {"match_radius_voxels": nearer.match_radius_voxels} | {
                    name: value
                    for name, value in region_score(parts, curve_of(pooled, nearer), nearer).items()
                    if name in ("selected", "best", "crossing", "average_precision")
                }
            if class_id == 0:
                scores[region]["joint"] = score
            else:
                scores[region]["classes"][str(class_id)] = score
            curves += curve_rows(curve, region, class_id)
            crossing = curve.crossing[0] if curve.crossing else None
            for index in range(len(inside)):
                single.append(tomogram_score([part[index] for part in parts], region, class_id, settings, crossing))
    write_json(
        output / f"{identifier}.evaluation.json",
        {
            "id": identifier,
            "stage": "evaluate",
            "settings": settings.model_dump(mode="json"),
            **made_with(),
            "tomograms": [t.identifier for t in tomograms],
            "intervals": "f1_interval_95: F1 in tomograms like these (Student's t over them, on the logit; none for one alone); "
            "f1_interval_95_of_these: F1 in these very ones (Jeffreys), which says nothing of others",
            "matching": "largest one-to-one matching within the radius (Hungarian), class by class",
            **scores,
        },
    )
    write_table(output / f"{identifier}.curve.csv", CurveRow, curves)
    write_table(output / f"{identifier}.per_tomogram.csv", TomogramScoreRow, single)


def _read(row: EvaluateRow, folder: Path) -> Tomogram:
    picks = folder / row.picks
    grid = grid_of(picks)
    mask = None
    if row.mask:
        mask = read_mask(folder / row.mask, grid.shape)
    truth = [particle for particle in read_annotations(folder / row.truth, row.id, grid) if particle.class_id > 0]
    return Tomogram(checked_id(row.id), grid, read_table(picks, PickRow), truth, mask)
