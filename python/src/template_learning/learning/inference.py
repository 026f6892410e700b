"""SEGMENT: the network applied to whole tomograms, tile by tile."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from template_learning.common.errors import BadInput
from template_learning.common.geometry import Grid
from template_learning.common.log import tell
from template_learning.common.resampling import VOXEL_SIZE_TOLERANCE, resample
from template_learning.learning.fit import check_fits
from template_learning.learning.model_card import ModelCard
from template_learning.learning.network import JIT_COMPILE, grid_multiple
from template_learning.learning.normalisation import (
    BUT_CONSTANTS,
    Normalisation,
    band_deviation,
    constant_voxels,
    grey_statistics,
)
from template_learning.learning.patches import FLIPS
from template_learning.learning.spectrum import band_pass, match_spectrum
from template_learning.settings import SegmentSettings

LEAST_PROBABILITY = np.finfo(np.float32).tiny
"""What a probability is taken for that is smaller than float32 has."""


def classes_and_log_odds(
    probability: NDArray[np.float32], settings: SegmentSettings
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The class of each voxel, and the log-odds of its likeliest target class.

    A probability is 1 to its last digit where its odds are above 10^7; the others' sum, which the odds are taken to, is not 0.

    Parameters
    ----------
    probability : (z, y, x, class) array of float32
        As ``segment_volume`` gives it.
    settings : SegmentSettings
        The likeliest target class counts from ``probability_threshold`` on, without one where nothing is likelier.

    Returns
    -------
    classes : (z, y, x) array of uint8
        0 is the background.
    log_odds : (z, y, x) array of float32
        Natural logarithm of the likeliest target class's probability over the sum of all others', within +-87.
    """
    classes = np.empty(probability.shape[:-1], np.uint8)
    log_odds = np.empty(probability.shape[:-1], np.float32)
    for section, of_class, of_odds in zip(probability, classes, log_odds, strict=True):  # whole it would be another copy
        likeliest = 1 + section[..., 1:].argmax(axis=-1, keepdims=True)
        best = np.take_along_axis(section, likeliest, axis=-1)[..., 0]
        others = np.where(np.arange(section.shape[-1]) == likeliest, np.float32(0), section).sum(axis=-1)
        of_odds[...] = np.log(np.maximum(best, LEAST_PROBABILITY)) - np.log(np.maximum(others, LEAST_PROBABILITY))
        if settings.probability_threshold is None:
            of_class[...] = section.argmax(axis=-1)
        else:
            of_class[...] = np.where(best >= settings.probability_threshold, likeliest[..., 0], 0)
    return classes, log_odds


def segment_on_own_grid(
    network: Any, card: ModelCard, data: NDArray[Any], voxel_size_angstrom: float, settings: SegmentSettings, name: str
) -> NDArray[np.float32]:
    """Probabilities [z, y, x, class] on the tomogram's own grid, brought to the model's voxel size in between.

    A tomogram thinner than the training patches is mirrored just as far as the network's poolings need.  Mirrored up to the
    patch, or set in empty ice, the demo's tomograms cut to 5 to 24 slices gave results further from those of the whole.
    Raises BadInput for a tomogram that cannot be brought to the model's voxel size (see ``fit.py``).
    """
    check_fits(Grid(shape=data.shape, voxel_size_angstrom=voxel_size_angstrom), card, name)
    if abs(card.voxel_size_angstrom / voxel_size_angstrom - 1) > VOXEL_SIZE_TOLERANCE:
        size = card.voxel_size_angstrom
        tell(f"{name}: resampled from {voxel_size_angstrom:g} to the model's {size:g} Å and the result back")
    return segment_resampled(network, card, data, voxel_size_angstrom, settings)


def segment_resampled(
    network: Any, card: ModelCard, data: NDArray[Any], voxel_size_angstrom: float, settings: SegmentSettings
) -> NDArray[np.float32]:
    """The same, unchecked."""
    ratio = card.voxel_size_angstrom / voxel_size_angstrom
    same = abs(ratio - 1) <= VOXEL_SIZE_TOLERANCE
    grey = data if same else resample(data, ratio)
    probability = segment_volume(network, grey, settings, card.radial_spectrum, card.band_voxels, card.normalisation)
    if same:
        return probability
    back = [
        ndimage.affine_transform(
            probability[..., number], np.full(3, 1 / ratio), output_shape=data.shape, order=1, mode="nearest"
        )
        for number in range(probability.shape[-1])
    ]
    return np.stack(back, axis=-1)


