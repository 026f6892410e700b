"""What a run publishes: every kind of file, its place and its meaning; index.json lists the files of one run.

The table ``KINDS`` is the only place that says so.  docs/reference/outputs.md is generated from it (``make docs``) and a test fails
when it is stale.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from template_learning.common.errors import BadInput
from template_learning.common.provenance import sha256_of
from template_learning.common.stages import STAGES
from template_learning.common.tables import CurveRow, DesignRow, LibraryRow, ParticleRow, PickRow, TableRow, TomogramScoreRow

FORMAT = 2
"""2: SEGMENT writes log_odds.mrc; 1: probability.mrc."""
PIPELINE_INFO = "pipeline_info"
"""Nextflow's own folder among the results."""


@dataclass(frozen=True)
class Kind:
    """A kind of published file.

    ``path`` is relative to the output folder; ``<name>`` stands for an id (or, last in the path, any file name), ``<path>``
    for all that lies below;
    ``rows`` is what a table's rows are.
    """

    name: str
    path: str
    what: str
    rows: type[TableRow] | None = None

    @property
    def stage(self) -> str:
        """The first folder of the path, empty for a file at the top."""
        return self.path.split("/")[0] if "/" in self.path else ""

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """Matches a path of this kind; its last group is the item's id."""
        holes = {"<path>": "(.+)"}
        parts = re.split(r"(<\w+>)", self.path)
        return re.compile("".join(holes.get(part, r"([^/]+?)") if part[:1] == "<" else re.escape(part) for part in parts))


KINDS = (
    Kind("settings", "check/settings.json", "every parameter of the run, defaults filled in"),
    Kind(
        "inputs",
        "check/inputs.json",
        "templates, distractors and tomograms with their classes and shares; what was doubted of them; where joined presets differ",
    ),
    Kind("conformers", "flex/<template>.flex.json", "the template's normal modes and the amplitudes of each conformer"),
    Kind("conformer", "flex/<conformer>.cif.gz", "one conformer of a template, all atoms, mmCIF (`<template>_c000`, ...)"),
    Kind(
        "library",
        "volume/<species>/library.csv",
        "the molecules of the folder: species, role, class, share, mass, files",
        LibraryRow,
    ),
    Kind("density", "volume/<species>/<molecule>.mrc", "a molecule's density on the packing grid, protein bright"),
    Kind(
        "atoms",
        "volume/<species>/<molecule>.atoms.npz",
        "a molecule's atoms: positions (Å), atomic numbers, hydrogens and displaced ice (Å³) of each",
    ),
    Kind("design", "design/design.csv", "one row a simulated tomogram: split, dose, defocus, tilts, ice", DesignRow),
    Kind(
        "placed",
        "tetris/<tomogram>.placed.csv",
        "molecules placed in a sample: species, class, position (Å), angles",
        ParticleRow,
    ),
    Kind("tilt_series", "simulate/<tomogram>.tilts.mrc", "tilt series sorted by angle, protein dark"),
    Kind("tilt_angles", "simulate/<tomogram>.tlt", "tilt angles in degrees, one a line, in the series' order"),
    Kind("waves", "simulate/<tomogram>.waves.npy", "exit waves (complex64), kept to be imaged again"),
    Kind("tomogram", "reconstruct/<tomogram>.mrc", "tomogram, protein dark"),
    Kind("labels", "label/<tomogram>.labels.mrc", "class of each voxel, 0 = background"),
    Kind("instances", "label/<tomogram>.instances.mrc", "particle of each voxel (its number in the table), 0 = background"),
    Kind("particles", "label/<tomogram>.particles.csv", "particles to be found: class, position (Å), angles", ParticleRow),
    Kind("trained", "train/trained.keras", "the network, best epoch on the validation tomograms"),
    Kind("history", "train/history.csv", "losses and scores, one row an epoch"),
    Kind("model", "calibrate/model.keras", "the network with its card: what `--model` takes"),
    Kind("finetuned", "finetune/finetuned.keras", "the model taught further on annotated tomograms"),
    Kind("finetuning", "finetune/finetuning.csv", "its scores on held-out tomograms, split by split"),
    Kind("segmentation", "segment/<tomogram>.segmentation.mrc", "class of each voxel as the network sees it"),
    Kind(
        "log_odds",
        "segment/<tomogram>.log_odds.mrc",
        "log-odds of each voxel's likeliest target class: x is a probability of 1 / (1 + exp(-x))",
    ),
    Kind("probabilities", "segment/<tomogram>.probabilities.mrc.gz", "every class's probability, a stack of volumes"),
    Kind("picks", "cluster/<tomogram>.picks.csv", "picks: class, position (Å), score, size, whether selected", PickRow),
    Kind("matched", "match/<tomogram>.picks.csv", "picks of template matching, ranked by score; their size is 1", PickRow),
    Kind("scores", "match/<tomogram>.scores.mrc", "template matching's score of each voxel, the best over orientations"),
    Kind("export_csv", "export/<tomogram>.csv", "the selected picks alone", PickRow),
    Kind("export_relion5", "export/<tomogram>.relion5.star", "the same for RELION 5: ångström from the tomogram's centre"),
    Kind("export_relion4", "export/<tomogram>.relion4.star", "the same for RELION 4: pixels of the tilt series"),
    Kind("export_deepfinder", "export/<tomogram>.deepfinder.xml", "the same as DeepFinder's object list"),
    Kind("export_imod", "export/<tomogram>.imod.txt", "the same for IMOD's point2model"),
    Kind("export_copick", "export/copick/<path>", "a copick project of the picks and segmentations of all tomograms"),
    Kind(
        "evaluation",
        "evaluate/<set>.evaluation.json",
        "F1, precision, recall and their thresholds over the set; the median F1 where the joint curves cross",
    ),
    Kind("curve", "evaluate/<set>.curve.csv", "precision and recall of the set against the size threshold", CurveRow),
    Kind(
        "blobs_curve",
        "evaluate/<set>.blobs_curve.csv",
        "the same of a plain peer: a difference of two Gaussians of the molecule's size",
        CurveRow,
    ),
    Kind("per_tomogram", "evaluate/<set>.per_tomogram.csv", "the scores of each tomogram", TomogramScoreRow),
    Kind("report", "report/report.html", "one self-contained page: the run's results, figures and parameters"),
    Kind("index", "index.json", "this list: every published file with its stage, id, kind, size in bytes and SHA-256"),
    Kind("crate", "ro-crate-metadata.json", "RO-Crate: inputs' checksums, parameters, seeds, versions and images of the run"),
    Kind("nextflow", "pipeline_info/<file>", "Nextflow's record (trace, timeline, report or graph)"),
)
SIDECAR = "settings, seed, versions, seconds and figures of merit of"


