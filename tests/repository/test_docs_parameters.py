"""The pages name parameters that there are."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from template_learning.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "models/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FILE_ENDINGS = {"py", "json", "csv", "mrc", "md", "yml", "keras", "config", "nf"}


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every parameter and section of the settings, in full."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= names(field.annotation, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_parameters_that_a_page_names_are_in_the_settings(page):
    known = names(Settings)
    sections = {name.split(".")[0] for name in known if "." in name}
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`(?:--)?([a-z_]+(?:\.[a-z_0-9]+)+)[^`\n]*`", text) + re.findall(r"--([a-z_]+(?:\.[a-z_0-9]+)+)", text)
    unknown = {
        name
        for name in named
        if name.split(".")[0] in sections and name.split(".")[-1] not in FILE_ENDINGS and name not in known
    }
    assert sorted(unknown) == []
