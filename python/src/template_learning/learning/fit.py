"""Whether a tomogram is one that a model can be shown: its size, its voxels and its contrast.  Needs no Keras."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE, resampled_shape
from template_learning.learning.model_card import ModelCard
from template_learning.learning.normalisation import BUT_CONSTANTS, constant_voxels

LEAST_SLICES = 4
LEAST_VOXELS = 16
"""Along y and x; fewer are no field of view."""
DOUBTED_FACTOR = 2.0
LARGEST_GIB = 36.0
"""What SEGMENT asks for at most (conf/base.config: 12 GB, three times that at the last try)."""
NANOMETRES = 10.0
LEAST_LIKELY_ANGSTROM = 1.5
"""Tomograms are binned to more than this before anything is looked for in them."""
DISAGREEMENT = 0.05
"""Of the table's voxel size and the header's; smaller ones are calibrations."""
FEWEST_VALUES = 16
MOST_CONSTANT = 0.25
LARGEST_SPREAD = 5.0
"""Standard deviation over that of the middle half of the voxels; gold makes it 2 or so."""
LONGEST, THINNEST = 1.5, 0.5
"""Slices over the longer edge, and the shorter edge over slices, from which on axes look exchanged."""
BRIGHT_SKEWNESS = 0.2
"""Simulated tomograms with dark protein had -0.3 (15 e/Å^2) to -0.8, real ribosomes -0.3, real bright chromatin 2.4 to 5.0."""
NARROW, WIDE = 0.6, 1.8
"""Sigmas of the two Gaussians whose difference shows bodies of radius 1: with them, best F1 on real nucleosomes 0.91 to 0.94."""
COLUMN = "column voxel_size_angstrom of the tomograms' table stands in for the header's"


def check_size(shape: tuple[int, ...], name: str) -> None:
    """Raise BadInput for a volume [z, y, x] that is too small to be a tomogram."""
    if shape[0] < LEAST_SLICES or min(shape[1:]) < LEAST_VOXELS:
        raise BadInput(
            f"{name}: {_by(shape)} voxels (z, y, x); at least {LEAST_SLICES} slices, and {LEAST_VOXELS} voxels along y and x, were expected"
        )


def check_fits(grid: Grid, card: ModelCard, name: str, whose: str = "the model's") -> None:
    """Raise BadInput for a tomogram that, at the model's voxel size, is next to nothing or more than a task's memory holds.

    ``whose`` is what the voxel size is called where there is no model yet.
    """
    shape = resampled_shape(grid.shape, card.voxel_size_angstrom / grid.voxel_size_angstrom)
    at = (
        f"{name}: {_by(grid.shape)} voxels (z, y, x) of {grid.voxel_size_angstrom:g} Å are {_by(shape)} of {whose}"
        f" {card.voxel_size_angstrom:g} Å"
    )
    if min(shape[1:]) < LEAST_VOXELS:
        raise BadInput(f"{at}, of which at least {LEAST_VOXELS} along y and x were expected; {COLUMN}")
    enlarged = np.prod(shape, dtype=float) / np.prod(grid.shape, dtype=float)
    if enlarged > DOUBTED_FACTOR and memory_gib(grid, card) > LARGEST_GIB:
        raise BadInput(
            f"{at}, for which SEGMENT needs about {memory_gib(grid, card):.0f} GiB; {LARGEST_GIB:g} at most were expected; {COLUMN}"
        )


def memory_gib(grid: Grid, card: ModelCard) -> float:
    """About what segmenting takes: grey values, filtered ones and a probability of each class, there and on the own grid."""
    shape = resampled_shape(grid.shape, card.voxel_size_angstrom / grid.voxel_size_angstrom)
    outputs = len(card.classes) + 1
    floats = np.prod(shape, dtype=float) * (4 + outputs) + np.prod(grid.shape, dtype=float) * (1 + outputs)
    return float(4 * floats / 2**30)


def doubts(
    data: NDArray[np.generic],
    grid: Grid,
    card: ModelCard | None,
    *,
    header_angstrom: float,
    size_given: bool,
    contrast: str,
    whose: str = "the model's",
) -> list[str]:
    """What is probably wrong with a tomogram, one line each.

    ``card`` is the model's, or says what a model of this run will be shown; ``size_given``: its voxel size is the user's word,
    beside ``header_angstrom`` (0 where it does not tell).
    """
    found = [
        doubt for doubt in (_doubted_size(grid, card, header_angstrom, size_given, whose), _doubted_axes(grid.shape)) if doubt
    ]
    values = len(np.unique(data.ravel()[:: max(1, data.size // 1_000_000)]))
    if values <= FEWEST_VALUES:
        return [*found, f"{values} grey values in all, as in a mask or a segmentation; a tomogram has many"]
    found += _doubted_voxels(data, card)
    memory = memory_gib(grid, card) if card is not None else 0.0
    if memory > LARGEST_GIB / 3:
        found.append(f"SEGMENT needs about {memory:.0f} GiB of memory for it (process.memory of SEGMENT)")
    skewness = blob_skewness(data, object_radius_voxels(card, grid.voxel_size_angstrom))
    skewness *= {"auto": 0, "protein_dark": 1, "protein_bright": -1}[contrast]  # SEGMENT looks for itself, and says so
    if skewness > BRIGHT_SKEWNESS:
        other = "protein_bright" if contrast == "protein_dark" else "protein_dark"
        found.append(
            f"its densest voxels are {'bright' if contrast == 'protein_dark' else 'dark'}, and segment.contrast = {contrast};"
            f" where protein is so, set segment.contrast = {other}, or auto"
        )
    return found


def _doubted_size(grid: Grid, card: ModelCard | None, header_angstrom: float, size_given: bool, whose: str) -> str | None:
    voxel = grid.voxel_size_angstrom
    wanted = card.voxel_size_angstrom if card is not None else None
    apart = _factor(voxel, wanted) if wanted else 1.0
    y, x = (count * voxel / 10 for count in grid.shape[1:])
    beside = f"; {whose} are {wanted:g} Å" if wanted else ""
    unit = " In nanometres?" if wanted and abs(wanted / voxel / NANOMETRES - 1) < DISAGREEMENT else ""
    if size_given:
        told = abs(header_angstrom - 1) > 1e-3 and header_angstrom > 0
        if told and _factor(voxel, header_angstrom) > 1 + DISAGREEMENT and wanted and apart > _factor(header_angstrom, wanted):
            return f"voxels of {voxel:g} Å by the table and {header_angstrom:g} Å by its header{beside}. Is the table right?"
        if apart >= 2 * DOUBTED_FACTOR:
            return f"voxels of {voxel:g} Å by the table, a field of {y:.0f} x {x:.0f} nm{beside}. Is that so?{unit}"
        return None
    unset = " 1 Å is what programs write that were not told the size." if abs(voxel - 1) < 1e-3 else ""
    doubted = apart >= DOUBTED_FACTOR * (1 - VOXEL_SIZE_TOLERANCE) if wanted else voxel < LEAST_LIKELY_ANGSTROM
    if doubted or unset:
        return (
            f"voxels of {voxel:g} Å by its header, a field of {y:.0f} x {x:.0f} nm{beside}. Is that so?{unset}{unit} {COLUMN}"
        )
    return None


def _doubted_voxels(data: NDArray[np.generic], card: ModelCard | None) -> list[str]:
    found = []
    if (data[1:] == data[:-1]).all():
        found.append(f"all {len(data)} slices are the same; a tomogram's differ")
    if card is not None and card.normalisation in BUT_CONSTANTS:
        return found
    some = np.asarray(data.ravel()[:: max(1, data.size // 1_000_000)], dtype=np.float64)
    median = float(np.median(some))
    constant = float((some == median).mean())
    if constant > MOST_CONSTANT:
        found.append(
            f"{constant:.0%} of the voxels are {median:g}, a padding or a mask? They change the scale that the network sees the rest on; "
            "cut them off (a model trained with train.normalisation = robust minds them not)"
        )
        return found
    inner = np.percentile(some, [25, 75])
    spread, whole = float(inner[1] - inner[0]) / 1.349, float(data.std(dtype=np.float64))
    if spread > 0 and whole > LARGEST_SPREAD * spread:
        highest = max(data.min(), data.max(), key=lambda value: abs(float(value) - median))
        found.append(
            f"a few voxels, up to {float(highest):.3g}, spread the grey values {whole / spread:.0f} times as wide as the rest; "
            "clip them, or the network sees the rest flat"
        )
    return found


def _doubted_axes(shape: tuple[int, ...]) -> str | None:
    z, y, x = shape
    if z > LONGEST * max(y, x):
        return f"{_by(shape)} voxels (z, y, x): z, the beam's direction, is its longest axis by far. Are the axes in another order?"
    if min(y, x) < THINNEST * z:
        thin = "y" if y < x else "x"
        turned = " (IMOD's tilt leaves y and z exchanged; trimvol -rx turns it)" if thin == "y" else ""
        return f"{_by(shape)} voxels (z, y, x): {thin} is thinner than z, the beam's direction, by far. Is it turned?{turned}"
    return None


def _factor(one: float, other: float) -> float:
    return max(one / other, other / one)


def object_radius_voxels(card: ModelCard | None, voxel_size_angstrom: float) -> float:
    """The radius of the smallest class's objects in voxels of that size; of six of the model's voxels where none says."""
    if card is None:
        return 6.0
    radii = [radius for radius in (card.radius_angstrom(number) for number in card.classes) if radius is not None]
    return min(radii, default=6 * card.voxel_size_angstrom) / voxel_size_angstrom


def blob_response(data: NDArray[np.generic], radius_voxels: float) -> NDArray[np.float32]:
    """A volume [z, y, x] after a difference of two Gaussians: high where a bright body of that radius is.

    Constant voxels (paddings) are taken for the median of the others.
    """
    grey = np.asarray(data, dtype=np.float32)
    constant = constant_voxels(grey)
    if constant.any() and not constant.all():
        grey = np.where(constant, np.median(grey[~constant]), grey)
    narrow, wide = (ndimage.gaussian_filter(grey, share * radius_voxels) for share in (NARROW, WIDE))
    return np.asarray(narrow - wide, dtype=np.float32)


def blob_skewness(data: NDArray[np.generic], radius_voxels: float) -> float:
    """Third standardised moment of ``blob_response``, its extremes cut off: negative where bodies are dark.

    Of a large volume a part about its middle is taken.
    """
    middle = tuple(slice(max(0, count // 2 - 128), count // 2 + 128) for count in data.shape)
    band = blob_response(data[middle], radius_voxels)
    band = np.clip(band, *np.percentile(band, [0.1, 99.9]))
    spread = float(band.std())
    return float(((band - band.mean()) ** 3).mean() / spread**3) if spread > 0 else 0.0


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
