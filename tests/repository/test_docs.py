"""The pages: their links lead somewhere, their sentences are short, what is generated is fresh."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *(page for folder in ("docs", "models", "data", "bench") for page in ROOT.glob(f"{folder}/**/*.md"))}
)
PROSE = [
    page
    for page in (ROOT / "README.md", ROOT / "models/README.md", *sorted(ROOT.glob("docs/**/*.md")))
    if page.parent.name != "measurements" and page.stem not in {"parameters", "inputs", "outputs", "cli"}
]
"""What people write; the other pages below docs/ are generated."""

LINK = re.compile(r"!?\[[^]]*\]\(([^()\s]+)\)")
MOST_WORDS = 40


def without_code(text: str) -> Iterator[str]:
    """The lines of a page but for those of code, fenced or indented after an empty line."""
    fenced = indented = False
    before = ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        indented = (line.startswith("    ") and (indented or not before.strip())) or (indented and not line.strip())
        before = line
        if not fenced and not indented:
            yield line


def anchors(page: Path) -> set[str]:
    """What a link may name after a ``#``: the page's headings as a forge writes them."""
    headings = [line.lstrip("#").strip() for line in without_code(page.read_text(encoding="utf-8")) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page: neither code nor tables; headings and the points of lists stand for themselves."""
    part: list[str] = []
    for line in [*without_code(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)), ""]:
        own = line.startswith(("#", "|")) or not line.strip()
        if own or re.match(r"\s*([-*]|\d+\.) ", line):
            yield from re.split(r"(?<=[.!?])[*)\"]*\s+", " ".join(part))
            part = []
        if not own:
            part.append(line.strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page):
    dead = []
    for link in LINK.findall("\n".join(without_code(page.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page):
    too_long = [s for s in sentences(page.read_text(encoding="utf-8")) if len(s.split()) > MOST_WORDS]
    assert too_long == []


def test_readme_is_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 400


def test_every_page_is_in_an_index():
    indices = [ROOT / "docs/index.md", ROOT / "docs/measurements/index.md"]
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for index in indices
        for link in LINK.findall(index.read_text(encoding="utf-8"))
    }
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [str(page.relative_to(ROOT)) for page in pages if page not in {*linked, *indices}] == []


def test_page_of_commands_is_fresh(tmp_path):
    page = tmp_path / "cli.md"
    command = ["-m", "typer", "template_learning.cli", "utils", "docs", "--name", "template-learning", "--title", "Commands"]
    subprocess.run([sys.executable, *command, "--output", str(page)], check=True, capture_output=True)
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
