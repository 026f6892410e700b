"""Parameters that nothing in a run looks at: each is told, and no other."""

from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from template_learning.common.stages import ORDER
from template_learning.pipeline.unused import CONDITIONS, SECTIONS_BESIDE_ITS_OWN, Given, changed, stages_of, unused
from template_learning.settings import GroupSettings, PhaseSettings, Settings, flat

EVERYTHING = Given(tomograms=True, annotations=True)
USUAL = flat(Settings().model_dump(mode="json"))
SECTION_NAMES = {name for name, field in Settings.model_fields.items() if isinstance(getattr(Settings(), name), BaseModel)}


def another(name: str) -> Any:
    """A value of the parameter's type that is not its default."""
    model: Any = Settings
    *groups, last = name.split(".")
    for group in groups:
        model = model.model_fields[group].annotation
    field = model.model_fields[last]
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or [field.annotation]
    candidates: list[Any] = [
        True,
        False,
        5,
        5.5,
        -1.5,
        70.0,
        (1.5, 2.5),
        (-1.5, -2.5),
        (0.5, 0.6),
        (70.0, 80.0),
        (9, 9, 9),
        [0.5],
        [-1.5],
        [0.5, 0.6],
        [5, 6],
        [70.0],
        ["csv"],
        ["continuous"],
        "other",
        {"low": GroupSettings(weight=2)},
        [PhaseSettings()],
    ]
    if get_origin(field.annotation) is Literal:
        candidates = list(kinds)
    adapter = TypeAdapter(field.annotation)
    for candidate in candidates:
        try:
            if adapter.validate_python(candidate, strict=True) != field.default:
                return candidate
        except ValidationError:
            continue
    raise AssertionError(f"no other value for {name}")


def fresh(name: str, **values: Any) -> Settings:
    """Settings with other values, and one parameter that has a value of its own."""
    settings = Settings.model_validate(Settings().model_dump())
    for dotted, value in {
        **{key.replace("__", "."): one for key, one in values.items()},
        **({name: another(name)} if name else {}),
    }.items():
        section: Any = settings
        *groups, last = dotted.split(".")
        for group in groups:
            section = getattr(section, group)
        section.__dict__[last] = value
    return settings


def told(settings: Settings, name: str, given: Given = EVERYTHING) -> bool:
    """Whether the parameter is, or all that it holds by name."""
    lines = [line.removeprefix("not used: parameter ").split(": ")[0] for line in unused(settings, given)]
    return any(one == name or one.startswith(f"{name}.") for line in lines for one in line.split(", "))


def test_the_table_names_stages_sections_and_parameters_that_there_are() -> None:
    assert set(SECTIONS_BESIDE_ITS_OWN) <= set(ORDER)
    assert {section for sections in SECTIONS_BESIDE_ITS_OWN.values() for section in sections} <= SECTION_NAMES
    assert {*ORDER, "microscope"} >= SECTION_NAMES
    for condition in CONDITIONS:
        for name in condition.parameters:
            assert any(one == name or one.startswith(name.removesuffix("*")) for one in USUAL), name


def test_defaults_and_presets_are_not_told_of() -> None:
    assert unused(Settings(), EVERYTHING) == []
    settings = fresh("", model="m.keras", train__epochs=3)
    assert changed(settings, [{"train": {"epochs": 3}}]) == ["model"]
    assert unused(settings, EVERYTHING, [{"train": {"epochs": 3}}]) == []


@pytest.mark.parametrize("name", [name for name in USUAL if "." in name])
def test_with_a_model_all_that_simulates_and_trains_is_told_of_and_nothing_else(name: str) -> None:
    section = name.partition(".")[0]
    settings = fresh(name, model="m.keras")
    if section in ("segment", "cluster", "export", "evaluate"):
        only_with_others = {"cluster.minimum_probability"}
        assert told(settings, name) == (name in only_with_others)
    elif name == "match.run":  # it makes the run look at more
        assert not told(settings, name)
    else:
        assert told(settings, name)


