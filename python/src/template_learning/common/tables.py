"""The rows of the tables that stages hand to one another, as CSV."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "validation", "test"]
# How a tilt series is taken, by the design's settings and in its table alike: e/Å^2, um (underfocus), degrees, g/cm^3, kV, Å.
Share = Annotated[float, Field(ge=0, le=1)]
Slope = Annotated[float, Field(ge=0, lt=1)]
Dose = Annotated[float, Field(gt=0, le=10_000)]
Defocus = Annotated[float, Field(ge=-20, le=0)]
PhaseShift = Annotated[float, Field(ge=0, le=180)]
STEEPEST_DEG = 89.0
"""Of a tilt, with the offset."""
TiltRange = Annotated[float, Field(gt=0, le=STEEPEST_DEG)]
TiltStep = Annotated[float, Field(ge=0.1, le=60)]
TiltOffset = Annotated[float, Field(gt=-STEEPEST_DEG, lt=STEEPEST_DEG)]
Lost = Annotated[float, Field(ge=0, le=0.8)]
AxisDistance = Annotated[float, Field(ge=-100, le=100)]
DoseOrder = Literal["dose-symmetric", "bidirectional", "continuous"]
IceDensity = Annotated[float, Field(gt=0, le=2)]
IceThickness = Annotated[float, Field(gt=0, le=100_000)]
MeanFreePath = Annotated[float, Field(ge=10, le=1_000_000)]
Voltage = Annotated[float, Field(ge=10, le=3000)]
AmplitudeContrast = Annotated[float, Field(ge=0, lt=1)]
Astigmatism = Annotated[float, Field(ge=0, le=20)]
Direction = Annotated[float, Field(ge=-360, le=360)]
Beads = Annotated[float, Field(ge=0, le=100_000)]
BeadDiameter = Annotated[float, Field(gt=0, le=10_000)]
Drift = Annotated[float, Field(ge=0, le=1000)]
Turn = Annotated[float, Field(ge=0, le=180)]
DefocusError = Annotated[float, Field(ge=0, le=20)]
ScoreKind = Literal["log_odds", "mean_probability"]
"""What a threshold of scores is on: the picks' ``score``, or, in models of 0.1.0, their ``mean_probability``."""


class TableRow(BaseModel):
    """A row of one of the product's own tables: unknown columns are refused."""

    model_config = ConfigDict(extra="forbid")


