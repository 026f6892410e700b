"""REPORT: the files of a run in, one page out."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from template_learning import __version__
from template_learning.common.files import replacing
from template_learning.report.page import headline, notes, report_sections, stage_notes, summary
from template_learning.report.run import Run
from template_learning.report.simulation_sections import (
    class_names,
)


def write_report(data: Path, output: Path) -> None:
    """REPORT: write the page of a run.

    The same files give the same page.  Experimental tomograms and their annotations are shown if they lie in
    ``data/tomograms`` as ``<id>.mrc`` and ``<id>.csv`` (or another known suffix); without the tomogram the network's
    probabilities are shown.

    Parameters
    ----------
    data : Path
        Folder with the run's published files, all of them or a part (see ``outputs.KINDS``).
    output : Path
        The page to write.

    Raises
    ------
    BadInput
        The folder holds nothing of a run, or a file is broken.
    """
    run = Run.open(data)
    templates = Environment(
        loader=PackageLoader("template_learning", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = report_sections(run)
    page = templates.get_template("template.html.j2").render(
        title="Template Learning: " + (", ".join(class_names(run).values()) or "report of a run"),
        lead=summary(run),
        headline=headline(run),
        notes=notes(run),
        stage_notes=stage_notes(run),
        sections=sections,
        footer=f"Written by template-learning {__version__} from the run's published files; index.json lists them all.",
    )
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
