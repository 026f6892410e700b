"""Parameters: what is refused, those of earlier versions by their present names, and what each stage is given of them."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from template_learning.common.errors import BadInput
from template_learning.common.tables import DesignRow
from template_learning.learning.model_card import FORMAT, ModelCard, read_card
from template_learning.settings import (
    DROPPED,
    RENAMED,
    CalibrateSettings,
    FinetuneCommandSettings,
    MatchCommandSettings,
    RandomImagingSettings,
    ReconstructSettings,
    Settings,
    SimulateCommandSettings,
    TetrisSettings,
    TrainSettings,
    complaints,
    flat,
    present_names,
    present_section,
)
from template_learning.stages.check import check_settings
from template_learning.template_matching.search import TiltSeriesOptics

ROOT = Path(__file__).parents[2]
OLD: dict[str, Any] = json.loads((ROOT / "tests/data/settings_0.1.0.json").read_text())
"""As CHECK of version 0.1.0 wrote it, with a value of its own for every parameter that has another name now."""
ADDED = {
    "cluster.minimum_score",
    "evaluate.also_within_voxels",
    "finetune.augmentation",
    "flex.first_mode",
    "label.grey_level",
    "minimum_fraction_left",
    "simulate.hydrogens",
    "simulate.solvent_noise",
    "tetris.centre_margin_angstrom",
    "tetris.erosion_voxels",
    "tetris.grey_level",
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
        assert values[name] == before[name], name
    assert settings.tetris.vesicles.count == 2
    assert settings.microscope.voltage_kv == 200


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
    simulate = SimulateCommandSettings.model_validate(given["simulate"])
    assert simulate.pixel_angstrom == 5
    assert simulate.microscope.voltage_kv == MatchCommandSettings.model_validate(given["match"]).microscope.voltage_kv == 200
    assert CalibrateSettings.model_validate(given["calibrate"]).cluster == settings.cluster
    assert FinetuneCommandSettings.model_validate(given["finetune"]).train == settings.train
    assert (given["evaluate"]["rank"], given["evaluate_matched"]["rank"]) == ("size", "score")
    assert given["tetris"] == settings.tetris.model_dump(mode="json")


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
        shape = TypeAdapter(Annotated[kind, field]).json_schema()  # type: ignore[valid-type]
        for option in shape.get("anyOf", [shape]):
            items = option.get("prefixItems", [option.get("items", option)])
            if items[0].get("type") in ("number", "integer"):
                yield prefix + name, items, len(items) if option["type"] == "array" else 0


NUMBERS = list(_numbers(Settings))


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


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
    default = flat(Settings().model_dump())[name]
    for place, shape in enumerate(shapes):
        assert {"minimum", "exclusiveMinimum"} & set(shape), f"{name} has no least value"
        assert {"maximum", "exclusiveMaximum"} & set(shape), f"{name} has no greatest value"
        nonsense = [math.inf, -math.inf, math.nan, "inf", "nan", 1e300, -1e300, True, "1O", "3 4", *_beyond(shape)]
        for wrong in nonsense:
            given = [wrong]
            if count:
                rest = list(default or [1] * count)
                held = [*rest[:place], wrong, *rest[place + 1 :]]
                given = [held, json.dumps(held) if not isinstance(wrong, str) else held]
                given += [wrong] if count == 1 else []
            for value in given:
                with pytest.raises(BadInput) as refusal:
                    check_settings(_nested(name, value))
                assert str(refusal.value).startswith(f"parameter {name} = "), (value, str(refusal.value))
                assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name, _, count in NUMBERS if count == 1 and not name.startswith("finetune.")])
def test_a_single_number_is_taken_for_a_list_of_one(name: str) -> None:
    one = flat(Settings().model_dump())[name][0]
    for given in (one, str(one), f"[{one}]", [one]):
        assert flat(check_settings(_nested(name, given)).model_dump())[name] == [one]


def test_lists_of_words_and_pairs_come_as_a_command_line_has_them() -> None:
    settings = check_settings({"export": {"formats": "csv", "class_names": "[]"}, "train": {"band_pass_angstrom": "3, 40"}})
    assert settings.export.formats == ["csv"]
    assert settings.export.class_names == []
    assert settings.train.band_pass_angstrom == (3, 40)
    assert check_settings({"train": {"band_pass_angstrom": "none"}, "label": {"grey_level": "null"}}).label.grey_level is None
    with pytest.raises(BadInput, match=r"^parameter tetris\.shape_voxels = 64: 3 values, as in 1,2,3, were expected$"):
        check_settings({"tetris": {"shape_voxels": 64}})


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ({"tilt_step_deg": 50, "tilt_range_deg": [60, 40]}, "tilt_step_deg = 50 with tilt_range_deg = 40"),
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
