"""The report's figures, each as a data URI: PNG where there are images, SVG for plots."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from template_learning.report.slices import Picture

WIDTH_INCH = 7.5
DOTS_PER_INCH = 130
INK = "#22303c"
GREY = "#8a949e"
DISTRACTOR = "#c3c9cf"
OUTLINE = "#ffd21f"
# Okabe and Ito's colours, told apart by colour-blind readers.
MATCHED_COLOUR = "#009e73"
CLASS_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
HIT, FALSE, MISSED = "#009e73", "#d55e00", "#0072b2"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "template-learning",
    "svg.fonttype": "path",
}


def class_colour(class_id: int) -> str:
    """The colour of a class (from 1)."""
    return CLASS_COLOURS[(class_id - 1) % len(CLASS_COLOURS)]


def degrees(angle: float) -> str:
    """A tilt in whole degrees, with its sign."""
    return "0°" if round(angle) == 0 else f"{angle:+.0f}°".replace("-", "−")


@contextmanager
def _drawn(height_inch: float, width_inch: float = WIDTH_INCH) -> Iterator[Figure]:
    with rc_context(STYLE):
        yield Figure(figsize=(width_inch, height_inch), layout="constrained")


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _scale_bar(axes: Axes, width_angstrom: float) -> None:
    """A bar of a round length below an image, about a fifth of its width."""
    choices = np.array([m * 10.0**e for e in range(0, 6) for m in (1, 2, 5)])
    length = float(choices[np.argmin(np.abs(np.log(choices / (width_angstrom / 5))))])
    left, bottom, thick = axes.get_xlim()[0], axes.get_ylim()[0], 0.014 * width_angstrom
    axes.add_patch(Rectangle((left, bottom - 2.2 * thick), length, thick, color=INK, linewidth=0, clip_on=False))
    axes.annotate(
        f"{length / 10:g} nm",
        (left + length, bottom - 1.7 * thick),
        (4, 0),
        textcoords="offset points",
        va="center_baseline",
        annotation_clip=False,
    )


def _show(
    axes: Axes, picture: Picture, *, grey_range: tuple[float, float] | None = None, colours: NDArray[np.float64] | None = None
) -> None:
    left, right, bottom, top = picture.extent_angstrom
    low, high = grey_range or _grey_range(picture.pixels)
    shown = picture.pixels if colours is None else colours
    axes.imshow(
        shown,
        extent=(left, right, bottom, top),
        origin="lower",
        cmap="gray",
        vmin=low,
        vmax=high,
        interpolation="bicubic" if colours is None else "antialiased",
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _grey_range(pixels: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(pixels, [0.5, 99.5])
    return float(low), float(max(high, low + 1e-12))


def packing_figure(xy: Picture, xz: Picture, class_of: Mapping[int, int], class_names: Mapping[int, str]) -> str:
    """Two planes of instance labels: templates coloured by class, distractors in greys.

    ``class_of`` gives each particle's class, 0 for distractors.
    """
    left, right, bottom, top = xy.extent_angstrom
    with _drawn(WIDTH_INCH / 2 * (top - bottom) / (right - left) + 0.35) as figure:
        plain, side = figure.subplots(1, 2)
        for axes, picture in ((plain, xy), (side, xz)):
            _show(axes, picture, colours=_painted(picture.pixels, class_of))
            axes.set_anchor("NW")
            axes.add_patch(_frame(picture))
        plain.set_title(f"xy at z = {xy.depth_angstrom / 10:.0f} nm")
        side.set_title(f"xz at y = {xz.depth_angstrom / 10:.0f} nm")
        _scale_bar(plain, right - left)
        handles = [Patch(color=class_colour(number), label=name) for number, name in sorted(class_names.items())]
        handles.append(Patch(color=DISTRACTOR, label="distractors"))
        figure.legend(handles=handles, loc="lower right", ncols=1, bbox_to_anchor=(0.99, 0.04))
        return _png(figure)


def _frame(picture: Picture) -> Rectangle:
    left, right, bottom, top = picture.extent_angstrom
    return Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=GREY, linewidth=0.8, clip_on=False)


def _painted(labels: NDArray[np.integer[Any]], class_of: Mapping[int, int]) -> NDArray[np.float64]:
    """RGB of an image of particle numbers, 0 white; outlines and shades set touching molecules apart."""
    finer = np.kron(labels.astype(np.int64), np.ones((4, 4), dtype=np.int64))
    colours = np.ones((int(finer.max(initial=0)) + 1, 3))
    for number in np.unique(finer[finer > 0]):
        class_id = class_of.get(int(number), 0)
        base = class_colour(class_id) if class_id else DISTRACTOR
        rgb = np.array([int(base[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        colours[number] = np.clip(rgb + 0.03 * (int(number) * 7 % 5 - 2), 0, 1)
    painted = colours[finer]
    border = np.zeros(finer.shape, dtype=bool)
    border[:-1] |= finer[:-1] != finer[1:]
    border[:, :-1] |= finer[:, :-1] != finer[:, 1:]
    painted[border] *= 0.6
    return painted


def tilt_figure(images: Sequence[tuple[float, Picture]]) -> str:
    """Images of a tilt series, (tilt in degrees, image) each, with grey scales of their own."""
    height, width = images[0][1].pixels.shape
    with _drawn(WIDTH_INCH / len(images) * height / width + 0.5) as figure:
        for axes, (tilt_deg, picture) in zip(figure.subplots(1, len(images), squeeze=False)[0], images, strict=True):
            _show(axes, picture)
            axes.set_title(degrees(tilt_deg))
            _scale_bar(axes, width * picture.pixel_size_angstrom)
        return _png(figure)


@dataclass(frozen=True)
class Marks:
    """Positions (N, 3) in ångström of what to mark in a tomogram; ``other`` are picks of which nobody knows the truth."""

    hits: NDArray[np.float64]
    false: NDArray[np.float64]
    missed: NDArray[np.float64]
    other: NDArray[np.float64]
    radius_angstrom: float


def tomogram_figure(planes: Sequence[tuple[Picture, Picture | None]], marks: Marks | None) -> str:
    """Planes of a tomogram: as it is on the left, on the right with its segmentation's outline and the picks.

    ``planes`` are (grey values, classes) of the same plane.
    """
    extents = [grey.extent_angstrom for grey, _ in planes]
    heights = [top - bottom for _, _, bottom, top in extents]
    width = extents[0][1] - extents[0][0]
    with _drawn(WIDTH_INCH / 2 * sum(heights) / width + 0.3 * len(planes) + 0.35) as figure:
        rows = figure.subplots(len(planes), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
        for (plain, marked), (grey, classes) in zip(rows, planes, strict=True):
            for axes in (plain, marked):
                _show(axes, grey)
            normal = "z" if grey.plane == "xy" else "y"
            plain.set_title(f"{grey.plane} at {normal} = {grey.depth_angstrom / 10:.0f} nm")
            if classes is not None:
                _outline(marked, classes)
            if marks is not None:
                _circle(marked, grey, marks)
        _scale_bar(rows[-1][0], width)
        figure.legend(handles=_mark_handles(marks, planes[0][1]), loc="outside lower right", ncols=5, handlelength=1.4)
        return _png(figure)


def _outline(axes: Axes, classes: Picture) -> None:
    left, right, bottom, top = classes.extent_angstrom
    half = classes.pixel_size_angstrom / 2
    x = np.linspace(left + half, right - half, classes.pixels.shape[1])
    y = np.linspace(bottom + half, top - half, classes.pixels.shape[0])
    for class_id in np.unique(classes.pixels[classes.pixels > 0]).astype(int):
        mask = (classes.pixels == class_id).astype(float)
        axes.contour(x, y, mask, levels=[0.5], colors=[OUTLINE], linewidths=0.9)


def _circle(axes: Axes, grey: Picture, marks: Marks) -> None:
    """Draw the circles in which the plane cuts a sphere about each mark (those cut well away from their poles)."""
    for positions, colour, line in (
        (marks.missed, MISSED, (0, (2.2, 1.6))),
        (marks.hits, HIT, "solid"),
        (marks.other, HIT, "solid"),
        (marks.false, FALSE, "solid"),
    ):
        places, distance = grey.split(positions)
        for place, off in zip(places, distance, strict=True):
            if abs(off) < 0.8 * marks.radius_angstrom:
                radius = float(np.sqrt(marks.radius_angstrom**2 - off**2))
                axes.add_patch(Circle(tuple(place), radius, fill=False, edgecolor=colour, linestyle=line, linewidth=1.5))
                if colour == FALSE:
                    axes.plot(*place, marker="x", markersize=4.5, color=colour, markeredgewidth=1.3)


def _mark_handles(marks: Marks | None, classes: Picture | None) -> list[Line2D]:
    def ring(colour: str, label: str, line: Literal["-", "--"] = "-", inner: str = "") -> Line2D:
        return Line2D([], [], color=colour, linestyle=line, marker=inner, markersize=4.5, linewidth=1.6, label=label)

    handles = []
    if marks is not None:
        known = len(marks.hits) + len(marks.false) + len(marks.missed) > 0
        if known:
            handles += [ring(HIT, "right pick"), ring(FALSE, "wrong pick", inner="x"), ring(MISSED, "missed", line="--")]
        if len(marks.other):
            handles.append(ring(HIT, "pick"))
    if classes is not None:
        handles.append(ring(OUTLINE, "segmentation"))
    return handles


@dataclass(frozen=True)
class Trace:
    """A line of a plot; one without a label is left out of the legend."""

    label: str | None
    x: Sequence[float]
    y: Sequence[float]
    colour: str


@dataclass(frozen=True)
class Panel:
    """A plot of lines."""

    title: str
    traces: Sequence[Trace]
    x_label: str
    whole_numbers: bool = False
    logarithmic: bool = False


def line_figure(panels: Sequence[Panel]) -> str:
    """Plots of lines side by side."""
    with _drawn(2.5) as figure:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for trace in panel.traces:
                marker = "o" if len(trace.x) < 12 else None
                axes.plot(trace.x, trace.y, color=trace.colour, label=trace.label, marker=marker, markersize=3)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label)
            if panel.whole_numbers:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            if panel.logarithmic:
                axes.set_yscale("log")
            if len(panel.traces) > 1:
                axes.legend(loc="best")
        return _svg(figure)


@dataclass(frozen=True)
class PlottedCurve:
    """Precision and recall against a threshold, with what came of the picks that were selected.

    ``chosen`` is the threshold that selected them and ``crossing`` where the two curves meet, None where there is none.
    ``matched`` is recall and precision of template matching at its own thresholds, where that was run; ``blobs`` those of a
    difference of two Gaussians.
    """

    title: str
    threshold: Sequence[float]
    precision: Sequence[float]
    recall: Sequence[float]
    f1: Sequence[float]
    selected: tuple[float, float]
    chosen: float | None
    crossing: tuple[float, float] | None
    threshold_label: str
    matched: tuple[Sequence[float], Sequence[float]] | None = None
    blobs: tuple[Sequence[float], Sequence[float]] | None = None


def curve_figure(curves: Sequence[PlottedCurve]) -> str:
    """For each curve: precision, recall and F1 against the threshold, and precision against recall."""
    with _drawn(2.75 * len(curves)) as figure:
        for (against_size, against_recall), curve in zip(figure.subplots(len(curves), 2, squeeze=False), curves, strict=True):
            against_size.plot(curve.threshold, curve.precision, color=CLASS_COLOURS[1], label="precision")
            against_size.plot(curve.threshold, curve.recall, color=CLASS_COLOURS[0], label="recall")
            against_size.plot(curve.threshold, curve.f1, color=INK, linewidth=1.1, label="F1")
            if curve.crossing:
                against_size.plot(*curve.crossing, "o", color=INK, markersize=5, fillstyle="none", label="crossing")
            if curve.chosen is not None:
                against_size.axvline(curve.chosen, color=GREY, linestyle="--", linewidth=1.1, label="threshold used")
            against_size.set_xlabel(curve.threshold_label)
            against_size.set_ylabel(curve.title)
            _legend_above(against_size)
            _iso_f1(against_recall)
            against_recall.plot(
                curve.recall, curve.precision, color=INK, label="network" if curve.matched or curve.blobs else None
            )
            if curve.matched:
                against_recall.plot(*curve.matched, color=MATCHED_COLOUR, label="template matching")
            if curve.blobs:
                against_recall.plot(*curve.blobs, color=MATCHED_COLOUR, linestyle=":", label="two Gaussians")
            precision, recall = curve.selected
            against_recall.plot(recall, precision, "o", color=CLASS_COLOURS[0], label="selected", zorder=3)
            _legend_above(against_recall)
            against_recall.set_xlabel("recall")
            against_recall.set_ylabel("precision")
            against_recall.set_xlim(0, 1.02)
            for axes in (against_size, against_recall):
                axes.set_ylim(0, 1.02)
        return _svg(figure)


def _iso_f1(axes: Axes) -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8, 0.9):
        recall = np.linspace(f1 / (2 - f1), 1, 100)
        axes.plot(
            recall,
            f1 * recall / (2 * recall - f1),
            color="#cfd5da",
            linewidth=0.8,
            zorder=0,
            label="equal F1" if f1 == 0.2 else None,
        )
        axes.annotate(
            f"{f1:g}", (1.0, f1 / (2 - f1)), (2, 0), textcoords="offset points", color=GREY, fontsize=6.5, va="center"
        )


def score_figure(
    scores: Mapping[str, Sequence[float]], recall_by_angle: Mapping[str, float], matched_by_angle: Mapping[str, float]
) -> str:
    """Scores of tomograms, a column each kind: every tomogram a point, a box where there are five or more.

    Beside them the recall by orientation, where there is any, and that of template matching, where that was run.
    """
    with _drawn(2.4) as figure:
        axes, beside = figure.subplots(1, 2)
        for place, (values, colour) in enumerate(zip(scores.values(), (INK, *CLASS_COLOURS[1::-1], INK), strict=False)):
            if len(values) >= 5:
                axes.boxplot([list(values)], positions=[place], widths=0.45, showfliers=False, medianprops={"color": colour})
            offset = 0.16 * np.sin(2.4 * np.arange(len(values)))  # spread, the same each time
            axes.plot(place + offset, values, "o", color=colour, alpha=0.75, markersize=4.5, markeredgewidth=0)
        axes.set_xticks(range(len(scores)), list(scores))
        axes.set_xlim(-0.5, len(scores) - 0.5)
        axes.set_title("selected picks, each tomogram a point")
        if recall_by_angle:
            kinds = [("network", recall_by_angle, CLASS_COLOURS[0])]
            kinds += [("template matching", matched_by_angle, MATCHED_COLOUR)] if matched_by_angle else []
            width = 0.55 if len(kinds) == 1 else 0.36
            for number, (label, recall, colour) in enumerate(kinds):
                places = [list(recall_by_angle).index(angle) + (number - (len(kinds) - 1) / 2) * width for angle in recall]
                bars = beside.bar(places, list(recall.values()), color=colour, width=width, label=label)
                beside.bar_label(bars, fmt="%.2f", padding=2)
            beside.set_xticks(range(len(recall_by_angle)), list(recall_by_angle))
            beside.set_ylabel("recall" if matched_by_angle else "")
            if matched_by_angle:
                _legend_above(beside)
            beside.set_xlabel("angle between the molecule's axis and the beam")
            if not matched_by_angle:
                beside.set_title("recall by orientation")
        else:
            beside.remove()
        for panel in (axes, beside) if recall_by_angle else (axes,):
            panel.set_ylim(0, 1.08)
            panel.set_yticks(np.linspace(0, 1, 6))
            panel.grid(axis="y", color="#e5e9ec", linewidth=0.8)
            panel.set_axisbelow(True)
        return _svg(figure)


def sphere_figure(cells_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Recall in each part of the half sphere of axes, seen along the beam in equal areas, a disc for each kind that has parts.

    The parts are those of ``evaluate.recall_on_sphere``: from and to which polar angle and azimuth, particles, recall.
    """
    shown = {label: cells for label, cells in cells_of.items() if cells}
    colours = colormaps["cividis"]
    with _drawn(2.9) as figure:
        for place, (label, cells) in enumerate(shown.items(), start=1):
            axes: Any = figure.add_subplot(1, 2, place, projection="polar")
            for cell in cells:
                low, high = (np.sqrt(1 - np.cos(np.deg2rad(cell[f"polar_{end}_deg"]))) for end in ("from", "to"))
                begin, end = (np.deg2rad(cell[f"azimuth_{end}_deg"]) for end in ("from", "to"))
                recall = cell["recall"]
                face = "white" if recall is None else colours(recall)
                line = 0 if low == 0 else 1.2  # a whole disc has no side to draw
                axes.bar(begin, high - low, end - begin, low, align="edge", color=face, edgecolor="white", linewidth=line)
                words = f"{cell['particles']}" if recall is None else f"{recall:.2f}\n{cell['particles']}"
                middle = 0.0 if low == 0 else (low + high) / 2
                ink = INK if recall is None or recall > 0.5 else "white"
                axes.text((begin + end) / 2, middle, words, ha="center", va="center", fontsize=7.2, color=ink)
            axes.set_title(label, pad=12)
            axes.set_ylim(0, 1)
            axes.set_yticks([])
            axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["x", "y\n(tilt axis)", "", ""])
            axes.grid(False)
            axes.spines["polar"].set_visible(False)
        return _svg(figure)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=6,
        columnspacing=0.9,
        handlelength=1.2,
        handletextpad=0.4,
        fontsize=7.2,
    )


def size_figure(sizes: Sequence[float], scores: Sequence[float], threshold: float | None) -> str:
    """Picks by segment size and by score, with the size threshold."""
    with _drawn(2.3) as figure:
        by_size, by_score = figure.subplots(1, 2)
        by_size.hist(sizes, bins=np.geomspace(min(sizes), max(sizes) + 1, 31), color=CLASS_COLOURS[1])
        by_size.set_xscale("log")
        if threshold is not None:
            by_size.axvline(threshold, color=CLASS_COLOURS[0], linestyle="--", linewidth=1.2, label="threshold used")
            by_size.legend()
        by_size.set_xlabel("segment size (voxels)")
        by_size.set_ylabel("segments")
        by_score.hist(scores, bins=40, color=CLASS_COLOURS[1])
        by_score.set_xlabel("score (mean log-odds)")
        return _svg(figure)
