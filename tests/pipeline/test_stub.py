"""The wiring alone: which tasks run for which call, without the stages' work."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from template_learning.common.mrc import write_mrc

from ..runs import ROOT, Pipeline, assert_the_index_is_what_lies_there

STAGES = [
    "FLEX",
    "VOLUME",
    "DESIGN",
    "TETRIS",
    "SIMULATE",
    "RECONSTRUCT",
    "LABEL",
    "TRAIN",
    "CALIBRATE",
    "SEGMENT",
    "CLUSTER",
    "EXPORT",
]


STRICT = {**os.environ, "NXF_SYNTAX_PARSER": "v2"}


def counts(run):
    names = [row["name"].split(":")[-1].split(" ")[0] for row in run.trace() if row["status"] in ("COMPLETED", "CACHED")]
    return {name: names.count(name) for name in names}


@pytest.fixture(scope="module")
def demo_pipeline(tmp_path_factory):
    """Where the demo's stages have run, for those that resume it."""
    return Pipeline(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def demo(demo_pipeline):
    run = demo_pipeline.run("-profile", "demo", "-stub")
    assert run.status == 0, run.printed
    return replace(run, outdir=shutil.copytree(run.outdir, demo_pipeline.folder / "kept", symlinks=True))


def test_demo_runs_every_stage(demo):
    found = counts(demo)
    assert found["CHECK"] == 1
    assert found["FLEX"] == 6
    assert found["VOLUME"] == 8  # six templates, twelve distractors in two batches
    rows = found["TETRIS"]
    assert [found[stage] for stage in ("SIMULATE", "RECONSTRUCT", "LABEL")] == [rows] * 3
    assert [found[stage] for stage in ("TRAIN", "CALIBRATE", "EVALUATE_SIMULATED", "REPORT", "CRATE")] == [1] * 5
    assert found["SEGMENT"] == found["CLUSTER"] == 2
    for stage in STAGES:
        assert any((demo.outdir / stage.lower()).iterdir()), stage
    assert (demo.outdir / "index.json").is_file()


def test_the_index_lists_every_file_that_is_published_and_no_other(demo):
    assert len(assert_the_index_is_what_lies_there(demo.outdir)) > 100
    runs = {path.name for path in (demo.outdir / "export/copick/ExperimentRuns").iterdir()}
    assert runs == {path.name.split(".")[0] for path in (demo.outdir / "cluster").iterdir()} == {"t001", "t002"}


def test_all_that_a_stage_writes_is_published():
    for module in ROOT.glob("modules/*/*.nf"):
        output = module.read_text().split("    output:\n")[1].split("    script:")[0]
        lines = [line for line in output.splitlines() if "path" in line]
        assert lines, module
        if module.parent.name not in ("report", "crate"):  # what they write is made from the topic
            assert all("topic: published" in line or "not published" in line for line in lines), module
        places = re.findall(r"path\(?\s*['\"]([^'\"]+)", output)
        folder = "" if module.parent.name == "crate" else f"{module.parent.name}/"
        assert places, module
        assert all(place.startswith(folder) for place in places), module


def test_help_prints_the_calls_and_runs_nothing(pipeline):
    run = pipeline.run("--help")
    assert run.status == 0, run.printed
    for word in ("-profile demo", "--model", "-resume", "--start_at", "docs/reference/parameters.md", "apptainer", "ribosome"):
        assert word in run.printed
    assert not run.outdir.exists()
    assert not list((pipeline.folder / "work").glob("*/*"))


@pytest.fixture(scope="module")
def strict_demo(tmp_path_factory):
    """The demo under Nextflow's strict parser."""
    strict = Pipeline(tmp_path_factory.mktemp("strict"), process={"env": STRICT})
    run = strict.run("-profile", "demo", "-stub")
    assert run.status == 0, run.printed
    return run


def test_the_strict_parser_runs_the_same_demo(demo, strict_demo):
    assert counts(strict_demo) == counts(demo)
    assert assert_the_index_is_what_lies_there(strict_demo.outdir) == assert_the_index_is_what_lies_there(demo.outdir)


def test_the_strict_parser_starts_from_earlier_results(tmp_path, strict_demo):
    part = Pipeline(tmp_path, process={"env": STRICT})
    run = part.run(
        "-profile", "demo", "-stub", "--start_at", "segment", "--stop_after", "export", "--from_results", str(strict_demo.outdir)
    )  # fmt: skip
    assert run.status == 0, run.printed
    assert counts(run) == {"CHECK": 1, "SEGMENT": 2, "CLUSTER": 2, "EXPORT": 2, "COPICK_CONFIG": 1, "CRATE": 1}
    assert_the_index_is_what_lies_there(run.outdir)


@pytest.mark.parametrize("environment", [None, STRICT], ids=["usual parser", "strict parser"])
def test_tomograms_are_picked_with_a_model(tmp_path, environment):
    write_mrc(tmp_path / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / "tomograms.csv").write_text("id,path,annotations,voxel_size_angstrom\na1,a.mrc,a.csv,8\nbare,a.mrc,,\n")
    model = ("--model", str(ROOT / "models/nucleosome_8A.keras"), "-profile", "workstation")
    run = Pipeline(tmp_path, process={"env": environment}).run("-stub", *model, "--tomograms", str(tmp_path / "tomograms.csv"))
    assert run.status == 0, run.printed
    once = ("CHECK", "COPICK_CONFIG", "EVALUATE_EXPERIMENTAL", "REPORT", "CRATE")
    assert counts(run) == {"SEGMENT": 2, "CLUSTER": 2, "EXPORT": 2, **dict.fromkeys(once, 1)}
    assert_the_index_is_what_lies_there(run.outdir)
    assert {path.name for path in (run.outdir / "export/copick/ExperimentRuns").iterdir()} == {"a1", "bare"}


def test_a_preset_that_names_structures_picks_with_a_model_and_fetches_none(tmp_path):
    write_mrc(tmp_path / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    model = ("--model", str(ROOT / "models/nucleosome_8A.keras"), "-profile", "nucleosome,deepfinder")
    given = (
        "--tomograms",
        str(tmp_path / "a.mrc"),
        "--cluster.minimum_size_voxels",
        "10",
        "--pdb_address",
        "/nowhere/{id}.cif",
    )
    run = Pipeline(tmp_path).run("-stub", *model, *given)
    assert run.status == 0, run.printed
    assert counts(run)["SEGMENT"] == 1
    inputs = json.loads((run.outdir / "check/inputs.json").read_text())
    assert (inputs["templates"], inputs["presets"]["joined"]) == ([], ["nucleosome", "deepfinder"])
    assert inputs["presets"]["differ"]["train.patch_voxels"] == {"presets": {"nucleosome": 48, "deepfinder": 56}, "value": 56}
    # Without a model the structures are asked for, by entries and from any launch folder.
    without = Pipeline(tmp_path).run("-stub", "-profile", "nucleosome", "--pdb_address", "/nowhere/{id}.cif")
    assert without.status != 0
    assert "pdb:2pyo: no such entry" in without.printed


def test_resume_runs_nothing_again_and_one_more_row_only_its_own(demo_pipeline, demo):
    again = demo_pipeline.run("-profile", "demo", "-stub", "-resume")
    assert again.tasks("COMPLETED") == []
    rows = counts(demo)["TETRIS"]
    more = demo_pipeline.run("-profile", "demo", "-stub", "-resume", "--design.tomograms", str(rows + 1))
    new = f"t{rows + 1:03d}"
    alone = [
        name
        for name in more.tasks("COMPLETED")
        if name.split(" ")[0] in ("FLEX", "VOLUME", "TETRIS", "SIMULATE", "RECONSTRUCT", "LABEL")
    ]
    assert alone == [f"{stage} ({new})" for stage in ("LABEL", "RECONSTRUCT", "SIMULATE", "TETRIS")]


def test_a_later_stages_setting_leaves_the_earlier_cached(demo_pipeline, demo):
    changed = demo_pipeline.run("-profile", "demo", "-stub", "-resume", "--evaluate.match_radius_voxels", "4")
    stages = {name.split(" ")[0] for name in changed.tasks("COMPLETED")}
    assert stages == {
        "CHECK",
        "CALIBRATE",
        "SEGMENT",
        "CLUSTER",
        "EXPORT",
        "COPICK_CONFIG",
        "EVALUATE_SIMULATED",
        "REPORT",
        "CRATE",
    }


def test_simulation_only_and_going_on_from_it(pipeline, tmp_path):
    first = pipeline.run("-profile", "demo", "-stub", "--stop_after", "label")
    assert first.status == 0, first.printed
    assert "TRAIN" not in counts(first)
    before = counts(first)
    second = pipeline.run(
        "-profile",
        "demo",
        "-stub",
        "--start_at",
        "train",
        "--from_results",
        str(first.outdir),
        "--outdir",
        str(tmp_path / "second"),
    )
    assert second.status == 0, second.printed
    second.outdir = tmp_path / "second"
    after = counts(second)
    assert set(after) == {"CHECK", *STAGES[STAGES.index("TRAIN") :], "COPICK_CONFIG", "EVALUATE_SIMULATED", "REPORT", "CRATE"}
    assert after["SEGMENT"] == 2
    assert before["LABEL"] > 2
    assert json.loads((second.outdir / "check/settings.json").read_text())["start_at"] == "train"


def test_groups_of_parameters_merge_from_the_command_line_a_file_and_a_profile(pipeline, tmp_path):
    (tmp_path / "own.yml").write_text("train: {loss: {class_weight_exponent: 0.5}, optimizer: {learning_rate: 0.3}}\n")
    line = ["--train.loss.tversky_weight", "0.5", "--tetris.vesicles.count", "2", "--stop_after", "flex"]
    run = pipeline.run("-profile", "demo", "-stub", "-params-file", str(tmp_path / "own.yml"), *line)
    assert run.status == 0, run.printed
    settings = json.loads((run.outdir / "check/settings.json").read_text())
    loss = {"tversky_weight": 0.5, "crossentropy_weight": 1.0, "class_weight_exponent": 0.5, "top_view_weight": 1.0}
    assert settings["train"]["loss"] == loss
    assert settings["train"]["optimizer"]["learning_rate"] == 0.3
    assert settings["train"]["optimizer"]["name"] == "muon"  # the profile's
    assert settings["train"]["epochs"] == 17
    assert settings["tetris"]["vesicles"] == {"count": 2, "radius_angstrom": [200.0, 400.0], "membrane_molecules": []}
    assert sorted(path.name for path in (run.outdir / "check").iterdir()) == ["inputs.json", "settings.json"]


def test_an_old_parameter_is_answered_with_its_present_name_before_any_work(pipeline):
    run = pipeline.run("-profile", "demo", "-stub", "--flex.damage", "0.1", "--tetris.vesicles", "3")
    assert run.status != 0
    assert "parameter flex.damage: now flex.maximum_broken_fraction" in run.printed
    assert "parameter tetris.vesicles: now tetris.vesicles.count" in run.printed
    assert run.tasks("COMPLETED") == []


STAGES_IN_ORDER = [*STAGES, "EVALUATE_SIMULATED", "REPORT"]


def test_a_run_may_start_and_stop_anywhere(pipeline, demo, tmp_path):
    for number, (start, stop) in enumerate(
        [("volume", "tetris"), ("simulate", "label"), ("segment", "export"), ("evaluate", "report")]
    ):
        folder = tmp_path / f"part{number}"
        run = pipeline.run(
            "-profile",
            "demo",
            "-stub",
            "--start_at",
            start,
            "--stop_after",
            stop,
            "--from_results",
            str(demo.outdir),
            "--outdir",
            str(folder),
        )
        assert run.status == 0, run.printed
        run.outdir = folder
        first = next(index for index, stage in enumerate(STAGES_IN_ORDER) if stage.lower().startswith(start))
        last = next(index for index, stage in enumerate(STAGES_IN_ORDER) if stage.lower().startswith(stop))
        assert set(counts(run)) - {"COPICK_CONFIG"} == {"CHECK", *STAGES_IN_ORDER[first : last + 1], "CRATE"}
        assert_the_index_is_what_lies_there(folder)
        assert (folder / "ro-crate-metadata.json").is_file()


def test_a_run_without_a_report_leaves_its_index_and_crate_too(pipeline):
    (pipeline.folder / "earlier").mkdir()
    run = pipeline.run("--start_at", "design", "--stop_after", "design", "--from_results", str(pipeline.folder / "earlier"))
    assert run.status == 0, run.printed
    listed = {entry["path"] for entry in json.loads((run.outdir / "index.json").read_text())["files"]}
    assert listed >= {"check/inputs.json", "design/design.csv", "design/design.csv.json", "ro-crate-metadata.json"}
    assert "report/report.html" not in listed
    graph = json.loads((run.outdir / "ro-crate-metadata.json").read_text())["@graph"]
    crate = {entity["@id"]: entity for entity in graph}
    assert crate["#run"]["name"] == "design to design"
    assert {"@id": "design/design.csv"} in crate["#run"]["result"]
    assert crate["#seed-design-design"]["value"] == "1"


def test_template_matching_runs_on_the_results_of_a_run(pipeline, demo, tmp_path):
    arguments = ("--match.run", "true", "--start_at", "match", "--from_results", str(demo.outdir))
    run = pipeline.run("-profile", "demo", "-stub", *arguments, "--outdir", str(tmp_path / "matched"))
    assert run.status == 0, run.printed
    run.outdir = tmp_path / "matched"
    expected = {
        "CHECK": 1,
        "MATCH": 2,
        "EXPORT": 2,
        "COPICK_CONFIG": 1,
        "EVALUATE_SIMULATED": 1,
        "EVALUATE_MATCHED": 1,
        "REPORT": 1,
        "CRATE": 1,
    }
    assert counts(run) == expected
    assert (run.outdir / "evaluate/simulated_matched.evaluation.json").is_file()


@pytest.mark.parametrize(("labels", "environment"), [("sphere", None), ("shape", None), ("shape", STRICT)])
def test_fine_tuning_is_one_call_on_annotated_tomograms(tmp_path, demo, labels, environment):
    pipeline = Pipeline(tmp_path, process={"env": environment})
    write_mrc(pipeline.folder / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    for name in ("a1", "a2"):
        (pipeline.folder / f"{name}.csv").write_text("x,y,z\n1,2,3\n")
    table = pipeline.folder / "tomograms.csv"
    table.write_text("id,path,annotations,voxel_size_angstrom\na1,a.mrc,a1.csv,8\na2,a.mrc,a2.csv,\nbare,a.mrc,,\n")
    arguments = ("--tomograms", str(table), "--finetune.labels", labels, "--design.test_tomograms", "0")
    run = pipeline.run("-profile", "demo", "-stub", "--start_at", "finetune", "--from_results", str(demo.outdir), *arguments)
    assert run.status == 0, run.printed
    found = counts(run)
    assert (found["FINETUNE"], found["EVALUATE_EXPERIMENTAL"], found["REPORT"]) == (1, 1, 1)
    (task,) = [row["hash"] for row in run.trace() if "FINETUNE" in row["name"]]
    (staging,) = pipeline.folder.glob(f"work/{task}*/.command.run")
    staged = [line.split()[-1] for line in staging.read_text().splitlines() if "ln -s" in line]
    assert sorted(one for one in staged if one.startswith("tomograms/")) == ["tomograms/1/a.mrc", "tomograms/2/a.mrc"]
    assert any(one.startswith("library/") for one in staged) == (labels == "shape")
    assert "finetune/finetuning.csv" in assert_the_index_is_what_lies_there(run.outdir)
    assert {path.name for path in (run.outdir / "export/copick/ExperimentRuns").iterdir()} == {
        "a1",
        "a2",
        "bare",
        "t001",
        "t002",
    }


def test_without_a_scheduler_no_task_asks_for_more_than_this_machine_has(pipeline):
    write_mrc(pipeline.folder / "a.mrc", np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32), 8.0)
    (pipeline.folder / "tomograms.csv").write_text("id,path\na,a.mrc\n")
    (pipeline.folder / "large.config").write_text("process { withLabel: network { cpus = 4096; memory = 99.TB } }\n")
    files = {"--model": "models/nucleosome_8A.keras", "-params-file": "presets/workstation.yml"}
    arguments = [str(one) for name, path in files.items() for one in (name, ROOT / path)]
    run = pipeline.run("-c", "large.config", "-stub", *arguments, "--tomograms", str(pipeline.folder / "tomograms.csv"))
    assert run.status == 0, run.printed
    assert counts(run)["SEGMENT"] == 1


def test_without_tomograms_the_run_stops_at_a_model(pipeline):
    run = pipeline.run("-profile", "demo", "-stub", "--design.test_tomograms", "0")
    assert run.status == 0, run.printed
    found = counts(run)
    assert found["CALIBRATE"] == found["REPORT"] == 1
    assert not {"SEGMENT", "CLUSTER", "EXPORT", "EVALUATE_SIMULATED"} & set(found)


def test_structures_from_a_table(pipeline):
    folder = pipeline.folder / "my structures"
    folder.mkdir()
    for name in ("7pex", "7xzy"):
        shutil.copy(ROOT / f"data/demo/templates/{name}.cif.gz", folder / f"{name} of mine.cif.gz")
    shutil.copy(ROOT / "data/demo/distractors/3qm1.cif.gz", folder)
    table = folder / "templates.csv"
    table.write_text(
        f"id,path,class,share\nopen,7pex of mine.cif.gz,nucleosome,2\nclosed,{folder}/7xzy of mine.cif.gz,other,1\n"
    )
    run = pipeline.run(
        "-profile",
        "demo",
        "-stub",
        "--templates",
        str(table),
        "--distractors",
        f"{folder}/3qm1.cif.gz",
        "--stop_after",
        "volume",
    )
    assert run.status == 0, run.printed
    assert counts(run) == {"CHECK": 1, "FLEX": 2, "VOLUME": 3, "CRATE": 1}
    rows = json.loads((run.outdir / "check/inputs.json").read_text())["templates"]
    assert [(row["id"], row["class_name"], row["class_id"], row["share"]) for row in rows] == [
        ("open", "nucleosome", 1, 2.0),
        ("closed", "other", 2, 1.0),
    ]


def test_what_is_read_from_json_may_be_used_by_two_operators_at_once(pipeline, tmp_path):
    """JsonSlurper's own maps gave a null id now and then, which ran a stage, and all after it, again."""
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "content.json").write_text(json.dumps({f"key{number}": {"number": [number]} for number in range(30)}))
    (folder / "main.nf").write_text(
        f"""
        include {{ read_json }} from '{ROOT}/workflows/json'
        workflow {{
            def wrong = new java.util.concurrent.atomic.AtomicInteger()
            (1..500).each {{ n ->
                def one = read_json(file("${{projectDir}}/content.json"))
                def both = new java.util.concurrent.CyclicBarrier(2)
                def read = (1..2).collect {{ m -> Thread.start {{
                    both.await()
                    if (one.get('key29')?.get('number') != [29]) wrong.incrementAndGet()
                }} }}
                read*.join()
            }}
            println "wrong: ${{wrong.get()}}"
        }}
        """
    )
    pipeline.main = folder
    run = pipeline.run()
    assert run.status == 0, run.printed
    assert "wrong: 0" in run.printed
    assert "Exception" not in run.printed
