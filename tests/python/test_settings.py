"""Parameters: what is refused, those of earlier versions by their present names, and what each stage is given of them."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from template_learning.common.errors import BadInput
from template_learning.common.tables import DesignRow
from template_learning.learning.model_card import FORMAT, ModelCard, read_card
from template_learning.settings import (
    DROPPED,
    OF_THE_NETWORK,
    OF_THE_RUN,
    RENAMED,
    CalibrateSettings,
    FinetuneCommandSettings,
    GroupSettings,
    MatchCommandSettings,
    RandomImagingSettings,
    ReconstructSettings,
    Settings,
    SimulateCommandSettings,
    TetrisSettings,
    TrainSettings,
    TreatmentSettings,
    complaints,
    flat,
    inner_section,
    present_names,
    present_section,
)
from template_learning.stages.check import check_settings
from template_learning.template_matching.search import TiltSeriesOptics

ROOT = Path(__file__).parents[2]
OLD: dict[str, Any] = json.loads((ROOT / "tests/data/settings_0.1.0.json").read_text())
"""As CHECK of version 0.1.0 wrote it, with a value of its own for every parameter that has another name now."""
OLD["cluster"]["minimum_score"] = 0.4  # came after 0.1.0, and is old already
ADDED = {
    "cluster.minimum_log_odds",
    "cluster.minimum_mean_probability",
    "design.amplitude_contrast",
    "design.astigmatism_deg",
    "design.astigmatism_um",
    "design.dose_order",
    "design.groups",
    "design.ice_thickness_angstrom",
    "design.inelastic_mean_free_path_angstrom",
    "design.missing_tilts",
    "design.nuisances.defocus_error_um",
    "design.nuisances.gold_diameter_angstrom",
    "design.nuisances.slow_drift_angstrom",
    "design.nuisances.tilt_angle_error_deg",
    "design.nuisances.tilt_axis_error_deg",
    "design.tilt_axis_distance_um",
    "design.tilt_offset_deg",
    "design.voltage_kv",
    "evaluate.also_within_voxels",
    "finetune.augmentation",
    "flex.first_mode",
    "label.grey_level",
    "minimum_fraction_left",
    *(f"reconstruct.treatment.{name}" for name in TreatmentSettings.model_fields),
    "simulate.hydrogens",
    "simulate.solvent_noise",
    "tetris.centre_margin_angstrom",
    "tetris.erosion_voxels",
    "tetris.grey_level",
    "train.phases",
    *(f"train.augmentation.random_imaging.{name}" for name in RandomImagingSettings.model_fields),
}
"""Parameters that version 0.1.0 did not have."""
MODELS_CARD = ROOT / "models/nucleosome_8A.keras"


def test_every_old_name_has_a_present_one_and_is_none_itself() -> None:
    present = flat(Settings().model_dump())
    assert set(RENAMED.values()) <= set(present)
    assert not set(present) & {*RENAMED, *DROPPED}
    assert set(flat(OLD)) == {name for name in present if name not in RENAMED.values()} - ADDED | {*RENAMED, *DROPPED}


def test_settings_of_0_1_0_are_read_with_their_values() -> None:
    settings = Settings.model_validate(present_names(OLD))
    values, before = flat(settings.model_dump(mode="json")), flat(OLD)
    defaults = flat(Settings().model_dump(mode="json"))
    for old, new in RENAMED.items():
        expected = (
            [before[old]] * len(before["finetune.epochs"]) if new == "finetune.training_fraction" else before[old]
        )  # one for each number of epochs now
        assert values[new] == expected, old
        assert values[new] != defaults[new], f"{old}: the fixture has the default, which shows nothing"
    for name in before.keys() - {*RENAMED, *DROPPED}:
        one_of_a_list = name == "design.phase_shift_deg"  # levels now, as the design's other factors
        assert values[name] == ([before[name]] if one_of_a_list else before[name]), name
    assert settings.tetris.vesicles.count == 2
    assert settings.microscope.voltage_kv == 200


MIXTURE: dict[str, Any] = {
    "seed": 3,
    "design": {
        "scheme": "sobol",
        "groups": {
            "plain": {},
            "low": {"weight": 0.2, "design": {"total_dose_e_per_angstrom2": [12, 60]}, "microscope": {"voltage_kv": 200}},
            "dense": {"tetris": {"stop_at": {"molecules": 9}}, "simulate": {"ice_shape": "cuboid"}},
        },
    },
    "train": {"phases": [{"groups": ["plain"], "settings": {"epochs": 3}}, {"settings": {"loss": {"top_view_weight": 4}}}]},
}


def test_each_group_has_its_own_settings_and_else_the_runs() -> None:
    settings = check_settings(MIXTURE)
    mixture = settings.mixture()
    assert list(mixture) == ["plain", "low", "dense"]
    given = settings.stage_settings()
    for stage in ("tetris", "simulate", "reconstruct", "label"):
        assert given[stage]["plain"] == check_settings({"seed": 3}).stage_settings()[stage]["plain"]
    assert given["tetris"]["low"] == given["tetris"]["plain"]
    assert given["tetris"]["dense"]["stop_at"]["molecules"] == 9
    assert given["simulate"]["low"]["microscope"]["voltage_kv"] == 200
    assert given["simulate"]["dense"]["ice_shape"] == "cuboid"
    assert mixture["low"].design.total_dose_e_per_angstrom2 == [12, 60]
    assert given["design"]["groups"]["dense"] == given["design"]["groups"]["plain"]  # DESIGN's table is the same
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_a_change_of_one_group_changes_what_its_tasks_are_given_alone() -> None:
    other = json.loads(json.dumps(MIXTURE))
    other["design"]["groups"]["dense"]["tetris"]["stop_at"]["molecules"] = 10
    before, after = (check_settings(one).stage_settings() for one in (MIXTURE, other))
    assert {(stage, group) for stage in before for group in before[stage] if before[stage][group] != after[stage][group]} == {
        ("tetris", "dense")
    }


def test_each_phase_has_its_own_settings() -> None:
    first, second = check_settings(MIXTURE).train.of_phases()
    assert (first.epochs, first.loss.top_view_weight, first.phases) == (3, 1, [])
    assert (second.epochs, second.loss.top_view_weight) == (100, 4)
    assert [one.epochs for one in TrainSettings(epochs=7).of_phases()] == [7]


@pytest.mark.parametrize(
    ("section", "content", "words"),
    [
        ("groups", {"low": {"tetris": {"margin": 3}}}, "parameter design.groups.low.tetris.margin = 3: there is no such"),
        ("groups", {"low": {"tetris": {"retries": -1}}}, "parameter design.groups.low.tetris.retries = -1: input should be"),
        ("groups", {"low": {"tetris": {"molecules": 4}}}, "parameter design.groups.low.tetris.molecules: now tetris.stop_at"),
        ("groups", {"low": {"packing": {}}}, "parameter design.groups.low.packing = {}: there is no such"),
        (
            "groups",
            {"low": {"simulate": {"engine": "native"}}},
            "parameter design.groups.low.simulate.engine: one for the whole",
        ),
        ("groups", {"low": {"reconstruct": {"voxel_size_angstrom": 8}}}, "parameter design.groups.low.reconstruct.voxel_size"),
        (
            "groups",
            {"low": {"design": {"tilt_range_deg": 80, "tilt_offset_deg": 15}}},
            "parameter design.groups.low.design.tilt_range_deg and tilt_offset_deg: tilts up to 95",
        ),
        ("groups", {"Low": {}}, "parameter design.groups.Low.[key] = 'Low': string should match pattern"),
        ("phases", [{"settings": {"filters": 8}}], "parameter train.phases.0.settings.filters: one for all phases"),
        ("phases", [{}, {"settings": {"epochs": 0}}], "parameter train.phases.1.settings.epochs = 0: input should be"),
        ("phases", [{"groups": ["low"]}], "parameter train.phases.0.groups = 'low': no group of design.groups; plain were"),
        (
            "phases",
            [{"epochs": 3}],
            "parameter train.phases.0.epochs = 3: there is no such parameter; allowed: groups, settings",
        ),
    ],
)
def test_what_is_wrong_in_a_group_or_phase_is_named_with_its_place(section: str, content: Any, words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_settings({{"groups": "design", "phases": "train"}[section]: {section: content}})
    assert str(refusal.value).startswith(words)


def test_present_names_are_left_alone() -> None:
    present = Settings.model_validate(present_names(OLD)).model_dump(mode="json")
    assert present_names(present) == present


def test_a_sidecars_settings_are_read_section_by_section() -> None:
    assert present_section("segment", OLD["segment"])["probability_threshold"] == 0.1
    simulated = present_section("simulate", OLD["simulate"])
    assert simulated["microscope"]["voltage_kv"] == 200
    assert SimulateCommandSettings.model_validate(simulated).microscope.chromatic_aberration_mm == 1.4
    assert present_section("simulate", simulated) == simulated


def test_matching_reads_the_microscope_of_a_series_of_0_1_0(tmp_path: Path) -> None:
    row = {"defocus_um": -2.0, "phase_shift_deg": 0.0}
    (tmp_path / "t.json").write_text(json.dumps({"angles_deg": [0], "row": row, "settings": OLD["simulate"]}))
    taken = TiltSeriesOptics.of_simulation(tmp_path / "t.json")
    assert (taken.voltage_kv, taken.spherical_aberration_mm) == (200, 2.0)


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_old_name_is_answered_with_the_present_one_in_one_line(old: str) -> None:
    section, name = old.split(".")
    with pytest.raises(BadInput) as refusal:
        check_settings({section: {name: OLD[section][name]}})
    assert str(refusal.value) == f"parameter {old}: now {RENAMED[old]}"


def test_a_parameter_that_is_gone_is_answered_with_the_reason() -> None:
    with pytest.raises(BadInput, match=r"^parameter flex.spring_constant: there is no such parameter any more: "):
        check_settings({"flex": {"spring_constant": 1.0}})


def test_wrong_values_of_groups_are_named_in_full() -> None:
    with pytest.raises(BadInput, match=r"^parameter train\.loss\.tversky_weight = -1: input should be greater"):
        check_settings({"train": {"loss": {"tversky_weight": -1}}})
    with pytest.raises(BadInput, match=r"train\.loss\.weight = 1: there is no such parameter; allowed: tversky_weight, "):
        check_settings({"train": {"loss": {"weight": 1}}})
    with pytest.raises(BadInput, match=r"^parameter train\.loss = 3: "):
        check_settings({"train": {"loss": 3}})


def test_lists_in_groups_come_as_text_from_a_command_line() -> None:
    settings = check_settings({"tetris": {"vesicles": {"radius_angstrom": "100, 200"}, "filaments": {"counts": "a=1,b=2"}}})
    assert settings.tetris.vesicles.radius_angstrom == (100, 200)
    assert settings.tetris.filaments.counts == ["a=1", "b=2"]


def test_a_stages_own_settings_name_their_section_in_complaints() -> None:
    for content, words in (
        ({"voltage_kv": 200}, "parameter simulate.voltage_kv: now microscope.voltage_kv"),
        ({"microscope": {"voltage_kv": 0}}, "parameter microscope.voltage_kv = 0: input should be greater than or equal to 10"),
        ({"scheme": "none"}, "parameter simulate.scheme = 'none': "),
    ):
        with pytest.raises(ValidationError) as refusal:
            SimulateCommandSettings.model_validate(content)
        assert complaints(refusal.value, SimulateCommandSettings).startswith(words)
    with pytest.raises(ValidationError) as refusal:
        CalibrateSettings.model_validate({"cluster": {"select": "threshold"}})
    assert complaints(refusal.value, CalibrateSettings) == "parameter cluster.select: now cluster.chosen_by"


def test_what_a_stage_is_given_has_the_derived_values_and_the_microscope() -> None:
    settings = check_settings({"reconstruct": {"voxel_size_angstrom": 10}, "microscope": {"voltage_kv": 200}})
    given = settings.stage_settings()
    simulate = SimulateCommandSettings.model_validate(given["simulate"]["plain"])
    assert simulate.pixel_angstrom == 5
    assert simulate.microscope.voltage_kv == MatchCommandSettings.model_validate(given["match"]).microscope.voltage_kv == 200
    assert CalibrateSettings.model_validate(given["calibrate"]).cluster == settings.cluster
    assert FinetuneCommandSettings.model_validate(given["finetune"]).train == settings.train
    assert (given["evaluate"]["rank"], given["evaluate_matched"]["rank"]) == ("size", "score")
    assert given["tetris"]["plain"] == settings.tetris.model_dump(mode="json")


def test_without_settings_the_pixel_is_half_of_the_default_voxel() -> None:
    assert SimulateCommandSettings().pixel_angstrom == ReconstructSettings().voxel_size_angstrom / 2
    assert SimulateCommandSettings(pixel_size_angstrom=4).pixel_angstrom == 4


def test_radii_and_fractions_come_in_order() -> None:
    with pytest.raises(ValidationError, match="the least first"):
        TetrisSettings(vesicles={"radius_angstrom": (300, 200)})
    with pytest.raises(ValidationError, match="the least first"):
        TetrisSettings(filled_thickness_fraction=(0.8, 0.4))


def test_settings_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match="a multiple of 8 was expected"):
        TrainSettings(patch_voxels=52, network="residual")
    with pytest.raises(ValidationError, match="a weight above 0 was expected"):
        TrainSettings(loss={"tversky_weight": 0, "crossentropy_weight": 0})
    with pytest.raises(ValidationError, match="a crossentropy_weight above 0 was expected"):
        TrainSettings(loss={"top_view_weight": 3, "crossentropy_weight": 0})


def test_changed_settings_keep_the_others_and_are_checked() -> None:
    changed = Settings().train.changed({"loss": {"tversky_weight": 0.5}, "epochs": 3})
    assert (changed.loss.tversky_weight, changed.loss.crossentropy_weight, changed.epochs) == (0.5, 1.0, 3)
    with pytest.raises(ValidationError):
        Settings().train.changed({"loss": {"tversky": 0.5}})


def test_the_shipped_models_card_is_read_by_the_present_names() -> None:
    card = read_card(MODELS_CARD)
    assert card.format == FORMAT
    assert card.segments_by == {
        "segment.probability_threshold": 0.1,
        "cluster.method": "watershed",
        "cluster.probability_threshold": 0.1,
    }
    settings = TrainSettings.model_validate(card.training["settings"])
    assert settings.augmentation.minimum_dose_e_per_angstrom2 == 10
    assert (settings.loss.top_view_weight, settings.loss.class_weight_exponent) == (14, 0.3)
    assert (settings.optimizer.name, settings.optimizer.weight_averaging_fraction) == ("muon", 0.55)
    assert card.training["start"]["settings"]["loss"]["top_view_weight"] == 8
    assert ModelCard.model_validate(json.loads(card.model_dump_json())) == card


def _numbers(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[dict[str, Any]], int]]:
    """Every parameter that holds numbers: its name, the JSON schema of each number, and how many a list has (0: it is none)."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _numbers(kind, f"{prefix}{name}.")
            continue
        if inner := inner_section(kind):
            yield from _numbers(inner, f"{prefix}{name}.{'0' if get_origin(kind) is list else 'some'}.")
            continue
        shape = TypeAdapter(Annotated[kind, field]).json_schema()  # type: ignore[valid-type]
        for option in shape.get("anyOf", [shape]):
            items = option.get("prefixItems", [option.get("items", option)])
            if items[0].get("type") in ("number", "integer"):
                yield prefix + name, items, len(items) if option["type"] == "array" else 0


