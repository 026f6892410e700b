"""Every parameter: name, unit, bounds, default and meaning.  The JSON schema, Nextflow's defaults and
docs/reference/parameters.md are generated from here (see ``pipeline/schema.py``).

What earlier versions called a parameter stands in ``RENAMED`` and ``DROPPED``, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from math import prod
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from template_learning.common.stages import ORDER, PER_TOMOGRAM, StageName
from template_learning.common.tables import (
    STEEPEST_DEG,
    AmplitudeContrast,
    Astigmatism,
    AxisDistance,
    BeadDiameter,
    Beads,
    Defocus,
    DefocusError,
    Direction,
    Dose,
    DoseOrder,
    Drift,
    IceDensity,
    IceThickness,
    Lost,
    MeanFreePath,
    PhaseShift,
    Share,
    Slope,
    TiltOffset,
    TiltRange,
    TiltStep,
    Turn,
    Voltage,
)

RENAMED = {
    "flex.damage": "flex.maximum_broken_fraction",
    "tetris.threshold": "tetris.density_threshold",
    "tetris.body": "tetris.excluded_volume",
    "tetris.filled_depth": "tetris.filled_thickness_fraction",
    "tetris.at_most": "tetris.maximum_counts",
    "tetris.molecules": "tetris.stop_at.molecules",
    "tetris.templates": "tetris.stop_at.templates",
    "tetris.protein_mg_per_ml": "tetris.stop_at.protein_mg_per_ml",
    "tetris.occupancy": "tetris.stop_at.occupancy",
    "tetris.vesicles": "tetris.vesicles.count",
    "tetris.vesicle_radius_angstrom": "tetris.vesicles.radius_angstrom",
    "tetris.membrane_molecules": "tetris.vesicles.membrane_molecules",
    "tetris.filaments": "tetris.filaments.counts",
    "tetris.filament_rise_angstrom": "tetris.filaments.rise_angstrom",
    "tetris.filament_twist_deg": "tetris.filaments.twist_deg",
    "tetris.filament_radius_angstrom": "tetris.filaments.radius_angstrom",
    "tetris.filament_persistence_angstrom": "tetris.filaments.persistence_angstrom",
    "tetris.filament_length_angstrom": "tetris.filaments.length_angstrom",
    "tetris.microtubules": "tetris.filaments.microtubules",
    "design.gold_fiducials": "design.nuisances.gold_fiducials",
    "design.carbon_edge": "design.nuisances.carbon_edge",
    "design.shift_error_angstrom": "design.nuisances.shift_error_angstrom",
    "design.rotation_error_deg": "design.nuisances.rotation_error_deg",
    "design.motion_angstrom": "design.nuisances.motion_angstrom",
    "design.uneven_illumination": "design.nuisances.uneven_illumination",
    "simulate.voltage_kv": "microscope.voltage_kv",
    "simulate.spherical_aberration_mm": "microscope.spherical_aberration_mm",
    "simulate.chromatic_aberration_mm": "microscope.chromatic_aberration_mm",
    "label.threshold": "label.density_threshold",
    "train.random_shift_voxels": "train.augmentation.random_shift_voxels",
    "train.rotation": "train.augmentation.rotation",
    "train.contrast_jitter": "train.augmentation.contrast_jitter",
    "train.least_dose_e_per_angstrom2": "train.augmentation.minimum_dose_e_per_angstrom2",
    "train.wedge_variation_deg": "train.augmentation.missing_wedge_jitter_deg",
    "train.high_dose_first": "train.dose_curriculum_fraction",
    "train.tversky_weight": "train.loss.tversky_weight",
    "train.crossentropy_weight": "train.loss.crossentropy_weight",
    "train.crossentropy_balance": "train.loss.class_weight_exponent",
    "train.top_view_weight": "train.loss.top_view_weight",
    "train.optimizer": "train.optimizer.name",
    "train.learning_rate": "train.optimizer.learning_rate",
    "train.learning_rate_schedule": "train.optimizer.learning_rate_schedule",
    "train.averaged_share": "train.optimizer.weight_averaging_fraction",
    "segment.target_probability": "segment.probability_threshold",
    "segment.half_turns": "segment.test_time_augmentation",
    "cluster.probability": "cluster.probability_threshold",
    "cluster.select": "cluster.chosen_by",
    "cluster.least_chance": "cluster.minimum_probability",
    "cluster.minimum_score": "cluster.minimum_mean_probability",
    "match.most_picks": "match.maximum_picks",
    "match.deviations": "match.threshold_sigma",
    "match.amplitude_contrast": "microscope.amplitude_contrast",
    "match.voltage_kv": "microscope.voltage_kv",
    "match.spherical_aberration_mm": "microscope.spherical_aberration_mm",
    "finetune.taught_share": "finetune.training_fraction",
}
"""A parameter's name in version 0.1.0, or since, to its name now.  Some of the old names are groups now."""
DROPPED = {"flex.spring_constant": "conformers do not depend on it"}
"""A parameter of version 0.1.0 that is gone, and why."""

