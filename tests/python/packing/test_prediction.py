"""What is planned comes true."""

from pathlib import Path

import numpy as np
import pytest
from template_learning.packing.prediction import plan_sample
from template_learning.settings import TetrisSettings

from ..builders import CELL_OPTIONS, pack_and_check


def test_the_plan_comes_true(packing_library: Path, tmp_path: Path) -> None:
    shape = (24, 110, 130)
    particles, metadata = pack_and_check(packing_library, tmp_path, shape_voxels=shape)
    templates = sum(row.class_id for row in particles)
    plan = plan_sample([packing_library], TetrisSettings(shape_voxels=shape), 1, templates)
    assert plan.templates == pytest.approx(templates, rel=0.08)
    assert plan.templates_that_fit == pytest.approx(templates, rel=0.08)
    assert plan.protein_mg_per_ml == pytest.approx(metadata["protein_mg_per_ml"], rel=0.08)
    assert plan.edge_for_templates_voxels == pytest.approx(np.sqrt(110 * 130), rel=0.05)
    few = plan_sample([packing_library], TetrisSettings(shape_voxels=shape, stop_at={"templates": 5}), 1)
    assert few.templates == 5
    assert sum(few.molecules_by_species.values()) == few.templates + few.distractors


def test_the_plan_leaves_out_what_goes_elsewhere(cell_library: Path) -> None:
    chosen = TetrisSettings.model_validate({**CELL_OPTIONS, "stop_at": {"templates": 4}})
    plan = plan_sample([cell_library], chosen, 1)
    assert plan.templates == 4
    assert set(plan.molecules_by_species) == {"disc", "ball"}
