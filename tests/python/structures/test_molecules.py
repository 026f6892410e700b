"""Molecules: from a file, a PDB id or a map, checked and read."""

import io
import urllib.error

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.tables import MoleculeInput
from template_learning.structures import molecules as templates
from template_learning.structures.molecules import check_molecule, prepare_molecule, read_molecule
from template_learning.structures.structure import read_structure

from ..builders import ASSEMBLY_CIF


def test_what_is_checked_is_what_is_read(tmp_path):
    (tmp_path / "x.cif").write_text(ASSEMBLY_CIF)
    for reading, atoms, distance in ((None, 2, 3.0), (MoleculeInput(assembly="1"), 4, np.hypot(28, 4))):
        assert len(read_molecule(tmp_path / "x.cif", reading).element) == atoms
        checked = check_molecule(tmp_path / "x.cif", reading)
        assert checked.nodes == atoms
        assert checked.diameter_angstrom == pytest.approx(distance, rel=1e-6)
    for wrong in (
        MoleculeInput(threshold=0.0),
        MoleculeInput(mass_dalton=1e5),
        MoleculeInput(resolution_angstrom=9),
        MoleculeInput(assembly="7"),
    ):
        for look in (check_molecule, read_molecule):
            with pytest.raises(BadInput, match=r"for density maps|no assembly '7'"):
                look(tmp_path / "x.cif", wrong)


def test_a_pdb_id_is_fetched_once(tmp_path, monkeypatch):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return io.BytesIO(ASSEMBLY_CIF.encode())

    monkeypatch.setattr(templates.urllib.request, "urlopen", answer)
    for source in ("1ABC", "pdb:1abc"):
        written = prepare_molecule(source, "mine", tmp_path)
    assert len(asked) == 1
    assert asked[0].endswith("/1abc.cif.gz")
    assert len(read_structure(written).element) == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (urllib.error.URLError("Name or service not known"), "cannot be reached"),
        (urllib.error.HTTPError("x", 404, "Not Found", None, None), "answers 404"),
        (TimeoutError("timed out"), "cannot be reached"),
    ],
)
def test_no_network_is_one_clear_line(tmp_path, monkeypatch, failure, said):
    def fail(address, timeout):
        raise failure

    monkeypatch.setattr(templates.urllib.request, "urlopen", fail)
    with pytest.raises(BadInput, match=said) as refusal:
        prepare_molecule("1abc", "mine", tmp_path)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        prepare_molecule(str(tmp_path / "nothing.cif"), "mine", tmp_path)
    (tmp_path / "x.cif").write_text(ASSEMBLY_CIF)
    with pytest.raises(BadInput, match="for density maps"):
        prepare_molecule(str(tmp_path / "x.cif"), "mine", tmp_path, MoleculeInput(threshold=1.0))


def test_preparing_refuses_what_check_refuses(tmp_path):
    lines = [f"ATOM  {k:5d}  CA  ALA A{k:4d}    {k * 3.8 % 60:8.3f}{k * 1.3 % 50:8.3f}{k * 2.1 % 40:8.3f}  1.00  0.00           C" for k in range(1, 200)]  # fmt: skip
    (tmp_path / "trace.pdb").write_text("\n".join([*lines, "END", ""]))
    with pytest.raises(BadInput, match="a trace; all atoms"):
        prepare_molecule(str(tmp_path / "trace.pdb"), "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()
