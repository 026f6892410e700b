"""Cases of inputs as people bring them, kept in one table a kind; docs/reference/inputs.md is written from these tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["taken", "warning", "refused"]


@dataclass(frozen=True)
class Case:
    """An input, and what comes of it."""

    what: str
    """As the page says it."""
    make: Callable[..., Any]
    """Writes the input; what it is given is the test's business."""
    outcome: Outcome
    words: str = ""
    """Of the warning or the refusal."""
    note: str = ""
    """What the page says further."""

    def __str__(self) -> str:
        return self.what.replace("`", "").replace(" ", "_")
