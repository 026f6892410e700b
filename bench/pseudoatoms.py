"""Density maps to pseudo-atoms: how well the atoms' density, at the map's resolution, gives each map back.

There is no peer to install.  The correlation is Pearson's over the voxels above Otsu's threshold
(``map_cc_min``), and over these and the voxels within a Gaussian's width of them.
"""

import time
from typing import Any

import numpy as np
from harness import SHARED, report
from template_learning.flex import find_modes
from template_learning.pseudoatoms import fit_map
from template_learning.settings import FlexSettings

MAPS = ("EMD-1997.map", "6qzp_10A.mrc", "2uv8_10A.mrc")


def main() -> None:
    """Fit each map, find the modes of the first one's pseudo-atoms, and report."""
    found: dict[str, dict[str, Any]] = {}
    for name in MAPS:
        start, work = time.perf_counter(), time.process_time()
        fitted = fit_map(SHARED / "maps" / name)
        found[name] = {
            "correlation": fitted.correlation,
            "correlation_around": fitted.correlation_around,
            "pseudoatoms": len(fitted.structure.element),
            "resolution_angstrom": fitted.resolution_angstrom,
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - work,
        }
        if name == MAPS[0]:
            modes = find_modes(fitted.structure, FlexSettings())
    correlations = np.array([facts["correlation"] for facts in found.values()])
    around = np.array([facts["correlation_around"] for facts in found.values()])
    report(
        "pseudoatoms",
        {
            "map_cc_min": float(correlations.min()),
            "map_cc_around_min": float(around.min()),
            "seconds_max": max(facts["seconds"] for facts in found.values()),
            "modes_of_first_map": float(len(modes.eigenvalue)),
        },
        {"map_cc_min": ">= 0.98"},
        "none",
        maps=found,
    )


if __name__ == "__main__":
    main()
