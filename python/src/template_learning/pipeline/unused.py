"""Which parameters were given that nothing in a run looks at."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from template_learning.common.stages import ORDER
from template_learning.settings import GroupSettings, RandomImagingSettings, Settings, flat, series_pixel_size_angstrom

SECTIONS_BESIDE_ITS_OWN: Mapping[str, tuple[str, ...]] = {
    "tetris": ("volume",),
    "simulate": ("microscope", "reconstruct"),
    "calibrate": ("segment", "cluster", "evaluate"),
    "finetune": ("train", "label", "segment", "cluster", "evaluate"),
    "match": ("microscope",),
}
"""Stage -> the sections of the settings that it looks at, but for the one of its own name."""
NAMED_AT_MOST = 4
"""Parameters of a section that are named; of more their number is told."""


@dataclass(frozen=True)
class Given:
    """What a run is given beside its settings."""

    tomograms: bool = False
    annotations: bool = False


@dataclass(frozen=True)
class Condition:
    """Parameters (a name, or a section's ``name.*``) that count only where ``holds``, said in ``words``."""

    parameters: tuple[str, ...]
    words: str
    holds: Callable[[Settings, set[str], Given], bool]


def _filaments(settings: Settings) -> bool:
    return bool(settings.tetris.filaments.counts)


def _astigmatic(settings: Settings) -> bool:
    return settings.simulate.astigmatism_um > 0 or any(settings.design.astigmatism_um)


def _without_levels(parameter: str, levels: str) -> Condition:
    """Of a parameter that holds where the design draws none of it."""
    return Condition(
        (parameter,),
        f"an empty design.{levels}",
        lambda s, stages, _: (
            not getattr(s.design, levels)
            or s.design_table is not None
            or (parameter.startswith("microscope.") and "match" in stages)
        ),
    )


CONDITIONS: tuple[Condition, ...] = (
    Condition(("flex.amplitude",), "flex.amplitude_kind = uniform", lambda s, _, __: s.flex.amplitude_kind == "uniform"),
    Condition(("flex.rmsd_angstrom",), "flex.amplitude_kind = thermal", lambda s, _, __: s.flex.amplitude_kind == "thermal"),
    Condition(("design.tomograms",), "design.scheme = sobol", lambda s, _, __: s.design.scheme == "sobol"),
    Condition(("design.*",), "a design that is made here, not with design_table", lambda s, _, __: s.design_table is None),
    Condition(
        ("tetris.grey_level", "tetris.erosion_voxels"),
        "tetris.excluded_volume = released",
        lambda s, _, __: s.tetris.excluded_volume == "released",
    ),
    Condition(
        ("tetris.density_threshold",),
        "tetris.excluded_volume = density",
        lambda s, _, __: s.tetris.excluded_volume == "density",
    ),
    Condition(("tetris.vesicles.radius_angstrom",), "tetris.vesicles.count", lambda s, _, __: s.tetris.vesicles.count > 0),
    Condition(
        ("tetris.filaments.rise_angstrom", "tetris.filaments.twist_deg", "tetris.filaments.radius_angstrom"),
        "tetris.filaments.counts",
        lambda s, _, __: _filaments(s),
    ),
    Condition(
        ("tetris.filaments.persistence_angstrom", "tetris.filaments.length_angstrom"),
        "tetris.filaments.counts or microtubules",
        lambda s, _, __: _filaments(s) or bool(s.tetris.filaments.microtubules),
    ),
    Condition(
        ("design.nuisances.gold_diameter_angstrom",),
        "design.nuisances.gold_fiducials",
        lambda s, _, __: any(s.design.nuisances.gold_fiducials),
    ),
    Condition(("design.astigmatism_deg",), "astigmatism_um", lambda s, _, __: _astigmatic(s)),
    Condition(
        ("simulate.astigmatism_deg",),
        "simulate.astigmatism_um or design.astigmatism_um",
        lambda s, _, __: _astigmatic(s) or s.design_table is not None,
    ),
    _without_levels("simulate.scheme", "dose_order"),
    _without_levels("simulate.inelastic_mean_free_path_angstrom", "inelastic_mean_free_path_angstrom"),
    _without_levels("simulate.astigmatism_um", "astigmatism_um"),
    _without_levels("simulate.astigmatism_deg", "astigmatism_deg"),
    _without_levels("microscope.voltage_kv", "voltage_kv"),
    _without_levels("microscope.amplitude_contrast", "amplitude_contrast"),
    Condition(
        ("reconstruct.treatment.wiener_signal_to_noise",),
        "reconstruct.treatment.ctf_correction = wiener",
        lambda s, _, __: s.reconstruct.treatment.ctf_correction == "wiener",
    ),
    Condition(
        ("reconstruct.treatment.ctf_strip_angstrom",),
        "reconstruct.treatment.ctf_correction",
        lambda s, _, __: s.reconstruct.treatment.ctf_correction != "none",
    ),
    Condition(
        ("reconstruct.treatment.defocus_error_um",),
        "reconstruct.treatment.ctf_correction or deconvolution",
        lambda s, _, __: {s.reconstruct.treatment.ctf_correction, s.reconstruct.treatment.deconvolution} != {"none"},
    ),
    Condition(
        ("reconstruct.treatment.radial_filter",),
        "reconstruct.treatment.method = back_projection",
        lambda s, _, __: s.reconstruct.treatment.method == "back_projection",
    ),
    Condition(
        ("reconstruct.treatment.iterations",),
        "reconstruct.treatment.method = sirt or radial_filter = sirt_like",
        lambda s, _, __: s.reconstruct.treatment.method == "sirt" or s.reconstruct.treatment.radial_filter == "sirt_like",
    ),
    Condition(
        ("reconstruct.treatment.deconvolution_strength", "reconstruct.treatment.deconvolution_falloff"),
        "reconstruct.treatment.deconvolution",
        lambda s, _, __: s.reconstruct.treatment.deconvolution != "none",
    ),
    Condition(
        ("reconstruct.treatment.border",),
        "reconstruct.treatment.border_voxels",
        lambda s, _, __: s.reconstruct.treatment.border_voxels > 0,
    ),
    Condition(("microscope.chromatic_aberration_mm",), "SIMULATE", lambda _, stages, __: "simulate" in stages),
    Condition(
        ("label.*",),
        "finetune.labels = shape, in a run that starts at finetune",
        lambda s, stages, __: "label" in stages or s.finetune.labels == "shape",
    ),
    Condition(
        ("label.grey_level", "label.resolution_angstrom"),
        "label.kind = shape",
        lambda s, stages, _: s.label.kind == "shape" or "label" not in stages,
    ),
    Condition(
        ("label.density_threshold",),
        "label.kind = shape and without label.grey_level",
        lambda s, stages, _: (s.label.kind == "shape" or "label" not in stages) and s.label.grey_level is None,
    ),
    Condition(
        ("label.sphere_radius_angstrom",),
        "label.kind = sphere",
        lambda s, stages, _: s.label.kind == "sphere" and "label" in stages,
    ),
    Condition(("train.batch_normalisation",), "train.network = deepfinder", lambda s, _, __: s.train.network == "deepfinder"),
    Condition(
        (
            "train.epochs",
            "train.steps_per_epoch",
            "train.normalisation",
            "train.band_pass_angstrom",
            "train.dose_curriculum_fraction",
            "train.loss.top_view_weight",
            "train.optimizer.*",
            "train.validation_steps",
            "train.early_stopping_epochs",
            "train.network",
            "train.batch_normalisation",
            "train.filters",
            "train.phases",
        ),
        "TRAIN (FINETUNE has its own, or the model's)",
        lambda _, stages, __: "train" in stages,
    ),
    Condition(
        ("train.augmentation.*",),
        "TRAIN, or finetune.augmentation = train",
        lambda s, stages, _: "train" in stages or s.finetune.augmentation == "train",
    ),
    Condition(
        tuple(f"train.augmentation.random_imaging.{name}" for name in RandomImagingSettings.model_fields if name != "fraction"),
        "train.augmentation.random_imaging.fraction",
        lambda s, _, __: any(one.augmentation.random_imaging.fraction > 0 for one in s.train.of_phases()),
    ),
    Condition(("finetune.sphere_radius_angstrom",), "finetune.labels = sphere", lambda s, _, __: s.finetune.labels == "sphere"),
    Condition(("segment.contrast",), "tomograms of yours", lambda _, __, given: given.tomograms),
    Condition(
        ("cluster.chosen_by",),
        "the model's thresholds, not with cluster.minimum_size_voxels, minimum_log_odds or minimum_mean_probability",
        lambda s, _, __: not s.cluster.has_thresholds,
    ),
    Condition(
        ("cluster.minimum_probability",),
        "cluster.chosen_by = expected_f1",
        lambda s, _, __: s.cluster.chosen_by == "expected_f1",
    ),
    Condition(("match.*",), "match.run", lambda s, _, __: s.match.run),
    Condition(
        ("match.defocus_um", "match.phase_shift_deg", "match.ctf_corrected", "match.tilt_range_deg", "match.tilt_step_deg"),
        "tomograms of yours",
        lambda _, __, given: given.tomograms,
    ),
    Condition(
        ("match.phase_shift_deg", "match.ctf_corrected"), "match.defocus_um", lambda s, _, __: s.match.defocus_um is not None
    ),
    Condition(
        ("evaluate.*",),
        "annotations, or simulated tomograms of known truth",
        lambda s, stages, given: bool(stages & {"calibrate", "finetune"}) or given.annotations or s.from_results is not None,
    ),
    Condition(
        ("export.tilt_series_pixel_size_angstrom",),
        "export.formats of RELION",
        lambda s, _, __: any(name.startswith("relion") for name in s.export.formats),
    ),
    Condition(("templates", "distractors"), "a run without --model", lambda s, _, __: s.model is None),
    Condition(
        ("design_table",),
        "stages that make simulated tomograms, or learn from them",
        lambda _, stages, __: bool(stages & {"design", "tetris", "simulate", "reconstruct", "label", "train", "calibrate"}),
    ),
    Condition(("training_state",), "TRAIN or FINETUNE", lambda _, stages, __: bool(stages & {"train", "finetune"})),
    Condition(
        ("tomograms",),
        "SEGMENT, MATCH or FINETUNE",
        lambda _, stages, __: bool(stages & {"segment", "cluster", "match", "finetune", "evaluate", "export", "report"}),
    ),
    Condition(
        ("from_results",),
        "a later start_at, or a model",
        lambda s, _, __: s.start_at != "flex" or s.model is not None,
    ),
)


def stages_of(settings: Settings) -> set[str]:
    """The stages that a run with these settings goes through (as workflows/inputs.nf, plan_of, has it)."""
    start = "segment" if settings.model is not None and settings.start_at == "flex" else settings.start_at
    asked = set(ORDER[ORDER.index(start) : ORDER.index(settings.stop_after) + 1])
    return asked - ({"finetune"} if start != "finetune" else set()) - (set() if settings.match.run else {"match"})


def unused(settings: Settings, given: Given, presets: Iterable[Mapping[str, Any]] = (), told: Container[str] = ()) -> list[str]:
    """One line for each reason why parameters that are not at their defaults, a preset's, or ``told`` are not looked at.

    What a group of the design has for itself is looked at with that group's settings, all else with those of every group.
    """
    stages = stages_of(settings)
    mixture = settings.mixture()
    used = {section for stage in stages for section in (stage, *SECTIONS_BESIDE_ITS_OWN.get(stage, ()))}
    sections = {*ORDER, "microscope"}
    idle: dict[str, list[str]] = {}
    for name in changed(settings, presets):
        if name in told:
            continue
        parameter, whose = name, list(mixture.values())
        if name.startswith("design.groups."):
            _, _, group, parameter = name.split(".", 3)
            parameter, whose = "design.groups" if parameter == "weight" else parameter, [mixture[group]]
        section = parameter.partition(".")[0]
        reason = next(
            (
                f"counts only with {one.words}"
                for one in CONDITIONS
                if _is_of(parameter, one) and not any(one.holds(held, stages, given) for held in whose)
            ),
            None,
        )
        if section in sections and section not in used and not (reason and section == "match"):
            reason = "no stage of this run looks at it" + (
                " (with --model nothing is simulated or trained)" if settings.model else ""
            )
        if reason is not None:
            idle.setdefault(reason, []).append(name)
    return [f"not used: parameter {_listed(names)}: {reason}" for reason, names in idle.items()]


def changed(settings: Settings, presets: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Dotted names of the parameters that are neither at their defaults nor as one of these presets has them."""
    usual = flat(Settings().model_dump(mode="json"))
    # Follows from another where it is not given.
    usual["simulate.pixel_size_angstrom"] = series_pixel_size_angstrom(settings.reconstruct)
    usual |= flat({"design": {"groups": dict.fromkeys(settings.design.groups, GroupSettings().model_dump(mode="json"))}})
    held = [flat(preset) for preset in presets]
    return [
        name
        for name, value in flat(settings.model_dump(mode="json")).items()
        if value != usual.get(name) and not any(name in one and one[name] == value for one in held)
    ]


def _is_of(name: str, condition: Condition) -> bool:
    return any(name == one or (one.endswith(".*") and name.startswith(one.removesuffix("*"))) for one in condition.parameters)


def _listed(names: list[str]) -> str:
    """The names, but of a section with many their number."""
    sections: dict[str, list[str]] = {}
    for name in names:
        sections.setdefault(name.partition(".")[0], []).append(name)
    return ", ".join(
        ", ".join(inner) if len(inner) <= NAMED_AT_MOST else f"{section}.* ({len(inner)} of them)"
        for section, inner in sections.items()
    )
