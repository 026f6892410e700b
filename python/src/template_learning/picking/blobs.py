"""A plain peer of the network: bodies of the molecule's size, found by a difference of two Gaussians."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from template_learning.common.tables import PickRow
from template_learning.learning.fit import blob_response
from template_learning.template_matching.search import find_peaks

MOST_PICKS = 10_000
"""Of a class in a tomogram, the best: far more than a threshold of the highest F1 takes."""


def blob_picks(
    data: NDArray[Any], voxel_size_angstrom: float, radius_angstrom: Mapping[int, float], *, bright: bool
) -> list[PickRow]:
    """The maxima of the difference of two Gaussians of each class's radius, no two of a class within that radius.

    Parameters
    ----------
    data : (z, y, x) array
        Grey values.
    voxel_size_angstrom : float
        Å.
    radius_angstrom : mapping of int to float
        By class, Å.
    bright : bool
        Whether protein is bright.

    Returns
    -------
    list of PickRow
        Positions in Å from the centre of voxel (0, 0, 0); the score is in standard deviations of the filtered volume, and
        above 0.  What threshold is right nobody says: none is selected.
    """
    picks: list[PickRow] = []
    for class_id, radius in sorted(radius_angstrom.items()):
        response = blob_response(data, radius / voxel_size_angstrom)
        response *= (1 if bright else -1) / max(float(response.std()), 1e-20)
        classes = np.full(response.shape, class_id, dtype=np.int16)
        picks += find_peaks(response, classes, voxel_size_angstrom, radius, MOST_PICKS, np.inf)
    return [
        pick.model_copy(update={"pick": number}) for number, pick in enumerate((one for one in picks if one.score > 0), start=1)
    ]