# Bounds of what is a length or a voxel beyond which nothing in the field lies: what is not in ångström, or mistyped, mostly does.
VoxelSize = Annotated[float, Field(ge=0.05, le=1000)]
Resolution = Annotated[float, Field(gt=0, le=1000)]
Radius = Annotated[float, Field(gt=0, le=10_000)]
Length = Annotated[float, Field(gt=0, le=1_000_000)]
GreyLevel = Annotated[float, Field(gt=0, le=1_000_000)]
VesicleRadius = Annotated[float, Field(ge=60, le=100_000)]
BoxEdge = Annotated[int, Field(ge=2, le=8192)]
Filled = Annotated[float, Field(gt=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=10_000)]
Noise = Annotated[float, Field(gt=0, le=1000)]
Exponent = Annotated[float, Field(ge=-10, le=10)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
MOST_ROWS = 65536
"""Of a design."""


class SettingsSection(BaseModel):
    """Settings of one stage: unknown names are refused, values are checked against their bounds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_a_command_line_has_it(cls, value: Any, info: ValidationInfo) -> Any:
        """Lists may come as text, ``1,2`` or ``[1, 2]``, or as the one value that they hold; ``none`` is no value.

        A command line has no other way to write them.  Where it names a parameter without a value that is true, and no number.
        """
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        optional = get_origin(annotation) in (Union, UnionType)
        kind = next(one for one in get_args(annotation) if one is not type(None)) if optional else annotation
        origin, inner = get_origin(kind), get_args(kind)
        if optional and (
            value is None or (kind is not str and isinstance(value, str) and value.strip().lower() in ("none", "null"))
        ):
            return None
        if origin in (list, tuple):
            if isinstance(value, str):
                text = value.strip().removeprefix("[").removesuffix("]")
                value = [part.strip().strip("'\"") for part in text.split(",")] if text.strip() else []
            elif origin is list and isinstance(value, int | float):
                value = [value]
            if origin is tuple and (not isinstance(value, list | tuple) or len(value) != len(inner)):
                raise ValueError(f"{len(inner)} values, as in 1,2{',3' if len(inner) > 2 else ''}, were expected")
        several = value if isinstance(value, list | tuple) else [value]
        if _is_number(inner[0] if origin in (list, tuple) else kind) and any(isinstance(one, bool) for one in several):
            raise ValueError("a number was expected (was a value left out?)")
        return value

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """These settings with other values, checked; ``changes`` is nested as the settings are."""
        return type(self).model_validate(_merged(self.model_dump(), changes))


class FlexSettings(SettingsSection):
    """FLEX: conformers of each template by normal-mode analysis (ProDy's anisotropic network model)."""

    conformers: int = Field(
        25, ge=1, le=10_000, description="conformers for each template (paper: 25 ribosome, 100 nucleosome, 80 FAS)"
    )
    modes: int = Field(
        20,
        ge=1,
        le=10_000,
        description="the last mode taken, counted from the softest without the rigid body's six (released script: 20)",
    )
    first_mode: int = Field(
        7,
        ge=1,
        le=10_000,
        description="the first mode taken, counted alike (released script: 7; the softest: 1); see docs/explanation/flexing.md",
    )
    cutoff_angstrom: float = Field(15.0, gt=0, le=100, description="nodes nearer than this are joined by a spring")
    amplitude_kind: Literal["uniform", "thermal"] = Field(
        "uniform", description="uniform: as in the paper; thermal: normal, variance 1 / eigenvalue, scaled to rmsd_angstrom"
    )
    amplitude: float = Field(
        100.0,
        ge=0,
        le=100_000,
        description="uniform: each mode, of unit length over all atoms, times a number in +-this (paper: 100)",
    )
    rmsd_angstrom: float = Field(2.0, gt=0, le=100, description="thermal: RMSD of every conformer to its template")
    minimum_contacts: int = Field(
        8,
        ge=0,
        le=1000,
        description="nodes with fewer springs are loose ends that follow their chain; 0 = every node counts (paper)",
    )
    minimum_collectivity: float = Field(
        0.1, ge=0, lt=1, description="modes that move a smaller share of the nodes are passed over; 0 = none is (paper)"
    )
    maximum_broken_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest share of a conformer's chain bonds that may be broken, and most clashes for each atom beyond "
        "the template's own; else it is drawn again (uniform: smaller each time); 1 = every draw is kept (paper)",
    )
    redraws: int = Field(
        20, ge=1, le=10_000, description="draws of a conformer, of which the least damaged is kept when all fail"
    )

    @model_validator(mode="after")
    def _modes_in_order(self) -> "FlexSettings":
        if self.first_mode > self.modes:
            raise ValueError(f"first_mode = {self.first_mode}, modes = {self.modes}: the first of them no later was expected")
        return self


class VolumeSettings(SettingsSection):
    """VOLUME: densities of the molecules on a grid, for packing and labels."""

    engine: Literal["native", "eman2"] = Field(
        "native", description="native: this package; eman2: e2pdb2mrc.py in its container"
    )
    voxel_size_angstrom: VoxelSize = Field(16.0, description="voxel size of the sample that molecules are packed in")
    resolution_angstrom: Resolution = Field(32.0, description="Gaussian per atom: 1/e half-width = resolution / pi")


class NuisanceSettings(SettingsSection):
    """What goes wrong at the microscope; a list of levels each, as the design's other factors."""

    gold_fiducials: list[Beads] = Field([0.0], min_length=1, description="gold beads, mean number; 0 = none")
    gold_diameter_angstrom: list[BeadDiameter] = Field([100.0], min_length=1, description="their diameter (usual: 50 to 150)")
    carbon_edge: list[Share] = Field([0.0], min_length=1, description="share of the field under a carbon film; 0 = none")
    shift_error_angstrom: list[Drift] = Field([0.0], min_length=1, description="misalignment of each tilt, sigma; 0 = none")
    rotation_error_deg: list[Turn] = Field(
        [0.0], min_length=1, description="rotation of each tilt in its plane, sigma; 0 = none"
    )
    slow_drift_angstrom: list[Drift] = Field(
        [0.0],
        min_length=1,
        description="misalignment that grows from tilt to tilt in the order they were taken: a random walk of this deviation over the series; 0 = none",
    )
    tilt_axis_error_deg: list[Turn] = Field(
        [0.0], min_length=1, description="rotation that all tilts have in common, sigma; 0 = none"
    )
    tilt_angle_error_deg: list[Turn] = Field(
        [0.0], min_length=1, description="of each tilt's true angle from the one that is written, sigma; 0 = none"
    )
    defocus_error_um: list[DefocusError] = Field(
        [0.0], min_length=1, description="of each tilt's true defocus from the series' own, sigma; 0 = none"
    )
    motion_angstrom: list[Drift] = Field([0.0], min_length=1, description="drift during each exposure; 0 = none")
    uneven_illumination: list[Slope] = Field(
        [0.0], min_length=1, description="slope of the beam's intensity over the field; 0 = none"
    )


PLAIN = "plain"
"""The group of the rows of a design without groups."""
GroupName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]


class GroupSettings(SettingsSection):
    """One group of a mixture: how many of the tomograms it has, and what is otherwise for them than for the run."""

    weight: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="its part of `design.tomograms` beside the other groups' (not where `design.tomograms` is its own)",
    )
    design: dict[str, Any] = Field({}, description="parameters of `design` that are its own, but for `scheme` and `groups`")
    tetris: dict[str, Any] = Field({}, description="parameters of `tetris` that are its own")
    microscope: dict[str, Any] = Field({}, description="parameters of `microscope` that are its own")
    simulate: dict[str, Any] = Field({}, description="parameters of `simulate` that are its own, but for `engine`")
    reconstruct: dict[str, Any] = Field(
        {}, description="parameters of `reconstruct` that are its own, but for `engine` and `voxel_size_angstrom`"
    )
    label: dict[str, Any] = Field({}, description="parameters of `label` that are its own")

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """What differs from the run's settings, section by section."""
        sections = {name: getattr(self, name) for name in type(self).model_fields if name != "weight"}
        return {name: changes for name, changes in sections.items() if changes}


OF_THE_RUN = {
    "design": ("scheme", "groups"),
    "simulate": ("engine",),
    "reconstruct": ("engine", "voxel_size_angstrom"),
}
"""Parameters that no group may have for itself: one image holds one program, one network sees one voxel size."""


class DesignSettings(SettingsSection):
    """DESIGN: which tomograms are simulated, one row each."""

    scheme: Literal["factorial", "sobol"] = Field(
        "factorial", description="factorial: every combination of the lists; sobol: `tomograms` rows between their extremes"
    )
    tomograms: int = Field(
        48, ge=1, le=MOST_ROWS, description="rows drawn by the sobol scheme (factorial: the product of the lists)"
    )
    test_tomograms: int = Field(0, ge=0, le=MOST_ROWS, description="rows kept out of training and scored at the end")
    validation_tomograms: int = Field(
        2,
        ge=0,
        le=MOST_ROWS,
        description="rows that choose the size threshold and the best epoch; of a factorial they are drawn so that all levels come in turn",
    )
    total_dose_e_per_angstrom2: list[Dose] = Field(
        [75.0, 150.0], min_length=1, description="electrons per Å^2 over the whole series"
    )
    tilt_step_deg: list[TiltStep] = Field([2.0, 4.0], min_length=1, description="tilt increments")
    tilt_range_deg: list[TiltRange] = Field([60.0, 40.0], min_length=1, description="tilts from -range to +range")
    ice_density_g_per_cm3: list[IceDensity] = Field([0.9, 1.1], min_length=1, description="density of the vitreous ice")
    defocus_um: list[Defocus] = Field([-2.5, -3.25, -4.0], min_length=1, description="defocus in um, negative = underfocus")
    phase_shift_deg: list[PhaseShift] = Field([0.0], min_length=1, description="phase plate (paper: 90); 0 = none")
    tilt_offset_deg: list[TiltOffset] = Field(
        [0.0],
        min_length=1,
        description="middle of the tilts, which run from this less the range to this plus it; 0 = symmetric",
    )
    missing_tilts: list[Lost] = Field(
        [0.0], min_length=1, description="share of the tilts that were taken, received their dose, and were left out; 0 = none"
    )
    tilt_axis_distance_um: list[AxisDistance] = Field(
        [0.0],
        min_length=1,
        description="of the field from the tilt axis: each tilt's defocus is off by it times the angle's sine; 0 = on the axis",
    )
    dose_order: list[DoseOrder] = Field([], description="order in which tilts receive their dose; none = simulate.scheme")
    ice_thickness_angstrom: list[IceThickness] = Field(
        [], description="of the ice, beyond what is packed empty (lamellae: 1000 to 3000); none = the sample's box"
    )
    inelastic_mean_free_path_angstrom: list[MeanFreePath] = Field(
        [], description="none = simulate.inelastic_mean_free_path_angstrom"
    )
    voltage_kv: list[Voltage] = Field([], description="none = microscope.voltage_kv")
    amplitude_contrast: list[AmplitudeContrast] = Field([], description="none = microscope.amplitude_contrast")
    astigmatism_um: list[Astigmatism] = Field([], description="none = simulate.astigmatism_um")
    astigmatism_deg: list[Direction] = Field([], description="none = simulate.astigmatism_deg")
    nuisances: NuisanceSettings = NuisanceSettings()
    groups: dict[GroupName, GroupSettings] = Field(
        {},
        description="a mixture of tomograms: each group's name, weight and own settings (docs/how-to/mixtures.md); "
        "none = all tomograms as the run's settings say",
    )

    @model_validator(mode="after")
    def _tilts_are_possible(self) -> "DesignSettings":
        steepest = max(self.tilt_range_deg) + max(map(abs, self.tilt_offset_deg))
        if steepest > STEEPEST_DEG:
            raise ValueError(
                f"tilt_range_deg and tilt_offset_deg: tilts up to {steepest:g} degrees; {STEEPEST_DEG:g} at most were expected"
            )
        return self

    @model_validator(mode="after")
    def _can_be_imaged(self) -> "DesignSettings":
        if max(self.tilt_step_deg) > min(self.tilt_range_deg):
            raise ValueError(
                f"tilt_step_deg = {max(self.tilt_step_deg):g} with tilt_range_deg = {min(self.tilt_range_deg):g}: "
                "a step of the range at most was expected"
            )
        lists = [value for value in (*dict(self).values(), *dict(self.nuisances).values()) if isinstance(value, list) and value]
        rows = prod(len(levels) for levels in lists)
        if self.scheme == "factorial" and rows > MOST_ROWS:
            raise ValueError(
                f"the lists make {rows} combinations; {MOST_ROWS} at most were expected (scheme = sobol draws fewer)"
            )
        return self


