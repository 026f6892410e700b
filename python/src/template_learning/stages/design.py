"""DESIGN: the table of tomograms to simulate, one row each.  A row depends on nothing but the seed and its own number."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from template_learning.common.errors import BadInput
from template_learning.common.files import write_table
from template_learning.common.provenance import generator_for, seed_for, write_sidecar
from template_learning.common.tables import DesignRow, Split
from template_learning.settings import MOST_ROWS, PLAIN, DesignSettings

FACTORS = ("total_dose_e_per_angstrom2", "tilt_step_deg", "tilt_range_deg", "ice_density_g_per_cm3", "defocus_um")
"""What every design draws."""
COUNTS = ("tomograms", "test_tomograms", "validation_tomograms")
"""What a group of a mixture has of its own, or its part of."""
Level = float | str


def design_rows(settings: DesignSettings, root_seed: int) -> list[DesignRow]:
    """The rows of a design, ids ``t001`` ... in order; those of a mixture's group ``low``, ``low_t001`` ...

    factorial: every combination of the listed values (the paper's 48).  sobol: points of SciPy's scrambled Sobol
    sequence between the least and the greatest listed values; one more row leaves the others as they are, and so does
    another group.  The same row of two groups is the same point, each within its own bounds.

    Raises BadInput where no row would be left for training.
    """
    return [row for name, group in group_designs(settings).items() for row in _rows_of(name, group, root_seed)]


def group_designs(settings: DesignSettings) -> dict[str, DesignSettings]:
    """Each group's design, its numbers of tomograms among them; without groups the design's own, ``plain``.

    Numbers that are not a group's own are shared among the others by weight.

    Raises BadInput where a group is left without a tomogram.
    """
    plain = settings.model_copy(update={"groups": {}})
    designs = {name: plain.changed(group.design) for name, group in settings.groups.items()}
    if not designs:
        return {PLAIN: plain}
    held_out = dict.fromkeys(designs, 0)
    for count in COUNTS:
        weights = {name: group.weight for name, group in settings.groups.items() if count not in group.design}
        room = {
            name: design.tomograms - held_out[name] - 1 if count != "tomograms" and design.scheme == "sobol" else MOST_ROWS
            for name, design in designs.items()
        }
        shared = _shared(getattr(settings, count), weights, room)
        for name, number in shared.items():
            designs[name] = designs[name].model_copy(update={count: number})
        if count != "tomograms":
            held_out = {name: held_out[name] + getattr(design, count) for name, design in designs.items()}
    empty = [name for name, design in designs.items() if design.tomograms == 0]
    if empty:
        raise BadInput(
            f"design.groups.{empty[0]}: no tomogram of {settings.tomograms}; more of design.tomograms, a larger weight, or "
            "design.tomograms of its own were expected"
        )
    return designs


def _shared(total: int, weights: dict[str, float], room: dict[str, int]) -> dict[str, int]:
    """A number shared by weight, one by one to whom most is missing of its part, as far as there is room."""
    given = dict.fromkeys(weights, 0)
    whole = sum(weights.values())
    for _ in range(total):
        open_ones = [name for name in weights if given[name] < room[name]]
        if not open_ones:
            break
        given[max(open_ones, key=lambda name: total * weights[name] / whole - given[name])] += 1
    return given


def _rows_of(group: str, settings: DesignSettings, root_seed: int) -> list[DesignRow]:
    factors = {name: getattr(settings, name) for name in DesignRow.model_fields if name in DesignSettings.model_fields}
    levels: dict[str, list[Level]] = {**factors, **dict(settings.nuisances)}
    # What keeps one value takes no part in the draw, so that the rows are the same as without it.
    fixed = {name: values[0] for name, values in levels.items() if len(set(values)) == 1 and name not in FACTORS}
    varied = [*FACTORS, *(name for name, values in levels.items() if len(set(values)) > 1 and name not in FACTORS)]
    drawn = [levels[name] for name in varied]
    points: Sequence[Sequence[Level]] = (
        list(product(*drawn)) if settings.scheme == "factorial" else _sobol_points(drawn, settings.tomograms, root_seed)
    )
    try:
        splits = _splits(settings, points, root_seed)
    except BadInput as error:
        raise BadInput(f"{error} (group {group})" if group != PLAIN else str(error)) from None
    digits = max(3, len(str(len(points))))
    prefix = "" if group == PLAIN else f"{group}_"
    return [
        DesignRow(id=f"{prefix}t{number:0{digits}d}", split=split, group=group, **fixed | dict(zip(varied, point, strict=True)))
        for number, (point, split) in enumerate(zip(points, splits, strict=True), start=1)
    ]


def _sobol_points(levels: Sequence[Sequence[Level]], count: int, root_seed: int) -> list[list[Level]]:
    sampler = qmc.Sobol(len(levels), scramble=True, rng=np.random.default_rng(seed_for(root_seed, "design", "sobol")))
    unit = sampler.random_base2(int(np.ceil(np.log2(max(2, count)))))[:count]
    return [[_between(values, float(part)) for values, part in zip(levels, point, strict=True)] for point in unit]


def _between(levels: Sequence[Level], part: float) -> Level:
    """A number so far from the least level to the greatest, or one of the words that are no numbers."""
    numbers = [level for level in levels if not isinstance(level, str)]
    if not numbers:
        return levels[min(int(part * len(levels)), len(levels) - 1)]
    return float(f"{min(numbers) + part * (max(numbers) - min(numbers)):.6g}")


def _splits(settings: DesignSettings, points: Sequence[Sequence[Level]], root_seed: int) -> list[Split]:
    count = len(points)
    held_out = settings.test_tomograms + settings.validation_tomograms
    if held_out >= count:
        raise BadInput(
            f"design: {settings.test_tomograms} test and {settings.validation_tomograms} validation tomograms leave none of "
            f"{count} rows for training; fewer of them, or more rows, were expected"
        )
    splits: list[Split] = ["train"] * count
    if settings.scheme == "sobol":
        # Spread evenly in any order, and a row added must not move the others' split.
        for index in range(held_out):
            splits[index] = "test" if index < settings.test_tomograms else "validation"
        return splits
    # A factorial's rows are drawn so that those of a split represent the grid: two rows of one dose would choose for it alone.
    order = [int(index) for index in generator_for(root_seed, "design", "split").permutation(count)]
    wanted: list[tuple[Split, int]] = [("test", settings.test_tomograms), ("validation", settings.validation_tomograms)]
    for split, number in wanted:
        for index in _representative(points, order, number):
            splits[index] = split
            order.remove(index)
    return splits


def _representative(points: Sequence[Sequence[Level]], order: Sequence[int], number: int) -> list[int]:
    """So many of the rows in ``order``, each time the first whose levels, and then pairs of levels, were taken least often."""
    taken: list[int] = []
    levels: Counter[tuple[int, Level]] = Counter()
    pairs: Counter[tuple[tuple[int, Level], ...]] = Counter()
    for _ in range(number):
        best = min(
            (index for index in order if index not in taken),
            key=lambda index: (
                sum(levels[one] for one in enumerate(points[index])),
                sum(pairs[two] for two in combinations(enumerate(points[index]), 2)),
            ),
        )
        taken.append(best)
        levels.update(enumerate(points[best]))
        pairs.update(combinations(enumerate(points[best]), 2))
    return taken


def write_design(settings: DesignSettings, root_seed: int, output: Path) -> None:
    """DESIGN: write the design as a CSV table of DesignRow, with its sidecar.

    Parameters
    ----------
    settings : DesignSettings
        Section ``design``.
    root_seed : int
        The run's seed.
    output : Path
        The table to write.
    """
    rows = design_rows(settings, root_seed)
    write_table(output, DesignRow, rows)
    write_sidecar(output, stage="design", item=output.stem, seed=root_seed, settings=settings, tomograms=len(rows))
