"""What every benchmark shares: figures in, a table on the screen and build/bench/<stage>.json out."""

import datetime
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from template_learning.common.provenance import versions, write_json

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
BUILD = ROOT / "build" / "bench"


def merged(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the changes, section by section."""
    result = dict(base)
    for change in changes:
        for name, value in change.items():
            result[name] = merged(result.get(name, {}), value) if isinstance(value, Mapping) else value
    return result


def molecule_row(path: Path, class_name: str = "", species: str | None = None) -> dict[str, Any]:
    """What ``build_library`` wants to know of a structure's file: a template of class 1 where it has a class name, else a distractor."""
    name = path.name.removesuffix(".cif.gz")
    row = {"molecule": name, "species": species or name, "role": "template" if class_name else "distractor"}
    return {**row, "class_id": int(bool(class_name)), "class_name": class_name, "share": 1.0, "file": str(path)}


def machine() -> str:
    """Processor, number of processors and memory, in words."""
    name = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    return f"{names[0] if names else name}, {len(names) or '?'} processors, {int(memory[0]) / 2**20:.0f} GiB"


def report(stage: str, figures: Mapping[str, float], goals: Mapping[str, str], peer: str, **facts: Any) -> None:
    """Print figures beside their goals and write them as JSON with the machine, versions and date."""
    table = Table("figure", "value", "goal", title=f"{stage} (peer: {peer})")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}", goals.get(name, ""))
    Console().print(table)
    write_json(
        BUILD / f"{stage}.json",
        {
            "figures": dict(figures),
            "peer": peer,
            "machine": machine(),
            "versions": versions(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
        },
    )
