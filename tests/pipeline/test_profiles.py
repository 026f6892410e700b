"""Profiles for executors and container engines: they parse, join, and give every process its image and its resources."""

import json
import os
import re
import subprocess

import pytest
from template_learning.common.stages import STAGES

from ..runs import ROOT

NEXTFLOW = str(ROOT / "setup/nextflow.sh")
GPU_STAGES = {stage.name.upper() for stage in STAGES if stage.gpu}


def configuration(folder, profiles):
    done = subprocess.run(
        [NEXTFLOW, "config", "-flat", "-profile", profiles, str(ROOT)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"^(\S+) = (.*)$", done.stdout, re.M))


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("slurm,apptainer,demo", {"process.executor": "'slurm'", "apptainer.enabled": "true"}),
        ("slurm,podman", {"process.executor": "'slurm'", "podman.enabled": "true"}),
        ("docker,gpu", {"docker.enabled": "true", "params.train.device": "'gpu'", "params.segment.device": "'gpu'"}),
        ("awsbatch,gpu", {"process.executor": "'awsbatch'", "docker.enabled": "true", "params.train.device": "'gpu'"}),
        ("google_batch", {"process.executor": "'google-batch'", "docker.enabled": "true"}),
        ("k8s", {"process.executor": "'k8s'", "docker.enabled": "true"}),
    ],
)
def test_a_profile_parses_without_its_plugin(tmp_path, profiles, expected):
    found = configuration(tmp_path, profiles)
    assert {name: found.get(name) for name in expected} == expected
    arrays = [name for name in found if name.endswith(".array")]
    assert len(arrays) == ("slurm" in profiles or "batch" in profiles)
    assert all("withLabel:per_tomogram" in name for name in arrays)
    asked = [name for name in found if name.endswith(".accelerator")]
    assert len(asked) == ("gpu" in profiles)
    assert all("withLabel:gpu" in name for name in asked)
    for label in ("quick", "medium", "large", "training", "network"):
        assert any(f"withLabel:{label}" in name and name.endswith("memory") for name in found), label


