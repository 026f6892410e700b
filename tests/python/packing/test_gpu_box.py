"""The box on a device: the same molecules in the same places."""

from pathlib import Path
from typing import Any

import pytest

from ..builders import pack_and_check
from ..strict_device import STRICT


@pytest.mark.parametrize(
    "options",
    [{}, {"excluded_volume": "atoms", "packing_voxel_size_angstrom": 7.0, "shell_voxels": 3, "stop_at": {"molecules": 150}}],
)
def test_a_device_places_the_same_molecules(
    packing_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    host, metadata = pack_and_check(packing_library, tmp_path / "host", **options)
    monkeypatch.setattr("template_learning.packing.tetris.choose_device", lambda asked, stage: STRICT)
    there, same = pack_and_check(packing_library, tmp_path / "device", **options)
    assert len(host) > 60
    assert there == host
    assert same["misfits"] == metadata["misfits"]
