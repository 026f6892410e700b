"""The functions that have a page tell each of their parameters, and what they return."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = re.findall(r"~template_learning\.([\w.]+)", (ROOT / "docs/reference/api/index.md").read_text(encoding="utf-8"))


def definition(name: str) -> ast.stmt:
    """The function or class of that name in the source; a KeyError where there is none."""
    module, _, thing = name.rpartition(".")
    path = ROOT / "python/src/template_learning" / (module.replace(".", "/") + ".py")
    return {getattr(node, "name", ""): node for node in ast.parse(path.read_text(encoding="utf-8")).body}[thing]


def section(docstring: str, heading: str) -> list[str]:
    """The names that a section of a docstring defines."""
    found = re.search(rf"^{heading}\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    lines = found.group(1).splitlines() if found else []
    return [name.strip() for line in lines if line[:1].strip() for name in line.split(" : ")[0].split(",")]


@pytest.mark.parametrize("name", NAMES)
def test_docstring_tells_what_goes_in_and_out(name):
    node = definition(name)
    if isinstance(node, ast.FunctionDef):
        docstring = ast.get_docstring(node) or ""
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        assert section(docstring, "Parameters") == [argument.arg for argument in arguments]
        returned = ast.unparse(node.returns) if node.returns else "None"
        assert bool(section(docstring, "Returns")) == (returned != "None")