def describe(path: str) -> dict[str, str]:
    """What a published file is: path, stage, id, kind and what (``other`` for one that no kind fits).

    ``path`` is relative to the output folder.  A ``<file>.json`` beside a known file is its ``sidecar``.
    """
    for suffix in ("", ".json"):
        for kind in KINDS:
            match = kind.expression.fullmatch(path.removesuffix(suffix)) if path.endswith(suffix) else None
            if match:
                item = match.group(match.lastindex) if match.lastindex else PurePosixPath(path).name.split(".")[0]
                name, what = (kind.name, kind.what) if not suffix else ("sidecar", f"{SIDECAR} {PurePosixPath(path).stem}")
                return {"path": path, "stage": kind.stage, "id": item, "kind": name, "what": what}
    top, _, rest = path.partition("/")
    return {"path": path, "stage": top if rest else "", "id": "", "kind": "other", "what": "other"}


def index_of(files: Mapping[str, Path | None]) -> dict[str, Any]:
    """The content of index.json: each published file, sorted, with its size in bytes and its SHA-256.

    ``files`` has, by the path relative to the output folder, where the content lies; None where it cannot be known: of the
    index itself.
    """
    entries = []
    for name, file in sorted(files.items()):
        content = {} if file is None else {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        entries.append({**describe(name), **content})
    return {"format": FORMAT, "files": entries}


def published_files(folder: Path) -> dict[str, Path]:
    """The files of a run laid out as it is published: path relative to the folder -> file; Nextflow's records are not among them.

    Raises BadInput where there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    found = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        below = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if (below / name) != Path(PIPELINE_INFO))
        found.update({str(below / name): Path(place) / name for name in sorted(names)})
    return found


def document() -> str:
    """docs/reference/outputs.md: the layout of the output folder, from ``KINDS``."""
    lines = [
        "# What a run writes",
        "",
        "<!-- Generated from python/src/template_learning/pipeline/outputs.py and common/tables.py by `make docs`; edit there. -->",
        "",
        "One folder a stage under `--outdir`; files are named `<id>.<what>`. This layout is stable: names change only with",
        f"the `format` number of `index.json` (now {FORMAT}), which lists every file of a run with its stage, id, kind, size and SHA-256.",
        "A run of a part of the pipeline writes that part's folders only.",
        "",
        "Beside a file that a stage computed lies `<file>.json`, its sidecar: stage, id, seed, settings, versions of the",
        "software, seconds, and the file's figures of merit.",
        "",
        "Volumes are MRC, `[z, y, x]`, with their voxel size. Positions are x, y, z in ångström from the centre of voxel",
        "(0, 0, 0) of the volume they belong to; angles are RELION's rot, tilt, psi in degrees.",
    ]
    for stage, about in [
        ("", "At the top."),
        *((one.name, one.title) for one in STAGES),
        (PIPELINE_INFO, "Nextflow's own records of the run."),
    ]:
        kinds = [kind for kind in KINDS if kind.stage == stage]
        if not kinds:  # the crate lies at the top
            continue
        lines += [
            "",
            f"## {stage + '/' if stage else 'Output folder'}",
            "",
            about,
            "",
            "| file | kind | what it is |",
            "|---|---|---|",
        ]
        lines += [f"| `{kind.path.removeprefix(stage + '/')}` | `{kind.name}` | {kind.what} |" for kind in kinds]
        for kind in kinds:
            if kind.rows:
                lines += ["", f"Columns of `{kind.path.removeprefix(stage + '/')}`: {_columns(kind.rows)}."]
    return "\n".join(lines) + "\n"


def _columns(rows: type[TableRow]) -> str:
    fields = rows.model_fields.items()
    return ", ".join(f"`{name}` ({field.description})" if field.description else f"`{name}`" for name, field in fields)


if __name__ == "__main__":
    print(document(), end="")
