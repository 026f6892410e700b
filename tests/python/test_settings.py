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
    RandomImagingSettings,
    ReconstructSettings,
    Settings,
    SimulateCommandSettings,
    TetrisSettings,
    TrainSettings,
    TreatmentSettings,
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
        ("groups", {"low": {"design": {"tilt_range_deg": 80, "tilt_offset_deg": 15}}}, "parameter design.groups.low.design = "),
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
