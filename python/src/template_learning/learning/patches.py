"""Training patches: cut around particles from tomograms on disk, turned in the ways that the tilt geometry allows.

Every batch depends on the seed, its split and its number alone, so that a training that goes on after a kill sees the
batches that it would have seen.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id, read_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import generator_for
from template_learning.common.tables import DesignRow, ParticleRow, positions
from template_learning.learning.noise import MARGIN_VOXELS, NoiseBank, added_noise, noise_bank, noise_share, seen_frequencies
from template_learning.learning.normalisation import (
    BUT_CONSTANTS,
    Normalisation,
    band_deviation,
    constant_voxels,
    grey_statistics,
)
from template_learning.learning.random_imaging import imaged_anew, passes_all
from template_learning.learning.spectrum import band_pass, band_pass_inside
from template_learning.settings import TrainSettings
from template_learning.simulation.acquisition import Tilts

# Half turns about z, y and x as the pairs of array axes that they reverse ([z, y, x] arrays).  They, and no others,
# take the wedge of a symmetric tilt series about y onto itself and keep the hand; mirror images do not keep it.  Where the
# tilts have an offset, two of them give the wedge of the opposite one, which is as true a tomogram.
FLIPS: dict[str, list[tuple[int, ...]]] = {
    "none": [()],
    "tilt_axis": [(), (0, 2)],
    "half_turns": [(), (1, 2), (0, 2), (0, 1)],
    "mirrors": [(), (1, 2), (0, 2), (0, 1), (0,), (1,), (2,), (0, 1, 2)],
}

IMAGING = ("tilt_range_deg", "tilt_step_deg", "tilt_offset_deg", "total_dose_e_per_angstrom2")


@dataclass(frozen=True, kw_only=True)
class TrainingTomogram:
    """A tomogram and its truth, memory-mapped: ``data`` and ``labels`` [z, y, x], ``centre`` (N, 3) z, y, x in voxels.

    ``along_beam`` (N,) is the cosine of each particle's axis with the beam; NaN where it is not known.
    """

    identifier: str
    data: NDArray[Any]
    labels: NDArray[Any]
    voxel_size_angstrom: float
    mean: float
    std: float
    centre: NDArray[np.int64]
    class_id: NDArray[np.int64]
    along_beam: NDArray[np.float64]
    species: tuple[str, ...]
    class_names: dict[int, str]
    tilt_range_deg: float = 60.0
    tilt_step_deg: float = 3.0
    tilt_offset_deg: float = 0.0
    total_dose_e_per_angstrom2: float = 0.0
    passes_all: bool = False

    @property
    def tilts(self) -> Tilts:
        """Its tilt series'."""
        return Tilts(self.tilt_range_deg, self.tilt_step_deg, self.tilt_offset_deg)

    def normalised(self) -> NDArray[np.float32]:
        """Its grey values, in memory, brought to level 0 and spread 1 (``mean`` and ``std`` are what its normalisation takes)."""
        return (np.asarray(self.data, dtype=np.float32) - np.float32(self.mean)) / np.float32(self.std)


def open_tomogram(
    folder: Path, identifier: str, row: DesignRow | None = None, normalisation: Normalisation = "tomogram"
) -> TrainingTomogram:
    """The tomogram <id>.mrc of ``folder`` with <id>.labels.mrc and the targets (class_id > 0) of <id>.particles.csv.

    ``row`` says how it was imaged: its tilts and its dose.  ``normalisation`` is what its mean and deviation are by.

    Raises BadInput where a file is missing or wrong, shapes differ, or grey values are NaN, infinite or all the same.
    """
    checked_id(identifier)
    path = folder / f"{identifier}.mrc"
    data, voxel_size = read_mrc(path, memory_map=True)
    labels_path = folder / f"{identifier}.labels.mrc"
    labels, _ = read_mrc(labels_path, memory_map=True)
    if labels.shape != data.shape:
        raise BadInput(f"{labels_path}: shape {labels.shape} (z, y, x), that of the tomogram {data.shape} was expected")
    mean, std = grey_statistics(data, normalisation)
    if not np.isfinite(std) or std == 0:
        raise BadInput(f"{path}: grey values are NaN, infinite or all the same; a tomogram was expected")
    rows = [row for row in read_table(folder / f"{identifier}.particles.csv", ParticleRow) if row.class_id > 0]
    position = positions(rows)[:, ::-1]
    return TrainingTomogram(
        identifier=identifier,
        data=data,
        labels=labels,
        voxel_size_angstrom=voxel_size,
        mean=mean,
        std=std,
        centre=np.round(position / voxel_size).astype(np.int64),
        class_id=np.array([row.class_id for row in rows], dtype=np.int64),
        along_beam=np.array([row.axis_z for row in rows], dtype=float),
        species=tuple(row.species for row in rows),
        class_names={row.class_id: row.class_name for row in rows if row.class_name},
        **({name: getattr(row, name) for name in IMAGING} if row else {}),
        passes_all=row is not None and passes_all(row),
    )


