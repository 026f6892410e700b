"""The report's sections on how the run was made: parameters, versions, seeds, time."""

from collections import defaultdict
from typing import Any

from pydantic import BaseModel

from template_learning.common.stages import NAMES
from template_learning.report.blocks import NOTHING, Block, ReportSection, Table, Text, number
from template_learning.report.run import Run
from template_learning.settings import Settings


def parameters_section(run: Run) -> ReportSection | None:
    """Every parameter, those that differ from the defaults first."""
    if run.settings is None:
        return None
    every, changed = [], []
    defaults = Settings()
    for name, (value, default, meaning) in _parameters(run.settings, defaults).items():
        every.append([name, _value(value), _value(default), meaning])
        if value != default:
            changed.append(every[-1])
    columns = ["parameter", "value", "default", "meaning"]
    blocks: list[Block] = (
        [Table(columns, changed, "Set for this run", open=True)] if changed else [Text("Every parameter has its default.")]
    )
    blocks.append(Table(columns, every, "All parameters", f"All parameters ({len(every)})"))
    return ReportSection("parameters", "Parameters", blocks)


def _parameters(model: BaseModel, default: BaseModel, prefix: str = "") -> dict[str, tuple[Any, Any, str]]:
    """Name, with its stage, to value, default and meaning."""
    found: dict[str, tuple[Any, Any, str]] = {}
    for name, field in type(model).model_fields.items():
        value, usual = getattr(model, name), getattr(default, name)
        if isinstance(value, BaseModel):
            found |= _parameters(value, usual, f"{prefix}{name}.")
        else:
            found[prefix + name] = (value, usual, field.description or "")
    return found


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def provenance_section(run: Run) -> ReportSection | None:
    """Software versions, the root seed and each item's, and the time that each stage took."""
    if not run.sidecars:
        return None
    versions: dict[str, set[str]] = defaultdict(set)
    seconds: dict[str, list[float]] = defaultdict(list)
    seeds = []
    for sidecar in run.sidecars:
        stage = str(sidecar["stage"]).lower()
        for library, version in sidecar["versions"].items():
            versions[library].add(str(version))
        if sidecar.get("seconds") is not None:
            seconds[stage].append(float(sidecar["seconds"]))
        if sidecar.get("seed") is not None:
            seeds.append([stage, str(sidecar.get("file", NOTHING)), str(sidecar["seed"])])
    order = [stage for stage in NAMES if stage in seconds]
    listed = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items())
    blocks: list[Block] = [
        Text(f"Software: {listed}."),
        Table(
            ["stage", "files", "longest (s)"],
            [[stage, str(len(seconds[stage])), number(max(seconds[stage]), 1)] for stage in order],
            "Seconds from the start of a task to its file",
        ),
    ]
    if run.settings is not None:
        blocks.append(
            Text(f"Root seed: {run.settings.seed}. Each item's seed depends on it, on the stage and on the item's id alone.")
        )
    if seeds:
        blocks.append(Table(["stage", "file", "seed"], seeds, "Seeds", f"Seeds ({len(seeds)})"))
    return ReportSection("provenance", "Versions, seeds and time", blocks)