NUMBERS = list(_numbers(Settings))


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = [value] if part == "0" else {part: value}
    return dict(value)


def _within(shape: Mapping[str, Any]) -> float:
    """A number that the schema allows."""
    least, greatest = (shape.get(name, shape.get(f"exclusive{name.title()}")) for name in ("minimum", "maximum"))
    assert least is not None
    assert greatest is not None
    return min(max(1, least), (least + greatest) / 2) if shape["type"] == "number" else max(1, least)


def _beyond(shape: Mapping[str, Any]) -> list[float]:
    """The nearest numbers on either side that the schema does not allow."""

    def past(bound: float, side: float) -> float:
        return bound + side if shape["type"] == "integer" else float(np.nextafter(bound, side * np.inf))

    below = shape["exclusiveMinimum"] if "exclusiveMinimum" in shape else past(shape["minimum"], -1)
    above = shape["exclusiveMaximum"] if "exclusiveMaximum" in shape else past(shape["maximum"], 1)
    return [below, above]


def test_there_are_as_many_parameters_with_numbers_as_there_are() -> None:
    assert len(NUMBERS) > 90
    assert {"seed", "design.tilt_step_deg", "tetris.shape_voxels", "train.band_pass_angstrom"} <= {
        name for name, _, _ in NUMBERS
    }