class StopSettings(SettingsSection):
    """When a sample is full: at the first of these that is reached, and in any case when no more fit."""

    molecules: int | None = Field(None, ge=1, le=10_000_000, description="this many molecules; none = no limit")
    templates: int | None = Field(None, ge=1, le=10_000_000, description="this many templates; none = no limit")
    protein_mg_per_ml: float | None = Field(None, gt=0, le=1500, description="this concentration; none = no limit")
    occupancy: float | None = Field(
        None, gt=0, lt=1, description="excluded volumes fill this fraction of the box; none = no limit"
    )


class VesicleSettings(SettingsSection):
    """Closed lipid bilayers, and the molecules that are set in them."""

    count: int = Field(0, ge=0, le=10_000, description="vesicles, placed before the molecules, which also go inside")
    radius_angstrom: tuple[VesicleRadius, VesicleRadius] = Field(
        (200.0, 400.0), description="least and greatest radius, to the bilayer's middle"
    )
    membrane_molecules: list[str] = Field(
        [],
        description="'species=count' or 'species=count@height': molecules set in the vesicles and nowhere else, z of their "
        "structure along the normal, outwards, their centre this many Å above the bilayer's middle",
    )

    @model_validator(mode="after")
    def _radii_in_order(self) -> "VesicleSettings":
        least, greatest = self.radius_angstrom
        if least > greatest:
            raise ValueError(f"radius_angstrom = {least:g}, {greatest:g}: the least first was expected")
        return self


class FilamentSettings(SettingsSection):
    """Helical chains and microtubules."""

    counts: list[str] = Field(
        [], description="'species=count': so many helical chains of this unit, placed before the molecules"
    )
    microtubules: list[str] = Field(
        [], description="'species=count': so many tubes of 13 protofilaments of this unit (tubulin's dimer)"
    )
    rise_angstrom: float = Field(27.5, gt=0, le=10_000, description="along the axis from unit to unit (actin: 27.3 to 27.6)")
    twist_deg: float = Field(-166.7, ge=-360, le=360, description="about the axis from unit to unit (actin: -166 to -167)")
    radius_angstrom: float = Field(
        16.0, ge=0, le=10_000, description="of the units' centres from the axis; 0 for a unit that is a whole turn or ring"
    )
    persistence_angstrom: float = Field(
        177000.0,
        gt=0,
        le=1e12,
        description="persistence length of filaments and microtubules (actin: 17.7 um, Gittes et al. 1993)",
    )
    length_angstrom: Length = Field(1000.0, description="length of filaments and microtubules")


class TetrisSettings(SettingsSection):
    """TETRIS: molecules packed tightly in a box."""

    shape_voxels: tuple[BoxEdge, BoxEdge, BoxEdge] = Field(
        (64, 192, 192),
        description="box as z, y, x in voxels of volume.voxel_size_angstrom (paper: 64 x 192 x 192 or 64 x 256 x 256)",
    )
    distractors_per_template: float = Field(
        5.0,
        ge=0,
        le=10_000,
        description="molecules of distractors for one of a template (paper: 5 ribosome, 2 nucleosome, which the released scripts' "
        "repeated lines make 9 and 3)",
    )
    smoothing_voxels: float = Field(
        1.65, gt=0, le=8, description="sigma of the Gaussian before the threshold (paper: 1.65 to 2)"
    )
    density_threshold: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="excluded_volume density: a molecule's body is where its density, after the Gaussian, is above this fraction "
        "of its maximum",
    )
    excluded_volume: Literal["density", "released", "atoms"] = Field(
        "density",
        description="what must not overlap: density: the binarised densities; released: the released script's, cut at grey_level and "
        "eroded, so that rims may overlap; atoms: the voxels with atoms",
    )
    grey_level: GreyLevel = Field(
        100.0,
        description="excluded_volume released: the body is where the density, after the Gaussian, is above this, in EMAN2's scale "
        "(released script: 100)",
    )
    erosion_voxels: float = Field(
        2.0,
        ge=0,
        le=8,
        description="excluded_volume released: the body loses this much all round before it is forbidden (released script: 2)",
    )
    packing_voxel_size_angstrom: VoxelSize | None = Field(
        None,
        description="grid that is packed on, finer = denser with excluded_volume atoms; none = volume.voxel_size_angstrom",
    )
    minimum_distance_angstrom: float = Field(
        3.0,
        ge=0,
        le=1000,
        description="least distance between atoms of two molecules; 0 = only the bodies keep apart (released script)",
    )
    shell_voxels: float = Field(
        2.0, ge=1, le=16, description="reach of the shell that draws molecules together, voxels of the grid that is packed on"
    )
    placer: Literal["tetris", "random"] = Field(
        "tetris", description="tetris: where a molecule touches most; random: anywhere it fits (the paper's ablation)"
    )
    margin_angstrom: float = Field(0.0, ge=0, le=1_000_000, description="free border on each side of the box")
    centre_margin_angstrom: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="least distance of a molecule's centre from each face of the box (released script: 192)",
    )
    slab_thickness_angstrom: Length | None = Field(
        None, description="molecules only within this thickness about the middle in z; none = the whole box"
    )
    filled_thickness_fraction: tuple[Filled, Filled] = Field(
        (1.0, 1.0),
        description="share of the box's thickness that molecules take, drawn for each sample between the two; below 1 there is "
        "empty ice, which a network should have seen (paper: 1)",
    )
    stop_at: StopSettings = StopSettings()
    maximum_counts: list[str] = Field(
        [], description="'species=count': no more than this many of a species, the others go on in their shares"
    )
    density_gradient: float = Field(
        0.0, ge=0, le=1, description="places left empty, none at the first x up to this fraction of them at the last; 0 = even"
    )
    device: Literal["cpu", "gpu", "auto"] = Field(
        "cpu", description="where places are searched for, the same ones; auto takes a GPU where there is one"
    )
    retries: int = Field(
        20, ge=0, le=1_000_000, description="further tries, each in a new orientation, when a molecule does not fit"
    )
    keep_shares: bool = Field(
        True, description="true: end when a molecule fits nowhere; false: go on with the species that still fit"
    )
    vesicles: VesicleSettings = VesicleSettings()
    filaments: FilamentSettings = FilamentSettings()

    @model_validator(mode="after")
    def _fractions_in_order(self) -> "TetrisSettings":
        least, greatest = self.filled_thickness_fraction
        if least > greatest:
            raise ValueError(f"filled_thickness_fraction = {least:g}, {greatest:g}: the least first was expected")
        return self


