"""Ids of all that a run works on are one name space: they stand in the names of what it publishes, side by side."""

import re
from collections.abc import Iterable, Sequence

from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id
from template_learning.pipeline.outputs import KINDS

BATCH = re.compile(r"distractors_\d+", re.IGNORECASE)
"""What the library's folders of distractors are called."""


def _ambiguous_endings() -> tuple[str, ...]:
    """Ends of an id that make a file of one kind look like another kind's: ``a.labels`` in ``a.labels.mrc``."""
    endings = {kind.path.rpartition(">")[2] for kind in KINDS if "<" in kind.path.rpartition("/")[2]} - {""}
    return tuple(sorted({long.removesuffix(short) for long in endings for short in endings if long.endswith(short)} - {""}))


AMBIGUOUS = _ambiguous_endings()


def check_identifiers(named: Iterable[tuple[str, str]], templates: Sequence[str]) -> None:
    """Refuse ids whose published files would take each other's place.

    Parameters
    ----------
    named : iterable of (str, str)
        Each id, and what has it, for complaints.
    templates : sequence of str
        Those of the ids that are templates; their conformers are called ``<id>_c000`` and so on.

    Raises
    ------
    BadInput
        An id stands twice, capitals or not, is what a conformer or a folder of the library is called, or ends like a kind of
        file.
    """
    known: dict[str, tuple[str, str]] = {}
    conformers = {f"{one.lower()}_c": one for one in templates}
    for identifier, whose in named:
        checked_id(identifier)
        lower = identifier.lower()
        if lower in known:
            other, theirs = known[lower]
            raise BadInput(f"id {identifier!r}: {theirs} has {other!r}, and so has {whose}; ids that differ were expected")
        known[lower] = (identifier, whose)
        stem = lower.rstrip("0123456789")
        if stem != lower and stem in conformers:
            raise BadInput(
                f"id {identifier!r} ({whose}): so a conformer of the template {conformers[stem]!r} is called; another was expected"
            )
        if BATCH.fullmatch(identifier):
            raise BadInput(f"id {identifier!r} ({whose}): so a folder of the library is called; another was expected")
        if lower.endswith(AMBIGUOUS):
            ending = next(one for one in AMBIGUOUS if lower.endswith(one))
            raise BadInput(f"id {identifier!r} ({whose}): it ends as a kind of file does ({ending}); another was expected")
