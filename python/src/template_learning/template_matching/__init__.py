"""Template matching by other programs, for comparison."""
