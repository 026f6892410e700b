"""Machine code of Numba."""

import numba
import pytest
from template_learning.common.compute import jit


def test_machine_code_without_a_folder_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*args, **options)

    original = numba.njit
    monkeypatch.setattr(numba, "njit", refuse)
    assert jit(lambda value: value + 1)(2) == 3
