"""Run inside an image: its Debian and Python packages as JSON on standard output."""

import json
import subprocess
import sys
from importlib import metadata


def told(package: metadata.Distribution, field: str) -> str:
    """A field of a package's metadata; empty where it has none."""
    return package.metadata[field] or "" if field in package.metadata else ""


listed = subprocess.run(
    ["dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n"], capture_output=True, text=True, check=True
).stdout
debian = [dict(zip(("name", "version", "architecture"), line.split("\t"), strict=True)) for line in listed.splitlines()]
python = [
    {
        "name": one.metadata["Name"],
        "version": one.version,
        "licence": told(one, "License-Expression") or told(one, "License").split("\n")[0],
    }
    for one in metadata.distributions()
]
json.dump({"debian": debian, "python": sorted(python, key=lambda one: one["name"].lower())}, sys.stdout)
