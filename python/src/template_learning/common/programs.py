"""Programs of other people, run as processes of their own: where they are, what they say, and one line where they fail."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from template_learning.common.errors import BadInput, Fault


class ProgramFault(Fault):
    """A program that failed, or did not leave its file: ``output`` is all that it printed, ``last_line`` the end of it."""

    def __init__(self, name: str, done: subprocess.CompletedProcess[str], marked: str) -> None:
        self.output = done.stdout + "\n" + done.stderr
        lines = [line.strip() for line in self.output.splitlines() if line.strip() and marked in line]
        self.last_line = lines[-1][:300] if lines else "no message"
        super().__init__(f"{name} ended with exit code {done.returncode}: {self.last_line}")


def find_program(name: str, asked: str, remedy: str) -> str:
    """Where a program lies on the PATH; BadInput, with the setting that asks for it and what to do, where it does not."""
    path = shutil.which(name)
    if path is None:
        raise BadInput(f"{asked}: {name} is not on the PATH; {remedy}")
    return path


def run_program(
    name: str,
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    leaves: Path | None = None,
    marked: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in ``folder`` where one is given; what it printed.

    Raises ProgramFault, with the last line that has ``marked`` in it (of what it printed, errors last), where it fails or
    does not leave the file ``leaves``.
    """
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or (leaves is not None and not leaves.is_file()):
        raise ProgramFault(name, done, marked)
    return done


def words_of(command: Sequence[str]) -> list[str]:
    """The words that a program prints, as it tells its version; none where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.split() if done.returncode == 0 else []
