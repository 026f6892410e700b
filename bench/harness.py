"""What every benchmark shares: figures in, a table on the screen and build/bench/<bench>.json out.

Each bench declares its figures in ``FIGURES``: what each means, and what is asked of it.  ``report`` takes no others.
"""

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from template_learning.common.provenance import versions, write_json

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
BUILD = ROOT / "build" / "bench"
DEMO = ROOT / "data" / "demo"
RESULTS = ROOT / "bench" / "results"
BENCHES = (
    "flex",
    "pseudoatoms",
    "tetris",
    "physics",
    "simulate",
    "reconstruct",
    "learning",
    "cluster",
    "picking",
    "treatments",
    "real",
    "views",
    "template_matching",
    "ablation",
    "parity",
    "gpu",
)
"""In the order of the pipeline; each is the module of that name beside this one."""


@dataclass(frozen=True)
class Figure:
    """What a figure means, in one line, and what is asked of it."""

    meaning: str
    goal: str = ""
    part: str = ""
    """What measures it, where a bench has parts that are run one by one (``--only``)."""


def of_part(part: str, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """The same figures, as those of a part."""
    return {name: replace(figure, part=part) for name, figure in figures.items()}


def git(*words: str) -> str:
    """What git says in this clone; nothing where there is no git or no clone."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout


def uncommitted() -> list[str]:
    """Files that differ from the commit, but for those that measurements are written to."""
    lines = git("status", "--porcelain", "--", ".", ":!bench/results", ":!docs/measurements").splitlines()
    return [line[3:] for line in lines]


STARTED = {"commit": git("rev-parse", "HEAD").strip() or None, "uncommitted": uncommitted(), "load": os.getloadavg()[0]}
"""Read before anything is measured: a bench may run for hours.  ``load``: how many processes wanted a processor then."""


def merged(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the changes, section by section."""
    result = dict(base)
    for change in changes:
        for name, value in change.items():
            result[name] = merged(result.get(name, {}), value) if isinstance(value, Mapping) else value
    return result


def machine() -> str:
    """Processor, number of processors and memory, in words."""
    name = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    return f"{names[0] if names else name}, {len(names) or '?'} processors, {int(memory[0]) / 2**20:.0f} GiB"


def report(bench: str, measured: Mapping[str, float], figures: Mapping[str, Figure], peer: str, **metadata: Any) -> None:
    """Print what was measured beside its goals; write it as JSON with the commit, machine, its load, versions and date.

    Raises KeyError for a figure that the bench does not declare.
    """
    table = Table("figure", "value", "goal", title=f"{bench} (peer: {peer})")
    for name, value in measured.items():
        table.add_row(name, f"{value:.4g}", figures[name].goal)
    Console().print(table)
    write_json(
        BUILD / f"{bench}.json",
        {
            "figures": dict(measured),
            "peer": peer,
            **STARTED,
            "machine": machine(),
            "versions": versions(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **metadata,
        },
    )
