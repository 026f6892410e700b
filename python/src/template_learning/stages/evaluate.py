"""EVALUATE: picks and truth in, scores out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_table, write_table
from template_learning.common.log import tell
from template_learning.common.mrc import read_mask, read_mrc
from template_learning.common.provenance import grid_of, made_with, read_sidecar, write_json
from template_learning.common.tables import CurveRow, PickRow, TableRow, TomogramScoreRow
from template_learning.picking.annotations import read_annotations
from template_learning.picking.blobs import blob_picks
from template_learning.picking.evaluation import (
    Region,
    Tomogram,
    best_of,
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
    tomogram: str | None = None


def evaluate_picks(table: Path, identifier: str, settings: EvaluateSettings, output: Path) -> None:
    """EVALUATE: score tomograms together and one by one.

    Writes ``<id>.evaluation.json``, ``<id>.curve.csv`` (CurveRow) and ``<id>.per_tomogram.csv`` (TomogramScoreRow).
    A pick is right within the match radius of a particle of its class, one to one.  Everything is given over the whole
    tomograms (region ``all``) and, where there are masks, within them (``masked``).  With ``also_within_voxels`` the joint
    figures are there for that radius too, under ``also_within``.

    Where the table names tomograms, a plain peer stands beside the picks: bodies found by a difference of two Gaussians
    (picking/blobs.py), with the threshold that is best for it: ``blobs`` in the JSON, ``<id>.blobs_curve.csv``, and a warning
    where its F1 is higher than that of the selected picks.

    Parameters
    ----------
    table : Path
        CSV with id, picks, truth, mask, tomogram; the last two may be empty.
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
    rows = read_table(table, EvaluateRow)
    tomograms = [_read(row, table.parent) for row in rows]
    blobs = [_blobs(row, tomogram, table.parent) for row, tomogram in zip(rows, tomograms, strict=True)]
    beside = [tomogram for tomogram in blobs if tomogram is not None]
    with_blobs = len(beside) == len(tomograms)  # of some alone the figures would not be of the same particles
    if not tomograms:
        raise BadInput(f"{table}: no tomograms to score")
    regions: list[Region] = ["all", "masked"] if any(t.mask is not None for t in tomograms) else ["all"]
    classes = classes_of(tomograms)
    scores: dict[str, Any] = {}
    curves: list[CurveRow] = []
    single: list[TomogramScoreRow] = []
    blob_curves: list[CurveRow] = []
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
            blob_parts = _parts_of(beside, region, class_id, classes, settings) if with_blobs else []
            if with_blobs:
                blob_curve = curve_of([tomogram for part in blob_parts for tomogram in part], settings, "score")
                blob_curves += curve_rows(blob_curve, region, class_id)
                score["blobs"] = best_of(blob_curve)
            if class_id == 0:
                scores[region]["joint"] = score
            else:
                scores[region]["classes"][str(class_id)] = score
            curves += curve_rows(curve, region, class_id)
            crossing = curve.crossing[0] if curve.crossing else None
            for index in range(len(inside)):
                row = tomogram_score([part[index] for part in parts], region, class_id, settings, crossing)
                if with_blobs:
                    own = curve_of([part[index] for part in blob_parts], settings, "score")
                    row.f1_best_blobs = (best_of(own) or {"f1": 0.0})["f1"]
                single.append(row)
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
    if with_blobs:
        write_table(output / f"{identifier}.blobs_curve.csv", CurveRow, blob_curves)
        plain, ours = scores["all"]["joint"]["blobs"], scores["all"]["joint"]["selected"]["f1"]
        if plain is not None and plain["f1"] > ours:
            tell(
                f"{identifier}: the selected picks have F1 {ours:.2f}, less than a difference of two Gaussians, which needs no training,"
                f" with its best threshold: {plain['f1']:.2f}"
            )


def _blobs(row: EvaluateRow, tomogram: Tomogram, folder: Path) -> Tomogram | None:
    """The same tomogram with a plain peer's picks; None where there are no grey values, or nobody says how large the particles are."""
    metadata = read_sidecar(folder / row.picks)
    radius = {int(number): one for number, one in (metadata.get("object_radius_angstrom") or {}).items() if one is not None}
    if row.tomogram is None or not radius:
        return None
    data, _ = read_mrc(folder / row.tomogram, need_voxel_size=False)
    if data.shape != tomogram.grid.shape:
        raise BadInput(
            f"{folder / row.tomogram}: shape {data.shape} (z, y, x), that of its picks {tomogram.grid.shape} was expected"
        )
    bright = metadata.get("contrast") == "protein_bright"
    return replace(tomogram, picks=blob_picks(data, tomogram.grid.voxel_size_angstrom, radius, bright=bright))


def _parts_of(
    tomograms: Sequence[Tomogram], region: Region, class_id: int, classes: Sequence[int], settings: EvaluateSettings
) -> list[list[Tomogram]]:
    """Tomograms within a region, class by class: all of ``classes`` where ``class_id`` is 0, else that one."""
    inside = [tomogram.within(settings.border_voxels, region == "masked") for tomogram in tomograms]
    return [[tomogram.of_class(one) for tomogram in inside] for one in (classes if class_id == 0 else [class_id])]


def _read(row: EvaluateRow, folder: Path) -> Tomogram:
    picks = folder / row.picks
    grid = grid_of(picks)
    mask = None
    if row.mask:
        mask = read_mask(folder / row.mask, grid)
    truth = [particle for particle in read_annotations(folder / row.truth, row.id, grid) if particle.class_id > 0]
    return Tomogram(checked_id(row.id), grid, read_table(picks, PickRow), truth, mask)
