"""Parameters: what is refused, those of earlier versions by their present names, and what each stage is given of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from template_learning.common.errors import BadInput
from template_learning.learning.model_card import FORMAT, ModelCard, read_card
from template_learning.settings import (
    DROPPED,
    RENAMED,
    CalibrateSettings,
    FinetuneCommandSettings,
    MatchCommandSettings,
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
OLD["cluster"]["minimum_score"] = 0.4  # came after 0.1.0, and is old already
ADDED = {
    "cluster.minimum_log_odds",
    "cluster.minimum_mean_probability",
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
        ({"microscope": {"voltage_kv": 0}}, "parameter microscope.voltage_kv = 0: input should be greater than 0"),
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
