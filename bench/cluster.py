"""CLUSTER beside scikit-learn's MeanShift as DeepFinder calls it: same modes, in how much less time."""

import time

import numpy as np
from harness import Figure, report
from numpy.typing import NDArray
from sklearn import __version__ as sklearn_version
from sklearn.cluster import MeanShift
from template_learning.picking.meanshift import assign_to_nearest, mean_shift
from template_learning.picking.segments import find_picks
from template_learning.settings import ClusterSettings

SHAPE, OBJECTS, RADIUS = (200, 512, 512), 200, 10
FIGURES = {
    "cluster_speedup": Figure("scikit-learn's seconds over ours", ">= 100"),
    "seconds": Figure("ours, the shortest of three: the modes, and each voxel given to its nearest"),
    "seconds_peer": Figure("scikit-learn's, once"),
    "modes": Figure(f"modes that ours finds in {OBJECTS} balls, some of which touch"),
    "modes_peer": Figure("modes that scikit-learn finds"),
    "mode_distance_voxels": Figure("the largest distance from a mode of either to the nearest of the other", "<= 0.5"),
    "watershed_seconds": Figure("the watershed, CLUSTER's other method, on the same volume"),
    "watershed_picks": Figure("what the watershed finds"),
}


def scene() -> NDArray[np.bool_]:
    """Balls with rough surfaces at random places, some of them touching."""
    generator = np.random.default_rng(0)
    volume = np.zeros(SHAPE, dtype=bool)
    reach = RADIUS + 2
    for _ in range(OBJECTS):
        centre = np.array([generator.uniform(reach, edge - 1 - reach) for edge in SHAPE])
        low = centre.astype(int) - reach
        window = tuple(slice(start, start + 2 * reach + 1) for start in low)
        offsets = np.meshgrid(*[np.arange(2 * reach + 1) + low[axis] - centre[axis] for axis in range(3)], indexing="ij")
        distance = np.sqrt(sum(offset**2 for offset in offsets))
        volume[window] |= distance <= RADIUS + generator.normal(0, 0.5, distance.shape)
    return volume


def main() -> None:
    """Measure and report."""
    volume = scene()
    voxels = np.argwhere(volume)
    assign_to_nearest(voxels[:9], mean_shift(voxels[:9], 6.0), 6.0)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        modes = mean_shift(voxels, float(RADIUS))
        assign_to_nearest(voxels, modes, float(RADIUS))
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    watershed = find_picks(volume.astype(np.uint8), volume.astype(np.float32), 1.0, ClusterSettings(radius_voxels=RADIUS), {})
    watershed_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    peer = MeanShift(bandwidth=RADIUS, bin_seeding=True).fit(voxels)
    peer_seconds = time.perf_counter() - begun
    apart = np.linalg.norm(modes[:, None] - peer.cluster_centers_[None], axis=2)
    figures = {
        "cluster_speedup": peer_seconds / min(times),
        "seconds": min(times),
        "seconds_peer": peer_seconds,
        "modes": len(modes),
        "modes_peer": len(peer.cluster_centers_),
        "mode_distance_voxels": float(max(apart.min(axis=0).max(), apart.min(axis=1).max())),
        "watershed_seconds": watershed_seconds,
        "watershed_picks": len(watershed),
    }
    report("cluster", figures, FIGURES, f"scikit-learn {sklearn_version} MeanShift(bandwidth={RADIUS}, bin_seeding=True)")


if __name__ == "__main__":
    main()
