"""What a run's sizes come to: refused, doubted or let pass."""

from typing import Any

import pytest
from template_learning.common.errors import BadInput
from template_learning.common.stages import ORDER
from template_learning.pipeline.sizes import check_sizes
from template_learning.settings import Settings


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tetris": {"packing_voxel_size_angstrom": 0.1}}, "tetris.packing_voxel_size_angstrom: a box of 10240 x"),
        ({"tetris": {"shape_voxels": (4000, 4000, 4000)}}, "tetris.shape_voxels: a box of 4000 x"),
        ({"simulate": {"pixel_size_angstrom": 0.1}}, "simulate.pixel_size_angstrom: 61 tilts"),
        ({"reconstruct": {"voxel_size_angstrom": 0.5}, "simulate": {"pixel_size_angstrom": 2}}, "reconstruct.voxel_size_angstrom: a tomogram"),
        ({"reconstruct": {"thickness_angstrom": 40}}, "reconstruct.thickness_angstrom: tomograms of 40 Å in voxels of 13 Å"),
        ({"reconstruct": {"voxel_size_angstrom": 400}}, "reconstruct.voxel_size_angstrom: tomograms of 1024 Å"),
        ({"volume": {"resolution_angstrom": 2}}, "at least volume.voxel_size_angstrom, 16, was expected"),
    ],
)  # fmt: skip
def test_what_no_memory_holds_and_no_voxel_shows_is_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_sizes(Settings.model_validate(params), ORDER, [110.0])
    assert str(refusal.value).startswith("parameter ")
    assert words in str(refusal.value)
    check_sizes(Settings.model_validate(params), {"segment", "cluster"}, [])  # nothing is simulated


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"train": {"patch_voxels": 256}}, "train.patch_voxels = 256"),
        ({"reconstruct": {"voxel_size_angstrom": 50}, "train": {"patch_voxels": 48}}, "2.2 voxels, too few"),
        ({"label": {"kind": "sphere", "sphere_radius_angstrom": 120}}, "more than twice as large as the largest template"),
        ({"design": {"phase_shift_deg": 1.57}}, "in radians, or in pi?"),
        ({"design": {"tilt_range_deg": 1.05, "tilt_step_deg": 0.1}}, "design.tilt_range_deg = 1.05: in radians?"),
        ({"design": {"total_dose_e_per_angstrom2": 1.5}}, "of a tilt?"),
        ({"label": {"kind": "sphere", "sphere_radius_angstrom": 5}}, "less than a voxel"),
    ],
)
def test_what_is_hardly_meant_is_doubted(params: dict[str, Any], words: str) -> None:
    (line,) = check_sizes(Settings.model_validate(params), ORDER, [110.0])
    assert words in line


def test_the_defaults_pass() -> None:
    assert check_sizes(Settings(), ORDER, [110.0, 300.0]) == []
