"""What spoils a tilt series: gold fiducials, a carbon edge, misalignment, motion, uneven illumination.

Each is off by default; a row of the design turns it on.  The draw is part of the truth that SIMULATE writes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from template_learning.common.tables import DesignRow
from template_learning.simulation.acquisition import Acquisition
from template_learning.simulation.multislice import Engine, PhaseGrating, View
from template_learning.simulation.physics import atoms_per_angstrom3, mean_potential_volt
from template_learning.simulation.wave import Float32, WaveGrid

Array = NDArray[np.float64]
# Mean inner potentials by the same scattering factors as the molecules' and the ice's; evaporated carbon has about 2 g/cm^3.
GOLD_VOLT = mean_potential_volt({79: 1}, 1 / atoms_per_angstrom3(79, 19.3))
CARBON_VOLT = mean_potential_volt({6: 1}, 1 / atoms_per_angstrom3(6, 2.0))
CARBON_THICKNESS_ANGSTROM = 150.0
# Paths after which 1/e of the wave's intensity is left in the image; a rough value for each.
GOLD_FREE_PATH_ANGSTROM = 300.0
CARBON_FREE_PATH_ANGSTROM = 2500.0


@dataclass(frozen=True)
class Nuisances:
    """The draw for one tilt series.

    ``gold`` (n, 3): beads' centres in ångström from the sample's centre, all of one radius.  ``carbon``: direction (degrees from x) and
    distance (ångström from the centre) of the film's edge; it lies beyond, on the ice's lower face.  By tilt:
    ``shift_angstrom`` (tilts, 2), ``rotation_deg`` (tilts,), ``tilt_error_deg`` (tilts,), ``defocus_offset_angstrom`` (tilts,)
    from the series' defocus, ``motion_angstrom`` (tilts, 2).  ``slope`` (x, y): change of the beam's intensity over the field.
    """

    gold: Array
    gold_radius_angstrom: float
    carbon: tuple[float, float] | None
    carbon_depth_angstrom: float
    shift_angstrom: Array
    rotation_deg: Array
    tilt_error_deg: Array
    defocus_offset_angstrom: Array
    motion_angstrom: Array
    slope: Array

    def metadata(self) -> dict[str, object]:
        """The draw as it goes into the sidecar."""
        return {
            "gold_fiducials_angstrom": self.gold,
            "gold_radius_angstrom": self.gold_radius_angstrom,
            "carbon_edge": self.carbon,
            "shift_angstrom": self.shift_angstrom,
            "rotation_deg": self.rotation_deg,
            "tilt_error_deg": self.tilt_error_deg,
            "defocus_offset_angstrom": self.defocus_offset_angstrom,
            "motion_angstrom": self.motion_angstrom,
            "illumination_slope": self.slope,
        }

    def view(self, index: int, tilt_deg: float) -> View:
        """How a tilt sees the sample, misaligned."""
        shift_x, shift_y = self.shift_angstrom[index]
        return View(
            tilt_deg + float(self.tilt_error_deg[index]), float(self.rotation_deg[index]), (float(shift_x), float(shift_y))
        )

    def gratings(self, engine: Engine, view: View) -> list[PhaseGrating]:
        """Gold and carbon as the wave meets them in a view."""
        found = [self._bead(engine, place) for place in view.seen(self.gold)]
        return found if self.carbon is None else [*found, self._film(engine, view)]

    def _bead(self, engine: Engine, place: Array) -> PhaseGrating:
        x, y = engine.axes_angstrom
        square = (x - place[0])[None, :] ** 2 + (y - place[1])[:, None] ** 2
        path = 2 * np.sqrt(np.clip(self.gold_radius_angstrom**2 - square, 0, None))
        return _grating(engine, float(place[2]), path, GOLD_VOLT, GOLD_FREE_PATH_ANGSTROM)

    def _film(self, engine: Engine, view: View) -> PhaseGrating:
        direction, distance = self.carbon or (0.0, 0.0)
        x, y = engine.axes_angstrom
        depth = self.carbon_depth_angstrom
        back = np.linalg.inv(view.matrix[:2, :2])  # of points in the film's plane
        at = np.stack(np.meshgrid(x, y), axis=-1) - np.array(view.shift_angstrom) - view.matrix[:2, 2] * depth
        plane = at @ back.T
        angle = np.deg2rad(direction)
        beyond = plane[..., 0] * np.cos(angle) + plane[..., 1] * np.sin(angle) - distance
        covered = np.clip(beyond / (2 * engine.working_pixel_angstrom) + 0.5, 0, 1)
        path = covered * CARBON_THICKNESS_ANGSTROM / np.cos(np.deg2rad(view.tilt_deg))
        return _grating(engine, depth * view.matrix[2, 2], path, CARBON_VOLT, CARBON_FREE_PATH_ANGSTROM)

    def motion_transfer(self, index: int, grid: WaveGrid) -> Float32:
        """What a straight drift during the exposure does to each frequency of a real image's transform."""
        x, y = grid.frequencies
        half = x[:, : grid.shape[1] // 2 + 1]
        along = half * self.motion_angstrom[index, 0] + y * self.motion_angstrom[index, 1]
        return np.sinc(along).astype(np.float32)

    def illumination(self, shape: tuple[int, int]) -> Float32:
        """The beam's intensity over the image [y, x], mean 1."""
        y, x = (np.linspace(-0.5, 0.5, count) for count in shape)
        return (1 + self.slope[0] * x[None, :] + self.slope[1] * y[:, None]).astype(np.float32)


def _grating(engine: Engine, depth_angstrom: float, path: Array, volt: float, free_path_angstrom: float) -> PhaseGrating:
    phase = engine.phase_per_volt_angstrom * volt * path
    return PhaseGrating(depth_angstrom, phase.astype(np.float32), (path / (2 * free_path_angstrom)).astype(np.float32))


def draw_nuisances(row: DesignRow, extent_angstrom: Array, taken: Acquisition, generator: np.random.Generator) -> Nuisances:
    """The nuisances that a row asks for, over ice of these edge lengths (x, y, z)."""
    tilts = len(taken.angle_deg)
    radius = row.gold_diameter_angstrom / 2
    count = generator.poisson(row.gold_fiducials)
    gold = (generator.random((count, 3)) - 0.5) * extent_angstrom
    gold[:, 2] = np.where(gold[:, 2] > 0, 1, -1) * (extent_angstrom[2] / 2 + radius)
    carbon = None
    if row.carbon_edge > 0:
        half = float(extent_angstrom[:2].min()) / 2
        carbon = (float(generator.uniform(0, 360)), half * (1 - 2 * row.carbon_edge))
    direction = generator.uniform(0, 2 * np.pi, tilts)
    turn = generator.uniform(0, 2 * np.pi)
    shift = generator.normal(size=(tilts, 2)) * row.shift_error_angstrom
    rotation = generator.normal(size=tilts) * row.rotation_error_deg
    # New draws come last, so that those above are what they were.
    if row.slow_drift_angstrom:
        shift = shift + slow_drift(taken, generator) * row.slow_drift_angstrom
    rotation = rotation + generator.normal() * row.tilt_axis_error_deg
    off_axis = row.tilt_axis_distance_um * np.sin(np.deg2rad(taken.angle_deg))
    return Nuisances(
        gold=gold,
        gold_radius_angstrom=radius,
        carbon=carbon,
        carbon_depth_angstrom=-float(extent_angstrom[2]) / 2 - CARBON_THICKNESS_ANGSTROM / 2,
        shift_angstrom=shift,
        rotation_deg=rotation,
        tilt_error_deg=generator.normal(size=tilts) * row.tilt_angle_error_deg,
        defocus_offset_angstrom=(off_axis + generator.normal(size=tilts) * row.defocus_error_um) * 1e4,
        motion_angstrom=np.column_stack([np.cos(direction), np.sin(direction)]) * row.motion_angstrom,
        slope=np.array([np.cos(turn), np.sin(turn)]) * row.uneven_illumination,
    )


def slow_drift(taken: Acquisition, generator: np.random.Generator) -> Array:
    """A random walk (tilts, 2) in x and y from tilt to tilt as they were taken, its end of deviation 1.

    What of it moves the whole tomogram is taken out: labels stay where the molecules are.
    """
    angle = np.deg2rad(taken.angle_deg)
    steps = generator.normal(size=(len(angle), 2)) / np.sqrt(len(angle))
    walk = np.cumsum(steps, axis=0)[np.argsort(np.argsort(taken.order))]
    moved = {0: np.column_stack([np.cos(angle), np.sin(angle)]), 1: np.ones((len(angle), 1))}
    for axis, basis in moved.items():
        walk[:, axis] -= basis @ np.linalg.lstsq(basis, walk[:, axis], rcond=None)[0]
    return np.asarray(walk)