@pytest.mark.parametrize("name", [name for name in USUAL if "." in name])
def test_a_whole_run_looks_at_all_but_what_counts_with_others_only(name: str) -> None:
    settings = fresh(name, templates="t", match__run=True, match__defocus_um=-3.0)
    conditional = {one for condition in CONDITIONS for one in condition.parameters}
    if name.startswith("finetune.") or name in conditional - {"label.*", "design.*", "match.*", "evaluate.*"}:
        return  # the next test's
    assert not told(settings, name)


@pytest.mark.parametrize(
    ("name", "idle", "busy"),
    [
        ("flex.amplitude", {"flex__amplitude_kind": "thermal"}, {}),
        ("flex.rmsd_angstrom", {}, {"flex__amplitude_kind": "thermal"}),
        ("design.tomograms", {}, {"design__scheme": "sobol"}),
        ("design.tilt_step_deg", {"design_table": "d.csv"}, {}),
        ("tetris.grey_level", {}, {"tetris__excluded_volume": "released"}),
        ("tetris.density_threshold", {"tetris__excluded_volume": "atoms"}, {}),
        ("tetris.vesicles.radius_angstrom", {}, {"tetris__vesicles__count": 2}),
        ("tetris.filaments.rise_angstrom", {}, {"tetris__filaments__counts": ["a=1"]}),
        ("tetris.filaments.length_angstrom", {}, {"tetris__filaments__microtubules": ["a=1"]}),
        ("simulate.astigmatism_deg", {}, {"simulate__astigmatism_um": 0.1}),
        ("simulate.astigmatism_deg", {"simulate__astigmatism_um": 0.1, "design__astigmatism_deg": [9.0]}, {"design__astigmatism_um": [0.1]}),
        ("design.astigmatism_deg", {}, {"design__astigmatism_um": [0.0, 0.1]}),
        ("design.nuisances.gold_diameter_angstrom", {}, {"design__nuisances__gold_fiducials": [0.0, 9.0]}),
        ("simulate.scheme", {"design__dose_order": ["continuous"]}, {}),
        ("microscope.voltage_kv", {"design__voltage_kv": [200.0]}, {"design__voltage_kv": [200.0], "match__run": True}),
        ("reconstruct.treatment.wiener_signal_to_noise", {"reconstruct__treatment__ctf_correction": "phase_flip"}, {"reconstruct__treatment__ctf_correction": "wiener"}),
        ("reconstruct.treatment.ctf_strip_angstrom", {}, {"reconstruct__treatment__ctf_correction": "phase_flip"}),
        ("reconstruct.treatment.defocus_error_um", {}, {"reconstruct__treatment__deconvolution": "warp"}),
        ("reconstruct.treatment.radial_filter", {"reconstruct__treatment__method": "sirt"}, {}),
        ("reconstruct.treatment.iterations", {}, {"reconstruct__treatment__radial_filter": "sirt_like"}),
        ("reconstruct.treatment.deconvolution_falloff", {}, {"reconstruct__treatment__deconvolution": "isonet"}),
        ("reconstruct.treatment.border", {}, {"reconstruct__treatment__border_voxels": 4}),
        ("train.augmentation.random_imaging.batches", {}, {"train__augmentation__random_imaging__fraction": 0.5}),
        ("train.augmentation.random_imaging.batches", {}, {"train__phases": [PhaseSettings(settings={"augmentation": {"random_imaging": {"fraction": 0.5}}})]}),
        ("train.phases", {"start_at": "finetune", "model": "m"}, {}),
        ("design.groups", {"design_table": "d.csv"}, {}),
        ("label.sphere_radius_angstrom", {}, {"label__kind": "sphere"}),
        ("label.density_threshold", {"label__grey_level": 3.0}, {}),
        ("label.resolution_angstrom", {"label__kind": "sphere"}, {}),
        ("train.batch_normalisation", {"train__network": "residual"}, {}),
        ("train.epochs", {"start_at": "finetune", "model": "m"}, {}),
        ("train.batch_size", {"start_at": "segment", "model": "m"}, {"start_at": "finetune", "model": "m"}),
        ("train.augmentation.rotation", {"start_at": "finetune", "model": "m"}, {}),
        ("label.density_threshold", {"start_at": "finetune", "model": "m"}, {"start_at": "finetune", "model": "m", "finetune__labels": "shape"}),
        ("finetune.splits", {}, {"start_at": "finetune", "model": "m"}),
        ("cluster.chosen_by", {"cluster__minimum_mean_probability": 0.4}, {}),
        ("cluster.minimum_probability", {}, {"cluster__chosen_by": "expected_f1"}),
        ("match.templates", {}, {"match__run": True}),
        ("match.phase_shift_deg", {"match__run": True}, {"match__run": True, "match__defocus_um": -3.0}),
        ("export.tilt_series_pixel_size_angstrom", {"export__formats": ["csv"]}, {}),
        ("reconstruct.voxel_size_angstrom", {"start_at": "train", "from_results": "r"}, {}),
        ("train.epochs", {"stop_after": "label"}, {}),
        ("train.augmentation.random_imaging.bumps", {}, {"train__augmentation__random_imaging__fraction": 0.5}),
        ("templates", {"model": "m"}, {}),
        ("design_table", {"model": "m"}, {}),
        ("training_state", {"stop_after": "label"}, {}),
        ("tomograms", {"stop_after": "calibrate"}, {}),
        ("from_results", {}, {"start_at": "train"}),
    ],
)  # fmt: skip
def test_a_parameter_that_counts_only_with_another_is_told_of_without_it(
    name: str, idle: dict[str, Any], busy: dict[str, Any]
) -> None:
    assert told(fresh(name, **idle), name), "without"
    assert not told(fresh(name, **busy), name), "with"


