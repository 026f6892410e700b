"""The order in which tilts are taken, and the dose that each has received."""

from dataclasses import dataclass
from typing import Literal

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


def tilt_angles(tilt_range_deg: float, tilt_step_deg: float) -> NDArray[np.float64]:
    """Tilt angles with a step, 0 among them.

    Parameters
    ----------
    tilt_range_deg : float
        None lies beyond this on either side, degrees.
    tilt_step_deg : float
        Degrees.

    Returns
    -------
    (T,) array
        Degrees, sorted.
    """
    count = int(np.floor(tilt_range_deg / tilt_step_deg + 1e-6))
    return np.arange(-count, count + 1).astype(np.float64) * tilt_step_deg


def acquire(angle_deg: NDArray[np.float64], total_dose: float, scheme: Scheme) -> Acquisition:
    """The acquisition of sorted tilts: the dose split evenly, the order by scheme.

    Parameters
    ----------
    angle_deg : (T,) array
        Tilt angles in degrees, sorted.
    total_dose : float
        e/Å^2 over the whole series.
    scheme : {"dose-symmetric", "bidirectional", "continuous"}
        dose-symmetric: by absolute angle, negative before positive; bidirectional: from the smallest absolute angle to the
        highest, then down from there; continuous: from the lowest to the highest.

    Returns
    -------
    Acquisition
        For each angle when it was taken, and the dose received by the end of its exposure, e/Å^2.
    """
    count = len(angle_deg)
    middle = int(np.argmin(np.abs(angle_deg)))
    taken = {
        "dose-symmetric": np.argsort(np.abs(angle_deg), kind="stable"),
        "bidirectional": np.concatenate([np.arange(middle, count), np.arange(middle - 1, -1, -1)]),
        "continuous": np.arange(count),
    }[scheme]
    return Acquisition(np.asarray(angle_deg, dtype=float), np.argsort(taken, kind="stable"), total_dose / count)
