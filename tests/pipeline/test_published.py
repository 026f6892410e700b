"""What is published: of two tasks neither takes the other's place, and what an earlier run published is taken as it was written."""

import json

import copick
import numpy as np
import pytest
from template_learning.common.files import write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.common.tables import PickRow
from template_learning.pipeline.outputs import index_of, published_files

from ..runs import assert_the_index_is_what_lies_there

EXPORT = ("--start_at", "export", "--stop_after", "export")
SHAPE = (8, 9, 10)


@pytest.fixture
def earlier(tmp_path):
    """Results of SEGMENT and CLUSTER of two tomograms, of as many picks as their ids have letters, with their index."""
    folder = tmp_path / "earlier"
    for name in ("a", "long"):
        labels = np.full(SHAPE, len(name), dtype=np.uint8)
        write_mrc(folder / f"segment/{name}.segmentation.mrc", labels, 8.0)
        write_mrc(folder / f"segment/{name}.log_odds.mrc", labels.astype(np.float32), 8.0)
        write_sidecar(folder / f"segment/{name}.segmentation.mrc", stage="segment", item=name, seed=None, settings={})
        row = {"class_id": 1, "x_angstrom": 8, "y_angstrom": 8, "z_angstrom": 8, "score": 1, "size_voxels": 9}
        rows = [PickRow(pick=pick + 1, touches_edge=False, selected=True, **row) for pick in range(len(name))]
        write_table(folder / f"cluster/{name}.picks.csv", PickRow, rows)
        grid = {"shape_voxels": SHAPE, "voxel_size_angstrom": 8, "minimum_size_voxels": {"1": 5}}
        write_sidecar(folder / f"cluster/{name}.picks.csv", stage="cluster", item=name, seed=None, settings={}, **grid)
    (folder / "index.json").write_text(json.dumps(index_of(published_files(folder))))
    return folder


def test_every_tomogram_of_a_run_is_in_its_copick_project(pipeline, earlier, monkeypatch):
    run = pipeline.run(*EXPORT, "--from_results", str(earlier))
    assert run.status == 0, run.printed
    published = assert_the_index_is_what_lies_there(run.outdir)
    assert {f"export/{name}.{ending}" for name in ("a", "long") for ending in ("csv", "relion5.star", "imod.txt")} <= published
    monkeypatch.chdir(run.outdir / "export/copick")
    project = copick.from_file("copick_config.json")
    assert {one.name: len(one.picks[0].points) for one in project.runs} == {"a": 1, "long": 4}
    assert {one.name: int(one.segmentations[0].numpy()[0, 0, 0]) for one in project.runs} == {"a": 1, "long": 4}


def test_an_earlier_result_that_was_changed_is_refused_before_any_work(pipeline, earlier):
    changed = earlier / "segment/long.segmentation.mrc"
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(bytes(content))
    run = pipeline.run(*EXPORT, "--from_results", str(earlier))
    assert run.status != 0
    assert f"{changed}: not the file of {earlier}/index.json (its SHA-256 is another)" in run.printed
    assert [row["name"].split(" ")[0] for row in run.trace()] == ["CHECK"]
    changed.unlink()
    changed.symlink_to("removed")
    run = pipeline.run(*EXPORT, "--from_results", str(earlier))
    assert f"{changed}: a link to nothing" in run.printed
