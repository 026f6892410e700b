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
from template_learning.settings import DesignSettings

FACTORS = ("total_dose_e_per_angstrom2", "tilt_step_deg", "tilt_range_deg", "ice_density_g_per_cm3", "defocus_um")


def design_rows(settings: DesignSettings, root_seed: int) -> list[DesignRow]:
    """The rows of a design, ids ``t001`` ... in order.

    factorial: every combination of the listed values (the paper's 48).  sobol: points of SciPy's scrambled Sobol
    sequence between the least and the greatest listed values; one more row leaves the others as they are.

    Raises BadInput where no row would be left for training.
    """
    # Nuisances that keep one value take no part in the draw, so that the rows are the same as without them.
    nuisances = dict(settings.nuisances)
    fixed = {name: values[0] for name, values in nuisances.items() if len(set(values)) == 1}
    varied = (*FACTORS, *(name for name in nuisances if name not in fixed))
    levels = [nuisances[name] if name in nuisances else getattr(settings, name) for name in varied]
    factorial = settings.scheme == "factorial"
    points: Sequence[Sequence[float]] = (
        list(product(*levels)) if factorial else _sobol_points(levels, settings.tomograms, root_seed)
    )
    splits = _splits(settings, points, root_seed)
    digits = max(3, len(str(len(points))))
    rows = []
    for number, (point, split) in enumerate(zip(points, splits, strict=True), start=1):
        values = fixed | dict(zip(varied, map(float, point), strict=True))
        rows.append(DesignRow(id=f"t{number:0{digits}d}", split=split, phase_shift_deg=settings.phase_shift_deg, **values))
    return rows


def _sobol_points(levels: Sequence[Sequence[float]], count: int, root_seed: int) -> list[list[float]]:
    sampler = qmc.Sobol(len(levels), scramble=True, rng=np.random.default_rng(seed_for(root_seed, "design", "sobol")))
    unit = sampler.random_base2(int(np.ceil(np.log2(max(2, count)))))[:count]
    low, high = np.array([min(level) for level in levels]), np.array([max(level) for level in levels])
    return [[float(f"{value:.6g}") for value in point] for point in low + unit * (high - low)]


def _splits(settings: DesignSettings, points: Sequence[Sequence[float]], root_seed: int) -> list[Split]:
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


def _representative(points: Sequence[Sequence[float]], order: Sequence[int], number: int) -> list[int]:
    """So many of the rows in ``order``, each time the first whose levels, and then pairs of levels, were taken least often."""
    taken: list[int] = []
    levels: Counter[tuple[int, float]] = Counter()
    pairs: Counter[tuple[tuple[int, float], ...]] = Counter()
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