class MicroscopeSettings(SettingsSection):
    """The microscope: of the tilt series that SIMULATE makes, and of the user's tomograms for MATCH."""

    voltage_kv: Voltage = Field(300.0, description="acceleration voltage")
    spherical_aberration_mm: float = Field(2.7, ge=0, le=100, description="Cs")
    chromatic_aberration_mm: float = Field(2.7, ge=0, le=100, description="Cc (SIMULATE)")
    amplitude_contrast: AmplitudeContrast = Field(
        0.07,
        description="share of the contrast transfer that is amplitude (zero-loss images of molecules in ice: about 0.07)",
    )


class SimulateSettings(SettingsSection):
    """SIMULATE: tilt series of the packed samples."""

    engine: Literal["native", "parakeet"] = Field(
        "native", description="native: this package; parakeet: parakeet.run in its container"
    )
    pixel_size_angstrom: VoxelSize | None = Field(
        None, description="pixel of the tilt series; none = half of reconstruct.voxel_size_angstrom"
    )
    device: Literal["cpu", "gpu", "auto"] = Field("cpu", description="auto takes a GPU where there is one")
    scheme: DoseOrder = Field("dose-symmetric", description="order in which tilts receive their dose")
    propagation: Literal["multislice", "projection"] = Field(
        "multislice", description="multislice: the wave goes through slabs; projection: through their sum"
    )
    damage_angstrom2_per_dose: float = Field(
        0.08,
        ge=0,
        le=100,
        description="radiation damage: variance of the atoms' displacement in Å^2 for one e/Å^2 (paper: 0.08)",
    )
    detector_pixel_size_angstrom: VoxelSize = Field(
        1.0, description="the detector's own pixel, to which its DQE refers; the tilt series is binned from it (paper: 1)"
    )
    astigmatism_um: Astigmatism = Field(0.0, description="half the difference of the two principal defoci")
    astigmatism_deg: Direction = Field(0.0, description="direction in which the defocus is raised, from x")
    ice_shape: Literal["slab", "cuboid"] = Field(
        "slab", description="slab: the ice goes on beyond the field; cuboid: it ends with the sample, as in Parakeet"
    )
    hydrogens: bool = Field(True, description="hydrogens scatter; false: heavy atoms alone, as Parakeet has them")
    solvent_noise: Literal["parakeet_0.6", "parakeet_0.4"] = Field(
        "parakeet_0.6",
        description="the ice's grain: as Parakeet 0.6.8 has it by default, or as the paper's configuration for Parakeet 0.4",
    )
    inelastic_mean_free_path_angstrom: MeanFreePath | None = Field(
        3950.0,
        description="ice in which 1/e of the electrons is left in a zero-loss image (Rice et al. 2018, 300 kV: 3950); none = no loss",
    )
    keep_waves: bool = Field(False, description="also write <id>.waves.npy, to image the same sample again with other optics")


class TreatmentSettings(SettingsSection):
    """What facilities do to series and tomograms: first to the images, then in back-projection, then to the tomogram, in this order."""

    lowest_tilt_deg: float = Field(-90.0, ge=-90, le=90, description="tilts below this are left out")
    highest_tilt_deg: float = Field(90.0, ge=-90, le=90, description="tilts above this are left out")
    every_nth_tilt: int = Field(1, ge=1, le=1000, description="2: every other tilt, by angle")
    shift_error_angstrom: Drift = Field(0.0, description="standard deviation of each tilt's misalignment along x and y")
    rotation_error_deg: Turn = Field(0.0, description="the same of each tilt's rotation in its plane")
    ctf_correction: Literal["none", "phase_flip", "wiener"] = Field(
        "none", description="of the tilt images, at the defocus of the series"
    )
    wiener_signal_to_noise: float = Field(10.0, gt=0, le=1_000_000, description="wiener: the same at all frequencies")
    ctf_strip_angstrom: Length | None = Field(
        None, description="strips along x corrected each for its own defocus; none = one defocus an image"
    )
    defocus_error_um: float = Field(
        0.0, ge=-20, le=20, description="added to the defocus that correction and deconvolution take for the true one"
    )
    dose_weighting: bool = Field(False, description="high frequencies of late tilts weighted down (Grant and Grigorieff 2015)")
    binning: Literal["antialiased", "plain"] = Field(
        "antialiased",
        description="how images come to the tomogram's voxel size; plain: means over as many whole pixels as fit, then resampled",
    )
    method: Literal["back_projection", "sirt"] = Field("back_projection", description="weighted back-projection, or SIRT")
    radial_filter: Literal["ramp", "hamming_like", "sirt_like"] = Field(
        "ramp", description="back_projection: ramp to Nyquist; times a Hamming window; or as after some iterations of SIRT"
    )
    iterations: int = Field(15, ge=1, le=10_000, description="of sirt, or those that sirt_like stands for")
    deconvolution: Literal["none", "warp", "isonet"] = Field(
        "none", description="of the tomogram, high-passed at 300 Å (warp) or at 0.02 of Nyquist's frequency (isonet)"
    )
    deconvolution_strength: float = Field(
        1.0, gt=0, le=10, description="signal to noise at low frequency is 1000 to this power"
    )
    deconvolution_falloff: float = Field(1.0, gt=0, le=100, description="how fast signal to noise falls with frequency")
    gaussian_voxels: float = Field(0.0, ge=0, le=1000, description="standard deviation of a Gaussian low pass; 0 = none")
    median_voxels: int = Field(1, ge=1, le=99, description="edge of the median filter's cubes; 1 = none")
    total_variation_sigma: float = Field(
        0.0, ge=0, le=1000, description="weight of total variation, in standard deviations of the tomogram; 0 = none"
    )
    diffusion_iterations: int = Field(0, ge=0, le=10_000, description="of anisotropic diffusion; 0 = none")
    non_local_means_sigma: float = Field(
        0.0, ge=0, le=1000, description="strength of non-local means, in the noise's own; 0 = none"
    )
    slope_sigma: float = Field(
        0.0, ge=-1000, le=1000, description="grey values rise along x by this many standard deviations; 0 = none"
    )
    cut_percent: float = Field(0.0, ge=0, lt=50, description="lowest and highest grey values cut; 0 = none")
    border_voxels: int = Field(0, ge=0, le=1000, description="added on every side; 0 = none")
    border: Literal["zero", "mean"] = Field("zero", description="what the added border is filled with")
    grey_values: Literal["float32", "int16", "uint8"] = Field("float32", description="what the tomogram's voxels are")

    @model_validator(mode="after")
    def _tilts_in_order(self) -> "TreatmentSettings":
        if self.lowest_tilt_deg >= self.highest_tilt_deg:
            raise ValueError(
                f"lowest_tilt_deg = {self.lowest_tilt_deg:g}, highest_tilt_deg = {self.highest_tilt_deg:g}: "
                "a lower one first was expected"
            )
        return self


class ReconstructSettings(SettingsSection):
    """RECONSTRUCT: tomograms by weighted back-projection."""

    engine: Literal["native", "imod"] = Field(
        "native", description="native: this package; imod: newstack, tilt and trimvol in their container"
    )
    voxel_size_angstrom: VoxelSize = Field(
        13.0,
        description="voxel size of the tomograms, that of the data to analyse (paper: 13 ribosome and FAS, 8 nucleosome)",
    )
    thickness_angstrom: Length | None = Field(
        None, description="thickness of the tomograms; none = the simulated sample's, which the tilt series names"
    )
    treatment: TreatmentSettings = TreatmentSettings()

    @model_validator(mode="after")
    def _natively_treated(self) -> "ReconstructSettings":
        if self.engine != "native" and self.treatment != TreatmentSettings():
            raise ValueError(f"treatment: engine = {self.engine} does none of it; engine = native was expected")
        return self


class LabelSettings(SettingsSection):
    """LABEL: ground-truth segmentations and coordinates."""

    kind: Literal["shape", "sphere"] = Field(
        "shape", description="the placed template's own shape, or a sphere about its centre (paper: FAS)"
    )
    density_threshold: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="shape: density above this fraction of the molecule's maximum, where there is no grey_level",
    )
    grey_level: GreyLevel | None = Field(
        None, description="shape: density above this, in EMAN2's scale (released script: 100); none = density_threshold"
    )
    sphere_radius_angstrom: Radius = Field(100.0, description="sphere: its radius")
    resolution_angstrom: Resolution = Field(
        32.0, description="shape: Gaussian per atom before the threshold, 1/e half-width = resolution / pi"
    )


