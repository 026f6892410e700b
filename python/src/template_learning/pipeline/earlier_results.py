"""What a run takes from an earlier one (``from_results``): whether it is all there, and as it was written."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from template_learning.common.errors import BadInput
from template_learning.common.log import tell
from template_learning.common.provenance import sha256_of
from template_learning.common.tables import DesignRow
from template_learning.pipeline.unused import stages_of
from template_learning.settings import Settings

ENDINGS: Mapping[str, Sequence[str]] = {
    "tetris": (".placed.csv", ".placed.csv.json"),
    "simulate": (".tilts.mrc", ".tilts.mrc.json", ".tlt"),
    "label": (".labels.mrc", ".instances.mrc", ".particles.csv"),
    "reconstruct": (".mrc",),
    "segment": (".segmentation.mrc", ".log_odds.mrc", ".segmentation.mrc.json"),
    "cluster": (".picks.csv", ".picks.csv.json"),
    "match": (".picks.csv", ".picks.csv.json"),
}
"""Files that belong together, of the stages with a task for each tomogram."""
PROBABILITY_OF_0_1_0 = ".probability.mrc"
"""What SEGMENT of version 0.1.0 wrote in place of the log-odds; CLUSTER takes it."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Ids of what a run has beside earlier results."""

    templates: Sequence[str] = ()
    tomograms: Sequence[str] = ()
    annotated: Sequence[str] = ()


def check_unchanged(results: str, files: Mapping[str, Path | None], index: Path | None) -> list[dict[str, Any]]:
    """Refuse files of earlier results that are not as their run's index.json says.

    Parameters
    ----------
    results : str
        The folder as the user named it, for complaints.
    files : mapping
        Path below the folder -> where the content lies; None for a link to nothing.
    index : Path or None
        The results' index.json; without one, or with one of a version that wrote no checksums, a word says that nothing
        was compared.

    Returns
    -------
    list of dict
        Path, size in bytes and SHA-256 of each file.

    Raises
    ------
    BadInput
        A link to nothing; a file of another size or content than in the index, or one that is not in it.
    """
    there: dict[str, Path] = {}
    for name, file in files.items():
        if file is None:
            raise BadInput(f"{results}/{name}: a link to nothing; was the work folder of that run removed?")
        there[name] = file
    known = _indexed(results, index)
    found = []
    for name, file in there.items():
        size, entry = file.stat().st_size, known.get(name)
        if known and entry is None:
            raise BadInput(
                f"{results}/{name}: not in {results}/index.json; left there by another run? Remove it, or move index.json away "
                "to take all that lies there"
            )
        digest = sha256_of(file)
        if entry is not None and (size, digest) != (entry["bytes"], entry["sha256"]):
            was = f"{size} bytes, {entry['bytes']} expected" if size != entry["bytes"] else "its SHA-256 is another"
            raise BadInput(
                f"{results}/{name}: not the file of {results}/index.json ({was}); changed, broken, or of another run"
            )
        found.append({"path": name, "bytes": size, "sha256": digest})
    if there and not known:
        tell(f"{results}: no index.json with checksums; its files are taken as they are")
    return found


def _indexed(results: str, index: Path | None) -> dict[str, dict[str, Any]]:
    if index is None:
        return {}
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["files"]
        return {str(one["path"]): one for one in entries if "sha256" in one and "bytes" in one}
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{results}/index.json: not the index of a run; move it away to take all that lies there") from None