@pytest.mark.parametrize(("name", "shapes", "count"), NUMBERS, ids=[name for name, _, _ in NUMBERS])
def test_every_number_has_bounds_and_nonsense_is_refused_in_a_line_that_names_it(
    name: str, shapes: list[dict[str, Any]], count: int
) -> None:
    default = flat(Settings().model_dump()).get(name)
    for place, shape in enumerate(shapes):
        assert {"minimum", "exclusiveMinimum"} & set(shape), f"{name} has no least value"
        assert {"maximum", "exclusiveMaximum"} & set(shape), f"{name} has no greatest value"
        nonsense = [math.inf, -math.inf, math.nan, "inf", "nan", 1e300, -1e300, True, "1O", "3 4", *_beyond(shape)]
        for wrong in nonsense:
            given = [wrong]
            if count:
                rest = list(default or [_within(one) for one in shapes])
                held = [*rest[:place], wrong, *rest[place + 1 :]]
                given = [held, json.dumps(held) if not isinstance(wrong, str) else held]
                given += [wrong] if count == 1 else []
            for value in given:
                with pytest.raises(BadInput) as refusal:
                    check_settings(_nested(name, value))
                assert str(refusal.value).startswith(f"parameter {name} = "), (value, str(refusal.value))
                assert "\n" not in str(refusal.value)


