"""A mixture of groups, and a training in phases: each task is given its group's settings, and no other group's tasks depend on them."""

import csv
import json

import pytest
import yaml

from ..runs import ROOT, few_structures_in

MIXTURE = ROOT / "tests/data/mixture.yml"


def test_a_change_in_one_group_reruns_its_tasks_alone(pipeline):
    structures = few_structures_in(pipeline.folder)
    first = pipeline.run("-params-file", str(MIXTURE), "-stub", *structures)
    assert first.status == 0, first.printed
    with (first.outdir / "design/design.csv").open(newline="") as handle:
        groups = {row["id"]: row["group"] for row in csv.DictReader(handle)}
    assert sorted(groups) == ["lamella_t001", "lamella_t002", "t001", "t002", "t003"]
    changed = yaml.safe_load(MIXTURE.read_text())
    changed["design"]["groups"]["lamella"]["tetris"]["slab_thickness_angstrom"] = 310.0
    (pipeline.folder / "changed.yml").write_text(yaml.safe_dump(changed, sort_keys=False))
    second = pipeline.run("-params-file", str(pipeline.folder / "changed.yml"), "-stub", "-resume", *structures)
    assert second.status == 0, second.printed
    per_tomogram = ("TETRIS", "SIMULATE", "RECONSTRUCT", "LABEL")
    again = [name for name in second.tasks("COMPLETED") if name.split()[0] in per_tomogram]
    assert again == sorted(f"{stage} ({item})" for stage in per_tomogram for item in groups if groups[item] == "lamella")
    kept = [name for name in second.tasks("CACHED") if name.split()[0] in per_tomogram]
    assert kept == sorted(f"{stage} ({item})" for stage in per_tomogram for item in groups if groups[item] == "plain")


def test_a_wrong_value_in_a_group_ends_the_run_before_any_work(pipeline):
    wrong = yaml.safe_load(MIXTURE.read_text())
    wrong["design"]["groups"]["lamella"]["design"]["ice_thickness_angstrom"] = 200
    (pipeline.folder / "wrong.yml").write_text(yaml.safe_dump(wrong))
    run = pipeline.run("-params-file", str(pipeline.folder / "wrong.yml"), "-stub", *few_structures_in(pipeline.folder))
    assert run.status != 0
    assert "design.groups.lamella: design.ice_thickness_angstrom = 200: molecules are packed over 300" in run.printed
    assert run.tasks("COMPLETED") == []


@pytest.mark.long
def test_a_mixture_runs_from_structures_to_picks_in_two_phases(pipeline):
    run = pipeline.run("-params-file", str(MIXTURE), *few_structures_in(pipeline.folder))
    assert run.status == 0, run.printed
    with (run.outdir / "train/history.csv").open(newline="") as handle:
        assert [(row["phase"], row["epoch"]) for row in csv.DictReader(handle)] == [("1", "1"), ("1", "2"), ("2", "3")]
    for path in (run.outdir / "simulate").glob("*.tilts.mrc.json"):
        series = json.loads(path.read_text())
        lamella = series["row"]["group"] == "lamella"
        assert (series["settings"]["propagation"] == "projection") == lamella
        assert (series["row"]["ice_thickness_angstrom"] is not None) == lamella
        assert series["acquisition_order"][series["angles_deg"].index(min(series["angles_deg"], key=lambda a: abs(a - series["row"]["tilt_offset_deg"])))] == 0  # fmt: skip
        packed = json.loads((run.outdir / f"tetris/{series['id']}.placed.csv.json").read_text())
        assert (packed["settings"]["slab_thickness_angstrom"] == 300) == lamella
    assert (run.outdir / "report/report.html").is_file()
