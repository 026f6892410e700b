"""The stages of the pipeline, in the order in which a run goes through them: the one list of them.

A stage is one word: ``modules/<word>``, ``stages/<word>.py``, the command, the settings' section and the results' folder.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage: its word, what it publishes in its folder, and what its tasks are like.

    ``always``: it runs whatever part of the pipeline is asked for.  ``gpu``: its tasks have a use for a GPU.
    ``per_tomogram``: it has one task a simulated tomogram, which schedulers take as job arrays.
    """

    name: str
    title: str
    always: bool = False
    gpu: bool = False
    per_tomogram: bool = False


STAGES = (
    Stage(name="check", title="What was asked: the settings and inputs as the run understood them.", always=True),
    Stage(name="flex", title="Conformers of each template."),
    Stage(name="volume", title="The library of molecules, a folder for each species or batch."),
    Stage(name="design", title="How each simulated tomogram is imaged."),
    Stage(name="tetris", title="Packed samples.", per_tomogram=True),
    Stage(name="simulate", title="Tilt series of the packed samples.", gpu=True, per_tomogram=True),
    Stage(name="reconstruct", title="Tomograms of the simulated tilt series.", per_tomogram=True),
    Stage(name="label", title="Truth of the simulated tomograms, on the tomograms' grid.", per_tomogram=True),
    Stage(name="train", title="The trained network.", gpu=True),
    Stage(name="calibrate", title="The network with the size threshold that its picks are selected by.", gpu=True),
    Stage(name="finetune", title="The model taught further on annotated tomograms (runs that start at `finetune`).", gpu=True),
    Stage(name="segment", title="Class of each voxel of the tomograms that were picked.", gpu=True),
    Stage(name="cluster", title="Picks."),
    Stage(name="match", title="Template matching, for comparison (runs with `--match.run true`)."),
    Stage(name="export", title="The selected picks in the formats of other programs."),
    Stage(
        name="evaluate",
        title="Picks scored against truth; the set is `simulated` (tomograms held out of training) or `experimental`, "
        "`simulated_matched` or `experimental_matched` for template matching's.",
    ),
    Stage(name="report", title="The page to read."),
    Stage(name="crate", title="The index of what was published, and the RO-Crate of the run.", always=True),
)
NAMES = tuple(stage.name for stage in STAGES)
ORDER = tuple(stage.name for stage in STAGES if not stage.always)
"""Where a run may start and stop."""
PER_TOMOGRAM = tuple(stage.name for stage in STAGES if stage.per_tomogram)
"""Stages whose tasks depend on the group that their tomogram is of."""


def _in_order(name: str) -> str:
    if name not in ORDER:
        raise ValueError(f"one of {', '.join(ORDER)} was expected")
    return name


StageName = Annotated[str, AfterValidator(_in_order), WithJsonSchema({"type": "string", "enum": list(ORDER)})]
"""A stage that a run may start or stop at, as a setting."""
