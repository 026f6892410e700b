"""REPORT: one self-contained HTML page of a run, or of that part of one that is there."""

from typing import Any

from template_learning.common.files import read_table
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import ParticleRow
from template_learning.report.blocks import ReportSection, counted, interval_text
from template_learning.report.domain_gap import domain_gap_section
from template_learning.report.picking_sections import SETS, finetuning_section, picks_section, scores_section, training_section
from template_learning.report.provenance_section import parameters_section, provenance_section
from template_learning.report.run import Run
from template_learning.report.simulation_sections import imaging_section, molecules_section, packing_section, tilts_section

FEW_PARTICLES = 50
FAR_FROM_BEST = 0.05


def report_sections(run: Run) -> list[ReportSection]:
    """The sections that the run has data for, results first."""
    simulated = [item for item in run.picks if item in {row.id for row in run.design}]
    experimental = [item for item in run.picks if item not in simulated]
    candidates: list[ReportSection | None] = []
    for which, items in (("simulated", simulated), ("experimental", experimental)):
        if which in run.evaluations:
            candidates.append(scores_section(run, which, run.evaluations[which]))
        candidates.append(picks_section(run, which, items))
    candidates += [scores_section(run, which, found) for which, found in run.evaluations.items() if which not in SETS]
    candidates += [
        finetuning_section(run),
        domain_gap_section(run),
        training_section(run),
        molecules_section(run),
        packing_section(run),
        imaging_section(run),
        tilts_section(run),
        parameters_section(run),
        provenance_section(run),
    ]
    return [section for section in candidates if section is not None]


def summary(run: Run) -> str:
    """What was run, in a sentence."""
    inputs = run.json("check/inputs.json") or {}
    parts = []
    if inputs.get("templates"):
        names = ", ".join(str(row["id"]) for row in inputs["templates"][:8])
        more = ", ..." if len(inputs["templates"]) > 8 else ""
        parts.append(f"{counted(len(inputs['templates']), 'template structure')} ({names}{more})")
    if inputs.get("distractors"):
        parts.append(counted(len(inputs["distractors"]), "distractor"))
    if run.design:
        voxel = f" at {run.settings.reconstruct.voxel_size_angstrom:g} Å" if run.settings else ""
        parts.append(f"{counted(len(run.design), 'simulated tomogram')}{voxel}")
    if run.table("train/history.csv"):
        parts.append("a network trained on them alone")
    picked = set(run.picks) - {row.id for row in run.design}
    if picked:
        parts.append(f"picks in {counted(len(picked), 'experimental tomogram')}")
    sentence = "; ".join(parts) or "A part of a run"
    return sentence[0].upper() + sentence[1:] + "."


def headline(run: Run) -> list[dict[str, str]]:
    """The figures at the top: value, label and note of each."""
    figures = []
    for which, evaluation in run.evaluations.items():
        score = evaluation["all"]["joint"]
        selected = score["selected"]
        note = (
            f"precision {selected['precision']:.2f}, recall {selected['recall']:.2f}; 95 % interval {interval_text(selected)}; "
            f"{counted(score['annotations'], 'particle')} in {counted(len(evaluation['tomograms']), 'tomogram')}"
        )
        figures.append(_figure(f"{selected['f1']:.2f}", f"F1, {SETS.get(which, which)}", note))
    sizes, scores = run.minimum_sizes(run.picks), run.minimum_scores(run.picks)
    if scores:
        figures.append(
            _figure(", ".join(f"{score:.2f}" for score in scores), run.score_name(run.picks), f"from {run.minimum_size_origin}")
        )
    elif sizes:
        figures.append(_figure(", ".join(map(str, sizes)), "size threshold (voxels)", f"from {run.minimum_size_origin}"))
    experimental = [item for item in run.picks if item not in {row.id for row in run.design}]
    if experimental:
        count = sum(pick.selected for item in experimental for pick in run.picks[item])
        figures.append(_figure(f"{count:,}", "picks", f"in {counted(len(experimental), 'experimental tomogram')}"))
    if run.design:
        splits = [(name, sum(row.split == name for row in run.design)) for name in ("train", "validation", "test")]
        note = ", ".join(f"{count} {name}" for name, count in splits if count)
        figures.append(_figure(str(len(run.design)), "simulated tomograms", note))
    if run.placed:
        classes = [row.class_id for path in run.placed.values() for row in read_table(path, ParticleRow)]
        templates = sum(class_id > 0 for class_id in classes)
        note = f"{counted(len(classes) - templates, 'distractor')} beside them"
        figures.append(_figure(f"{templates:,}", "templates placed", note))
    history = run.table("train/history.csv")
    if history:
        seconds = read_sidecar(run.folder / "train/history.csv").get("seconds")
        took = "" if seconds is None else f"{seconds / 60:.1f} minutes; " if seconds < 7200 else f"{seconds / 3600:.1f} hours; "
        kept = f"{run.kept_epochs} kept" if run.kept_epochs else ""
        figures.append(_figure(str(len(history)), "training epochs", (took + kept).removesuffix("; ")))
    return figures