def test_what_only_the_users_tomograms_need_is_told_of_without_them() -> None:
    for name in ("segment.contrast", "match.tilt_step_deg"):
        assert told(fresh(name, match__run=True), name, Given())
        assert not told(fresh(name, match__run=True), name)
    assert told(fresh("evaluate.border_voxels", model="m"), "evaluate.border_voxels", Given(tomograms=True))


def test_many_of_a_section_are_told_by_their_number() -> None:
    settings = fresh(
        "", model="m", train__epochs=3, train__batch_size=3, train__filters=8, train__bootstrap=False, flex__modes=9
    )
    settings.train.__dict__["patch_voxels"] = 40
    (line,) = unused(settings, EVERYTHING)
    assert line == (
        "not used: parameter flex.modes, train.* (5 of them): no stage of this run looks at it "
        "(with --model nothing is simulated or trained)"
    )


def test_the_stages_of_a_run() -> None:
    assert stages_of(Settings()) == set(ORDER) - {"finetune", "match"}
    assert stages_of(fresh("", model="m")) == {"segment", "cluster", "export", "evaluate", "report"}
    assert stages_of(fresh("", model="m", start_at="finetune", stop_after="segment")) == {"finetune", "segment"}


def test_a_groups_own_parameters_are_looked_at_with_its_settings() -> None:
    groups = {
        "low": GroupSettings(tetris={"excluded_volume": "released", "grey_level": 3}),
        "high": GroupSettings(tetris={"grey_level": 4}, design={"tilt_step_deg": [3.0]}),
    }
    settings = fresh("", design__groups=groups, tetris__erosion_voxels=1.0)  # which counts in one of them
    assert unused(settings, EVERYTHING) == [
        "not used: parameter design.groups.high.tetris.grey_level: counts only with tetris.excluded_volume = released"
    ]
    presets = [{"design": {"groups": {"high": {"tetris": {"grey_level": 4}}}}}]
    assert unused(settings, EVERYTHING, presets) == []
    with_table = fresh("", design__groups=groups, design_table="d.csv")
    assert told(with_table, "design.groups.high.design.tilt_step_deg")
    assert not told(with_table, "design.groups.low.tetris.grey_level")