class RandomImagingSettings(SettingsSection):
    """How training tomograms are imaged and treated anew: transfer, gold, noise and filters (docs/explanation/real_tomograms.md)."""

    fraction: float = Field(
        0.0, ge=0, le=1, description="share of what is learnt that is imaged anew; 0 = none, the tomograms as they were made"
    )
    batches: int = Field(25, ge=1, le=100_000, description="a tomogram imaged anew serves so many batches, one patch of each")
    noise_to_signal: tuple[Noise, Noise] = Field(
        (0.1, 8.0), description="noise added: its amplitude over that of the tomogram, drawn on a logarithmic scale"
    )
    noiseless_fraction: float = Field(0.2, ge=0, le=1, description="share of those without added noise, as denoised ones are")
    low_pass_voxels: tuple[Sigma, Sigma] = Field((0.0, 2.0), description="Gaussian filter: its standard deviation")
    slope: tuple[Exponent, Exponent] = Field(
        (-0.3, 1.0), description="the spectrum's slope is changed: amplitudes times frequency to the power of minus this"
    )
    largest_slope_across: float = Field(
        1.2,
        ge=0,
        le=4,
        description="the same across the tilt axis alone, as SIRT-like filters do: up to this, in half of those",
    )
    bumps: float = Field(0.25, ge=0, le=2, description="bumps of the filter: deviation of its logarithm")
    defocus_um: tuple[Defocus, Defocus] = Field(
        (-1.0, -7.0),
        description="of tomograms whose series passes all frequencies alike (in focus, phase plate of 90 degrees): a transfer with"
        " a defocus between these, as it is or corrected",
    )
    largest_b_factor_angstrom2: float = Field(300.0, ge=0, le=100_000, description="and a fall-off with a B factor up to this")
    gold_fraction: float = Field(0.15, ge=0, le=1, description="share with gold beads of 5 to 15 nm")
    turned_fraction: float = Field(
        0.25, ge=0, le=1, description="share whose tilt axis lies along x in place of y: x and y are exchanged, which mirrors"
    )
    largest_scale_factor: float = Field(
        1.5, ge=1, le=1000, description="grey values are multiplied by up to this, or divided, drawn on a logarithmic scale"
    )


class AugmentationSettings(SettingsSection):
    """How a training patch is changed each time that it is drawn."""

    random_shift_voxels: int = Field(13, ge=0, le=1000, description="patches are centred on a particle, shifted by up to this")
    rotation: Literal["none", "tilt_axis", "half_turns", "mirrors"] = Field(
        "half_turns",
        description="augmentation that keeps the missing wedge: half turns about the tilt axis (DeepFinder), or about x, y and z; "
        "mirrors: mirror images too, where the molecule's hand cannot be seen at this voxel size",
    )
    contrast_jitter: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="patches are scaled by 1 +- up to this, and shifted by as much (not with train.band_pass_angstrom, which takes shifts out)",
    )
    minimum_dose_e_per_angstrom2: Dose | None = Field(
        None, description="patches get the noise of doses between this and their tomogram's own; none = only its own"
    )
    missing_wedge_jitter_deg: float = Field(
        0.0, ge=0, lt=45, description="patches lose the tilts beyond the series' largest less up to this: a wider missing wedge"
    )
    random_imaging: RandomImagingSettings = RandomImagingSettings()


class LossSettings(SettingsSection):
    """What is made small: the Tversky loss and the cross-entropy, summed."""

    tversky_weight: float = Field(1.0, ge=0, le=1e6, description="weight of the Tversky loss (DeepFinder: 1)")
    crossentropy_weight: float = Field(1.0, ge=0, le=1e6, description="weight of the cross-entropy beside it (DeepFinder: 0)")
    class_weight_exponent: float = Field(
        1.0, ge=0, le=1, description="1: each class counts the same in the cross-entropy; 0: each voxel does; between: between"
    )
    top_view_weight: float = Field(
        1.0,
        gt=0,
        le=10_000,
        description="weight in the cross-entropy of a target whose axis lies along the beam (top view) beside that of one across it"
        " (side view), their mean 1; above 1 more top views are found and fewer others (docs/explanation/top_views.md)",
    )

    @model_validator(mode="after")
    def _something_counts(self) -> "LossSettings":
        if self.tversky_weight + self.crossentropy_weight == 0:
            raise ValueError("tversky_weight = crossentropy_weight = 0: a weight above 0 was expected")
        if self.top_view_weight != 1 and self.crossentropy_weight == 0:
            raise ValueError(
                f"top_view_weight = {self.top_view_weight:g} is one in the cross-entropy: a crossentropy_weight above 0 was expected"
            )
        return self


class OptimizerSettings(SettingsSection):
    """How the weights follow the loss."""

    name: Literal["adam", "muon"] = Field(
        "adam",
        description="muon: learns in fewer steps, with a larger learning_rate (docs/explanation/learning.md); adam: DeepFinder's",
    )
    learning_rate: LearningRate = Field(1e-4, description="its step")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: down to zero at the last step"
    )
    weight_averaging_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the epochs, the last ones, whose weights are averaged: what is validated and kept is the mean since the"
        " first of them (stochastic weight averaging); 0 = none",
    )


class PhaseSettings(SettingsSection):
    """One phase of a training: which tomograms it sees, and what is otherwise for it than for the others."""

    groups: list[GroupName] = Field([], description="groups of `design.groups` that it is taught and validated on; none = all")
    settings: dict[str, Any] = Field(
        {}, description="parameters of `train` that are its own, but for `engine` and what the network is"
    )


OF_THE_NETWORK = (
    "engine",
    "network",
    "filters",
    "batch_normalisation",
    "normalisation",
    "band_pass_angstrom",
    "phases",
)
"""Parameters that all phases of a training have in common."""


