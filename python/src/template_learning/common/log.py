"""What a run says to whoever watches it: one line at a time, on stderr, which Nextflow keeps with each task."""

import sys


def tell(line: str) -> None:
    """Print one line to stderr."""
    print(" ".join(line.split()), file=sys.stderr)