def _places_for_own_values() -> Iterator[tuple[str, str]]:
    """Every parameter with numbers that a group or a phase may have for itself: its name, and where it stands there."""
    for name, _, _ in NUMBERS:
        section, rest = name.split(".", 1) if "." in name else ("", name)
        first = rest.partition(".")[0]
        if section in GroupSettings.model_fields and first not in OF_THE_RUN.get(section, ()):
            yield name, f"design.groups.low.{name}"
        if section == "train" and first not in OF_THE_NETWORK:
            yield name, f"train.phases.0.settings.{rest}"


@pytest.mark.parametrize(("name", "place"), list(_places_for_own_values()), ids=lambda name: str(name))
def test_nonsense_in_a_group_or_phase_is_refused_in_a_line_that_names_it(name: str, place: str) -> None:
    shape = next(shapes[0] for found, shapes, _ in NUMBERS if found == name)
    lists = isinstance(flat(Settings().model_dump())[name], list)
    for wrong in (math.inf, "nan", True, *_beyond(shape)):
        for value in [wrong, [wrong]] if lists else [wrong]:
            with pytest.raises(BadInput) as refusal:
                check_settings(_nested(place, value))
            assert str(refusal.value).startswith(f"parameter {place} = "), (value, str(refusal.value))
            assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name, _, count in NUMBERS if count == 1 and not name.startswith("finetune.")])
