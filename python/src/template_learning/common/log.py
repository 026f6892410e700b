"""What a run says to whoever watches it: one line at a time, on stderr, which Nextflow keeps with each task."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LISTENERS: list[list[str]] = []


def tell(line: str, *, routine: bool = False) -> None:
    """Print one line to stderr; what is ``routine``, and no doubt, listeners do not hear."""
    text = " ".join(line.split())
    print(text, file=sys.stderr)
    if routine:
        return
    for heard in _LISTENERS:
        heard.append(text)


@contextmanager
def listening() -> Iterator[list[str]]:
    """A list of the lines that are told meanwhile."""
    heard: list[str] = []
    _LISTENERS.append(heard)
    try:
        yield heard
    finally:
        _LISTENERS.remove(heard)
