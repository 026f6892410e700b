"""Tomograms beside a model's card: what is taken, doubted or refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from template_learning.common.geometry import Grid
from template_learning.common.resampling import resample, resampled_shape
from template_learning.learning.fit import blob_skewness, memory_gib
from template_learning.learning.model_card import ModelCard

from ..cases import Case

CARD = ModelCard(voxel_size_angstrom=8.0, classes={1: ["x"]}, filters=4, patch_voxels=48, label_radius_angstrom={1: 20.0})


def bodies(sign: int, slices: int = 32, shape: tuple[int, int] = (40, 40)) -> NDArray[np.float32]:
    """Noise with small bodies in it, dark (-1) or bright (1)."""
    generator = np.random.default_rng(4)
    data = generator.standard_normal((slices, *shape)).astype(np.float32)
    for z, y, x in generator.integers(4, 28, (30, 3)):
        data[z % slices - 2 : z % slices + 2, y % shape[0] - 2 : y % shape[0] + 2, x % shape[1] - 2 : x % shape[1] + 2] += (
            sign * 4
        )
    return data


def with_voxel(grey: float) -> NDArray[np.float32]:
    data = bodies(-1)
    data[3, 20, 20] = -grey
    return data


def half_empty() -> NDArray[np.float32]:
    data = bodies(-1)
    data[:, :, 20:] = 0
    return data


def given(
    voxel: float = 8.0,
    by_user: float | None = None,
    sign: int = -1,
    slices: int = 32,
    contrast: str = "protein_dark",
    shape: tuple[int, int] = (40, 40),
) -> Any:
    return lambda: (bodies(sign, slices, shape), voxel, by_user, contrast)


CASES = [
    Case("40 slices, fewer than the model's patch", given(slices=40), "taken"),
    Case("17 slices", given(slices=17), "taken"),
    Case("5 slices", given(slices=5), "taken"),
    Case("voxels of 5 Å", given(voxel=5.0), "taken", note="resampled for the network, and the result back"),
    Case("voxels of 4 Å by the header", given(voxel=4.0), "warning", "voxels of 4 Å by its header"),
    Case("voxels of 16 Å by the header", given(voxel=16.0), "warning", "voxels of 16 Å by its header"),
    Case("voxels of 0.8 Å by the header, nanometres", given(voxel=0.8, shape=(200, 200)), "warning", "In nanometres?"),
    Case("voxels of 8 Å by the table, of 16 Å by the header", given(voxel=16.0, by_user=8.0), "taken"),
    Case("voxels of 8 Å by the table, of 1 Å by the header", given(voxel=1.0, by_user=8.0), "taken"),
    Case("voxels of 9 Å by the table, of none by the header", given(voxel=0.0, by_user=9.0), "taken"),
    Case(
        "voxels of 16 Å by the table, and the model's 8 Å by the header",
        given(voxel=8.0, by_user=16.0),
        "warning",
        "16 Å by the table and 8 Å by its header",
    ),
    Case(
        "voxels of 0.8 Å by the table, nanometres", given(voxel=1.0, by_user=0.8, shape=(200, 200)), "warning", "In nanometres?"
    ),
    Case(
        "voxels of 1 Å by the header, a default of many programs",
        given(voxel=1.0, shape=(160, 160)),
        "warning",
        "what programs write that were not told",
    ),
    Case("more slices than rows and columns by far", given(slices=80), "warning", "Are the axes in another order?"),
    Case(
        "y thinner than z by far, as IMOD's tilt leaves it", given(slices=40, shape=(18, 40)), "warning", "trimvol -rx turns it"
    ),
    Case(
        "voxels of 1 Å, so that 5 of the model's are left",
        given(voxel=1.0),
        "refused",
        "at least 16 along y and x were expected",
    ),
    Case("voxels of 320 Å, the cell in one voxel", given(voxel=320.0), "refused", "GiB; 36 at most were expected"),
    Case(
        "a segmentation where a tomogram is wanted",
        lambda: ((bodies(-1) > 1.0).astype(np.int8), 8.0, None, "protein_dark"),
        "warning",
        "as in a mask or a segmentation",
    ),
    Case("a voxel of 1e9", lambda: (with_voxel(1e9), 8.0, None, "protein_dark"), "warning", "clip them"),
    Case("half of it one value", lambda: (half_empty(), 8.0, None, "protein_dark"), "warning", "a padding or a mask?"),
    Case(
        "the same slice throughout",
        lambda: (np.repeat(bodies(-1)[8:9], 32, axis=0), 8.0, None, "protein_dark"),
        "warning",
        "slices are the same",
    ),
    Case("bright bodies", given(sign=1), "warning", "set segment.contrast = protein_bright"),
    Case("bright bodies with `segment.contrast: protein_bright`", given(sign=1, contrast="protein_bright"), "taken"),
    Case(
        "bright bodies with `segment.contrast: auto`",
        given(sign=1, contrast="auto"),
        "taken",
        note="SEGMENT finds out, and says it",
    ),
    Case("dark bodies with `segment.contrast: protein_bright`", given(contrast="protein_bright"), "warning", "= protein_dark"),
]


@pytest.mark.parametrize("ratio", [0.4, 1.0, 1.005, 1.7, 3.0])
def test_the_resampled_shape_is_that_of_the_resampled_volume(ratio: float) -> None:
    data = np.zeros((9, 20, 33), dtype=np.float32)
    expected = data.shape if abs(ratio - 1) < 0.01 else resample(data, ratio).shape
    assert resampled_shape(data.shape, ratio) == expected


def test_memory_is_that_of_grey_values_and_probabilities() -> None:
    grid = Grid(shape=(256, 512, 512), voxel_size_angstrom=16.0)  # half a GiB of floats at the model's voxels, less a border
    assert memory_gib(grid, CARD) == pytest.approx(0.25 * (8 * 6 + 3), rel=0.01)


def test_the_sign_of_what_stands_out_is_seen_through_noise() -> None:
    assert blob_skewness(bodies(-1), 2.5) < -0.3
    assert blob_skewness(bodies(1), 2.5) > 0.3
    assert abs(blob_skewness(np.random.default_rng(0).standard_normal((40, 60, 60)), 2.5)) < 0.2
    assert blob_skewness(np.ones((8, 20, 20)), 2.5) == 0
