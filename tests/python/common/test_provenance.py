"""The JSON beside an output."""

from pathlib import Path

import pytest
from template_learning.common.provenance import HELPERS, read_sidecar, write_sidecar
from template_learning.common.stages import NAMES


@pytest.mark.parametrize("stage", [*NAMES, *HELPERS])
def test_a_sidecar_names_a_stage_or_a_helping_command(tmp_path: Path, stage: str) -> None:
    write_sidecar(tmp_path / "a.csv", stage=stage, item="a", seed=7, settings={})
    metadata = read_sidecar(tmp_path / "a.csv")
    assert (metadata["stage"], metadata["id"], metadata["seed"], metadata["file"]) == (stage, "a", 7, "a.csv")


@pytest.mark.parametrize("stage", ["VOLUME", "simulate-parakeet", "picking", ""])
def test_no_other_word_is_written(tmp_path: Path, stage: str) -> None:
    with pytest.raises(AssertionError):
        write_sidecar(tmp_path / "a.csv", stage=stage, item="a", seed=7, settings={})
    assert not (tmp_path / "a.csv.json").exists()
