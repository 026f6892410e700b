"""What is exported."""

from collections.abc import Sequence
from dataclasses import dataclass

from template_learning.common.geometry import Grid
from template_learning.common.tables import PickRow
from template_learning.settings import ExportSettings


@dataclass(frozen=True)
class Picks:
    """The picks of one tomogram, its grid, and what their classes are called."""

    identifier: str
    rows: Sequence[PickRow]
    grid: Grid
    settings: ExportSettings
    model_classes: Sequence[int] = ()

    def class_name(self, class_id: int) -> str:
        """The settings' name of a class, ``class-<n>`` where they have none."""
        names = self.settings.class_names
        return names[class_id - 1] if class_id <= len(names) else f"class-{class_id}"

    @property
    def classes(self) -> list[int]:
        """The classes that have picks, a name, or a place in the model, so that all tomograms of a run agree."""
        named = range(1, len(self.settings.class_names) + 1)
        return sorted({row.class_id for row in self.rows} | set(named) | set(self.model_classes))