def _figure(value: str, label: str, note: str) -> dict[str, str]:
    return {"value": value, "label": label, "note": note}


def notes(run: Run) -> list[str]:
    """What a reader should keep in mind about this run."""
    found = [str(line) for line in (run.json("check/inputs.json") or {}).get("notes", [])]  # what CHECK doubted, first
    for which, evaluation in run.evaluations.items():
        score = evaluation["all"]["joint"]
        title = SETS.get(which, which)
        if score["annotations"] < FEW_PARTICLES:
            found.append(f"The scores on {title} rest on {counted(score['annotations'], 'particle')} only.")
        if score["selected"].get("f1_interval_95") is None:
            found.append(
                f"One tomogram cannot say how F1 differs between {title}: the interval is of this tomogram only, for single picks "
                "drawn anew."
            )
        blobs = score.get("blobs")
        if blobs and blobs["f1"] > score["selected"]["f1"]:
            found.append(
                f"On {title} the network's picks (F1 {score['selected']['f1']:.2f}) are worse than a plain difference of two Gaussians "
                f"with its best threshold ({blobs['f1']:.2f}): the network does not know such tomograms."
            )
        if score["best"] and score["best"]["f1"] - score["selected"]["f1"] > FAR_FROM_BEST:
            found.append(
                f"On {title} another threshold ({score['best']['threshold']:.3g}) would reach F1 {score['best']['f1']:.2f}; "
                f"the one in the model gives {score['selected']['f1']:.2f}."
            )
    if run.table("finetune/finetuning.csv") and "experimental" in run.evaluations:
        found.append(
            "The model was fine-tuned on the experimental tomograms' annotations: their scores say how well it learnt these, "
            "not how well it picks in others. The table under Fine-tuning does."
        )
    for item in run.picks:
        distance = run.pick_facts(item).get("domain_distance") or {}
        if distance.get("total") is not None and distance["total"] >= distance["far_from"]:
            found.append(
                f"{item} is unlike the training tomograms (distance {distance['total']:.2f}; from {distance['far_from']:g} on this is "
                "said): look at its picks, and do not trust what is expected of them."
            )
    unscored = [item for item in run.picks if not run.evaluations and item]
    if unscored:
        found.append("Nothing says what is in the tomograms that were picked in: the picks are not scored.")
    elif "experimental" not in run.evaluations and set(run.picks) - {row.id for row in run.design}:
        found.append("The picks in the experimental tomograms are not scored: no annotations were given.")
    if run.failed:
        failed = ", ".join(f"{item} ({stage.upper()})" for item, stage in run.failed.items())
        found.append(f"Simulated tomograms that failed are left out: {failed}.")
    empty = [item for item, picks in run.picks.items() if not any(pick.selected for pick in picks)]
    if empty:
        found.append(f"No pick was selected in {', '.join(empty)}.")
    history = run.table("train/history.csv")
    if (
        len(history) > 1 and run.best_epoch == len(history) and run.averaged_epochs == 1
    ):  # the last mean is the best by its nature
        found.append("The last epoch was the best on the validation tomograms: longer training may give more.")
    versions: dict[str, set[str]] = {}
    for sidecar in run.sidecars:
        for library, version in sidecar["versions"].items():
            versions.setdefault(library, set()).add(str(version))
    mixed = sorted(library for library, several in versions.items() if len(several) > 1)
    if mixed:
        found.append(f"The run's files were made with several versions of {', '.join(mixed)}.")
    return found


def stage_notes(run: Run) -> list[str]:
    """What the stages said of their inputs: atoms removed, loose ends held, and the like."""
    return [
        f"{sidecar.get('file') or ' '.join((sidecar['stage'], str(sidecar.get('id', ''))))}: {words}"
        for sidecar in run.sidecars
        for words in _words(sidecar.get("notes"))
    ]


def _words(content: Any) -> list[str]:
    return [str(one) for one in content] if isinstance(content, list) else [str(content)] if content else []
