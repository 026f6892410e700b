"""docs/reference/paper.md: the paper, its released script and the presets of its applications side by side.

What the presets hold, and where each number is from, is read from the YAMLs: the value, and the comment behind it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

PRESETS = ("ribosome", "nucleosome", "fas")
SAME = "as the paper"
NONE = "no such thing"
SIDE_BY_SIDE: dict[str, tuple[str, str]] = {
    "flex.conformers": ("25, 100, 80", "-"),
    "flex.modes": ("20", "20, without the rigid body's six"),
    "flex.first_mode": ("the rigid body's six are dropped", "six of those 20 are dropped: 7 to 20"),
    "flex.cutoff_angstrom": ("15", SAME),
    "flex.amplitude": ("100", "100, modes of unit length over all atoms"),
    "flex.minimum_contacts": (NONE, NONE),
    "flex.minimum_collectivity": (NONE, NONE),
    "flex.maximum_broken_fraction": (NONE, NONE),
    "volume.voxel_size_angstrom": ("16", SAME),
    "volume.resolution_angstrom": ("32", SAME),
    "design.total_dose_e_per_angstrom2": ("75, 150", "-"),
    "design.tilt_step_deg": ("2, 4", "-"),
    "design.tilt_range_deg": ("60, 40", "-"),
    "design.ice_density_g_per_cm3": ("0.9, 1.1", "-"),
    "design.defocus_um": ("0, -0.5, -1 (phase plate); -2.5, -3.25, -4", "-"),
    "design.phase_shift_deg": ("90, none", "-"),
    "design.validation_tomograms": ("-", "1"),
    "tetris.shape_voxels": ("64 x 192 x 192, 64 x 256 x 256, 64 x 192 x 192", "-"),
    "tetris.distractors_per_template": ("5, 2, -", "9, 3 in effect: lines are repeated"),
    "tetris.smoothing_voxels": ("1.65 to 2", "1.65"),
    "tetris.grey_level": ("a threshold", "100"),
    "tetris.erosion_voxels": ("-", "2"),
    "tetris.centre_margin_angstrom": ("-", "192"),
    "tetris.minimum_distance_angstrom": ("chosen by the user", NONE),
    "reconstruct.voxel_size_angstrom": ("13, 8, 13", "-"),
    "label.kind": ("shape, shape, sphere", "-"),
    "label.grey_level": ("a threshold", "100"),
    "train.epochs": ("100", "-"),
    "train.steps_per_epoch": ("100", "-"),
    "train.patch_voxels": ("-", "48"),
    "train.augmentation.rotation": ("DeepFinder's", "half a turn about the tilt axis"),
    "train.background_fraction": ("DeepFinder's", "0"),
    "train.normalisation": ("DeepFinder's", "each patch"),
    "train.loss.tversky_weight": ("DeepFinder's", "1"),
    "train.loss.crossentropy_weight": ("DeepFinder's", "0"),
    "cluster.method": ("MeanShift", SAME),
    "cluster.radius_voxels": ("10, 6, -", "-"),
    "evaluate.match_radius_voxels": ("10", "-"),
    "finetune.splits": ("3", "-"),
    "finetune.training_fraction": ("2 of 10, 8 of 10", "-"),
    "finetune.epochs": ("10, 30", "-"),
    "finetune.steps_per_epoch": ("10", "-"),
}
"""Parameter to what the paper says and what the released script does (TemplateLearning at d36c6a0); "-" where not known."""
LINE = re.compile(r"^( *)([a-z_0-9]+):(?: +(.*?))?(?:  # (.*))?$")

HEAD = """# The paper, its script and the presets

<!-- Generated from presets/*.yml and python/src/template_learning/pipeline/paper.py by `make docs`; edit there. -->

The presets `ribosome`, `nucleosome` and `fas` follow Harastani et al. 2025.
The script is the authors' repository TemplateLearning at d36c6a0, which is older than the print.
Only its facts are used here, none of its text.

Where there is a network, one command runs an application, from any folder:

    nextflow run <the clone> -profile ribosome,gpu --tomograms tomograms.csv

`data/paper` names the molecules. With `--model` the same profile picks, and fetches none of them.

Three values in a cell are those of ribosome, nucleosome and fatty acid synthase. A dash: not known.
"""
TAIL = """## Where the presets are not the paper

- The engines are this package's own, not Parakeet, IMOD and EMAN2. [Other engines](../how-to/other_engines.md) says how to take those.
- TETRIS looks for the best place in tiles, not in the whole box: [packing](../explanation/packing.md).
- Structures come as their entries have them. No other assembly is asked for.
- A nucleosome matched within 80 Å may lie outside the pick's own molecule. The preset gives all figures a second time within 48 Å (`also_within`).
- One validation tomogram, as the script has it, cannot represent the grid. Take `design.validation_tomograms: 6` for a threshold that does.
- RELION's subtomogram averages with their angular distributions (Fig. 7) are no part of this pipeline.
"""


def preset_lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Parameter, value and the comment behind it, of a preset's YAML."""
    groups: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.startswith("#") or not (found := LINE.match(line)):
            continue
        depth = len(found[1])
        groups = [group for group in groups if group[0] < depth]
        if found[3]:
            yield ".".join([*(name for _, name in groups), found[2]]), found[3], found[4] or ""
        groups.append((depth, found[2]))


def paper_page(root: Path) -> str:
    """The page; ``root`` is the repository."""
    presets = {name: list(preset_lines((root / f"presets/{name}.yml").read_text(encoding="utf-8"))) for name in PRESETS}
    values = {name: {parameter: (value, source) for parameter, value, source in lines} for name, lines in presets.items()}
    order = list(dict.fromkeys(parameter for lines in presets.values() for parameter, _, _ in lines))
    rows = ["| parameter | paper | released script | ribosome | nucleosome | fas | from |", "|---|---|---|---|---|---|---|"]
    for parameter in order:
        paper, script = SIDE_BY_SIDE.get(parameter, ("-", "-"))
        cells = [f"`{values[name][parameter][0]}`" if parameter in values[name] else "" for name in PRESETS]
        sources = dict.fromkeys(values[name][parameter][1] for name in PRESETS if parameter in values[name])
        rows.append(f"| `{parameter}` | {paper} | {script} | {' | '.join(cells)} | {'; or: '.join(sources)} |")
    return "\n".join([HEAD, *rows, "", TAIL])
