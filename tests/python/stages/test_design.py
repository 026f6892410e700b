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


LISTS = {
    "total_dose_e_per_angstrom2": st.floats(5, 200),
    "tilt_step_deg": st.floats(1, 5),
    "tilt_range_deg": st.floats(20, 65),
    "ice_density_g_per_cm3": st.floats(0.85, 1.1),
    "defocus_um": st.floats(-7, -0.5),
    "phase_shift_deg": st.floats(0, 180),
    "tilt_offset_deg": st.floats(-20, 20),
    "missing_tilts": st.floats(0, 0.3),
    "tilt_axis_distance_um": st.floats(-2, 2),
    "dose_order": st.sampled_from(["dose-symmetric", "bidirectional", "continuous"]),
    "ice_thickness_angstrom": st.floats(1000, 3000),
    "voltage_kv": st.sampled_from([200.0, 300.0]),
    "astigmatism_um": st.floats(0, 0.2),
}
NUISANCES = {"gold_fiducials": st.floats(0, 20), "slow_drift_angstrom": st.floats(0, 16), "defocus_error_um": st.floats(0, 0.3)}


def levels_of(factors):
    return st.fixed_dictionaries({}, optional={name: st.lists(one, min_size=1, max_size=3) for name, one in factors.items()})


GROUP = st.builds(
    lambda weight, design, nuisances, own: {"weight": weight, "design": {**design, "nuisances": nuisances, **own}},
    st.floats(0.1, 5),
    levels_of(LISTS),
    levels_of(NUISANCES),
    st.sampled_from([{}, {"tomograms": 5}, {"validation_tomograms": 0}, {"tomograms": 3, "test_tomograms": 1}]),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    groups=st.dictionaries(st.sampled_from(["plain", "low", "plate", "thin_ice"]), GROUP, min_size=1),
    common=levels_of(LISTS),
    seed=st.integers(0, 100),
)
def test_every_row_of_a_mixture_is_in_its_groups_bounds(groups, common, seed):
    wanted = DesignSettings(scheme="sobol", tomograms=60, test_tomograms=2, groups=groups, **common)
    rows = design_rows(wanted, seed)
    plain = wanted.model_copy(update={"groups": {}})
    assert len({row.id for row in rows}) == len(rows)
    assert sum(row.split == "train" for row in rows) >= len(groups)
    for row in rows:
        own = plain.changed(groups[row.group]["design"])
        for name, levels in {**dict(own), **dict(own.nuisances)}.items():
            if name not in type(row).model_fields:
                continue
            value = getattr(row, name)
            if not levels:
                assert value is None, name
            elif isinstance(value, str):
                assert value in levels
            else:
                assert min(levels) - 1e-4 * abs(min(levels)) <= value <= max(levels) + 1e-4 * abs(max(levels)), name
    for name, group in groups.items():
        of_group = [row for row in rows if row.group == name]
        assert all(row.id.startswith("t" if name == "plain" else f"{name}_t") for row in of_group)
        assert len(of_group) == group["design"].get("tomograms", len(of_group))
    weighted = {name: one["weight"] for name, one in groups.items() if "tomograms" not in one["design"]}
    if weighted:
        counts = {name: sum(row.group == name for row in rows) for name in weighted}
        assert sum(counts.values()) == 60
        assert all(abs(counts[name] - 60 * one / sum(weighted.values())) < 1 for name, one in weighted.items())


def test_a_group_more_leaves_the_rows_of_the_others():
    groups = {
        "plain": {"design": {"tomograms": 6}},
        "low": {"design": {"tomograms": 4, "total_dose_e_per_angstrom2": [12, 60]}},
    }
    wanted = DesignSettings(scheme="sobol", test_tomograms=0, groups=groups)
    alone = DesignSettings(scheme="sobol", tomograms=6, test_tomograms=0, validation_tomograms=1)
    rows = design_rows(wanted, 3)
    assert [row for row in rows if row.group == "plain"] == design_rows(alone, 3)
    more = {**groups, "thin": {"design": {"tomograms": 5, "validation_tomograms": 0}}}
    assert [row for row in design_rows(wanted.changed({"groups": more}), 3) if row.group != "thin"] == rows


def test_held_out_rows_are_shared_and_leave_each_group_some_to_train_on():
    groups = {"plain": {}, "low": {}, "own": {"design": {"tomograms": 2, "validation_tomograms": 1}}}
    rows = design_rows(DesignSettings(scheme="sobol", tomograms=4, test_tomograms=1, validation_tomograms=1, groups=groups), 1)
    splits = {name: sorted(row.split for row in rows if row.group == name) for name in groups}
    assert splits == {"plain": ["test", "train"], "low": ["train", "validation"], "own": ["train", "validation"]}


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"plain": {"weight": 100}, "low": {"weight": 0.01}}, r"design\.groups\.low: no tomogram of 4"),
        ({"plain": {}, "low": {"design": {"tomograms": 1, "validation_tomograms": 1}}}, r"leave none of 1 rows.*\(group low\)"),
    ],
)
def test_a_group_without_a_tomogram_to_train_on_is_refused(groups, words):
    with pytest.raises(BadInput, match=words):
        design_rows(DesignSettings(scheme="sobol", tomograms=4, groups=groups), 1)