def widen_wedge(grey: NDArray[np.float32], largest_tilt_deg: float, tilt_offset_deg: float = 0.0) -> NDArray[np.float32]:
    """A patch [z, y, x] as a tilt series about y would give it that ends ``largest_tilt_deg`` on either side of the offset.

    Fourier components steeper than that in x and z are set to zero; the mean stays.
    """
    spectrum = np.fft.rfftn(grey)
    z = np.fft.fftfreq(grey.shape[0])[:, None, None]
    x = np.fft.rfftfreq(grey.shape[2])
    spectrum *= seen_frequencies(z, x, largest_tilt_deg, tilt_offset_deg)
    return np.fft.irfftn(spectrum, s=grey.shape, axes=(0, 1, 2)).astype(np.float32)


class ViewWeights:
    """How much the voxels of a tomogram's targets count in the loss, by the angle at which each is seen."""

    def __init__(self, tomogram: TrainingTomogram, top_view_weight: float) -> None:
        """Raises BadInput where a target's axis is not known."""
        if np.isnan(tomogram.along_beam).any():
            raise BadInput(
                f"{tomogram.identifier}: particles without axis_z; train.loss.top_view_weight = {top_view_weight:g} needs each target's axis"
            )
        # The mean over random orientations, whose cosine's fourth power has a mean of a fifth, is 1.
        weight = (1 + (top_view_weight - 1) * tomogram.along_beam**4) / (1 + (top_view_weight - 1) / 5)
        self.of_class = {
            int(number): (KDTree(tomogram.centre[tomogram.class_id == number]), weight[tomogram.class_id == number])
            for number in np.unique(tomogram.class_id)
        }

    def of_voxels(self, labels: NDArray[np.int32], start: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weights of a patch's voxels [z, y, x], the first of which is ``start``: its nearest particle's, 1 in the background."""
        weight = np.ones(labels.shape, dtype=np.float32)
        for number, (tree, of_particle) in self.of_class.items():
            voxels = np.nonzero(labels == number)
            weight[voxels] = of_particle[tree.query(np.column_stack(voxels) + start)[1]]
        return weight


@dataclass(frozen=True)
class ImagedAnew:
    """A tomogram of the training as a network sees it when it is imaged anew, [z, y, x]; empty: as it was made."""

    number: int
    grey: NDArray[np.float32]
    turned: bool


class Patches(keras.utils.PyDataset):
    """Batches of patches: grey values [batch, z, y, x, 1] float32 and labels [batch, z, y, x] int32.

    With ``top_view_weight`` labels and their voxels' weights in the loss are one array [batch, z, y, x, 2], float32.

    A patch is centred on a particle, every class drawn equally often, and of it every tomogram that holds it (``bootstrap``),
    and shifted at random; a share lies anywhere.  Patches that would stick out are moved inside; a tomogram thinner than a
    patch is continued by its mirror image.  With ``dose_curriculum_fraction``
    a training begins with the fifth of the tomograms that took the most dose, where shapes are seen best, and lets in the
    others, and the noise of lower doses, by and by.
    """

    def __init__(
        self,
        tomograms: Sequence[TrainingTomogram],
        settings: TrainSettings,
        root_seed: int,
        *,
        split: Literal["train", "validation"],
        first: int,
        count: int,
        workers: int = 1,
    ) -> None:
        """``first`` is the number of the training's first batch, of ``count`` an epoch; ``workers`` threads cut batches ahead (1: none)."""
        super().__init__(workers=workers, max_queue_size=2 * workers)
        self.tomograms = list(tomograms)
        if settings.dose_curriculum_fraction > 0:
            self.tomograms.sort(key=lambda tomogram: -tomogram.total_dose_e_per_angstrom2)
        self.settings = settings
        self.root_seed = root_seed
        self.split = split
        self.begins = first
        self.first = first
        self.count = count
        self.particles: dict[int, NDArray[np.int64]] = {}  # class to rows (tomogram, z, y, x)
        table = np.concatenate(
            [
                np.column_stack([tomogram.class_id, np.full(len(tomogram.class_id), number), tomogram.centre])
                for number, tomogram in enumerate(self.tomograms)
            ]
        )
        if len(table) == 0:
            raise BadInput(f"no particles of a target class in the {split} tomograms; rows with class_id > 0 were expected")
        self.band = [self._band_of(tomogram) for tomogram in self.tomograms]
        self.noise_share = [self._noise_share_of(tomogram) for tomogram in self.tomograms]
        self.weights = [
            ViewWeights(tomogram, settings.loss.top_view_weight)
            for tomogram in self.tomograms
            if settings.loss.top_view_weight != 1
        ]
        self.banks: dict[tuple[Any, ...], NoiseBank] = {}
        self.anew: dict[int, tuple[int, ImagedAnew]] = {}  # slot of a batch to the number of what serves there
        self.locks = [threading.Lock() for _ in range(settings.batch_size)]
        groups = np.unique(table[:, 0]) if settings.bootstrap else [0]
        for group in groups:
            self.particles[int(group)] = table[table[:, 0] == group, 1:] if settings.bootstrap else table[:, 1:]

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.count

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Batch ``first + index`` of this split."""
        settings = self.settings
        generator = generator_for(self.root_seed, "train", f"patches-{self.split}-{self.first + index}")
        progress = self.progress(self.first + index)
        greys, labels = zip(
            *(
                self._patch(generator, self.tomograms_admitted(progress), progress, self._imaged_anew(self.first + index, slot))
                for slot in range(settings.batch_size)
            ),
            strict=True,
        )
        return np.stack(greys, dtype=np.float32)[..., None], np.stack(labels)

    def _band_of(self, tomogram: TrainingTomogram) -> tuple[tuple[float, float], float] | None:
        """The band to pass in voxels of the tomogram, and the deviation that the normalised tomogram has in it."""
        if self.settings.band_pass_angstrom is None:
            return None
        short, long = (sigma / tomogram.voxel_size_angstrom for sigma in self.settings.band_pass_angstrom)
        constant = constant_voxels(tomogram.data) if self.settings.normalisation in BUT_CONSTANTS else None
        return (short, long), band_deviation(
            band_pass(tomogram.normalised(), (short, long)), constant, self.settings.normalisation
        )

    def _noise_share_of(self, tomogram: TrainingTomogram) -> float | None:
        """How much of the tomogram's variance is noise, where its patches get more of it."""
        least = self.settings.augmentation.minimum_dose_e_per_angstrom2
        if least is None or least >= tomogram.total_dose_e_per_angstrom2:
            return None
        return noise_share(tomogram.data, tomogram.mean, tomogram.std, tomogram.tilts)

    def _bank_of(self, tomogram: TrainingTomogram, band_voxels: tuple[float, float] | None) -> NoiseBank:
        """Noise of that tilt series, made when it is first asked for."""
        tilts = tomogram.tilts
        key = (tilts, band_voxels)
        if key not in self.banks:
            named = tuple(tilts) if tilts.offset_deg else tuple(tilts)[:2]
            generator = generator_for(self.root_seed, "train", f"patches-noise-{named}")
            self.banks[key] = noise_bank(self.settings.patch_voxels, tilts, band_voxels, generator)
        return self.banks[key]

    def progress(self, batch: int) -> float:
        """How far that batch is in the beginning with high doses, 0 to 1; 1 for validation."""
        over = self.settings.dose_curriculum_fraction * self.settings.epochs * self.settings.steps_per_epoch
        done = max(0, batch - self.begins)
        return 1.0 if self.split == "validation" or done >= over else done / over

    def tomograms_admitted(self, progress: float) -> int:
        """How many of the tomograms, from the highest dose down, patches are drawn from."""
        first_with_particles = min(int(rows[0, 0]) for rows in self.particles.values())
        return max(1 + first_with_particles, math.ceil((0.2 + 0.8 * progress) * len(self.tomograms)))

    def _imaged_anew(self, batch: int, slot: int) -> ImagedAnew | None:
        """What the patch of a slot is cut from in that batch where it is a tomogram imaged anew; the slots change theirs one by one."""
        chosen = self.settings.augmentation.random_imaging
        if not chosen.fraction:
            return None
        ahead = slot * chosen.batches // self.settings.batch_size
        number = (batch + ahead) // chosen.batches
        with self.locks[slot]:
            kept, imaged = self.anew.get(slot, (-1, None))
            if imaged is None or kept != number:
                generator = generator_for(self.root_seed, "train", f"imaged-{self.split}-{slot}-{number}")
                imaged = self._image(generator, self.progress(max(0, number * chosen.batches - ahead)))
                self.anew[slot] = number, imaged
        return imaged if imaged.grey.size else None

    def _image(self, generator: np.random.Generator, progress: float) -> ImagedAnew:
        chosen = self.settings.augmentation.random_imaging
        number, _ = self._place(generator, self.tomograms_admitted(progress))
        if generator.random() >= chosen.fraction:
            return ImagedAnew(number, np.empty(0, dtype=np.float32), False)
        tomogram = self.tomograms[number]
        band_voxels, _ = self.band[number] or (None, 1.0)
        grid = Grid(shape=tomogram.data.shape, voxel_size_angstrom=tomogram.voxel_size_angstrom)
        grey = imaged_anew(tomogram.normalised(), grid, tomogram.tilts, tomogram.passes_all, chosen, generator, band_voxels)
        mean, std = grey_statistics(grey, self.settings.normalisation)
        scale = chosen.largest_scale_factor ** generator.uniform(-1, 1)
        return ImagedAnew(
            number, (grey - np.float32(mean)) * np.float32(scale / std), bool(generator.random() < chosen.turned_fraction)
        )

    def _place(
        self, generator: np.random.Generator, tomograms_admitted: int, only: int | None = None
    ) -> tuple[int, NDArray[np.int64]]:
        """The tomogram that a patch is cut from, ``only`` that one where it is given, and the voxel of its middle."""
        settings = self.settings
        if generator.random() >= settings.background_fraction:
            first, last = (0, tomograms_admitted) if only is None else (only, only + 1)
            choices = {
                group: rows[slice(*np.searchsorted(rows[:, 0], [first, last]))] for group, rows in self.particles.items()
            }
            there = [group for group, rows in choices.items() if len(rows)]
            if there:
                rows = choices[int(generator.choice(there))]
                if settings.bootstrap and only is None:
                    number = int(generator.choice(np.unique(rows[:, 0])))
                    rows = rows[slice(*np.searchsorted(rows[:, 0], [number, number + 1]))]
                row = rows[generator.integers(len(rows))]
                reach = settings.augmentation.random_shift_voxels
                return int(row[0]), row[1:] + generator.integers(-reach, reach + 1, size=3)
        number = int(generator.integers(tomograms_admitted)) if only is None else only
        return number, generator.integers(0, np.array(self.tomograms[number].data.shape))

    def _patch(
        self, generator: np.random.Generator, tomograms_admitted: int, progress: float, imaged: ImagedAnew | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        settings = self.settings
        edge = settings.patch_voxels
        number, centre = self._place(generator, tomograms_admitted, None if imaged is None else imaged.number)
        tomogram = self.tomograms[number]
        shape = tomogram.data.shape
        start = np.clip(centre - edge // 2, 0, np.maximum(0, np.array(shape) - edge))
        window = tuple(slice(int(begin), min(count, int(begin) + edge)) for begin, count in zip(start, shape, strict=True))
        if imaged is not None:
            return self._of_imaged(imaged, window, start, generator)
        margin = MARGIN_VOXELS if self.band[number] else 0
        wide = tuple(slice(max(0, axis.start - margin), axis.stop + margin) for axis in window)
        grey = np.asarray(tomogram.data[wide], dtype=np.float32)
        mean, std = tomogram.mean, tomogram.std
        if settings.normalisation == "patch":
            mean, std = float(grey.mean()), max(float(grey.std()), 1e-6 * tomogram.std)
        grey = (grey - mean) / std
        band_voxels, spread = self.band[number] or (None, 1.0)
        if band_voxels is not None:
            inner = tuple(
                slice(axis.start - other.start, axis.stop - other.start) for axis, other in zip(window, wide, strict=True)
            )
            grey = band_pass_inside(grey, band_voxels, inner)
        beyond = [(0, edge - count) for count in grey.shape]  # of a tomogram that is thinner than the patch
        grey = np.pad(grey, beyond, mode="reflect")
        if (noisy := self.noise_share[number]) is not None:
            # As a tomogram of a lower dose would be normalised.
            least = settings.augmentation.minimum_dose_e_per_angstrom2 or 0.0
            share = (least / tomogram.total_dose_e_per_angstrom2) ** (progress * generator.random())
            if (amount := added_noise(share, noisy)) > 0:
                bank = self._bank_of(tomogram, band_voxels)
                grey += np.float32(amount) * bank.draw(edge, generator)
                spread = math.sqrt(spread**2 + amount**2 * bank.variance)
        if settings.augmentation.missing_wedge_jitter_deg > 0:
            grey = widen_wedge(
                grey,
                tomogram.tilt_range_deg - generator.uniform(0, settings.augmentation.missing_wedge_jitter_deg),
                tomogram.tilt_offset_deg,
            )
        grey /= np.float32(spread)
        turns = FLIPS[settings.augmentation.rotation]
        axes = turns[generator.integers(len(turns))]
        if settings.augmentation.contrast_jitter > 0:
            scale, offset = generator.uniform(
                -settings.augmentation.contrast_jitter, settings.augmentation.contrast_jitter, size=2
            )
            grey = grey * np.float32(1 + scale)
            if self.band[number] is None:
                grey += np.float32(offset)
        return np.flip(grey, axes), np.flip(self._labels(number, window, start), axes)

    def _of_imaged(
        self, imaged: ImagedAnew, window: tuple[slice, ...], start: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        grey = imaged.grey[window]
        grey = np.pad(grey, [(0, self.settings.patch_voxels - count) for count in grey.shape], mode="reflect")
        labels = self._labels(imaged.number, window, start)
        if imaged.turned:  # by 90 degrees about z
            grey, labels = (np.flip(np.swapaxes(one, 1, 2), 1) for one in (grey, labels))
        turns = FLIPS[self.settings.augmentation.rotation]
        axes = turns[generator.integers(len(turns))]
        return np.flip(grey, axes), np.flip(labels, axes)

    def _labels(self, number: int, window: tuple[slice, ...], start: NDArray[np.int64]) -> NDArray[Any]:
        """Of a patch: its classes, and with ``top_view_weight`` the weights of its voxels."""
        labels: NDArray[Any] = np.asarray(self.tomograms[number].labels[window], dtype=np.int32)
        beyond = [(0, self.settings.patch_voxels - count) for count in labels.shape]
        if self.weights:
            labels = np.stack([labels, self.weights[number].of_voxels(labels, start)], axis=-1, dtype=np.float32)
        return np.pad(labels, [*beyond, *[(0, 0)] * (labels.ndim - 3)], mode="reflect")
