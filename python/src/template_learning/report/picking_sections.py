"""The report's sections on the network and its picks: training, scores, tomograms with picks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from template_learning.common.files import read_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.tables import CurveRow, PickRow, TomogramScoreRow, positions
from template_learning.picking.assignment import match
from template_learning.picking.evaluation import Tomogram
from template_learning.report.blocks import (
    NOTHING,
    Block,
    Illustration,
    ReportSection,
    Table,
    Text,
    counted,
    interval_text,
    number,
)
from template_learning.report.figures import (
    CLASS_COLOURS,
    INK,
    Marks,
    Panel,
    PlottedCurve,
    Trace,
    curve_figure,
    line_figure,
    score_figure,
    size_figure,
    sphere_figure,
    tomogram_figure,
)
from template_learning.report.run import MATCHED, Run
from template_learning.report.simulation_sections import class_names
from template_learning.report.slices import Picture, Plane, cut, slab
from template_learning.settings import EvaluateSettings

TOMOGRAMS_SHOWN = 3
TOMOGRAM_PIXELS = 480
SLAB_ANGSTROM = 50.0
SMOOTHING_VOXELS = 1.0
EXPECTED = (
    "What is expected of the picks is what the model says of their scores, from simulated tomograms. It holds as far as a tomogram is like "
    "those: the distance from the training is 0 for one that has their mean spectrum and grey values and picks as sure as theirs."
)
SETS = {"simulated": "held-out simulated tomograms", "experimental": "experimental tomograms"}


def training_section(run: Run) -> ReportSection | None:
    """Losses and score of each epoch."""
    rows = run.table("train/history.csv")
    if not rows:
        return None
    epoch = [float(row["epoch"]) for row in rows]

    def column(name: str) -> list[float]:
        return [float(row[name]) if row.get(name) else np.nan for row in rows]

    best = run.best_epoch
    panels = []
    for title, names in (
        ("Loss", {"loss": "training", "validation_loss": "validation"}),
        ("F1 over validation voxels", {"validation_f1": "validation"}),
    ):
        traces = [
            Trace(label, epoch, column(name), INK if label == "training" else CLASS_COLOURS[1])
            for name, label in names.items()
            if np.isfinite(column(name)).any()
        ]
        if best is not None and traces:
            last = traces[-1]
            place = epoch.index(best)
            traces.append(Trace("kept", [best], [last.y[place]], CLASS_COLOURS[0]))
        if traces:
            panels.append(Panel(title, traces, "epoch", whole_numbers=True))
    kept = f" Kept: {run.kept_epochs}." if run.kept_epochs else ""
    phases = max(int(row.get("phase") or 1) for row in rows)
    parts = f" in {phases} phases" if phases > 1 else ""
    caption = f"Training of the network: {counted(len(rows), 'epoch')}{parts}.{kept}"
    last_loss = f"the training loss ends at {column('loss')[-1]:.3f}"
    figure = Illustration(line_figure(panels), f"Training curves over {counted(len(rows), 'epoch')}; {last_loss}.", caption)
    return ReportSection("training", "Training", [figure])


def finetuning_section(run: Run) -> ReportSection | None:
    """What fine-tuning gains on tomograms that were not taught: means over them for each split, number taught and of epochs."""
    rows = run.table("finetune/finetuning.csv")
    if not rows:
        return None
    epochs = sorted({int(row["epochs"]) for row in rows})
    counts = sorted({int(row["taught"]) for row in rows})

    def mean(here: Sequence[Mapping[str, str]], count: int) -> str:
        values = [float(row["f1"]) for row in here if int(row["epochs"]) == count]
        return number(float(np.mean(values)) if values else None, 3)

    columns = ["split", "tomograms taught", "tested", *(f"F1, {count} epochs" for count in epochs)]
    lines = []
    for split, taught in sorted({(int(row["split"]), int(row["taught"])) for row in rows}):
        here = [row for row in rows if (int(row["split"]), int(row["taught"])) == (split, taught)]
        tested = str(len({row["id"] for row in here}))
        lines.append([str(split), str(taught), tested, *(mean(here, count) for count in epochs)])
    for taught in counts:
        here = [row for row in rows if int(row["taught"]) == taught]
        lines.append(["all", str(taught) if len(counts) > 1 else "", "", *(mean(here, count) for count in epochs)])
    each = [
        [row["split"], row["epochs"], row["id"], row["annotations"], row["selected"], row["matched"]]
        + [number(float(row[name]), 3) for name in ("precision", "recall", "f1")]
        for row in rows
    ]
    names = ["split", "epochs", "tomogram", "particles", "picks", "right", "precision", "recall", "F1"]
    text = (
        "The annotated tomograms were divided at random; the model was taught on one part and scored on the other, its size "
        "threshold chosen on the part that was taught. 0 epochs is the model as it came. The model that this run went on with "
        "was taught on all of them."
    )
    blocks: list[Block] = [
        Text(text),
        Table(columns, lines, "Mean F1 of the tested tomograms"),
        Table(names, each, "Each tested tomogram", "Each tested tomogram"),
    ]
    return ReportSection("finetuning", "Fine-tuning", blocks)


def scores_section(run: Run, which: str, evaluation: dict[str, Any]) -> ReportSection:
    """Figures of merit of one set of tomograms: together, against the threshold, one by one, by orientation."""
    title = SETS.get(which, which)
    settings = EvaluateSettings.model_validate(evaluation["settings"])
    names = class_names(run)
    regions = [region for region in ("all", "masked") if region in evaluation]
    matching = run.matching(which)
    blocks: list[Block] = [
        _joint_table(evaluation, regions, names, "All tomograms together"),
        *([_joint_table(matching, regions, names, "Template matching, the same tomograms")] if matching else []),
        *_blobs_table(evaluation, regions, names),
        Text(
            f"A pick is right within {settings.match_radius_voxels:g} voxels of a particle of its class, one to one. Precision, "
            f"recall and F1 are those of the selected picks; what selects them comes from {run.minimum_size_origin}."
            + (" What selects template matching's picks is its own score." if matching else "")
        ),
        _curve_illustration(run, which, evaluation, regions, settings),
    ]
    rows = read_table(run.folder / f"evaluate/{which}.per_tomogram.csv", TomogramScoreRow)
    orientation = evaluation[regions[0]]["joint"].get("orientation") or []
    sphere = evaluation[regions[0]]["joint"].get("orientation_sphere") or []
    matched_sphere = (matching[regions[0]]["joint"].get("orientation_sphere") or []) if matching else []
    matched = (matching[regions[0]]["joint"].get("orientation") or []) if matching else []
    blocks += [_score_illustration(rows, orientation, matched, title), _per_tomogram_table(rows, regions, names)]
    if sphere:
        blocks.append(_sphere_illustration(sphere, matched_sphere))
    if orientation:
        blocks.append(_orientation_table(orientation, "Recall by orientation"))
    if matched:
        blocks.append(_orientation_table(matched, "Recall by orientation, template matching"))
    return ReportSection(f"scores-{which}", f"Scores: {title}", blocks)


def _joint_table(evaluation: dict[str, Any], regions: Sequence[str], names: dict[int, str], caption: str) -> Table:
    lines = []
    for region in regions:
        classes = evaluation[region]["classes"]
        groups = [("all" if len(classes) > 1 else "", evaluation[region]["joint"])]
        groups += [(names.get(int(label), label), score) for label, score in classes.items()] if len(classes) > 1 else []
        lines += [[_region(region, regions), name, *_score_cells(score)] for name, score in groups]
        for name, score in groups:
            if also := score.get("also_within"):
                within = f"{name} within {also['match_radius_voxels']:g} voxels".strip()
                lines.append([_region(region, regions), within, *_score_cells({**score, **also})])
    columns = [
        "region", "class", "particles", "picks", "precision", "recall", "F1", "95 % interval", "best F1 (threshold)",
        "F1 at crossing (threshold)", "median F1 there", "average precision", "F-beta 4", "distance (Å)",
    ]  # fmt: skip
    used = [place for place in range(len(columns)) if any(line[place] not in ("", NOTHING) for line in lines)]
    return Table([columns[k] for k in used], [[line[k] for k in used] for line in lines], caption)


def _blobs_table(evaluation: dict[str, Any], regions: Sequence[str], names: dict[int, str]) -> list[Table]:
    """The plain peer's figures with its best threshold, beside the network's; none where it was not tried."""
    lines = []
    for region in regions:
        classes = evaluation[region]["classes"]
        groups = [("all" if len(classes) > 1 else "", evaluation[region]["joint"])]
        groups += [(names.get(int(label), label), score) for label, score in classes.items()] if len(classes) > 1 else []
        for name, score in groups:
            if blobs := score.get("blobs"):
                figures = [number(blobs[one], 3) for one in ("precision", "recall", "f1")]
                lines.append([_region(region, regions), name, *figures, number(score["selected"]["f1"], 3)])
    columns = ["region", "class", "precision", "recall", "F1", "F1 of the network's picks"]
    used = [place for place in range(len(columns)) if any(line[place] != "" for line in lines)]
    caption = "A difference of two Gaussians of the molecule's size, with its best threshold"
    return [Table([columns[k] for k in used], [[line[k] for k in used] for line in lines], caption)] if lines else []


def _region(region: str, regions: Sequence[str]) -> str:
    if len(regions) < 2:
        return ""
    return "whole tomogram" if region == "all" else "within the mask"


def _score_cells(score: dict[str, Any]) -> list[str]:
    selected, best, crossing = score["selected"], score["best"], score["crossing"]
    return [
        str(score["annotations"]),
        str(selected["picks"]),
        number(selected["precision"], 3),
        number(selected["recall"], 3),
        number(selected["f1"], 3),
        interval_text(selected),
        f"{best['f1']:.3f} ({best['threshold']:.3g})" if best else NOTHING,
        f"{crossing['f1']:.3f} ({crossing['threshold']:.3g})" if crossing else NOTHING,
        number(crossing.get("median_f1"), 3) if crossing else NOTHING,
        number(score["average_precision"], 3),
        number(selected["f_beta_4"], 3),
        number(selected["mean_distance_angstrom"], 1),
    ]


def _curve_illustration(
    run: Run, which: str, evaluation: dict[str, Any], regions: Sequence[str], settings: EvaluateSettings
) -> Illustration:
    rows = read_table(run.folder / f"evaluate/{which}.curve.csv", CurveRow)
    plain = run.folder / f"evaluate/{which}.blobs_curve.csv"
    blobs = read_table(plain, CurveRow) if plain.is_file() else []
    beside = run.folder / f"evaluate/{which}{MATCHED}.curve.csv"
    matching = read_table(beside, CurveRow) if beside.is_file() else []
    curves = []
    for region in regions:
        matched = [row for row in matching if row.region == region and row.class_id == 0]
        peer = [row for row in blobs if row.region == region and row.class_id == 0]
        here = [row for row in rows if row.region == region and row.class_id == 0]
        joint = evaluation[region]["joint"]
        crossing = joint["crossing"]
        sizes = run.minimum_sizes(evaluation["tomograms"]) if settings.rank == "size" else []
        curves.append(
            PlottedCurve(
                title=_region(region, regions),
                threshold=[row.threshold for row in here],
                precision=[row.precision for row in here],
                recall=[row.recall for row in here],
                f1=[row.f1 for row in here],
                selected=(joint["selected"]["precision"], joint["selected"]["recall"]),
                chosen=float(sizes[0]) if len(sizes) == 1 else None,
                crossing=(crossing["threshold"], crossing["f1"]) if crossing else None,
                threshold_label="smallest segment counted (voxels)" if settings.rank == "size" else "lowest score counted",
                matched=([row.recall for row in matched], [row.precision for row in matched]) if matched else None,
                blobs=([row.recall for row in peer], [row.precision for row in peer]) if peer else None,
            )
        )
    joint = evaluation[regions[0]]["joint"]
    selected = joint["selected"]
    text = f"Precision {selected['precision']:.2f} and recall {selected['recall']:.2f} of the selected picks"
    kind = "size of the smallest segment" if settings.rank == "size" else "lowest score"
    caption = f"Precision and recall of the {SETS.get(which, which)} against the {kind} that counts as a pick, and against each other."
    if matching:
        caption += " Beside it template matching on the same tomograms, its threshold on its score."
    if blobs:
        caption += (
            " A difference of two Gaussians of the molecule's size, its threshold on its height, shows what needs no network."
        )
    return Illustration(curve_figure(curves), f"Precision and recall curves. {text}.", caption)


def _score_illustration(
    rows: Sequence[TomogramScoreRow], orientation: Sequence[dict[str, Any]], matched: Sequence[dict[str, Any]], title: str
) -> Illustration:
    joint = [row for row in rows if row.region == "all" and row.class_id == 0]
    scores = {
        "F1": [row.f1 for row in joint],
        "precision": [row.precision for row in joint],
        "recall": [row.recall for row in joint],
    }
    # The paper's box plot: the joint curves' crossing, applied to each tomogram.
    at_crossing = [row.f1_joint_crossing for row in joint if row.f1_joint_crossing is not None]
    if at_crossing:
        scores["F1, crossing"] = at_crossing
    middle = float(np.median(scores["F1"]))
    caption = f"Scores of the selected picks in {counted(len(joint), 'tomogram')}, median F1 {middle:.2f}"
    if at_crossing:
        caption += f", {np.median(at_crossing):.2f} at the threshold where the curves of all tomograms together cross (as the paper scores)"
    caption += " (boxes span the quartiles)." if len(joint) >= 5 else "."
    by_angle, matched_by_angle = (
        {_angles(sector): float(sector["recall"]) for sector in each if sector["recall"] is not None}
        for each in (orientation, matched)
    )
    if by_angle:
        caption += " Recall by the angle between the molecule's axis and the beam; at 0° it is seen from the top."
    return Illustration(
        score_figure(scores, by_angle, matched_by_angle), f"Scores of {len(joint)} {title}; median F1 {middle:.2f}.", caption
    )


def _angles(sector: dict[str, Any]) -> str:
    return f"{sector['from_deg']:.0f}° to {sector['to_deg']:.0f}°"


def _per_tomogram_table(rows: Sequence[TomogramScoreRow], regions: Sequence[str], names: dict[int, str]) -> Table:
    classes = len({row.class_id for row in rows if row.class_id}) > 1
    shown = [row for row in rows if row.class_id == 0 or classes]
    lines = [
        [
            row.id,
            _region(row.region, regions),
            ("all" if row.class_id == 0 else names.get(row.class_id, str(row.class_id))) if classes else "",
            str(row.annotations),
            str(row.picks),
            str(row.selected),
            str(row.matched),
            number(row.precision, 3),
            number(row.recall, 3),
            number(row.f1, 3),
            number(row.f1_best, 3),
            number(row.f1_crossing, 3),
            number(row.f1_joint_crossing, 3),
            number(row.average_precision, 3),
            "" if row.f1_best_blobs is None else number(row.f1_best_blobs, 3),
        ]
        for row in sorted(shown, key=lambda row: (row.id, row.region, row.class_id))
    ]
    columns = [
        "tomogram", "region", "class", "particles", "segments", "selected", "right", "precision", "recall", "F1", "best F1",
        "F1 at own crossing", "F1 at joint crossing", "average precision", "best F1, two Gaussians",
    ]  # fmt: skip
    used = [place for place in range(len(columns)) if any(line[place] for line in lines)]
    return Table([columns[k] for k in used], [[line[k] for k in used] for line in lines], "Each tomogram")


def _sphere_illustration(cells: Sequence[dict[str, Any]], matched: Sequence[dict[str, Any]]) -> Illustration:
    known = [float(cell["recall"]) for cell in cells if cell["recall"] is not None]
    text = f"Recall by orientation on the half sphere, from {min(known):.2f} to {max(known):.2f} among its {len(cells)} parts."
    caption = (
        "Recall by the direction of the molecule's axis, on the half sphere seen along the beam (equal areas): top views in the "
        "middle, side views at the rim. Below each recall the number of particles; few make it uncertain."
    )
    return Illustration(sphere_figure({"network": cells, "template matching": matched}), text, caption)


def _orientation_table(orientation: Sequence[dict[str, Any]], caption: str) -> Table:
    lines = [
        [_angles(sector), str(sector["particles"]), str(sector["found"]), number(sector["recall"], 3)] for sector in orientation
    ]
    return Table(["axis to beam", "particles", "found", "recall"], lines, caption)


def picks_section(run: Run, which: str, items: Sequence[str]) -> ReportSection | None:
    """Tomograms of a set with their segmentation and picks, and what was picked in each."""
    if not items:
        return None
    title = SETS[which]
    blocks: list[Block] = []
    shown = shown_tomograms(run, which, items)
    for item in shown:
        illustration = _tomogram_illustration(run, item)
        if illustration:
            blocks.append(illustration)
    if blocks and len(shown) < len(items):
        blocks.append(
            Text(f"{len(shown)} of {len(items)} tomograms are shown: those of best, middle and worst F1 or number of picks.")
        )
    picks = [pick for item in items for pick in run.picks[item]]
    if which != "simulated" and picks:
        sizes = [float(pick.size_voxels) for pick in picks]
        threshold = run.minimum_sizes(items)
        source = size_figure(sizes, [pick.score for pick in picks], float(threshold[0]) if len(threshold) == 1 else None)
        blocks.append(
            Illustration(
                source,
                "Histograms of the segments' sizes and scores.",
                f"All {counted(len(picks), 'segment')} of these tomograms.",
            )
        )
    lines = [[*_pick_cells(item, run.picks[item]), *_known_cells(run, item)] for item in items]
    columns = [
        "tomogram", "segments", "selected", "at the border", "median size (voxels)", "median score",
        "contrast", "expected precision", "expected recall", "distance from training",
    ]  # fmt: skip
    used = [place for place in range(len(columns)) if place < 6 or any(line[place] != NOTHING for line in lines)]
    blocks.append(Table([columns[k] for k in used], [[line[k] for k in used] for line in lines], "Picks"))
    if any(line[7] != NOTHING or line[9] != NOTHING for line in lines):
        blocks.append(Text(EXPECTED))
    return ReportSection(f"picks-{which}", f"Picks: {title}", blocks)


def _pick_cells(item: str, picks: Sequence[PickRow]) -> list[str]:
    selected = [pick for pick in picks if pick.selected]
    return [
        item,
        str(len(picks)),
        str(len(selected)),
        str(sum(pick.touches_edge for pick in selected)),
        number(float(np.median([pick.size_voxels for pick in selected])) if selected else None, 0),
        number(float(np.median([pick.score for pick in selected])) if selected else None, 2),
    ]


def _known_cells(run: Run, item: str) -> list[str]:
    """Contrast, expected precision and recall (the least of the classes), and distance, as CLUSTER says them."""
    facts = run.pick_facts(item)
    expected = (facts.get("expected") or {}).values()
    least = {
        name: min((one[name] for one in expected if one.get(name) is not None), default=None)
        for name in ("precision", "recall")
    }
    contrast = {"protein_dark": "dark", "protein_bright": "bright"}.get(str(facts.get("contrast")), NOTHING)
    distance = (facts.get("domain_distance") or {}).get("total")
    return [contrast, *(number(one, 2) for one in (least["precision"], least["recall"], distance))]


def shown_tomograms(run: Run, which: str, items: Sequence[str]) -> list[str]:
    """The tomograms with a picture: all, or those of best, middle and worst F1 (number of picks where there is none)."""
    if len(items) <= TOMOGRAMS_SHOWN:
        return list(items)
    path = run.folder / f"evaluate/{which}.per_tomogram.csv"
    rows = read_table(path, TomogramScoreRow) if path.is_file() else []
    merit = {item: float(sum(pick.selected for pick in run.picks[item])) for item in items}
    scored = {row.id: row.f1 for row in rows if row.region == "all" and row.class_id == 0 and row.id in merit}
    order = sorted(scored or merit, key=lambda item: (-(scored or merit)[item], item))
    return [order[place] for place in sorted({0, (len(order) - 1) // 2, len(order) - 1})]


def _tomogram_illustration(run: Run, item: str) -> Illustration | None:
    path, segmented = run.tomogram(item), run.folder / f"segment/{item}.segmentation.mrc"
    what = "Tomogram"
    if path is None:
        path, what = run.folder / f"segment/{item}.log_odds.mrc", "Log-odds of the target in tomogram"
    if not path.is_file():  # results of 0.1.0
        path, what = run.folder / f"segment/{item}.probability.mrc", "Probability of the target in tomogram"
    if not path.is_file() or not segmented.is_file():
        return None
    grey, _ = read_mrc(path, memory_map=True, need_voxel_size=False)
    classes, voxel = read_mrc(segmented, memory_map=True)
    z, y, x = grey.shape
    grid = Grid(shape=(z, y, x), voxel_size_angstrom=voxel)
    marks = sorted_marks(run, item, grid)
    planes: list[tuple[Picture, Picture | None]] = []
    plane: Plane
    for plane in ("xy", "xz"):
        depth = richest_depth(marks, plane, grid)
        picture = slab(grey, voxel, plane, depth, SLAB_ANGSTROM).smoothed(SMOOTHING_VOXELS * voxel).at_most(TOMOGRAM_PIXELS)
        planes.append((picture, cut(classes, voxel, plane, depth)))
    counts = f"{counted(len(marks.other) + len(marks.hits) + len(marks.false), 'selected pick')}"
    if not len(marks.other):
        counts += f", {len(marks.hits)} right, {len(marks.false)} wrong; {counted(len(marks.missed), 'particle')} missed"
    caption = (
        f"{counts}. The planes with most of them, means of {SLAB_ANGSTROM / 10:g} nm, smoothed with a Gaussian of "
        f"{voxel * SMOOTHING_VOXELS / 10:.1f} nm. Circles are where the plane cuts a sphere about a pick or particle."
    )
    return Illustration(
        tomogram_figure(planes, marks), f"Slices of {item} without and with its picks: {counts}.", caption, f"{what} {item}"
    )


def sorted_marks(run: Run, item: str, grid: Grid) -> Marks:
    """The selected picks of a tomogram, told apart by the truth where somebody says it, as EVALUATE does."""
    settings = run.settings.evaluate if run.settings else EvaluateSettings()
    picks = [pick for pick in run.picks[item] if pick.selected]
    sizes = [pick.size_voxels for pick in picks]
    radius = 1.2 * (3 * float(np.median(sizes)) / (4 * np.pi)) ** (1 / 3) if sizes else settings.match_radius_voxels
    truth = run.particles(item, grid)
    none = np.zeros((0, 3))
    if truth is None:
        return Marks(none, none, none, positions(picks), radius * grid.voxel_size_angstrom)
    counted_here = Tomogram(item, grid, picks, truth).within(settings.border_voxels, False)
    hits, false, missed = [none], [none], [none]
    for class_id in sorted({row.class_id for row in counted_here.picks} | {row.class_id for row in counted_here.truth}):
        part = counted_here.of_class(class_id)
        found, there = positions(part.picks), positions(part.truth)
        pairs = match(found, there, settings.match_radius_voxels * grid.voxel_size_angstrom)
        right = np.isin(np.arange(len(found)), [pick for pick, _, _ in pairs])
        seen = np.isin(np.arange(len(there)), [particle for _, particle, _ in pairs])
        hits.append(found[right])
        false.append(found[~right])
        missed.append(there[~seen])
    together = [np.concatenate(parts) for parts in (hits, false, missed)]
    return Marks(together[0], together[1], together[2], none, radius * grid.voxel_size_angstrom)


def richest_depth(marks: Marks, plane: Plane, grid: Grid) -> float:
    """The depth whose plane cuts most marks, nearest to the middle; the middle where there are none."""
    axis = 2 if plane == "xy" else 1
    depth = np.concatenate([marks.hits, marks.false, marks.missed, marks.other])[:, axis]
    middle = float(grid.centre_angstrom[axis])
    candidates = np.arange(grid.shape[2 - axis]) * grid.voxel_size_angstrom
    cut_marks = (np.abs(candidates[:, None] - depth[None]) < 0.8 * marks.radius_angstrom).sum(axis=1)
    best = candidates[cut_marks == cut_marks.max()]
    return float(best[np.argmin(np.abs(best - middle))])