class TrainSettings(SettingsSection):
    """TRAIN: DeepFinder's network on the simulated tomograms (defaults: DeepFinder's own)."""

    engine: Literal["native", "deepfinder"] = Field(
        "native", description="native: this package; deepfinder: cryoet-deepfinder in its container"
    )
    epochs: int = Field(100, ge=1, le=100_000, description="epochs")
    steps_per_epoch: int = Field(100, ge=1, le=1_000_000, description="training steps an epoch")
    batch_size: int = Field(25, ge=1, le=10_000, description="patches a step")
    patch_voxels: int = Field(52, ge=8, le=512, multiple_of=4, description="edge of the cubic training patch")
    background_fraction: float = Field(0.1, ge=0, lt=1, description="share of patches centred anywhere (DeepFinder: 0)")
    bootstrap: bool = Field(
        True, description="every class is drawn equally often, and of it every tomogram, however many particles they have"
    )
    normalisation: Literal["tomogram", "robust", "percentile", "patch"] = Field(
        "tomogram",
        description="grey values by mean and standard deviation of whole tomograms; by median and median absolute deviation "
        "of their voxels that are not constant (paddings, masks); by median and a high percentile of those, which is that of the "
        "molecules where there is little noise; or by mean and deviation of each patch (DeepFinder)",
    )
    band_pass_angstrom: tuple[Sigma, Sigma] | None = Field(
        None,
        description="tomograms are filtered with a Gaussian, less a wider one (their standard deviations), and brought to unit "
        "deviation in that band, here and in SEGMENT; none = no filter (DeepFinder)",
    )
    dose_curriculum_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training over which low doses (tomograms, noise) are let in by and by; 0 = all from the first step",
    )
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    validation_steps: int = Field(10, ge=1, le=100_000, description="batches of validation patches, the same ones each epoch")
    early_stopping_epochs: int | None = Field(
        None, ge=1, le=100_000, description="stop after this many epochs without a better validation loss; none = never"
    )
    network: Literal["deepfinder", "residual"] = Field(
        "deepfinder",
        description="residual: residual blocks on voxels of twice the size and more, far less work; deepfinder: DeepFinder's U-Net",
    )
    batch_normalisation: bool = Field(
        False, description="after each convolution: learns in fewer steps (DeepFinder: none; network residual: always)"
    )
    filters: int = Field(
        32,
        ge=4,
        le=1024,
        multiple_of=4,
        description="feature maps of the first level (DeepFinder: 32; with network residual 16 do)",
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"] = Field(
        "float32",
        description="arithmetic of the layers: mixed_float16 for GPUs, mixed_bfloat16 for GPUs and newer CPUs; auto:"
        " mixed_bfloat16 without a GPU on processors that have instructions for it, else float32",
    )
    device: Literal["cpu", "gpu", "auto"] = Field(
        "auto", description="gpu: an error without one; auto takes one where there is one"
    )
    phases: list[PhaseSettings] = Field(
        [],
        description="trainings one after another, each from the network of the one before it: its groups of tomograms and its own"
        " settings (docs/how-to/mixtures.md); none = one training on all",
    )

    def of_phases(self) -> list["TrainSettings"]:
        """The settings of each phase; these alone where there are none."""
        plain = self.model_copy(update={"phases": []})
        return [plain.changed(phase.settings) for phase in self.phases] or [plain]

    @model_validator(mode="after")
    def _can_be_trained(self) -> "TrainSettings":
        if self.network == "residual" and self.patch_voxels % 8:
            raise ValueError(f"patch_voxels = {self.patch_voxels}: a multiple of 8 was expected with network = residual")
        if self.band_pass_angstrom is not None and not self.band_pass_angstrom[0] < self.band_pass_angstrom[1]:
            short, long = self.band_pass_angstrom
            raise ValueError(f"band_pass_angstrom = {short:g}, {long:g}: the narrow Gaussian's first was expected")
        return self

    @model_validator(mode="after")
    def _phases_can_follow_one_another(self) -> "TrainSettings":
        if self.phases and self.engine == "deepfinder":
            raise ValueError("phases: engine = deepfinder begins with random weights each time; engine = native was expected")
        for number, phase in enumerate(self.phases):
            for name in OF_THE_NETWORK:
                if name in phase.settings:
                    raise ValueError(
                        f"parameter train.phases.{number}.settings.{name}: one for all phases was expected, as train.{name}"
                    )
            try:
                self.model_copy(update={"phases": []}).changed(phase.settings)
            except ValidationError as error:
                raise ValueError(complaints(error, TrainSettings, f"train.phases.{number}.settings")) from None
        return self


class SegmentSettings(SettingsSection):
    """SEGMENT: the network applied to whole tomograms in overlapping tiles."""

    engine: Literal["native", "deepfinder"] = Field(
        "native", description="native: this package; deepfinder: cryoet-deepfinder in its container"
    )
    tile_voxels: int = Field(96, ge=16, le=2048, multiple_of=4, description="edge of a tile; memory grows with its cube")
    overlap_voxels: int = Field(16, ge=0, le=1024, description="voxels that neighbouring tiles share on each side")
    contrast: Literal["auto", "protein_dark", "protein_bright"] = Field(
        "auto",
        description="sign of the user's tomograms; bright ones are inverted before the network sees them; auto: found for each, by "
        "its grey values and by what the network finds with either sign",
    )
    match_spectrum: bool = Field(
        False, description="filter tomograms to the training tomograms' radial spectrum (paper: for defocus data)"
    )
    probability_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="voxels belong to their likeliest target class from this probability on; none = where nothing is likelier",
    )
    test_time_augmentation: bool = Field(
        False, description="mean over the four half turns that keep the missing wedge (four times the work)"
    )
    keep_probabilities: bool = Field(
        False, description="also write every class's probability, background too: <id>.probabilities.mrc.gz"
    )
    device: Literal["cpu", "gpu", "auto"] = Field(
        "auto", description="gpu: an error without one; auto takes one where there is one"
    )

    @model_validator(mode="after")
    def _tiles_go_on(self) -> "SegmentSettings":
        if 4 * self.overlap_voxels > 3 * self.tile_voxels:
            raise ValueError(
                f"overlap_voxels = {self.overlap_voxels}: three quarters of tile_voxels, {self.tile_voxels}, at most were expected"
            )
        return self


class ClusterSettings(SettingsSection):
    """CLUSTER: picks from segmentations."""

    engine: Literal["native", "deepfinder"] = Field(
        "native", description="native: this package; deepfinder: cryoet-deepfinder in its container"
    )
    method: Literal["watershed", "meanshift"] = Field(
        "watershed", description="connected components split by a distance watershed, or MeanShift (paper)"
    )
    radius_voxels: float = Field(
        6.0,
        gt=0,
        le=1000,
        description="MeanShift's radius; least distance of two watershed seeds (paper: 10 ribosome, 6 nucleosome)",
    )
    probability_threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="voxels of a class count from this probability on (see segment.probability_threshold for less than 0.5)",
    )
    minimum_size_voxels: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="smallest selected segment; none = the model's threshold (or none, where one of the next two is given: what is "
        "given here stands in for all that the model selects by)",
    )
    minimum_log_odds: float | None = Field(
        None,
        ge=-87,
        le=87,
        description="lowest score of a selected segment, the mean of its voxels' log-odds: 0 is even odds, 4.6 is 100 to 1, and no "
        "upper end as a probability has; none = the model's threshold (or none, where another is given)",
    )
    minimum_mean_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the same on the mean of its voxels' probabilities (0.1.0: minimum_score), which tells the surest apart no more",
    )
    chosen_by: Literal["threshold", "expected_f1"] = Field(
        "threshold",
        description="threshold: one for all tomograms; expected_f1: in each tomogram as many of the surest segments as give the "
        "highest expected F1, by what the model carries of how often a score is right (needs evaluate.rank = score)",
    )
    minimum_probability: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="expected_f1 takes no segment that is right less often than this, by the model: the highest expected F1 of a "
        "tomogram without the molecule is one of bad picks",
    )

    @property
    def has_thresholds(self) -> bool:
        """Whether a size or score is given here, which stands in for all that the model selects by."""
        given = (self.minimum_size_voxels, self.minimum_log_odds, self.minimum_mean_probability)
        return any(one is not None for one in given)

    @model_validator(mode="after")
    def _one_threshold_of_scores(self) -> "ClusterSettings":
        if self.minimum_log_odds is not None and self.minimum_mean_probability is not None:
            raise ValueError("minimum_log_odds and minimum_mean_probability: one of the two was expected")
        return self


class MatchSettings(SettingsSection):
    """MATCH: template matching by pytme or pytom-match-pick beside the network, for comparison; off unless `run`."""

    run: bool = Field(False, description="true: the tomograms are also searched by template matching")
    engine: Literal["pytme", "pytom"] = Field(
        "pytme", description="pytme: on the processor; pytom: pytom-match-pick, on GPUs (docs/how-to/template_matching.md)"
    )
    templates: int = Field(
        1, ge=1, le=10_000, description="templates of each class to search with, the first by id; the best score counts"
    )
    angular_step_deg: float = Field(20.0, ge=3, le=180, description="angle between the orientations that are tried")
    resolution_angstrom: Resolution | None = Field(
        None, description="the template's resolution; none = twice the tomogram's voxel size"
    )
    radius_angstrom: Radius | None = Field(
        None, description="no pick within this distance of a better one; none = from the template's radius of gyration"
    )
    maximum_picks: int = Field(1000, ge=1, le=10_000_000, description="picks of a tomogram at most, the best")
    threshold_sigma: float = Field(
        6.0,
        ge=0,
        le=1000,
        description="picks are selected whose score lies this many standard deviations of all scores above their mean",
    )
    defocus_um: Defocus | None = Field(
        None,
        description="the user's tomograms: defocus in um, negative = underfocus; none = the template gets no contrast transfer "
        "(simulated tomograms: from their tilt series, as what follows)",
    )
    phase_shift_deg: PhaseShift = Field(0.0, description="the user's tomograms: phase plate; 0 = none")
    ctf_corrected: bool = Field(False, description="the user's tomograms: true where phases were flipped")
    tilt_range_deg: TiltRange = Field(60.0, description="the user's tomograms: tilts run from -range to +range")
    tilt_step_deg: TiltStep = Field(3.0, description="the user's tomograms: their step")

    @model_validator(mode="after")
    def _has_tilts(self) -> "MatchSettings":
        if self.tilt_step_deg > self.tilt_range_deg:
            raise ValueError(
                f"tilt_step_deg = {self.tilt_step_deg:g} with tilt_range_deg = {self.tilt_range_deg:g}: "
                "a step of the range at most was expected"
            )
        return self


