"""The two ways a command fails on purpose, each with its exit code."""


class BadInput(ValueError):
    """Something the user gave is wrong (exit code 2).

    The message is one line: which file or parameter, what is wrong with it, what was expected.
    """


class Fault(RuntimeError):
    """Something went wrong that a second try may cure (exit code 3)."""
