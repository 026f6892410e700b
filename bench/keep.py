"""Keep what a bench measured: build/bench/<bench>.json becomes bench/results/<bench>.json, with the commit it was measured at.

    python bench/keep.py BENCH [BENCH ...]

Refused where the tree had uncommitted changes when the bench began: nobody could measure that again.  What was kept
before and was not measured anew, because a part of a bench ran, goes on in ``earlier``, each with its own commit.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import BENCHES, BUILD, RESULTS
from template_learning.common.provenance import write_json


class NotKept(Exception):
    """Why a measurement is not kept, in one line."""


def kept(measured: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """What bench/results is to hold: the measurement, and of those before it what it did not measure."""
    if not measured.get("commit"):
        raise NotKept("it does not say at which commit it was measured")
    if changed := measured.get("uncommitted"):
        raise NotKept(f"the tree was not that of a commit when it was measured: {', '.join(changed)}")
    known = set(measured["figures"])
    earlier = []
    if before is not None:
        newest = {name: value for name, value in before.items() if name != "earlier"}
        for run in (newest, *before.get("earlier", [])):
            left = {name: value for name, value in run["figures"].items() if name not in known}
            known |= set(left)
            if left:
                earlier.append({**run, "figures": left})
    new = {name: value for name, value in measured.items() if name != "uncommitted"}
    return {**new, "earlier": earlier} if earlier else new


def keep(bench: str, built: Path = BUILD, results: Path = RESULTS) -> Path:
    """The kept copy of what ``bench`` measured.  Raises NotKept."""
    source, target = built / f"{bench}.json", results / f"{bench}.json"
    if not source.is_file():
        raise NotKept(f"{source} is not there: make bench BENCH={bench}")
    before = json.loads(target.read_text()) if target.is_file() else None
    write_json(target, kept(json.loads(source.read_text()), before))
    return target


def main() -> None:
    """Keep the benches named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="+", choices=BENCHES, metavar="BENCH")
    for bench in parser.parse_args().bench:
        try:
            print(keep(bench))
        except NotKept as error:
            sys.exit(f"{bench}: {error}")


if __name__ == "__main__":
    main()
