"""Training patches: what they hold, and in what ways they are turned and weighted."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy import ndimage
from template_learning.common.errors import BadInput
from template_learning.common.geometry import random_rotations
from template_learning.learning.patches import FLIPS, Patches, TrainingTomogram, ViewWeights, open_tomogram

from ..toy_tomograms import SMALL, imaged

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_patches_hold_what_the_tomogram_holds_there(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed({"augmentation": {"rotation": "none", "random_shift_voxels": 30}, "background_fraction": 0.5})
    tomogram = open_tomogram(toy[1], "t0")
    assert set(tomogram.class_id) == {1}
    batch = Patches([tomogram], chosen, 3, split="train", first=0, count=5)[2]
    data = (np.asarray(tomogram.data) - tomogram.mean) / tomogram.std
    windows = np.lib.stride_tricks.sliding_window_view(data, (16, 16, 16))
    labels = np.lib.stride_tricks.sliding_window_view(np.asarray(tomogram.labels), (16, 16, 16))
    for grey, truth in zip(*batch, strict=True):
        place = np.argwhere(np.isclose(windows[..., 0, 0, 0], grey[0, 0, 0, 0], atol=1e-5))
        assert any(np.allclose(windows[tuple(p)], grey[..., 0], atol=1e-4) and (labels[tuple(p)] == truth).all() for p in place)


def test_patches_are_centred_on_targets_and_depend_on_their_number_alone(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed(
        {"background_fraction": 0.0, "augmentation": {"random_shift_voxels": 0, "minimum_dose_e_per_angstrom2": 10}}
    )
    tomograms = [open_tomogram(toy[1], name, imaged(60.0)) for name in ("t0", "t1")]
    early = Patches(tomograms, chosen, 3, split="train", first=0, count=8)
    late = Patches(tomograms, chosen, 3, split="train", first=4, count=4)
    for index in range(4):
        for first, second in zip(early[4 + index], late[index], strict=True):
            assert np.array_equal(first, second)
    assert not np.array_equal(early[0][0], early[1][0])
    middle = np.concatenate([early[index][1] for index in range(8)])[:, 6:10, 6:10, 6:10]
    assert (middle.reshape(len(middle), -1) == 1).any(axis=1).mean() > 0.6  # those near a border are moved inside


def test_patches_of_a_thin_tomogram_are_its_mirror_image_beyond_it(toy: tuple[Path, Path]) -> None:
    whole = open_tomogram(toy[1], "t0")
    thin = replace(whole, data=whole.data[:9], labels=whole.labels[:9], centre=np.minimum(whole.centre, (8, 99, 99)))
    grey, labels = Patches([thin], SMALL.changed({"augmentation": {"rotation": "none"}}), 3, split="train", first=0, count=1)[0]
    assert grey.shape == (2, 16, 16, 16, 1)
    assert labels.shape == (2, 16, 16, 16)
    assert labels.any()
    np.testing.assert_array_equal(grey[:, 9:16], grey[:, 7:0:-1])
    np.testing.assert_array_equal(labels[:, 9:16], labels[:, 7:0:-1])


def with_axes(tomogram: TrainingTomogram) -> TrainingTomogram:
    """The first target a top view, the second on the slant by 60 degrees, the others side views."""
    along_beam = np.zeros(len(tomogram.class_id))
    along_beam[:2] = 1.0, -0.5
    return replace(tomogram, along_beam=along_beam)


def test_voxels_of_a_top_view_weigh_more_and_stay_with_their_labels(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed({"augmentation": {"rotation": "mirrors", "random_shift_voxels": 30}, "background_fraction": 0.5})
    tomogram = with_axes(open_tomogram(toy[1], "t0"))
    plain = Patches([tomogram], chosen, 3, split="train", first=0, count=30)
    weighted = Patches([tomogram], chosen.changed({"loss": {"top_view_weight": 17.0}}), 3, split="train", first=0, count=30)
    seen = set()
    for index in range(30):
        grey, both = weighted[index]
        assert np.array_equal(grey, plain[index][0])
        labels, weight = both[..., 0], both[..., 1]
        assert np.array_equal(labels, plain[index][1])
        assert (weight[labels == 0] == 1).all()
        seen |= set(weight[labels == 1].tolist())
        for item in range(len(grey)):
            particle, _ = ndimage.label(labels[item])
            for number in range(1, particle.max() + 1):
                assert len(np.unique(weight[item][particle == number])) == 1
    assert sorted(seen) == pytest.approx([1 / 4.2, 2 / 4.2, 17 / 4.2])


def test_views_weigh_one_on_average_over_all_orientations(toy: tuple[Path, Path]) -> None:
    tomogram = open_tomogram(toy[1], "t0")
    axis = random_rotations(20_000, np.random.default_rng(1)).apply([0.0, 0.0, 1.0])
    many = replace(
        tomogram,
        centre=np.zeros((len(axis), 3), dtype=np.int64),
        class_id=np.ones(len(axis), dtype=np.int64),
        along_beam=axis[:, 2],
    )
    for top_view_weight in (0.5, 3.0, 20.0):
        weight = ViewWeights(many, top_view_weight).of_class[1][1]
        assert weight.mean() == pytest.approx(1, abs=0.03)
        assert weight[np.abs(axis[:, 2]).argmax()] / weight[np.abs(axis[:, 2]).argmin()] == pytest.approx(
            top_view_weight, rel=0.01
        )


def test_top_view_weight_needs_the_particles_axes(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed({"loss": {"top_view_weight": 3.0}})
    with pytest.raises(BadInput, match=r"t0: particles without axis_z; train.loss.top_view_weight = 3"):
        Patches([open_tomogram(toy[1], "t0")], chosen, 3, split="train", first=0, count=1)


def test_high_doses_come_first_and_the_others_by_and_by(toy: tuple[Path, Path]) -> None:
    chosen = SMALL.changed(
        {"dose_curriculum_fraction": 0.5, "epochs": 10, "steps_per_epoch": 10, "background_fraction": 0.3, "batch_size": 4}
    )
    doses = {"t0": 20.0, "t1": 100.0}
    tomograms = [open_tomogram(toy[1], name, imaged(dose)) for name, dose in doses.items()]

    def taken_from_low_dose(split: Literal["train", "validation"], batches: range) -> float:
        patches = Patches(tomograms, chosen, 3, split=split, first=0, count=100)
        low = (np.asarray(tomograms[0].data) - tomograms[0].mean) / tomograms[0].std
        greys = [grey for batch in batches for grey in patches[batch][0][..., 0]]
        there = [all(np.isclose(low, grey[5, 5, x], atol=1e-6, rtol=0).any() for x in range(4, 8)) for grey in greys]
        return float(np.mean(there))

    assert taken_from_low_dose("train", range(0, 18)) == 0
    assert 0.2 < taken_from_low_dose("train", range(50, 70)) < 0.8
    assert 0.2 < taken_from_low_dose("validation", range(0, 18)) < 0.8


def test_half_turns_keep_the_hand_and_mirrors_too_the_wedge() -> None:
    frequency = np.stack(np.meshgrid(*[np.fft.fftfreq(9)] * 3, indexing="ij"))
    wedge = np.abs(frequency[0]) > np.tan(np.deg2rad(50)) * np.abs(frequency[2])
    for axes in FLIPS["half_turns"]:
        assert len(axes) in (0, 2)  # an even number of reversals is a rotation
    assert set(FLIPS["half_turns"]) < set(FLIPS["mirrors"])
    assert len(set(FLIPS["mirrors"])) == 8
    for axes in FLIPS["mirrors"]:
        assert np.array_equal(np.fft.fftshift(wedge), np.flip(np.fft.fftshift(wedge), axes))
