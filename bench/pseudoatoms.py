"""Density maps to pseudo-atoms: how well the atoms' density, at the map's resolution, gives each map back.

The peer is the second method of Xmipp's ``convert_vol2pseudo``, written plainly: the map as a probability, from which as
many atoms are drawn.  The correlation is Pearson's over the voxels above Otsu's threshold (``map_cc_min``), and over these
and the voxels within a Gaussian's width of them.
"""

import time
from typing import Any

import numpy as np
from harness import SHARED, Figure, report
from template_learning.flexing.conformers import find_modes
from template_learning.settings import FlexSettings
from template_learning.structures.density import density_of_atoms
from template_learning.structures.pseudoatoms import BoundedMap, bound_map, fit_map

MAPS = ("EMD-1997.map", "6qzp_10A.mrc", "2uv8_10A.mrc")
FIGURES = {
    "map_cc_min": Figure("least correlation of a map with its pseudo-atoms' density, above Otsu's threshold", ">= 0.98"),
    "map_cc_around_min": Figure("the same with the voxels within a Gaussian's width of these"),
    "peer_map_cc_min": Figure("map_cc_min of the peer, with as many atoms"),
    "seconds_max": Figure("the longest fit of a map"),
    "modes_of_first_map": Figure("modes found of the first map's pseudo-atoms, the rigid body's left out"),
}


def drawn_correlation(bounded: BoundedMap, count: int) -> float:
    """The peer's: ``count`` atoms at random, voxels above the threshold by their grey value, anywhere within them."""
    generator = np.random.default_rng(0)
    place = np.argwhere(bounded.inside)
    weight = bounded.volume[bounded.inside]
    chosen = place[generator.choice(len(place), count, p=weight / weight.sum())] + generator.uniform(-0.5, 0.5, (count, 3))
    position = (chosen - (np.array(bounded.volume.shape) - 1) / 2)[:, ::-1] * bounded.voxel_size_angstrom
    element = np.full(count, 6, dtype=np.uint8)
    density = density_of_atoms(
        position, element, bounded.voxel_size_angstrom, bounded.resolution_angstrom, bounded.volume.shape
    )
    return float(np.corrcoef(density[bounded.inside], weight)[0, 1])


def main() -> None:
    """Fit each map, find the modes of the first one's pseudo-atoms, and report."""
    found: dict[str, dict[str, Any]] = {}
    for name in MAPS:
        start, work = time.perf_counter(), time.process_time()
        fitted = fit_map(SHARED / "maps" / name)
        seconds, processor_seconds = time.perf_counter() - start, time.process_time() - work
        found[name] = {
            "correlation": fitted.correlation,
            "correlation_around": fitted.correlation_around,
            "peer_correlation": drawn_correlation(bound_map(SHARED / "maps" / name), len(fitted.structure.element)),
            "pseudoatoms": len(fitted.structure.element),
            "resolution_angstrom": fitted.resolution_angstrom,
            "seconds": seconds,
            "processor_seconds": processor_seconds,
        }
        if name == MAPS[0]:
            modes = find_modes(fitted.structure, FlexSettings())
    correlations = np.array([metadata["correlation"] for metadata in found.values()])
    around = np.array([metadata["correlation_around"] for metadata in found.values()])
    report(
        "pseudoatoms",
        {
            "map_cc_min": float(correlations.min()),
            "map_cc_around_min": float(around.min()),
            "peer_map_cc_min": min(metadata["peer_correlation"] for metadata in found.values()),
            "seconds_max": max(metadata["seconds"] for metadata in found.values()),
            "modes_of_first_map": float(len(modes.eigenvalue)),
        },
        FIGURES,
        "atoms drawn with the map as their probability (Xmipp's second method, plain)",
        maps=found,
    )


if __name__ == "__main__":
    main()