def test_a_single_number_is_taken_for_a_list_of_one(name: str) -> None:
    shape = next(shapes[0] for found, shapes, _ in NUMBERS if found == name)
    one = (flat(Settings().model_dump())[name] or [_within(shape)])[0]
    for given in (one, str(one), f"[{one}]", [one]):
        assert flat(check_settings(_nested(name, given)).model_dump())[name] == [one]


def test_lists_of_words_and_pairs_come_as_a_command_line_has_them() -> None:
    settings = check_settings({"export": {"formats": "csv", "class_names": "[]"}, "train": {"band_pass_angstrom": "3, 40"}})
    assert settings.export.formats == ["csv"]
    assert settings.export.class_names == []
    assert settings.train.band_pass_angstrom == (3, 40)
    assert check_settings({"train": {"band_pass_angstrom": "none"}, "label": {"grey_level": "null"}}).label.grey_level is None
    with pytest.raises(BadInput, match=r"^parameter tetris\.shape_voxels = \{'z': 64\}: 3 values"):
        check_settings({"tetris": {"shape_voxels": {"z": 64}}})
    with pytest.raises(BadInput, match=r"^parameter tetris\.shape_voxels = 64: 3 values, as in 1,2,3, were expected$"):
        check_settings({"tetris": {"shape_voxels": 64}})


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ({"tilt_step_deg": 50, "tilt_range_deg": [60, 40]}, "tilt_step_deg = 50 with tilt_range_deg = 40"),
        (
            {"groups": {"low": {"design": {"tilt_step_deg": 50}}}},
            "groups.low.design.tilt_step_deg = 50 with tilt_range_deg = 40",
        ),
        ({"tilt_range_deg": 60, "tilt_offset_deg": [-40, 10]}, "tilts up to 100 degrees"),
        ({"defocus_um": [-0.01 * n for n in range(300)], "ice_density_g_per_cm3": [0.01 * n for n in range(1, 100)]}, "237600"),
    ],
)
def test_designs_that_cannot_be_made_are_refused(design: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_settings({"design": design})
    assert str(refusal.value).startswith("parameter design.")
    assert words in str(refusal.value)


def test_a_design_table_has_the_bounds_of_the_designs_settings() -> None:
    row = {"id": "a", "total_dose_e_per_angstrom2": 90, "defocus_um": -2, "tilt_range_deg": 60, "tilt_step_deg": 3}
    row |= {"ice_density_g_per_cm3": 0.9}
    DesignRow.model_validate(row)
    for name, items, _ in NUMBERS:
        column = name.removeprefix("design.").removeprefix("nuisances.")
        if name.startswith("design.") and column in DesignRow.model_fields:
            for wrong in (math.inf, math.nan, *_beyond(items[0])):
                with pytest.raises(ValidationError):
                    DesignRow.model_validate({**row, column: wrong})
    with pytest.raises(ValidationError, match="tilts up to 95 degrees"):
        DesignRow.model_validate({**row, "tilt_offset_deg": -35})


def test_every_column_of_numbers_of_a_design_table_is_of_a_type_that_the_designs_settings_have() -> None:
    columns = {name for name, _, _ in _numbers(DesignRow)}
    shapes = {name.removeprefix("design.").removeprefix("nuisances."): shapes for name, shapes, _ in NUMBERS}
    assert len(columns) > 20
    for name, items, _ in _numbers(DesignRow):
        bounds = [
            {key: one for key, one in item.items() if "inimum" in key or "aximum" in key}
            for item in (items[0], shapes[name][0])
        ]
        assert bounds[0] == bounds[1], name
