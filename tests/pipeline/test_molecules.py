"""Templates and distractors that are no plain structure files: density maps, assemblies, entries of the Protein Data Bank."""

import csv
import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import mrcfile
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAIR = "".join(  # eight residues, and an assembly of two: as they are, and turned about z
    [
        "REMARK 350 BIOMOLECULE: 1\nREMARK 350 AUTHOR DETERMINED BIOLOGICAL UNIT: DIMERIC\n",
        "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A\n",
        *(
            f"REMARK 350   BIOMT{row}{number:>4}{x:10.6f}{y:10.6f}{z:10.6f}     {step:10.5f}\n"
            for number, turn in ((1, 1), (2, -1))
            for row, (x, y, z, step) in enumerate(((turn, 0, 0, 15 * (1 - turn)), (0, turn, 0, 0), (0, 0, 1, 0)), start=1)
        ),
        *(
            f"ATOM  {3 * n + k:>5}  {name:<3} GLY A{n:>4}    {4 * n + 1.3 * k:8.3f}   2.000   1.000  1.00  0.00           {name[0]}\n"
            for n in range(1, 9)
            for k, name in enumerate(("N", "CA", "C"))
        ),
    ]
)
SMALL = ("--flex.conformers", "1", "--tetris.shape_voxels", "40,40,40", "--stop_after", "volume")


@pytest.fixture
def archive(tmp_path):
    """A Protein Data Bank of one entry on this machine: its address."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(ROOT / "data/demo/distractors/3qm1.cif.gz", folder / "9xyz.cif.gz")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{{id}}.cif.gz"
        server.shutdown()


@pytest.fixture
def tables(tmp_path):
    """Arguments with a table of templates and one of distractors, all kinds of molecules in them."""
    place = np.indices((24, 24, 24)) - 11.5
    lobes = np.exp(-(place**2).sum(axis=0) / 30) + 0.7 * np.exp(-((place - 4) ** 2).sum(axis=0) / 12)
    for name, density in (("my map.mrc", lobes), ("other map.mrc", lobes[::-1])):
        with mrcfile.new(tmp_path / name) as opened:
            opened.set_data(density.astype(np.float32))
            opened.voxel_size = 5.0
    (tmp_path / "pair.pdb").write_text(PAIR)
    (tmp_path / "t.csv").write_text(
        "id,path,class,resolution_angstrom,mass_dalton\nfrom_map,my map.mrc,a,14,20000\nfetched,pdb:9XYZ,b,,\n"
    )
    (tmp_path / "d.csv").write_text(
        "id,path,assembly,threshold,mass_dalton\none,pair.pdb,,,\ntwo,pair.pdb,1,,\nmapped,other map.mrc,,0.4,9000\n"
    )
    return (*SMALL, "--templates", str(tmp_path / "t.csv"), "--distractors", str(tmp_path / "d.csv"))


@pytest.mark.long
def test_maps_assemblies_and_entries_go_through_flex_and_volume(pipeline, tables, archive):
    run = pipeline.run(*tables, "--pdb_address", archive)
    assert run.status == 0, run.printed
    rows = {}
    for table in run.outdir.glob("volume/*/library.csv"):
        with table.open(newline="") as handle:
            rows |= {row["molecule"]: row for row in csv.DictReader(handle)}
    assert sorted(rows) == ["fetched_c000", "from_map_c000", "mapped", "one", "two"]
    mass = {name: float(row["mass_dalton"]) for name, row in rows.items()}
    assert mass["from_map_c000"] == pytest.approx(20_000, rel=1e-3)
    assert mass["mapped"] == pytest.approx(9000, rel=1e-3)
    assert mass["two"] == pytest.approx(2 * mass["one"], abs=0.01)
    assert mass["fetched_c000"] == pytest.approx(27_888, rel=1e-3)
    assert {rows[name]["class_name"] for name in ("from_map_c000", "fetched_c000")} == {"a", "b"}
    facts = json.loads((run.outdir / "flex/from_map.flex.json").read_text())
    assert facts["reading"] == {"resolution_angstrom": 14, "mass_dalton": 20000}
    # Another parameter: the entry that was fetched is not fetched, and nothing flexed, again.
    again = pipeline.run(*tables, "--pdb_address", archive, "-resume", "--evaluate.match_radius_voxels", "4")
    assert again.tasks("COMPLETED") == ["CHECK (parameters and inputs)", "CRATE (index and provenance)"], again.printed


def test_an_entry_that_cannot_be_had_stops_the_run_before_any_work(pipeline, tables):
    run = pipeline.run(*tables, "--pdb_address", "http://127.0.0.1:9/{id}.cif.gz")
    assert run.status != 0
    assert "error: pdb:9XYZ: no such entry, or no network: nothing could be fetched from http://127.0.0.1:9/9xyz" in run.printed
    assert [row["name"].split(" ")[0] for row in run.trace()] == ["CHECK"]
