"""docs/measurements: an index and one page a bench, written from bench/results/<bench>.json and the benches' own figures.

python bench/pages.py [FOLDER]
"""

import importlib
import inspect
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import BENCHES, RESULTS, ROOT, Figure
from template_learning.common.files import replacing

PAGES = ROOT / "docs" / "measurements"
Result = dict[str, Any]
GENERATED = "<!-- Written by `make docs` from bench/results; changes here are lost. -->\n"
COMPARISONS = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


def figures_of(bench: str) -> dict[str, Figure]:
    """The figures that a bench declares."""
    return dict(importlib.import_module(bench).FIGURES)


def purpose(bench: str) -> str:
    """The first paragraph of the bench's own description, as Markdown."""
    text = inspect.getdoc(importlib.import_module(bench)) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def result_of(bench: str, results: Path = RESULTS) -> Result | None:
    """What is kept of a bench."""
    path = results / f"{bench}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def runs_of(result: Result | None) -> list[Result]:
    """The measurements that a kept file holds, the newest first."""
    return [] if result is None else [result, *result.get("earlier", [])]


def problems(result: Result, figures: Mapping[str, Figure]) -> list[str]:
    """What is wrong with a kept file: a figure that the bench does not name or that stands twice, no commit, date or machine."""
    found = []
    seen: set[str] = set()
    for number, run in enumerate(runs_of(result), start=1):
        if not re.fullmatch("[0-9a-f]{40}", str(run.get("commit"))):
            found.append(f"run {number} has no commit")
        found += [f"run {number} has no {name}" for name in ("date", "machine", "peer") if not run.get(name)]
        found += [f"the bench names no figure {name}" for name in run["figures"] if name not in figures]
        found += [f"figure {name} stands twice" for name in run["figures"] if name in seen]
        seen |= set(run["figures"])
    return found


def number(value: float) -> str:
    """A value in words: whole numbers whole, four digits of others, and what lies close below 1 as its difference from it."""
    if value == int(value) and abs(value) < 1e12:
        return str(int(value))
    return f"1 - {1 - value:.1e}" if 0.9995 < value < 1 else f"{value:.4g}"


def met(value: float, goal: str) -> bool:
    """Whether a value meets a goal such as ``>= 0.9``, ``0.95 to 1.05`` or ``1``."""
    if between := re.match(r"([\d.e-]+) to ([\d.e-]+)", goal):
        return float(between[1]) <= value <= float(between[2])
    if bound := re.match(r"(>=|<=|<|>) ([\d.e-]+)", goal):
        return bool(COMPARISONS[bound[1]](value, float(bound[2])))
    return math.isclose(value, float(goal), rel_tol=1e-6)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def busy(run: Result) -> bool:
    """Whether more processes wanted a processor than there were when a run began."""
    processors = re.search(r"(\d+) processors", run["machine"])
    return processors is not None and run.get("load", 0.0) > int(processors[1])


def goal_cell(value: float | None, goal: str, run: Result | None) -> str:
    """A goal, and whether it is missed."""
    if value is None or run is None or not goal or met(value, goal):
        return goal
    return f"{goal} (missed, on a busy machine)" if busy(run) else f"{goal} (missed)"


def page(bench: str, result: Result | None) -> str:
    """The page of a bench."""
    figures, runs = figures_of(bench), runs_of(result)
    values = {name: (value, index) for index, run in enumerate(runs, start=1) for name, value in run["figures"].items()}
    several = len(runs) > 1
    text = [GENERATED, f"# {bench}\n", purpose(bench) + "\n"]
    text.append(f"Measured by `make bench BENCH={bench}`; `bench/README.md` says how.\n")
    parts: dict[str, list[tuple[str, ...]]] = {}
    for name, figure in figures.items():
        value, run = values.get(name, (None, 0))
        goal = goal_cell(value, figure.goal, runs[run - 1] if run else None)
        cells = (f"`{name}`", "" if value is None else number(value), goal, figure.meaning)
        parts.setdefault(figure.part, []).append((*cells, str(run or "")) if several else cells)
    head = ("figure", "value", "goal", "what it is", *(("run",) if several else ()))
    for part, rows in parts.items():
        measured = not runs or any(cells[1] for cells in rows)
        none = f"None of its {len(rows)} figures is kept yet: `--only {part}`.\n"
        text.append((f"## Part: {part}\n\n" if part else "") + (table(head, rows) if measured else none))
    text.append("## Runs\n\n" + runs_table(runs))
    return "\n".join(text)


def runs_table(runs: list[Result]) -> str:
    """Where the values come from."""
    if not runs:
        return "None is kept yet.\n"
    rows = []
    for index, run in enumerate(runs, start=1):
        load = number(round(run["load"], 1)) if "load" in run else "not known"
        cells = (run["commit"][:10], str(run["date"])[:10], run["machine"], load, run["peer"], run.get("source", "this bench"))
        rows.append((str(index), *cells))
    note = (
        "The load is how many processes wanted a processor when the run began; more than there are processors lengthen times.\n"
    )
    return table(("run", "commit", "date", "machine", "load", "peer", "source"), rows) + "\n" + note


def index(results: Mapping[str, Result | None]) -> str:
    """The page that lists the others."""
    rows = []
    for bench, result in results.items():
        values = {name: value for run in reversed(runs_of(result)) for name, value in run["figures"].items()}
        goals = [met(values[name], figure.goal) for name, figure in figures_of(bench).items() if figure.goal and name in values]
        when = f"{str(result['date'])[:10]}, {result['commit'][:10]}" if result else "not kept yet"
        rows.append((f"[{bench}]({bench}.md)", purpose(bench), when, f"{sum(goals)} of {len(goals)}" if goals else ""))
    text = [
        GENERATED,
        "# Measurements\n",
        "What the benches measured, each at a commit. The command `make bench BENCH=name` measures anew.\n",
        table(("bench", "what it measures", "newest run", "goals met"), rows),
        "```{toctree}\n:hidden:\n\n" + "".join(f"{bench}\n" for bench in results) + "```\n",
    ]
    return "\n".join(text)


def pages(results: Path = RESULTS) -> dict[str, str]:
    """Every page by its file's name."""
    found = {bench: result_of(bench, results) for bench in BENCHES}
    return {"index.md": index(found)} | {f"{bench}.md": page(bench, result) for bench, result in found.items()}


def main() -> None:
    """Write them; a page of a bench that is no more goes."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES
    written = pages()
    for old in folder.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
