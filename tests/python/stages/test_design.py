import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.settings import DesignSettings
from template_learning.stages.design import FACTORS, design_rows


def test_the_papers_factorial_has_48_different_rows():
    rows = design_rows(DesignSettings(), root_seed=1)
    assert len({tuple(getattr(row, factor) for factor in FACTORS) for row in rows}) == len(rows) == 48
    assert {row.total_dose_e_per_angstrom2 for row in rows} == {75, 150}
    assert sum(row.split == "validation" for row in rows) == 2


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("test", "validation"), [(0, 2), (2, 2), (0, 6), (3, 4)])
def test_held_out_rows_represent_the_grid(seed, test, validation):
    rows = design_rows(DesignSettings(test_tomograms=test, validation_tomograms=validation), seed)
    for split, number in (("test", test), ("validation", validation)):
        chosen = [row for row in rows if row.split == split]
        assert len(chosen) == number
        for factor in FACTORS:
            levels = {getattr(row, factor) for row in rows}
            count = [sum(getattr(row, factor) == level for row in chosen) for level in levels]
            assert max(count) - min(count) <= 1, factor


@settings(max_examples=20, deadline=None, derandomize=True)
@given(count=st.integers(3, 60), seed=st.integers(0, 1000))
def test_one_more_sobol_row_leaves_the_others(count, seed):
    few = design_rows(DesignSettings(scheme="sobol", tomograms=count, test_tomograms=1, validation_tomograms=1), seed)
    more = design_rows(DesignSettings(scheme="sobol", tomograms=count + 1, test_tomograms=1, validation_tomograms=1), seed)
    assert more[:count] == few


def test_sobol_rows_lie_between_the_extremes_and_fill_them():
    wanted = DesignSettings(scheme="sobol", tomograms=64)
    rows = design_rows(wanted, 5)
    for factor in FACTORS:
        values, levels = np.array([getattr(row, factor) for row in rows]), getattr(wanted, factor)
        assert values.min() >= min(levels)
        assert values.max() <= max(levels)
        unit = np.sort((values - min(levels)) / (max(levels) - min(levels)))
        assert np.abs(unit - (np.arange(64) + 0.5) / 64).max() < 1 / 64  # one point in each 64th: stratified


def test_nuisances_are_off_unless_asked_for():
    plain = design_rows(DesignSettings(scheme="sobol", tomograms=8), 1)
    assert all(row.gold_fiducials == row.motion_angstrom == row.carbon_edge == 0 for row in plain)
    fixed = design_rows(DesignSettings(scheme="sobol", tomograms=8, nuisances={"motion_angstrom": [3.0]}), 1)
    assert [row.model_copy(update={"motion_angstrom": 0.0}) for row in fixed] == plain
    varied = design_rows(
        DesignSettings(scheme="sobol", tomograms=8, nuisances={"gold_fiducials": [0, 10], "shift_error_angstrom": [0, 4]}), 1
    )
    assert len({row.gold_fiducials for row in varied}) == len({row.shift_error_angstrom for row in varied}) == 8
    assert len(design_rows(DesignSettings(nuisances={"carbon_edge": [0, 0.3]}), 1)) == 96


def test_another_seed_gives_another_design():
    wanted = DesignSettings(scheme="sobol", tomograms=8)
    assert design_rows(wanted, 1) == design_rows(wanted, 1)
    assert design_rows(wanted, 1) != design_rows(wanted, 2)


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(BadInput, match="leave none of 4 rows"):
        design_rows(DesignSettings(scheme="sobol", tomograms=4, test_tomograms=2, validation_tomograms=2), 1)
