"""VOLUME by EMAN2's e2pdb2mrc.py: what it is given and what is made of its output."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import read_sidecar
from template_learning.settings import VolumeSettings
from template_learning.simulation import parakeet
from template_learning.stages.volume import build_library
from template_learning.structures.atoms import bare_atoms

# Stands in for e2pdb2mrc.py: the sum of Gaussians, atom by atom, of the PDB file that it is given.
EMAN2 = """#!{python}
import json, sys, mrcfile, numpy
given = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
open("{log}", "a").write(json.dumps(sys.argv[1:]) + "\\n")
edge, apix, width = int(given["box"]), float(given["apix"]), float(given["res"]) / numpy.pi
axis = (numpy.arange(edge) - edge // 2) * apix
weight = dict(C=6, N=7, O=8)
density = numpy.zeros((edge,) * 3)
for line in open(sys.argv[-2]):
    if line.startswith("ATOM"):
        x, y, z = (numpy.exp(-((axis - float(line[at : at + 8])) / width) ** 2) for at in (30, 38, 46))
        density += weight[line[12:14].strip()] * z[:, None, None] * y[:, None] * x
with mrcfile.new(sys.argv[-1]) as file:
    file.set_data(density.astype("f4"))
"""


def molecule(folder: Path) -> Path:
    """A structure of 60 atoms and the list that VOLUME takes."""
    generator = np.random.default_rng(1)
    atoms = bare_atoms(generator.normal(size=(60, 3)) * 15, generator.choice([6, 7, 8], 60))
    parakeet.write_parakeet_structure(folder / "m.cif", atoms)
    entry = {"molecule": "m", "species": "m", "role": "distractor", "class_id": 0, "file": "m.cif"}
    (folder / "molecules.json").write_text(json.dumps([entry]))
    return folder / "molecules.json"


def test_volume_by_eman2(tmp_path: Path, monkeypatch) -> None:
    listed, log = molecule(tmp_path), tmp_path / "calls.jsonl"
    settings = VolumeSettings(engine="eman2", voxel_size_angstrom=8.0, resolution_angstrom=20.0)
    with pytest.raises(BadInput, match=r"e2pdb2mrc\.py is not on the PATH; run in the image `eman2`"):
        build_library(listed, settings, tmp_path / "out")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "e2pdb2mrc.py").write_text(EMAN2.format(python=sys.executable, log=log))
    (tmp_path / "bin" / "e2version.py").write_text("#!/bin/sh\necho 'EMAN 2.99.66 (GITHUB: 2024)'\n")
    for path in (tmp_path / "bin").iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    build_library(listed, settings, tmp_path / "eman2")
    build_library(listed, settings.model_copy(update={"engine": "native"}), tmp_path / "native")
    theirs, voxel = read_mrc(tmp_path / "eman2" / "m.mrc")
    ours, _ = read_mrc(tmp_path / "native" / "m.mrc")
    assert voxel == 8.0
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 2e-4 * ours.max()  # PDB's third decimal, and where ours ends the Gaussians
    called = json.loads(log.read_text())
    assert called[:4] == ["--apix=8", "--res=20", f"--box={ours.shape[0]}", "--quiet"]
    metadata = read_sidecar(tmp_path / "eman2" / "library.csv")
    assert (metadata["program"], metadata["program_version"]) == ("EMAN2", "2.99.66")
