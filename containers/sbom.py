"""An image's bill of materials in CycloneDX 1.5 (JSON), from what inventory.py found inside it."""

import json
from typing import Any
from urllib.parse import quote

from images import Image


def bill_of_materials(image: Image, inventory: str) -> dict[str, Any]:
    """Components: every Debian package and every Python package, with package URLs and the licences Python packages name."""
    found = json.loads(inventory)
    debian = [
        {
            "type": "library",
            "name": one["name"],
            "version": one["version"],
            "purl": f"pkg:deb/debian/{quote(one['name'])}@{quote(one['version'], safe='~')}?arch={one['architecture']}",
        }
        for one in found["debian"]
    ]
    python = [
        {
            "type": "library",
            "name": one["name"],
            "version": one["version"],
            "purl": f"pkg:pypi/{one['name'].lower().replace('_', '-')}@{one['version']}",
            **({"licenses": [{"license": {"name": one["licence"]}}]} if one["licence"] else {}),
        }
        for one in found["python"]
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "name": image.name, "version": image.version, "description": image.holds}
        },
        "components": debian + python,
    }