def segment_volume(
    network: Any,
    volume: NDArray[Any],
    settings: SegmentSettings,
    spectrum: list[float] | None = None,
    band_voxels: tuple[float, float] | None = None,
    normalisation: Normalisation = "tomogram",
) -> NDArray[np.float32]:
    """Class probabilities of a tomogram of any size.

    The volume is brought to the scale of the network's training (``network_input``), reflected at its borders up to what the network needs, and cut into
    tiles that overlap; where they do, their probabilities are averaged with weights that fall off towards each tile's
    border.

    Parameters
    ----------
    network : keras.Model
        As ``load_model`` gives it.
    volume : (z, y, x) array
        Grey values on the network's voxel size, protein as ``settings.contrast`` says.
    settings : SegmentSettings
        Tiles, contrast, and whether the mean over half turns is taken.
    spectrum : list of float, optional
        The radial spectrum to match where the settings ask for it (the card's ``radial_spectrum``).
    band_voxels : (float, float), optional
        The band that the network was trained on, in voxels (the card's ``band_voxels``).
    normalisation : "tomogram", "patch" or "robust"
        What its grey values were scaled by (the card's ``normalisation``).

    Returns
    -------
    (z, y, x, class) array of float32
        Class 0 is the background.
    """
    grey = network_input(volume, settings, spectrum, band_voxels, normalisation)
    shape = grey.shape
    multiple = grid_multiple(network)
    grey = np.pad(grey, [(0, -count % multiple) for count in shape], mode="reflect")
    layout = [tile_layout(count, settings.tile_voxels, settings.overlap_voxels, multiple) for count in grey.shape]
    tile, starts = tuple(edge for edge, _ in layout), [begins for _, begins in layout]
    total = np.zeros((*grey.shape, network.output_shape[-1]), dtype=np.float32)
    weights = np.zeros((*grey.shape, 1), dtype=np.float32)
    turns = FLIPS["half_turns" if settings.test_time_augmentation else "none"]
    console = Console(stderr=True)
    tiles = list(itertools.product(*starts))
    network.jit_compile = JIT_COMPILE
    for start in track(tiles, "segmenting", console=console, disable=not console.is_terminal):
        window = tuple(slice(begin, begin + edge) for begin, edge in zip(start, tile, strict=True))
        weight = tile_weight(start, tile, grey.shape, settings.overlap_voxels)
        for axes in turns:
            turned = np.flip(grey[window], axes)[None, ..., None]
            total[window] += weight * np.flip(network.predict_on_batch(turned)[0], axes) / len(turns)
        weights[window] += weight
    total /= weights
    return total[: shape[0], : shape[1], : shape[2]]


def network_input(
    volume: NDArray[Any],
    settings: SegmentSettings,
    spectrum: list[float] | None,
    band_voxels: tuple[float, float] | None,
    normalisation: Normalisation,
) -> NDArray[np.float32]:
    """A tomogram [z, y, x] as a network sees it, protein dark: its level 0, its spread 1 (in the band, where there is one).

    With ``robust`` voxels of paddings and masks are at the level, and neither level nor spread depends on them.
    A network that was trained on normalised patches is given the whole tomogram's mean and deviation.
    Raises BadInput where grey values are NaN, infinite or all the same.
    """
    mean, std = grey_statistics(volume, normalisation)
    if not np.isfinite(std) or std == 0:
        raise BadInput("tomogram: grey values are NaN, infinite or all the same")
    sign = -1.0 if settings.contrast == "protein_bright" else 1.0
    grey = ((np.asarray(volume, dtype=np.float32) - mean) * (sign / std)).astype(np.float32)
    constant = constant_voxels(volume) if normalisation in BUT_CONSTANTS else None
    if constant is not None:
        grey[constant] = 0.0
    if settings.match_spectrum:
        grey = match_spectrum(grey, spectrum)
    if band_voxels is not None:
        grey = band_pass(grey, band_voxels)
        grey /= band_deviation(grey, constant, normalisation)
    return grey


def tile_layout(count: int, largest: int, overlap: int, multiple: int = 4) -> tuple[int, list[int]]:
    """Edge of the tiles along an axis of ``count`` voxels, and where they begin.

    As few tiles of at most ``largest`` as overlap by ``overlap`` or more, and no larger than that takes.  All numbers
    are multiples of ``multiple``, so that the poolings' grid is the same in every tile.
    """
    overlap = -(-overlap // multiple) * multiple
    largest = largest // multiple * multiple
    step = max(multiple, largest - overlap)
    gaps = -(-max(0, count - largest) // step)
    tile = min(count, largest, -(-(count + gaps * overlap) // (gaps + 1) // multiple) * multiple)
    last = (count - tile) // multiple
    return tile, [index * last // gaps * multiple for index in range(gaps + 1)] if gaps else [0]


def tile_weight(start: tuple[int, ...], tile: tuple[int, ...], shape: tuple[int, ...], overlap: int) -> NDArray[np.float32]:
    """Weights [z, y, x, 1] of the voxels of a tile at ``start`` in a volume of ``shape``.

    Next to nothing in the outer quarter of the overlap, where the network sees a border that is none, rising linearly
    over the half within, 1 inside and up to the volume's own borders.
    """
    ramps = []
    for begin, edge, count in zip(start, tile, shape, strict=True):
        before = np.arange(edge) + (0.5 if begin > 0 else overlap)
        after = np.arange(edge)[::-1] + (0.5 if begin + edge < count else overlap)
        ramps.append(np.clip((np.minimum(before, after) - overlap / 4) / max(overlap / 2, 1), 1e-3, 1.0))
    z, y, x = ramps
    return (z[:, None, None] * y[:, None] * x)[..., None].astype(np.float32)
