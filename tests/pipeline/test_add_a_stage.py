"""The five steps of docs/contributing.md, done: a toy stage is added to a copy of the repository, by them and by nothing else."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from template_learning.common.mrc import write_mrc

from ..runs import ROOT, Pipeline

STAGES = "python/src/template_learning/common/stages.py"
SETTINGS = "python/src/template_learning/settings.py"
STAGE = "python/src/template_learning/stages/thumbnail.py"
COMMANDS = "python/src/template_learning/cli.py"
MODULE = "modules/thumbnail/main.nf"
WORKFLOW = "workflows/simulated_tomograms.nf"
OUTPUTS = "python/src/template_learning/pipeline/outputs.py"

NEW = {
    STAGE: '''"""THUMBNAIL: a tomogram in, a small picture of it out."""

from pathlib import Path

import numpy as np

from template_learning.common.files import replacing
from template_learning.common.mrc import read_mrc
from template_learning.common.provenance import write_sidecar
from template_learning.settings import ThumbnailSettings


def picture_tomogram(tomogram: Path, identifier: str, settings: ThumbnailSettings, output: Path) -> None:
    """Write ``<id>.pgm``, the mean over z of a tomogram [z, y, x] as grey values 0 to 255, binned, and its sidecar."""
    volume, _ = read_mrc(tomogram)
    mean = volume.mean(axis=0)[:: settings.binning, :: settings.binning]
    grey = np.interp(mean, (mean.min(), mean.max()), (0, 255)).astype(np.uint8)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{identifier}.pgm"
    with replacing(path) as temporary:
        temporary.write_bytes(f"P5 {grey.shape[1]} {grey.shape[0]} 255\\n".encode() + grey.tobytes())
    write_sidecar(path, stage="thumbnail", item=identifier, seed=None, settings=settings)
''',
    MODULE: """process THUMBNAIL {
    tag "${meta.id}"
    label 'quick'
    label 'per_tomogram'

    input:
    tuple val(meta), path(tomogram)
    val settings

    output:
    tuple val(meta), path("thumbnail/${meta.id}.pgm"), topic: published
    path "thumbnail/${meta.id}.pgm.json", topic: published

    script:
    \"\"\"
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning thumbnail --tomogram ${tomogram} --id ${meta.id} --settings settings.json --output thumbnail
    \"\"\"

    stub:
    \"\"\"
    mkdir thumbnail
    touch thumbnail/${meta.id}.pgm thumbnail/${meta.id}.pgm.json
    \"\"\"
}
""",
}
# file -> what is put before which line
PUT = {
    STAGES: [
        (
            '    Stage(name="label"',
            '    Stage(name="thumbnail", title="A picture of each simulated tomogram.", per_tomogram=True),\n',
        )
    ],
    SETTINGS: [
        (
            "class LabelSettings(",
            "class ThumbnailSettings(SettingsSection):\n"
            '    """THUMBNAIL: small pictures of tomograms."""\n\n'
            '    binning: int = Field(4, ge=1, description="every so manieth voxel is shown")\n\n\n',
        ),
        (
            '    seed: int = Field(1, ge=0, lt=2**32, description="root of every random draw")\n',
            "    thumbnail: ThumbnailSettings = ThumbnailSettings()\n",
        ),
    ],
    COMMANDS: [
        (
            "@app.command()\ndef label(",
            "@app.command()\n"
            "def thumbnail(\n"
            '    tomogram: Annotated[Path, typer.Option(help="tomogram to picture")],\n'
            "    identifier: Identifier,\n"
            "    output: Output,\n"
            "    settings: SettingsFile = None,\n"
            ") -> None:\n"
            '    """Picture one tomogram: <id>.pgm."""\n'
            "    from template_learning.settings import ThumbnailSettings\n"
            "    from template_learning.stages.thumbnail import picture_tomogram\n\n"
            "    picture_tomogram(tomogram, identifier, _model(settings, ThumbnailSettings), output)\n\n\n",
        )
    ],
    WORKFLOW: [
        ("include { LABEL ", "include { THUMBNAIL                  } from '../modules/thumbnail/main'\n"),
        (
            "    // --- truth\n",
            "    if (plan.runs.thumbnail) {\n"
            "        THUMBNAIL(\n"
            "            simulated,\n"
            "            section(settings, 'thumbnail'),\n"
            "        )\n"
            "    }\n\n",
        ),
    ],
    OUTPUTS: [('    Kind("labels",', '    Kind("thumbnail", "thumbnail/<tomogram>.pgm", "a small picture of a tomogram"),\n')],
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository with the toy stage, and a .venv that runs its own package."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name, text in NEW.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name, edits in PUT.items():
        text = (folder / name).read_text(encoding="utf-8")
        for before, new in edits:
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, new + before)
        (folder / name).write_text(text, encoding="utf-8")
    launcher = folder / ".venv/bin/template-learning"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(
        f'#!/bin/sh\nPYTHONPATH="{folder}/python/src" exec "{sys.executable}" -c "from template_learning.cli import main; main()" "$@"\n'
    )
    launcher.chmod(0o755)
    (folder / ".tools").symlink_to(ROOT / ".tools")
    subprocess.run([launcher, "schema", "--write", folder], check=True)  # of `make docs`, what the pipeline reads
    return folder


def test_the_page_names_every_file_that_was_touched_and_no_other():
    page = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    steps = re.search(r"## Add a stage\n(.*?)\n## ", page, re.S).group(1)
    assert len(re.findall(r"^\d\. ", steps, re.M)) == 5
    named = {name.replace("<word>", "thumbnail") for name in re.findall(r"`([\w/<>]+\.(?:py|nf))`", steps)}
    touched = {name.removeprefix("python/src/template_learning/") for name in (*NEW, *PUT)}
    assert touched <= named | {WORKFLOW}
    assert "workflows/<part>.nf" in steps
    assert len(touched) + 1 <= 8  # and its test


def test_the_stage_is_called_by_hand(clone, tmp_path):
    write_mrc(tmp_path / "a.mrc", np.arange(4 * 8 * 12, dtype=np.float32).reshape(4, 8, 12), 10.0)
    call = [
        clone / ".venv/bin/template-learning",
        "thumbnail",
        "--tomogram",
        tmp_path / "a.mrc",
        "--id",
        "a",
        "--output",
        tmp_path,
    ]
    subprocess.run(call, check=True)
    content = (tmp_path / "a.pgm").read_bytes()
    assert content.startswith(b"P5 3 2 255\n")
    assert (content[11], content[-1]) == (0, 255)
    assert json.loads((tmp_path / "a.pgm.json").read_text())["settings"] == {"binning": 4}


def test_the_pipeline_runs_it_publishes_it_and_lists_it(clone, tmp_path):
    pipeline = Pipeline(tmp_path, root=clone)
    run = pipeline.run("-profile", "demo", "-stub", "--stop_after", "label", "--thumbnail.binning", "2")
    assert run.status == 0, run.printed
    tasks = [name for name in run.tasks("COMPLETED") if name.startswith("THUMBNAIL")]
    pictures = sorted(path.name for path in (run.outdir / "thumbnail").glob("*.pgm"))
    assert len(tasks) == len(pictures) == len(list((run.outdir / "reconstruct").glob("*.mrc"))) > 0
    listed = json.loads((run.outdir / "index.json").read_text())["files"]
    assert {entry["kind"] for entry in listed if entry["stage"] == "thumbnail"} == {"thumbnail", "sidecar"}
    assert json.loads((run.outdir / "check/settings.json").read_text())["thumbnail"] == {"binning": 2}
