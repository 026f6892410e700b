"""The paper's ablations at small scale: what is each part of the training data worth?

Every variant is a run of the pipeline (profile `ablation`) that differs from the full one in one thing, with the same number
of tomograms and training steps.  All are tested on the same tomograms: the full variant's, of a root seed of their own.  The
threshold is the model's.  Runs that are done are kept under build/bench/ablation, and a run that was stopped goes on.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from harness import BUILD, DEMO, ROOT, Figure, merged, report
from numpy.typing import NDArray
from scipy import stats
from template_learning.common.compute import processors
from template_learning.common.mrc import write_mrc
from template_learning.structures.density import density_of_atoms
from template_learning.structures.structure import read_structure

FOLDER = BUILD / "ablation"
TEST_SEED = 1000
MADE = "evaluate/experimental.evaluation.json"
MAP_RESOLUTION, MAP_VOXEL = 10.0, 2.5
Params = dict[str, Any]

VARIANTS: dict[str, Params] = {
    "full": {},
    "one_template": {"templates": str(DEMO / "templates" / "2pyo.cif.gz")},
    "one_rigid_template": {
        "templates": str(DEMO / "templates" / "2pyo.cif.gz"),
        "flex": {"conformers": 1, "amplitude": 0.0},
    },
    "no_flexing": {"flex": {"conformers": 1, "amplitude": 0.0}},
    "no_distractors": {"distractors": "", "tetris": {"distractors_per_template": 0.0}},
    "few_distractors": {"distractors": str(DEMO / "distractors" / "{3qm1,7s7k,1bxn}.cif.gz")},
    "low_crowding": {"tetris": {"placer": "random"}},
    "spheres": {"label": {"kind": "sphere", "sphere_radius_angstrom": 50.0}},
    "map_template": {"templates": str(FOLDER / "maps" / "templates.csv")},
}
"""What each differs in.  ``map_template``: density maps of the same structures at 10 Å, turned to pseudo-atoms."""
ENDS = ("low", "high")
FIGURES: dict[str, Figure] = {}
for _name in VARIANTS:
    FIGURES[f"f1_{_name}"] = Figure(f"mean F1 of `{_name}` over the seeds, at the model's own threshold")
    FIGURES |= {f"f1_{_name}_{end}": Figure(f"its 95 % interval, the {end} end") for end in ENDS}
    FIGURES[f"f1_best_{_name}"] = Figure(f"mean best F1 of `{_name}` over all thresholds")
    if _name != "full":
        FIGURES[f"lead_over_{_name}"] = Figure(f"mean lead of `full` over `{_name}`, seed by seed")
        FIGURES |= {f"lead_over_{_name}_{end}": Figure(f"its 95 % interval, the {end} end") for end in ENDS}


def make_maps(folder: Path) -> None:
    """Density maps of the demo's templates and a table of them."""
    lines = ["id,path,resolution_angstrom"]
    for path in sorted((DEMO / "templates").glob("*.cif.gz")):
        name = path.name.removesuffix(".cif.gz")
        if not (folder / f"{name}.mrc").is_file():
            one = read_structure(path)
            density = density_of_atoms(one.position_angstrom, one.element, MAP_VOXEL, MAP_RESOLUTION)
            write_mrc(folder / f"{name}.mrc", density, MAP_VOXEL)
        lines.append(f"{name},{name}.mrc,{MAP_RESOLUTION:g}")
    (folder / "templates.csv").write_text("\n".join(lines) + "\n")