@pytest.mark.parametrize(
    ("profiles", "settings", "place"),
    [
        ("awsbatch,demo", {"image_registry": "registry.example/tl"}, "registry.example/tl/{}"),
        ("google_batch,demo,gpu", {"image_registry": "registry.example/tl"}, "registry.example/tl/{}"),
        ("k8s,demo", {"image_registry": "registry.example/tl", "simulate": {"engine": "parakeet"}}, "registry.example/tl/{}"),
        (
            "slurm,apptainer,demo",
            {"image_folder": "/images", "reconstruct": {"engine": "imod"}, "verify_images": False},
            "/images/{}",
        ),
        ("standard,demo", {}, None),
    ],
)
def test_every_process_gets_its_image(tmp_path, profiles, settings, place):
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    # The clouds' executors are plugins; Slurm stands in for them, and nothing is started.
    (tmp_path / "stand_in.config").write_text("process.executor = 'slurm'\n")
    command = [NEXTFLOW, "inspect", "-c", "stand_in.config", "-profile", profiles, "-params-file", "settings.json", str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"].split(":")[-1]: one["container"] for one in json.loads(done.stdout)["processes"]}
    assert {"CHECK", "FLEX", "VOLUME", "TETRIS", "SIMULATE", "RECONSTRUCT", "TRAIN", "SEGMENT", "REPORT"} <= found.keys()
    if place is None:
        return
    names = dict.fromkeys(found, "native") | {"FLEX": "nma", "TETRIS": "tetris", "MATCH": "match"}
    if "gpu" in profiles:
        names |= dict.fromkeys(GPU_STAGES & names.keys(), "native-gpu")
    if "simulate" in settings:
        names["SIMULATE"] = "parakeet"
    if "reconstruct" in settings:
        names["RECONSTRUCT"] = "imod"
    for process, image in found.items():
        assert re.fullmatch(
            re.escape(place.format(names[process])) + r"(:[0-9.]+|@sha256:[0-9a-f]{64}|-[0-9.]+\.sif)", image
        ), process


def test_a_modules_labels_are_what_the_list_of_stages_says():
    for stage in STAGES:
        labels = set(re.findall(r"^    label '(\w+)'$", (ROOT / "modules" / stage.name / "main.nf").read_text(), re.M))
        assert ("gpu" in labels, "per_tomogram" in labels) == (stage.gpu, stage.per_tomogram), stage.name


def test_every_preset_is_a_profile_and_presets_join(tmp_path):
    presets = sorted(path.stem for path in (ROOT / "presets").glob("*.yml"))
    text = (ROOT / "nextflow.config").read_text()
    assert sorted(re.findall(r"includeConfig 'conf/generated/preset_(\w+)\.config'", text)) == presets
    assert sorted(path.stem for path in (ROOT / "conf/generated").glob("preset_*.config")) == [
        f"preset_{name}" for name in presets
    ]
    found = configuration(tmp_path, "ribosome,deepfinder")
    assert (found["params.flex.conformers"], found["params.train.batch_size"]) == ("25", "25")
    assert found["params.label.kind"] == "'shape'"


# Stands in for Slurm: runs a job, or each of an array, at once.
SBATCH = """#!/bin/bash
last=$(sed -n 's/^#SBATCH --array 0-//p' "$1")
for task in $(seq 0 "${last:-0}"); do SLURM_ARRAY_TASK_ID=$task bash "$1" >/dev/null 2>&1; done
echo "Submitted batch job $$"
"""


@pytest.fixture
def slurm_run(pipeline, monkeypatch):
    """Runs tests/cluster/probe with these arguments and this sbatch: the run, and what sbatch was given, one text a job."""

    def run(sbatch, *arguments):
        folder = pipeline.folder / "bin"
        folder.mkdir()
        for name, text in (("sbatch", sbatch), ("squeue", "#!/bin/sh\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        (pipeline.folder / "quick.config").write_text(
            "executor { pollInterval = '1s'; queueStatInterval = '2s'; exitReadTimeout = '2s' }\n"
        )
        pipeline.main = ROOT / "tests/cluster/probe"
        done = pipeline.run("-c", "quick.config", *arguments)
        assert done.status == 0, done.printed
        return done, [path.read_text() for path in (pipeline.folder / "work").glob("*/*/.command.run")]

    return run


def test_slurm_is_asked_for_the_gpus_that_the_user_asks_for(slurm_run):
    _, jobs = slurm_run(SBATCH, "-profile", "slurm,gpu", "--gpus", "2")
    assert sum("#SBATCH --array 0-1\n" in job for job in jobs) == 1
    assert all("#SBATCH --gres=gpu:2\n" in job for job in jobs)
    assert all("#SBATCH -c 2\n" in job and "#SBATCH --mem 2048M\n" in job and "#SBATCH -t 01:00:00\n" in job for job in jobs)


@pytest.mark.parametrize("parser", ["v1", "v2"])
def test_a_sites_own_options_join_our_request_for_gpus(slurm_run, pipeline, monkeypatch, parser):
    monkeypatch.setenv("NXF_SYNTAX_PARSER", parser)
    ours = "".join(f"includeConfig '{ROOT}/conf/{name}.config'\n" for name in ("slurm", "gpu"))
    site = "process.clusterOptions = '--account=me --qos=x'\nprocess { withLabel: gpu { clusterOptions = { ['--a=' + task.tag, '--b'] } } }\n"
    # The strict parser looks for a profile in each file of configuration.
    (pipeline.folder / "site.config").write_text(site if parser == "v1" else ours + site)
    _, jobs = slurm_run(SBATCH, "-c", "site.config", *(("-profile", "slurm,gpu") if parser == "v1" else ()))
    asked = re.compile(r"^#SBATCH (--(?:account|a|b|gres)\b.*)$", re.M)
    found = ["|".join(asked.findall(job)) for job in jobs if "#SBATCH --array" not in job]
    assert sorted(found) == [f"--a={number}|--b|--gres=gpu:1" for number in (1, 2, 3)]


# What a site asks for (Groovy), and what a task with two GPUs then asks for.
OPTIONS = [
    ("null", ["--gres=gpu:2"]),
    ("'--account=me --qos=x'", ["--account=me --qos=x", "--gres=gpu:2"]),
    ("['--a', '--b']", ["--a", "--b", "--gres=gpu:2"]),
    ("{ task.tag == 'x' ? '--a' : null }", ["--a", "--gres=gpu:2"]),
    ("{ null }", ["--gres=gpu:2"]),
    ("'--gres=scratch:10 --b'", ["--gres=scratch:10,gpu:2 --b"]),
    ("['--gres scratch:10']", ["--gres scratch:10,gpu:2"]),
    ("'--gres=gpu:a100:4'", ["--gres=gpu:a100:4"]),
    ("'--gpus-per-node=4'", ["--gpus-per-node=4"]),
    ("'--b -G 4'", ["--b -G 4"]),
]


def test_what_slurm_is_asked_for_beside_a_sites_options(pipeline):
    pipeline.main = pipeline.folder / "script"
    pipeline.main.mkdir()
    (pipeline.main / "lib").symlink_to(ROOT / "lib")
    (pipeline.main / "main.nf").write_text(
        """
        def asked(theirs, task) {
            def options = ClusterOptions.joined(theirs)
            options.delegate = [task: task]
            return groovy.json.JsonOutput.toJson(options.call())
        }
        workflow {
            def gpus = [executor: 'slurm', tag: 'x', accelerator: [request: 2]]
        """
        + "\n".join(f"println('asked ' + asked({theirs}, gpus))" for theirs, _ in OPTIONS)
        + """
            println('asked ' + asked('--a', [executor: 'slurm', accelerator: null]))
            println('asked ' + asked(null, [executor: 'slurm', accelerator: null]))
            println('asked ' + asked('--a', [executor: 'sge', accelerator: [request: 2]]))
        }
        """
    )
    run = pipeline.run()
    assert run.status == 0, run.printed
    found = [json.loads(line.removeprefix("asked ")) for line in run.printed.splitlines() if line.startswith("asked ")]
    assert found == [*(expected for _, expected in OPTIONS), ["--a"], None, ["--a"]]


def test_a_job_that_left_no_exit_code_is_tried_again_with_more(slurm_run):
    # The one job that is no array begins and is gone.
    gone = 'if ! grep -q "^#SBATCH --array" "$1" && mkdir ../../gone; then touch .command.begin; echo "Submitted batch job $$"; exit; fi'
    run, jobs = slurm_run(SBATCH.replace("last=", f"{gone}\nlast="), "-profile", "slurm")
    assert sum(line.startswith("task") for line in run.printed.splitlines()) == 3
    assert sum("#SBATCH --mem 4096M\n" in job for job in jobs) == 1


def test_nextflow_files_are_ascii():
    # Nextflow reads them in the machine's own encoding, which need not be UTF-8.
    files = [
        path for pattern in ("*.nf", "*.config", "conf/*.config", "*/*.nf", "modules/*/main.nf") for path in ROOT.glob(pattern)
    ]
    assert len(files) > 20
    assert [path.name for path in files if not path.read_bytes().isascii()] == []
