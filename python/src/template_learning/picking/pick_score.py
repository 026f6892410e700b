"""The score of a pick: how sure the network is of a segment."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pick_score(probability: NDArray[Any], voxels: NDArray[np.intp]) -> float:
    """The mean of a segment's probabilities, 0 to 1.

    ``probability`` [z, y, x] is that of each voxel's class; ``voxels`` (N, 3) are the segment's, as z, y, x.
    """
    return float(probability[tuple(voxels.T)].mean(dtype=np.float64))