class EvaluateSettings(SettingsSection):
    """EVALUATE: picks scored against what is there."""

    match_radius_voxels: float = Field(
        10.0, ge=0.5, le=1000, description="a pick within this distance of an annotation is right (paper: 10)"
    )
    also_within_voxels: float | None = Field(
        None, ge=0.5, le=1000, description="the figures are given a second time, with this distance; none = once"
    )
    border_voxels: int = Field(0, ge=0, le=10_000, description="picks and annotations nearer to the border are left out")
    rank: Literal["size", "score"] = Field(
        "size", description="what the threshold is on, here and in CALIBRATE: the segments' size (paper), or their score"
    )


class FinetuneSettings(SettingsSection):
    """FINETUNE: a trained model taught further on annotated experimental tomograms (paper: 2 of 10 for 10 epochs, 8 of 10 for 30)."""

    splits: int = Field(
        3, ge=1, le=1000, description="random divisions of the tomograms into taught and tested ones (paper: 3)"
    )
    training_fraction: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.8], min_length=1, description="share of the tomograms that are taught, at least one (paper: 2 and 8 of 10)"
    )
    epochs: list[Annotated[int, Field(ge=1, le=100_000)]] = Field(
        [10, 30], min_length=1, description="epochs with each training_fraction (paper: 10 with 2 of 10, 30 with 8 of 10)"
    )
    steps_per_epoch: int = Field(10, ge=1, le=1_000_000, description="training steps an epoch (paper: 10)")
    learning_rate: LearningRate = Field(1e-4, description="Adam's step")
    labels: Literal["sphere", "shape"] = Field(
        "sphere",
        description="a sphere about each annotation, or its template's shape (annotations with angles; templates of from_results)",
    )
    sphere_radius_angstrom: Radius | None = Field(
        None,
        description="sphere: its radius; none = that of what the model was trained on, else of a ball of its labels' size",
    )
    augmentation: Literal["model", "train"] = Field(
        "model", description="model: as the model was trained, but for doses and wedges; train: as train.augmentation says"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_share_for_all(cls, values: Any) -> Any:
        """A single share, as version 0.1.0 had it, goes with every number of epochs."""
        if isinstance(values, dict) and isinstance(values.get("training_fraction"), int | float):
            epochs = values.get("epochs", cls.model_fields["epochs"].default)
            count = len(epochs) if isinstance(epochs, list | tuple) else str(epochs).count(",") + 1
            return {**values, "training_fraction": [values["training_fraction"]] * count}
        return values

    @model_validator(mode="after")
    def _a_number_of_epochs_for_each_share(self) -> "FinetuneSettings":
        if len(self.training_fraction) != len(self.epochs):
            raise ValueError(
                f"training_fraction has {len(self.training_fraction)} values and epochs {len(self.epochs)}: as many were expected"
            )
        return self


class ExportSettings(SettingsSection):
    """EXPORT: picks in the formats of other programs."""

    formats: list[Literal["csv", "relion5", "relion4", "copick", "deepfinder", "imod"]] = Field(
        ["csv", "relion5", "relion4", "copick", "deepfinder", "imod"], min_length=1, description="what is written"
    )
    unselected: bool = Field(False, description="segments below the size threshold too")
    class_names: list[str] = Field([], description="names of classes 1, 2, ...; class-<n> where there are none")
    tilt_series_pixel_size_angstrom: VoxelSize | None = Field(
        None, description="pixel of the tilt series, for RELION; none = the tomogram's voxel size"
    )


class SimulateCommandSettings(SimulateSettings):
    """What a task of SIMULATE depends on (no section of its own): its section and the microscope."""

    microscope: MicroscopeSettings = MicroscopeSettings()

    @model_validator(mode="after")
    def _derive_pixel_size(self) -> "SimulateCommandSettings":
        if self.pixel_size_angstrom is None:
            self.pixel_size_angstrom = series_pixel_size_angstrom(ReconstructSettings())
        return self

    @property
    def pixel_angstrom(self) -> float:
        """The tilt series' pixel, which is settled here."""
        assert self.pixel_size_angstrom is not None
        return self.pixel_size_angstrom


class MatchCommandSettings(MatchSettings):
    """What a task of MATCH depends on (no section of its own): its section and the microscope."""

    microscope: MicroscopeSettings = MicroscopeSettings()


class CalibrateSettings(SettingsSection):
    """What the choice of the size threshold depends on (no section of its own: made of three)."""

    segment: SegmentSettings = SegmentSettings()
    cluster: ClusterSettings = ClusterSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


class FinetuneCommandSettings(SettingsSection):
    """What fine-tuning depends on (no section of its own: made of six)."""

    finetune: FinetuneSettings = FinetuneSettings()
    label: LabelSettings = LabelSettings()
    train: TrainSettings = TrainSettings()
    segment: SegmentSettings = SegmentSettings()
    cluster: ClusterSettings = ClusterSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


def series_pixel_size_angstrom(reconstruct: ReconstructSettings) -> float:
    """The pixel of the tilt series where none is given: half of the tomograms' voxel."""
    return reconstruct.voxel_size_angstrom / 2


class Settings(SettingsSection):
    """All settings of a run: what it works on, then one section a stage."""

    templates: str | None = Field(
        None,
        description="structures or density maps of the target: a glob, `pdb:` ids, or a CSV with id, path and optional class, "
        "share, assembly, resolution_angstrom, threshold, mass_dalton",
    )
    distractors: str | None = Field(
        None, description="other molecules: a glob, `pdb:` ids, or a CSV as for templates (without class)"
    )
    tomograms: str | None = Field(
        None,
        description="tomograms to pick in: a glob, or a CSV with id, path and optional annotations, mask, voxel_size_angstrom",
    )
    pdb_address: str = Field(
        "https://files.rcsb.org/download/{id}.cif.gz",
        pattern=r"\{id\}",
        description="where entries given as `pdb:1abc` come from: an address, or the path of a copy; {id} is the entry",
    )
    model: str | None = Field(None, description="a trained model (.keras): the run starts at picking")
    design_table: str | None = Field(None, description="a design of one's own (CSV, columns as design/design.csv has)")
    from_results: str | None = Field(None, description="results of an earlier run: where the stages before start_at are read")
    start_at: StageName = Field("flex", description="first stage that runs; finetune runs only where a run starts with it")
    stop_after: StageName = Field("report", description="last stage that runs")
    training_state: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9_.+@=-][A-Za-z0-9_.+@=/-]*$",
        description="folder (absolute path; letters, digits and _ . + @ = - /) where TRAIN and FINETUNE keep their state after "
        "each epoch: a task that is tried again, and a run with -resume, go on from there",
    )
    outdir: str = Field("results", description="folder for the results")
    publish_mode: Literal["copy", "link", "symlink"] = Field("copy", description="how the results get into outdir")
    job_array_size: int = Field(
        20,
        ge=2,
        le=100_000,
        description="tasks of TETRIS, SIMULATE, RECONSTRUCT and LABEL that go to a scheduler as one job array",
    )
    gpus: int = Field(1, ge=1, le=1024, description="GPUs that each task with a use for them asks for (profile gpu)")
    image_folder: str | None = Field(
        None, description="Apptainer images (SIF) lie here, an absolute path; profile apptainer: build/containers of the clone"
    )
    image_registry: str | None = Field(None, description="OCI images come from here (host/path), instead of from image_folder")
    verify_images: bool = Field(True, description="compare each SIF's SHA-256 with its record before any task starts")

    minimum_fraction_left: float = Field(
        0.9,
        ge=0,
        le=1,
        description="a simulated tomogram that fails is left out, and named; the run ends where less than this share is left of "
        "those to train, validate or test on",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="root of every random draw")
    flex: FlexSettings = FlexSettings()
    volume: VolumeSettings = VolumeSettings()
    design: DesignSettings = DesignSettings()
    tetris: TetrisSettings = TetrisSettings()
    microscope: MicroscopeSettings = MicroscopeSettings()
    simulate: SimulateSettings = SimulateSettings()
    reconstruct: ReconstructSettings = ReconstructSettings()
    label: LabelSettings = LabelSettings()
    train: TrainSettings = TrainSettings()
    segment: SegmentSettings = SegmentSettings()
    cluster: ClusterSettings = ClusterSettings()
    match: MatchSettings = MatchSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()
    finetune: FinetuneSettings = FinetuneSettings()

    @model_validator(mode="after")
    def _derive_pixel_size(self) -> "Settings":
        if self.simulate.pixel_size_angstrom is None:
            pixel = series_pixel_size_angstrom(self.reconstruct)
            self.simulate = self.simulate.model_copy(update={"pixel_size_angstrom": pixel})
        return self

    @model_validator(mode="after")
    def _groups_are_valid(self) -> "Settings":
        for name, group in self.design.groups.items():
            place = f"design.groups.{name}"
            for section, parameters in OF_THE_RUN.items():
                for parameter in parameters:
                    if parameter in group.changes.get(section, {}):
                        raise ValueError(
                            f"parameter {place}.{section}.{parameter}: one for the whole run was expected, as {section}.{parameter}"
                        )
            try:
                self.of_group(name)
            except ValidationError as error:
                raise ValueError(complaints(error, Settings, place)) from None
        for number, phase in enumerate(self.train.phases):
            unknown = [name for name in phase.groups if name not in (self.design.groups or [PLAIN])]
            if unknown:
                raise ValueError(
                    f"parameter train.phases.{number}.groups = {unknown[0]!r}: no group of design.groups; "
                    f"{', '.join(self.design.groups) or PLAIN} were expected"
                )
        return self

    def of_group(self, name: str) -> "Settings":
        """The run's settings as they are for the tomograms of a group."""
        content = self.model_dump()
        content["design"]["groups"], content["train"]["phases"] = {}, []
        return Settings.model_validate(_merged(content, self.design.groups[name].changes))

    def mixture(self) -> dict[str, "Settings"]:
        """Each group's settings; without groups the run's own, of the group ``plain``."""
        return {name: self.of_group(name) for name in self.design.groups} or {PLAIN: self}

    def for_stage(self, stage: str) -> SettingsSection:
        """What a task of that stage is given; ``evaluate_matched`` is EVALUATE of what template matching found."""
        if stage == "simulate":
            return SimulateCommandSettings(**dict(self.simulate), microscope=self.microscope)
        if stage == "match":
            return MatchCommandSettings(**dict(self.match), microscope=self.microscope)
        if stage == "calibrate":
            return CalibrateSettings(segment=self.segment, cluster=self.cluster, evaluate=self.evaluate)
        if stage == "finetune":
            return FinetuneCommandSettings(
                finetune=self.finetune,
                label=self.label,
                train=self.train,
                segment=self.segment,
                cluster=self.cluster,
                evaluate=self.evaluate,
            )
        if stage == "evaluate_matched":  # what matching finds has no size
            return self.evaluate.model_copy(update={"rank": "score"})
        if stage == "design":  # what else is a group's own makes no other table
            groups = {name: GroupSettings(weight=one.weight, design=one.design) for name, one in self.design.groups.items()}
            return self.design.model_copy(update={"groups": groups})
        section = getattr(self, stage)
        assert isinstance(section, SettingsSection)
        return section

    def stage_settings(self) -> dict[str, dict[str, Any]]:
        """``for_stage`` of every stage that takes settings, as JSON; of one with a task a tomogram by group."""
        names = [*(name for name in ORDER if name != "report"), "evaluate_matched"]
        alone = [name for name in names if name not in PER_TOMOGRAM]
        mixture = self.mixture()
        return {
            **{name: self.for_stage(name).model_dump(mode="json") for name in alone},
            **{
                name: {group: one.for_stage(name).model_dump(mode="json") for group, one in mixture.items()}
                for name in PER_TOMOGRAM
            },
        }


