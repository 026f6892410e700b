"""The rows of the tables that stages hand to one another, as CSV."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "validation", "test"]


class TableRow(BaseModel):
    """A row of one of the product's own tables: unknown columns are refused."""

    model_config = ConfigDict(extra="forbid")


class MoleculeInput(TableRow):
    """How a molecule is read from its file; what is not given is as the file has it, or found by rule."""

    assembly: str | None = Field(default=None, description="structures: biological assembly to build, as the file numbers it")
    resolution_angstrom: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="maps: their resolution")
    threshold: float | None = Field(default=None, allow_inf_nan=False, description="maps: grey value that bounds the molecule")
    mass_dalton: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="maps: the molecule's mass")


class LibraryRow(TableRow):
    """One molecule of the library: a conformer of a template, or a distractor.  Files lie beside the table."""

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

    id: str
    split: Split = "train"
    group: str = Field(default="plain", description="whose settings it is made with (`design.groups`)")
    total_dose_e_per_angstrom2: float = Field(gt=0)
    defocus_um: float = Field(description="negative = underfocus, as in Parakeet's c_10 and the paper")
    phase_shift_deg: float = Field(default=0.0, description="0 = no phase plate")
    tilt_range_deg: float = Field(gt=0, le=89, description="tilts run from the offset less the range to the offset plus it")
    tilt_step_deg: float = Field(gt=0)
    tilt_offset_deg: float = Field(default=0.0, gt=-89, lt=89, description="middle of the tilts")
    missing_tilts: float = Field(default=0.0, ge=0, le=0.8, description="share of the tilts that were taken and left out")
    tilt_axis_distance_um: float = Field(default=0.0, description="of the field's middle, along x")
    dose_order: Literal["dose-symmetric", "bidirectional", "continuous"] | None = Field(
        default=None, description="of the tilts; empty = `simulate.scheme`"
    )
    ice_density_g_per_cm3: float = Field(gt=0)
    ice_thickness_angstrom: float | None = Field(default=None, gt=0, description="empty = the sample's box")
    inelastic_mean_free_path_angstrom: float | None = Field(default=None, gt=0, description="empty = the setting's")
    voltage_kv: float | None = Field(default=None, gt=0, description="empty = the setting's")
    amplitude_contrast: float | None = Field(default=None, ge=0, lt=1, description="empty = the setting's")
    astigmatism_um: float | None = Field(default=None, ge=0, description="empty = the setting's")
    astigmatism_deg: float | None = Field(default=None, description="empty = the setting's")
    gold_fiducials: float = Field(default=0.0, ge=0, description="gold beads on the ice, mean number (Poisson)")
    gold_diameter_angstrom: float = Field(default=100.0, gt=0, description="of the gold beads")
    carbon_edge: float = Field(default=0.0, ge=0, le=1, description="share of the field that a carbon film reaches over")
    shift_error_angstrom: float = Field(default=0.0, ge=0, description="each tilt's misalignment in x and y, sigma")
    rotation_error_deg: float = Field(default=0.0, ge=0, description="each tilt's rotation in the image plane, sigma")
    slow_drift_angstrom: float = Field(
        default=0.0, ge=0, description="misalignment that grows from tilt to tilt as they were taken, over the series"
    )
    tilt_axis_error_deg: float = Field(default=0.0, ge=0, description="rotation that all tilts have in common, sigma")
    tilt_angle_error_deg: float = Field(default=0.0, ge=0, description="each tilt's true angle less the one written, sigma")
    defocus_error_um: float = Field(default=0.0, ge=0, description="each tilt's true defocus less the series' own, sigma")
    motion_angstrom: float = Field(default=0.0, ge=0, description="drift during each exposure, in a random direction")
    uneven_illumination: float = Field(default=0.0, ge=0, lt=1, description="slope of the beam's intensity over the field")


class ParticleRow(TableRow):
    """A molecule that is there: placed in a sample, or annotated in a tomogram.

    Positions are in ångström from the centre of voxel (0, 0, 0) of the volume that the table's sidecar names.
    """

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

    pick: int = Field(ge=1)
    class_id: int = Field(ge=1)
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float
    score: float = Field(description="mean probability of the class over the segment, or template matching's score")
    size_voxels: int
    touches_edge: bool
    selected: bool = Field(description="its size or score reaches the threshold, or the expected F1 takes it")


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
