"""The two ways a command fails on purpose, each with its exit code; and what a model refuses, in words."""

from pydantic import ValidationError


class BadInput(ValueError):
    """Something the user gave is wrong (exit code 2).

    The message is one line: which file or parameter, what is wrong with it, what was expected.
    """


class Fault(RuntimeError):
    """Something went wrong that a second try may cure (exit code 3)."""


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """Where and what a model refuses, all of it: the field's path with dots, and the complaint."""
    return [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Where and what a model refuses first."""
    return problems(error)[0]