def check_enough(settings: Settings, paths: Iterable[str], design: Sequence[DesignRow] | None, given: Inputs) -> None:
    """Refuse a run whose first stage would find nothing to work on, or which would leave out some of it without a word.

    Parameters
    ----------
    settings : Settings
        Those of the run.
    paths : iterable of str
        What it takes from earlier results, relative to their folder; none without any.
    design : sequence of DesignRow or None
        The design table, the user's or the earlier run's; None where there is none, or where this run makes one.
    given : Inputs
        What the run has beside those.

    Raises
    ------
    BadInput
        Something is missing.
    """
    runs = stages_of(settings)
    results = settings.from_results or "--from_results"
    there = _by_stage(paths)
    for stage, names in there.items():
        _check_whole(results, stage, names)
    items = {
        stage: {name.removesuffix(endings[0]) for name in there.get(stage, ()) if name.endswith(endings[0])}
        for stage, endings in ENDINGS.items()
    }
    held_out = {row.id for row in design or () if row.split == "test"}

    def need(stage: str, what: str, condition: bool) -> None:
        if condition and stage not in runs and not there.get(stage):
            raise BadInput(f"{results}: no {what} in {stage}/, which a run that starts at {settings.start_at!r} works on")

    need("flex", "conformers (<template>_c000.cif.gz)", "volume" in runs)
    shapes = "finetune" in runs and settings.finetune.labels == "shape"
    need("volume", "library", bool(runs & {"tetris", "simulate", "label", "match"}) or shapes)
    need("tetris", "samples (<id>.placed.csv)", bool(runs & {"simulate", "label"}))
    need("simulate", "tilt series (<id>.tilts.mrc)", "reconstruct" in runs)
    need("reconstruct", "tomograms (<id>.mrc)", bool(runs & {"label", "train", "calibrate"}))
    need("label", "truth (<id>.labels.mrc)", bool(runs & {"train", "calibrate"}))
    need("train", "trained.keras", "calibrate" in runs)
    need("calibrate", "model.keras", bool(runs & {"segment", "finetune"}) and settings.model is None)
    need("segment", "segmentations", bool(runs & {"cluster", "export"}))
    need("cluster", "picks", bool(runs & {"export", "evaluate"}))
    if design is None and "design" not in runs and runs & {"tetris", "simulate", "train", "calibrate"}:
        raise BadInput(f"{results}: no design/design.csv, which says what is to be made or learnt; --design_table was expected")
    if "volume" in runs and "flex" not in runs:
        _check_templates(results, there.get("flex", set()), given.templates)
    if settings.start_at == "finetune" and not given.annotated:
        raise BadInput(
            "parameter start_at = 'finetune': no tomogram with annotations was given (--tomograms, column annotations)"
        )
    picks_first = settings.start_at in ("segment", "match") or (settings.start_at == "flex" and settings.model is not None)
    if picks_first and not given.tomograms and not held_out & items["reconstruct"]:
        raise BadInput(f"parameter tomograms: none given, and none held out of training in {results}: nothing to pick in")
    if "match" in runs:
        unknown = sorted(
            one for one in held_out & items["reconstruct"] if f"{one}.tilts.mrc.json" not in there.get("simulate", ())
        )
        if unknown and "simulate" not in runs:
            raise BadInput(
                f"{results}: no simulate/{unknown[0]}.tilts.mrc.json, which says how that tomogram was taken, for MATCH"
            )
    picked = items["segment" if runs & {"cluster", "export"} else "cluster"]
    if settings.start_at in ("cluster", "export", "evaluate"):
        _check_picked(results, settings.start_at, picked, items, given.tomograms)
    truths = items["label"] & held_out | set(given.annotated)
    if settings.start_at == "evaluate" and not truths & (picked | items["match"]):
        raise BadInput(
            f"{results}: of no tomogram with picks is anything known; annotations or simulated tomograms were expected"
        )
    if settings.start_at == "report" and not there:
        raise BadInput(f"{results}: nothing of a run in it to report on")


def _by_stage(paths: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        stage, _, name = path.replace(PROBABILITY_OF_0_1_0, ENDINGS["segment"][1]).partition("/")
        found.setdefault(stage, set()).add(name)
    return found


def _check_whole(results: str, stage: str, names: Collection[str]) -> None:
    """Refuse an item that has some of its stage's files and not others, but for a stage of which one kind alone is taken."""
    endings = ENDINGS.get(stage, ())
    if not any(name.endswith(tuple(endings[:1])) for name in names):
        return
    for ending in endings:
        for item in sorted(name.removesuffix(ending) for name in names if name.endswith(ending)):
            missing = [item + other for other in endings if item + other not in names]
            if missing:
                raise BadInput(f"{results}/{stage}: {item + ending} is there and {missing[0]} is not; both were expected")


def _check_templates(results: str, names: Collection[str], templates: Sequence[str]) -> None:
    flexed = {name.rpartition("_c")[0] for name in names}
    if not templates:
        raise BadInput("parameter templates: none given; those of the earlier run were expected, for their classes")
    missing = sorted(set(templates) - flexed)
    if missing:
        raise BadInput(f"{results}/flex: no conformers of the template {missing[0]!r}")
    unused = sorted(flexed - set(templates))
    if unused:
        tell(f"{results}/flex: conformers of {', '.join(unused)}, which are no templates of this run, are left out")


def _check_picked(results: str, start: str, picked: set[str], items: Mapping[str, set[str]], tomograms: Sequence[str]) -> None:
    missing = sorted(set(tomograms) - picked - items["match"])
    if missing:
        raise BadInput(f"{results}: nothing of the tomogram {missing[0]!r}; with it a run starts at 'segment'")
    if start == "export":
        alone = sorted(items["cluster"] ^ picked)
        if alone:
            raise BadInput(f"{results}: of {alone[0]!r} there are not both picks in cluster/ and a segmentation in segment/")
