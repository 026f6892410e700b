"""What the page is made of: sections of text, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

LONG_TABLE = 16
NOTHING = "–"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """A table; long ones, unless ``open``, and those with a ``summary`` are folded below it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    summary: str = ""
    open: bool = False
    kind: ClassVar[str] = "table"

    @property
    def folded(self) -> str:
        """The line that unfolds the table, empty for one that always shows."""
        long = len(self.rows) > LONG_TABLE and not self.open
        return self.summary or (f"{self.caption or 'Table'} ({len(self.rows)} rows)" if long else "")

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers (and is set flush right)."""
        return [all(_is_number(row[place]) for row in self.rows) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Illustration:
    """A figure: a data URI, what it shows for who cannot see it, and a caption."""

    source: str
    alternative: str
    caption: str
    title: str = ""
    kind: ClassVar[str] = "figure"


Block = Text | Table | Illustration


@dataclass(frozen=True)
class ReportSection:
    """A part of the page with a heading."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals, a dash for none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Up to four different values listed, more as their range."""
    distinct = sorted(set(values))
    if len(distinct) <= 4:
        return ", ".join(f"{value:.{digits}f}" for value in distinct)
    return f"{distinct[0]:.{digits}f} to {distinct[-1]:.{digits}f}"


def counted(count: int, what: str) -> str:
    """A count with its noun, in the plural where there is not one."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def interval_text(selected: Mapping[str, Any]) -> str:
    """The 95 % intervals of the selected picks' F1: of these very tomograms, and of ones like them where there are several.

    Two tomograms say next to nothing of others, and their interval is that wide.
    """
    low, high = selected["f1_interval_95_of_these"]
    like = selected.get("f1_interval_95")
    others = f"; of tomograms like these {like[0]:.2f} to {like[1]:.2f}" if like else " (of this tomogram only)"
    return f"{low:.2f} to {high:.2f}{others}"


def _is_number(text: str) -> bool:
    bare = text.replace(",", "").replace("%", "").replace(" ", "")
    if bare in ("", NOTHING):
        return True
    try:
        float(bare)
    except ValueError:
        return False
    return True