FINITE = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Of rows whose numbers are measures or places, not figures of merit."""


class MoleculeInput(TableRow):
    """How a molecule is read from its file; what is not given is as the file has it, or found by rule."""

    assembly: str | None = Field(default=None, description="structures: biological assembly to build, as the file numbers it")
    resolution_angstrom: float | None = Field(
        default=None, gt=0, le=1000, allow_inf_nan=False, description="maps: their resolution"
    )
    threshold: float | None = Field(default=None, allow_inf_nan=False, description="maps: grey value that bounds the molecule")
    mass_dalton: float | None = Field(
        default=None, ge=1000, le=1e10, allow_inf_nan=False, description="maps: the molecule's mass"
    )


class LibraryRow(TableRow):
    """One molecule of the library: a conformer of a template, or a distractor.  Files lie beside the table."""

    model_config = FINITE

    molecule: str
    species: str
    role: Literal["template", "distractor"]
    class_id: int = Field(ge=0, description="0 for distractors")
    class_name: str = ""
    share: float = Field(gt=0, description="weight of the species among those of its role")
    mass_dalton: float
    atom_count: int
    density: str = Field(description="MRC, odd cubic box, molecule's origin at its middle voxel, protein bright")
    atoms: str = Field(description=".npz with position_angstrom (N, 3) from the origin and element (N) atomic numbers")


class DesignRow(TableRow):
    """One simulated tomogram: how it is imaged."""

    model_config = FINITE

    id: str
    split: Split = "train"
    group: str = Field(default="plain", description="whose settings it is made with (`design.groups`)")
    total_dose_e_per_angstrom2: Dose
    defocus_um: Defocus = Field(description="negative = underfocus, as in Parakeet's c_10 and the paper")
    phase_shift_deg: PhaseShift = Field(default=0.0, description="0 = no phase plate")
    tilt_range_deg: TiltRange = Field(description="tilts run from the offset less the range to the offset plus it")
    tilt_step_deg: TiltStep
    tilt_offset_deg: TiltOffset = Field(default=0.0, description="middle of the tilts")
    missing_tilts: Lost = Field(default=0.0, description="share of the tilts that were taken and left out")
    tilt_axis_distance_um: AxisDistance = Field(default=0.0, description="of the field's middle, along x")
    dose_order: DoseOrder | None = Field(default=None, description="of the tilts; empty = `simulate.scheme`")
    ice_density_g_per_cm3: IceDensity
    ice_thickness_angstrom: IceThickness | None = Field(default=None, description="empty = the sample's box")
    inelastic_mean_free_path_angstrom: MeanFreePath | None = Field(default=None, description="empty = the setting's")
    voltage_kv: Voltage | None = Field(default=None, description="empty = the setting's")
    amplitude_contrast: AmplitudeContrast | None = Field(default=None, description="empty = the setting's")
    astigmatism_um: Astigmatism | None = Field(default=None, description="empty = the setting's")
    astigmatism_deg: Direction | None = Field(default=None, description="empty = the setting's")
    gold_fiducials: Beads = Field(default=0.0, description="gold beads on the ice, mean number (Poisson)")
    gold_diameter_angstrom: BeadDiameter = Field(default=100.0, description="of the gold beads")
    carbon_edge: Share = Field(default=0.0, description="share of the field that a carbon film reaches over")
    shift_error_angstrom: Drift = Field(default=0.0, description="each tilt's misalignment in x and y, sigma")
    rotation_error_deg: Turn = Field(default=0.0, description="each tilt's rotation in the image plane, sigma")
    slow_drift_angstrom: Drift = Field(
        default=0.0, description="misalignment that grows from tilt to tilt as they were taken, over the series"
    )
    tilt_axis_error_deg: Turn = Field(default=0.0, description="rotation that all tilts have in common, sigma")
    tilt_angle_error_deg: Turn = Field(default=0.0, description="each tilt's true angle less the one written, sigma")
    defocus_error_um: DefocusError = Field(default=0.0, description="each tilt's true defocus less the series' own, sigma")
    motion_angstrom: Drift = Field(default=0.0, description="drift during each exposure, in a random direction")
    uneven_illumination: Slope = Field(default=0.0, description="slope of the beam's intensity over the field")

    @model_validator(mode="after")
    def _has_tilts(self) -> "DesignRow":
        if self.tilt_step_deg > self.tilt_range_deg:
            raise ValueError(
                f"tilt_step_deg = {self.tilt_step_deg:g} with tilt_range_deg = {self.tilt_range_deg:g}: "
                "a step of the range at most was expected"
            )
        steepest = self.tilt_range_deg + abs(self.tilt_offset_deg)
        if steepest > STEEPEST_DEG:
            raise ValueError(
                f"tilt_range_deg and tilt_offset_deg: tilts up to {steepest:g} degrees; {STEEPEST_DEG:g} at most were expected"
            )
        return self


class ParticleRow(TableRow):
    """A molecule that is there: placed in a sample, or annotated in a tomogram.

    Positions are in ångström from the centre of voxel (0, 0, 0) of the volume that the table's sidecar names.
    """

    model_config = FINITE

    particle: int = Field(ge=1, description="id, and the value in the instance label volume")
    molecule: str = ""
    species: str = ""
    class_id: int = Field(default=1, ge=0)
    class_name: str = ""
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float
    rot_deg: float | None = None
    tilt_deg: float | None = None
    psi_deg: float | None = None
    axis_x: float | None = Field(
        default=None, description="the molecule's axis as a unit vector (short of a disc, long of a rod)"
    )
    axis_y: float | None = None
    axis_z: float | None = None


class PickRow(TableRow):
    """A molecule that was found."""

    model_config = FINITE

    pick: int = Field(ge=1)
    class_id: int = Field(ge=1)
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float
    score: float = Field(
        description="mean log-odds of the class over the segment (0.1.0: mean probability), or template matching's score"
    )
    size_voxels: int
    touches_edge: bool
    selected: bool = Field(description="its size or score reaches the threshold, or the expected F1 takes it")
    mean_probability: float | None = Field(default=None, description="of the class over the segment, 0 to 1")

    @property
    def figure_of_merit(self) -> float:
        """The score as a number of 0 to 1, in the scores' order: the probability whose log-odds it is."""
        return self.score if self.mean_probability is None else 1 / (1 + math.exp(-self.score))


def positions(rows: Sequence[PickRow] | Sequence[ParticleRow]) -> NDArray[np.float64]:
    """Positions (N, 3) of rows: x, y, z in ångström."""
    return np.array([(row.x_angstrom, row.y_angstrom, row.z_angstrom) for row in rows], dtype=float).reshape(-1, 3)


class CurveRow(TableRow):
    """Precision and recall of the picks that reach a threshold."""

    region: Literal["all", "masked"]
    class_id: int = Field(ge=0, description="0 for all classes together")
    threshold: float = Field(description="segment size in voxels, or score")
    picks: int
    matched: int
    precision: float
    recall: float
    f1: float


class TomogramScoreRow(TableRow):
    """The scores of one tomogram; precision, recall and f1 are those of the selected picks."""

    id: str
    region: Literal["all", "masked"]
    class_id: int = Field(ge=0, description="0 for all classes together")
    annotations: int
    picks: int = Field(description="all segments")
    selected: int
    matched: int = Field(description="of the selected ones")
    precision: float
    recall: float
    f1: float
    f1_best: float
    threshold_best: float | None = None
    f1_crossing: float | None = Field(default=None, description="where this tomogram's own curves cross")
    f1_joint_crossing: float | None = Field(
        default=None,
        description="at the threshold where the curves of all tomograms together cross (the paper takes its median)",
    )
    average_precision: float
    f1_best_blobs: float | None = Field(
        default=None, description="a difference of two Gaussians of the molecule's size with its best threshold, for comparison"
    )
