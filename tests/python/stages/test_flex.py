"""FLEX: its files."""

import json

import numpy as np
import pytest
from template_learning.flexing.conformers import rms
from template_learning.settings import FlexSettings
from template_learning.stages.flex import flex_template
from template_learning.structures.structure import read_structure


@pytest.mark.shared
def test_conformer_seven_does_not_depend_on_how_many_there_are(shared_data, tmp_path, capsys):
    path = shared_data / "structures/distractors/3qm1.cif.gz"
    for folder, count in (("few", 3), ("many", 5)):
        flex_template(path, "tiny", FlexSettings(conformers=count), 7, tmp_path / folder)
    flex_template(path, "tiny", FlexSettings(conformers=3), 8, tmp_path / "other")
    few, many = ((tmp_path / folder / "tiny_c002.cif.gz").read_bytes() for folder in ("few", "many"))
    assert few == many
    assert (tmp_path / "other" / "tiny_c002.cif.gz").read_bytes() != few
    told = json.loads((tmp_path / "few" / "tiny.flex.json").read_text())
    assert [conformer["id"] for conformer in told["conformers"]] == ["tiny_c000", "tiny_c001", "tiny_c002"]
    assert len(told["eigenvalue"]) == 14
    rmsd = [conformer["rmsd_angstrom"] for conformer in told["conformers"]]
    assert list(told["rmsd_angstrom"].values()) == pytest.approx(np.percentile(rmsd, [0, 25, 50, 75, 100]))
    assert told["damaged_conformers"] == sum(not conformer["accepted"] for conformer in told["conformers"])
    assert "waters" not in told["notes"]
    assert "tiny: 173 atoms of water removed" in capsys.readouterr().err
    conformer, start = read_structure(tmp_path / "few" / "tiny_c002.cif.gz"), read_structure(path)
    assert np.array_equal(conformer.atom_name, start.atom_name)
    difference = conformer.position_angstrom + conformer.origin_angstrom - start.position_angstrom
    assert rms(difference) == pytest.approx(told["conformers"][2]["rmsd_angstrom"], rel=1e-2)