def _is_number(kind: Any) -> bool:
    return (get_args(kind)[0] if get_origin(kind) is Annotated else kind) in (int, float)


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names; a mapping with nothing in it is a value."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            values.update({f"{name}.{inner}": one for inner, one in flat(value).items()})
        else:
            values[name] = value
    return values


def _merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(content)
    for name, value in changes.items():
        there = content.get(name)
        new[name] = _merged(there, value) if isinstance(value, Mapping) and isinstance(there, Mapping) else value
    return new


def present_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as an earlier version wrote them, sections of a run, by the present names; present ones are left alone.

    Where two old parameters are one now, the first in ``RENAMED`` holds.
    """
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in content.items()}
    moved = {}
    for old in (*DROPPED, *RENAMED):
        section, name = old.split(".")
        there = plain.get(section)
        # An old name that is a group's now holds one value, never a mapping.
        if isinstance(there, dict) and name in there and not isinstance(there[name], Mapping):
            moved[old] = there.pop(name)
    for old, new in RENAMED.items():
        if old in moved:
            *groups, name = new.split(".")
            place = plain
            for group in groups:
                place = place.setdefault(group, {})
            place.setdefault(name, moved[old])
    return plain


def present_section(stage: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One section of such settings, as a stage's sidecar has it, with the microscope where the stage takes one."""
    sections = present_names({stage: content})
    own: dict[str, Any] = sections.pop(stage)
    return {**sections, **own}


def complaints(error: ValidationError, model: type[SettingsSection], within: str = "") -> str:
    """What is wrong with the parameters, in one line: each one's name, value and what is allowed, or its new name.

    ``model`` is ``Settings``, or what one stage is given; ``within`` names where they stand if not in their own place: a group
    or phase.
    """
    own = next((name for name, field in Settings.model_fields.items() if _is_one(model, field.annotation)), "")
    lines = [_complaint(dict(one), model, own) for one in error.errors()]
    if within:
        lines = [f"parameter {within}.{line.removeprefix('parameter ').removeprefix(f'{own}.')}" for line in lines]
    return "; ".join(lines)


def _is_one(model: type[SettingsSection], section: Any) -> bool:
    return isinstance(section, type) and issubclass(model, section) and issubclass(section, SettingsSection)


def inner_section(annotation: Any) -> type[SettingsSection] | None:
    """The section that a field holds by name or in a list, as groups and phases are; none for any other field."""
    inner = get_args(annotation)[-1:] if get_origin(annotation) in (dict, list) else ()
    return inner[0] if inner and isinstance(inner[0], type) and issubclass(inner[0], SettingsSection) else None


def _section_at(model: type[SettingsSection], place: Sequence[int | str]) -> type[SettingsSection]:
    section, parts = model, list(place)
    while parts:
        annotation: Any = section.model_fields[str(parts.pop(0))].annotation
        if inner := inner_section(annotation):
            annotation = inner
            parts.pop(0)
        section = annotation
    return section


def _complaint(error: Mapping[str, Any], model: type[SettingsSection], own: str) -> str:
    places = (
        error["loc"][:-1] if error["loc"] and isinstance(error["loc"][-1], int) else error["loc"]
    )  # not a value's in a list
    parts = [str(part) for part in places]
    name = ".".join([own, *parts] if own else parts)
    if own and parts[:1] == ["microscope"]:
        name = ".".join(parts)
    if name in DROPPED:
        return f"parameter {name}: there is no such parameter any more: {DROPPED[name]}"
    if name in RENAMED and not isinstance(error["input"], Mapping):
        return f"parameter {name}: now {RENAMED[name]}"
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(_section_at(model, error["loc"][:-1]).model_fields)
        return f"parameter {name} = {error['input']!r}: there is no such parameter; allowed: {allowed}"
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("parameter "):  # a group's or phase's own
        return str(message)
    if error["type"] == "value_error" and isinstance(
        _section_at(model, places), type(BaseModel)
    ):  # of parameters together: the message names them
        return f"parameter {name}.{message}"
    return f"parameter {name} = {error['input']!r}: {message[0].lower()}{message[1:]}"
