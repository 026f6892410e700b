"""docs/reference/inputs.md, written from the tests' own tables of cases: `python -m tests.python.inputs_page`."""

from collections.abc import Sequence

from .cases import Case
from .common.test_mrc import CASES as MRC
from .common.test_mrc import MASK_CASES as MASKS
from .common.test_tables import CASES as TABLES
from .learning.test_fit import CASES as FITS
from .picking.test_annotations import CASES as ANNOTATIONS
from .reconstruction.test_angles import CASES as ANGLES
from .structures.test_odd_structures import CASES as STRUCTURES

WORDS = {"taken": "taken", "warning": "taken, with a warning", "refused": "**refused** (exit 2)"}
SECTIONS: Sequence[tuple[str, str, Sequence[Case]]] = (
    (
        "MRC files",
        "Tomograms, tilt series, masks and maps have one reader (`common/mrc.py`).  A voxel size that the header does not tell, or "
        "tells wrongly, is overridden by `voxel_size_angstrom` in the table of tomograms.  A tomogram whose voxels are all the same, "
        "and one of fewer than 4 slices, or 16 voxels along y or x, is refused too.",
        MRC,
    ),
    (
        "Tomograms beside a model",
        "With `--model` CHECK sets each tomogram beside the model's card, before any work (`learning/fit.py`).  The model here has "
        "voxels of 8 Å.  Warnings stand on the screen and in `check/inputs.json`.",
        FITS,
    ),
    ("Masks", "", MASKS),
    (
        "Annotations",
        "CHECK reads them all before any work (`picking/annotations.py`).  The tomogram here is `TS_1`.",
        ANNOTATIONS,
    ),
    ("Tables", "Templates, distractors, tomograms, designs, and what is scored or taught (`common/files.py`).", TABLES),
    ("Tilt angles", "`.tlt` files (`stages/reconstruct.py`).", ANGLES),
    (
        "Structures",
        "mmCIF, BinaryCIF and PDB (`structures/structure.py`).  A warning here is a note that CHECK and FLEX write.  A distractor "
        "with the same atoms as a template is refused.",
        STRUCTURES,
    ),
)


def page() -> str:
    """The page as Markdown."""
    lines = [
        "# What is taken and what is refused",
        "",
        "Each row is a case that a test tries: the tests' tables are what this page is written from (`make docs`).  Where a file can be",
        "read in more than one way it is refused, with the column or parameter that decides.  A refusal is one line that names the",
        "file, what is wrong and what was expected; the command ends with exit code 2.",
    ]
    for title, about, cases in SECTIONS:
        lines += ["", f"## {title}", "", *([about, ""] if about else []), "| input | what comes of it |", "| --- | --- |"]
        for case in cases:
            said = f": “… {case.words} …”" if case.words else ""
            note = f"; {case.note}" if case.note else ""
            lines.append(f"| {case.what} | {WORDS[case.outcome]}{said}{note} |".replace("<", "&lt;"))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
