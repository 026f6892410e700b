"""How Sphinx makes the site (`make docs-site`).  The pages are plain Markdown; what only a site needs is here."""

import re
from importlib import metadata

from pydantic import BaseModel
from sphinx.application import Sphinx

project = "Template Learning"
copyright = "The Template Learning developers"
release = version = metadata.version("template-learning")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_static", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 3  # links to headings, with the names that a forge gives them
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
nitpick_ignore_regex = [("py:class", ".*")]  # types in signatures: those of other packages, and settings, have no page here

LINK = re.compile(r"\]\(([^()#:]+)\.md(?:#[^()]*)?\)")


def add_contents(app: Sphinx, document: str, source: list[str]) -> None:
    """The sidebar follows the index pages: under each heading the pages that are linked below it."""
    if document.split("/")[-1] != "index":
        return
    seen: set[str] = set()
    toctrees = []
    for part in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        pages = [page for page in LINK.findall(part) if not page.startswith("..") and not (page in seen or seen.add(page))]
        if pages:
            caption = f":caption: {part.splitlines()[0]}\n" if document == "index" else ""
            toctrees.append("```{toctree}\n:hidden:\n" + caption + "\n" + "\n".join(pages) + "\n```\n")
    source[0] += "\n" + "\n".join(toctrees)


def add_fields(app: Sphinx, what: str, name: str, model: object, options: object, lines: list[str]) -> None:
    """The columns of tables and the entries of cards are described where they are declared."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        lines += ["", "Attributes", "----------"]
        for field, about in model.model_fields.items():
            lines.append(f"{field} : {getattr(about.annotation, '__name__', about.annotation)}")
            lines += [f"    {about.description}"] if about.description else []


def leave_out_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str, str] | None:
    """A class whose attributes are listed needs no line that has them all again."""
    listed = "Attributes\n" in (thing.__doc__ or "") or (isinstance(thing, type) and issubclass(thing, BaseModel))
    return ("", "") if what == "class" and listed else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # before numpydoc reads the sections
    app.connect("autodoc-process-signature", leave_out_signature)