def run_pipeline(name: str, params: Params, made: str, launch: Path) -> Path:
    """The results of a run; kept where ``made`` is there and the parameters are the same.

    Runs of one folder ``launch`` share what they have in common (Nextflow's cache) and come one after another.
    """
    outdir = FOLDER / "results" / name
    given = FOLDER / f"{name}.json"
    wanted = json.dumps({**params, "outdir": str(outdir), "publish_mode": "link"}, indent=2) + "\n"
    if not (outdir / made).exists() or not given.is_file() or given.read_text() != wanted:
        print(f"--- {name}", flush=True)
        (outdir / made).unlink(missing_ok=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        given.write_text(wanted)
        launch.mkdir(parents=True, exist_ok=True)
        command = [str(ROOT / "setup/nextflow.sh"), "-q", "run", str(ROOT), "-profile", "ablation", "-params-file", str(given)]
        command += ["-c", str(FOLDER / "share.config"), "-resume", "-work-dir", str(FOLDER / "work")]
        subprocess.run(command, cwd=launch, check=True)
    return outdir


def test_tomograms(base: Params, count: int, name: str) -> Path:
    """A table of the tomograms that all variants are tested on, with their truth."""
    # Split 'train' only says that a tomogram is not held out of this run, which trains nothing.
    design = {"tomograms": count, "validation_tomograms": 0, "test_tomograms": 0}
    params = merged(base, {"seed": TEST_SEED, "stop_after": "label", "design": design})
    outdir = run_pipeline(name, params, f"label/t{count:03d}.particles.csv", FOLDER / "launch" / "test")
    lines = ["id,path,annotations"]
    for path in sorted((outdir / "label").glob("*.particles.csv")):
        one = path.name.removesuffix(".particles.csv")
        lines.append(f"test_{one},{outdir}/reconstruct/{one}.mrc,{path}")
    table = FOLDER / f"{name}.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean over seeds (Student's t); one seed excludes nothing."""
    if len(values) < 2:
        return -1.0, 1.0
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def main() -> None:
    """Run the variants one after another, the seeds beside each other, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant, seeds 1, 2, ...")
    parser.add_argument("--budget-steps", type=int, default=300, help="training steps of a run, in at most 10 epochs")
    parser.add_argument("--tomograms", type=int, default=5, help="tomograms to train on; one more is for validation")
    parser.add_argument("--test-tomograms", type=int, default=3)
    parser.add_argument("--box", type=int, nargs=3, default=[28, 64, 64], help="sample in voxels of 16 Å: z y x")
    given = parser.parse_args()
    epochs = min(10, given.budget_steps)
    base = merged(
        yaml.safe_load((ROOT / "presets/ablation.yml").read_text()),
        {
            "templates": str(DEMO / "templates" / "*.cif.gz"),
            "distractors": str(DEMO / "distractors" / "*.cif.gz"),
            "design": {"tomograms": given.tomograms + 1},
            "tetris": {"shape_voxels": given.box},
            "train": {"epochs": epochs, "steps_per_epoch": max(1, given.budget_steps // epochs)},
        },
    )
    make_maps(FOLDER / "maps")
    share = max(1, processors() // given.seeds)
    (FOLDER / "share.config").write_text(
        f"process.resourceLimits = [cpus: {share}, memory: 6.GB]\nexecutor.$local.cpus = {share}\n"
    )
    budget = f"{'x'.join(map(str, given.box))}_{given.tomograms}t_{given.budget_steps}s"
    table = test_tomograms(base, given.test_tomograms, f"test_{'x'.join(map(str, given.box))}")

    def evaluated(seed: int) -> dict[str, dict[str, Any]]:
        done = {}
        for variant in given.only:
            params = merged(base, {"seed": seed, "stop_after": "evaluate", "tomograms": str(table)}, VARIANTS[variant])
            outdir = run_pipeline(f"{budget}_{variant}_{seed}", params, MADE, FOLDER / "launch" / f"seed_{seed}")
            done[variant] = json.loads((outdir / MADE).read_text())["all"]["joint"]
        return done

    with ThreadPoolExecutor(given.seeds) as pool:
        joints = list(pool.map(evaluated, range(1, given.seeds + 1)))
    figures: dict[str, float] = {}
    by_seed: dict[str, list[float]] = {}
    for variant in given.only:
        scores = [joint[variant]["selected"]["f1"] for joint in joints]
        best = [joint[variant]["best"]["f1"] if joint[variant]["best"] else 0.0 for joint in joints]
        low, high = interval(scores)
        figures |= {f"f1_{variant}": float(np.mean(scores)), f"f1_{variant}_low": low, f"f1_{variant}_high": high}
        figures[f"f1_best_{variant}"] = float(np.mean(best))
        by_seed[variant] = scores
        if variant != "full" and "full" in by_seed:
            lead = np.subtract(by_seed["full"], scores)
            low, high = interval(lead)
            figures |= {f"lead_over_{variant}": float(lead.mean()), f"lead_over_{variant}_low": low}
            figures[f"lead_over_{variant}_high"] = high
    for line in table_of(figures, by_seed):
        print(line)
    report("ablation", figures, FIGURES, "the full variant", budget=vars(given), by_seed=by_seed)


def table_of(figures: dict[str, float], by_seed: dict[str, list[float]]) -> list[str]:
    """The same as lines of Markdown, the best variant first."""

    def cell(name: str) -> str:
        if name not in figures:
            return ""
        low, high = (f"{figures[f'{name}_{end}']:.2f}" for end in ("low", "high"))
        return f"{figures[name]:.2f} ({low} to {high})"

    lines = ["| variant | F1 (95 % interval) | seed by seed | best F1 | the full variant's lead |", "|---|---|---|---|---|"]
    for variant in sorted(by_seed, key=lambda one: -figures[f"f1_{one}"]):
        seeds = ", ".join(f"{value:.2f}" for value in by_seed[variant])
        best = figures[f"f1_best_{variant}"]
        lines.append(f"| `{variant}` | {cell(f'f1_{variant}')} | {seeds} | {best:.2f} | {cell(f'lead_over_{variant}')} |")
    return lines


if __name__ == "__main__":
    main()
