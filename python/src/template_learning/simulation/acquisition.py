"""The order in which tilts are taken, and the dose that each has received."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scheme = Literal["dose-symmetric", "bidirectional", "continuous"]


@dataclass(frozen=True)
class Acquisition:
    """Tilts sorted by angle.  ``order`` (n,): when each was taken, from 0; doses in electrons per Å^2."""

    angle_deg: NDArray[np.float64]
    order: NDArray[np.int64]
    dose_per_tilt: float

    @property
    def dose_at_end(self) -> NDArray[np.float64]:
        """Dose that the sample has received when each tilt's exposure ends."""
        return self.dose_per_tilt * (self.order.astype(np.float64) + 1)


class Tilts(NamedTuple):
    """The tilts that are asked for: how far they go from their middle, how dense they lie, and the middle; degrees."""

    range_deg: float
    step_deg: float
    offset_deg: float = 0.0


def tilt_angles(tilt_range_deg: float, tilt_step_deg: float, tilt_offset_deg: float = 0.0) -> NDArray[np.float64]:
    """Tilt angles with a step, their middle among them.

    Parameters
    ----------
    tilt_range_deg : float
        None lies farther than this from the middle on either side, degrees.
    tilt_step_deg : float
        Degrees.
    tilt_offset_deg : float
        The middle: 0, or how a lamella lies that was tilted before.

    Returns
    -------
    (T,) array
        Degrees, sorted.
    """
    count = int(np.floor(tilt_range_deg / tilt_step_deg + 1e-6))
    return np.arange(-count, count + 1).astype(np.float64) * tilt_step_deg + tilt_offset_deg


def acquire(angle_deg: NDArray[np.float64], total_dose: float, scheme: Scheme, start_deg: float = 0.0) -> Acquisition:
    """The acquisition of sorted tilts: the dose split evenly, the order by scheme.

    Parameters
    ----------
    angle_deg : (T,) array
        Tilt angles in degrees, sorted.
    total_dose : float
        e/Å^2 over the whole series.
    scheme : {"dose-symmetric", "bidirectional", "continuous"}
        dose-symmetric: by the distance from the start, the lower before the higher; bidirectional: from the angle nearest to
        the start to the highest, then down from there; continuous: from the lowest to the highest.
    start_deg : float
        Where the first two schemes begin.

    Returns
    -------
    Acquisition
        For each angle when it was taken, and the dose received by the end of its exposure, e/Å^2.
    """
    count = len(angle_deg)
    distance = np.abs(angle_deg - start_deg).round(9)  # the same on both sides, whatever the start
    middle = int(np.argmin(distance))
    taken = {
        "dose-symmetric": np.argsort(distance, kind="stable"),
        "bidirectional": np.concatenate([np.arange(middle, count), np.arange(middle - 1, -1, -1)]),
        "continuous": np.arange(count),
    }[scheme]
    return Acquisition(np.asarray(angle_deg, dtype=float), np.argsort(taken, kind="stable"), total_dose / count)


def without_missing(taken: Acquisition, missing: float, generator: np.random.Generator) -> Acquisition:
    """The same acquisition less a share of its tilts, drawn at random; the first that was taken stays.

    Those that are left keep the dose that they had received.
    """
    count = round(missing * len(taken.order))
    if count == 0:
        return taken
    gone = generator.choice(np.flatnonzero(taken.order > 0), min(count, len(taken.order) - 1), replace=False)
    left = np.setdiff1d(np.arange(len(taken.order)), gone)
    return Acquisition(taken.angle_deg[left], taken.order[left], taken.dose_per_tilt)
