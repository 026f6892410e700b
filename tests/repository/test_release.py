"""What a release is made of: one version, wheel and sdist that install and run elsewhere, a forge's workflows, a recipe, a citation."""

import importlib.util
import json
import os
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
UV = ROOT / ".tools/uv/bin/uv"
PROJECT = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]
specification = importlib.util.spec_from_file_location("release_version", ROOT / "release/version.py")
version = importlib.util.module_from_spec(specification)
specification.loader.exec_module(version)


@pytest.mark.parametrize("name", list(version.PLACES))
def test_every_file_bears_the_packages_version(name):
    assert (ROOT / name).read_text() == version.with_version(name, PROJECT["version"]), "run `make docs`"
    other = version.with_version(name, "12.3.4rc1")
    assert "12.3.4rc1" in other
    assert not re.search(rf"^\W*version\W.*{re.escape(PROJECT['version'])}", other, re.M)


def test_the_changelog_is_kept_as_keep_a_changelog_has_it():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", one) for one in headings[1:])
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert f"[{PROJECT['version']}]" in headings[1] or PROJECT["version"] > headings[1]


def test_the_citation_has_what_its_format_asks_for():
    """Citation File Format 1.2.0: the required keys, known types, people by name."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    known = {
        "abstract",
        "authors",
        "cff-version",
        "commit",
        "contact",
        "date-released",
        "doi",
        "identifiers",
        "keywords",
        "license",
    }
    known |= {
        "license-url",
        "message",
        "preferred-citation",
        "references",
        "repository",
        "repository-code",
        "title",
        "type",
        "url",
    }
    assert set(citation) <= known | {"version", "repository-artifact"}
    assert {"authors", "cff-version", "message", "title"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert citation["license"] == PROJECT["license"]
    for work in (citation, *citation["references"]):
        assert work["title"]
        assert all(set(one) == {"name"} or {"family-names", "given-names"} <= set(one) for one in work["authors"])
    assert {"type", "journal", "year"} <= set(citation["references"][0])


def test_the_bioconda_recipe_says_what_the_project_says():
    text = (ROOT / "release/bioconda/meta.yaml").read_text()
    values = dict(re.findall(r'^{% set (\w+) = "(.*)" %}$', text, re.M)) | {"PYTHON": "python"}
    text = re.sub(r"^{%.*%}$", "", text, flags=re.M)
    text = re.sub(r"{{ (\w+) }}", lambda found: values[found[1]], text)
    recipe = yaml.safe_load(re.sub(r"{{ (pin_subpackage\(.*\)) }}", "pinned", text))
    assert recipe["package"] == {"name": PROJECT["name"], "version": PROJECT["version"]}
    assert recipe["build"]["entry_points"] == [f"{name} = {call}" for name, call in PROJECT["scripts"].items()]
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    folder = (ROOT / "release/bioconda" / recipe["source"]["path"]).resolve()
    assert (folder / "pyproject.toml").is_file()
    assert (folder / recipe["about"]["license_file"]).is_file()
    conda_names = {"tensorflow-cpu": "tensorflow", "matplotlib": "matplotlib-base", "msgpack": "msgpack-python"}
    extras = PROJECT["optional-dependencies"]
    wanted = set(PROJECT["dependencies"]).union(
        *(extras[one] for one in ("prepare", "simulate", "learn", "match", "report", "export"))
    )
    wanted = {re.sub(r"(?<=\w)(?=[<>])", " ", conda_names.get(one, one)) for one in wanted}
    python = f"python {PROJECT['requires-python']}"
    assert set(recipe["requirements"]["run"]) == wanted | {python}
    assert python in recipe["requirements"]["host"]


JOB_KEYS = {
    "name",
    "needs",
    "if",
    "runs-on",
    "permissions",
    "env",
    "timeout-minutes",
    "strategy",
    "steps",
    "defaults",
    "concurrency",
}
STEP_KEYS = {
    "id",
    "if",
    "name",
    "uses",
    "run",
    "with",
    "env",
    "shell",
    "working-directory",
    "continue-on-error",
    "timeout-minutes",
}
EVENTS = {"push", "pull_request", "workflow_dispatch", "schedule"}


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_file_has_the_forges_syntax(path):
    workflow = yaml.safe_load(path.read_text())
    triggers = workflow.pop(True)  # YAML 1.1 reads `on` as true
    assert set(triggers) <= EVENTS
    assert set(workflow) <= {"name", "permissions", "concurrency", "env", "defaults", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name, job in workflow["jobs"].items():
        assert re.fullmatch(r"[a-z_-]+", name)
        assert set(job) <= JOB_KEYS, name
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job), name
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= set(workflow["jobs"])
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS, step
            assert ("uses" in step) != ("run" in step), step
            assert "with" not in step or "uses" in step, step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")), step
            # What a stranger may choose (a branch's name, a title) reaches a shell by its environment alone.
            assert "${{" not in step.get("run", ""), step
            checked = subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, capture_output=True, check=False)
            assert checked.returncode == 0, checked.stderr
            called = set(re.findall(r"\bmake ([a-z-]+)", step.get("run", "")))
            assert called <= targets, f"no such target: {called - targets}"
            for script in re.findall(r"\b[\w./-]+\.(?:py|sh)\b", step.get("run", "")):
                assert (ROOT / script).is_file(), script


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Wheel and sdist, made as `make dist` makes them: their paths."""
    folder = tmp_path_factory.mktemp("dist")
    build = [UV, "build", "-q", "--no-build-isolation", "--python", ROOT / ".venv/bin/python", "-o", folder, ROOT / "python"]
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.long
def test_the_wheel_holds_every_file_of_the_package_its_licence_and_readme(dist):
    source = ROOT / "python/src"
    expected = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not any(part.endswith(".egg-info") for part in path.parts)
    }
    with zipfile.ZipFile(dist[0]) as wheel:
        held = set(wheel.namelist())
        described = wheel.read(next(one for one in held if one.endswith("METADATA"))).decode()
    assert {one for one in held if ".dist-info/" not in one} == expected
    assert any(one.endswith("licenses/LICENSE") for one in held)
    assert (ROOT / "python/README.md").read_text().strip() in described
    assert (ROOT / "python/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def environment_with(folder: Path, what: str) -> Path:
    """An empty environment with this installed and what it asks for, at the locked versions: its command."""
    subprocess.run([UV, "venv", "-q", "--python", ROOT / ".venv/bin/python", folder], check=True)
    locked = ["-c", ROOT / "python/requirements.lock"]
    subprocess.run([UV, "pip", "install", "-q", "--python", folder / "bin/python", *locked, what], check=True)
    return folder / "bin/template-learning"


def run(command: list[str | Path], folder: Path) -> str:
    """What a command says in an environment that knows nothing of this clone; it must succeed."""
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": os.environ.get("TMPDIR", "/tmp"), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_wheel_in_an_empty_environment_simulates_a_tilt_series(dist, tmp_path):
    command = environment_with(tmp_path / "empty", f"{dist[0]}[simulate]")
    assert "simulate" in run([command, "--help"], tmp_path)
    position = np.random.default_rng(1).normal(0, 15, (200, 3)).astype(np.float32)
    np.savez(tmp_path / "ball.npz", position_angstrom=position, element=np.full(200, 6, np.uint8))
    columns = {"molecule": "ball", "species": "ball", "role": "template", "class_id": 1, "share": 1, "mass_dalton": 2400}
    columns |= {"atom_count": 200, "density": "none", "atoms": "ball.npz"}
    write_row(tmp_path / "library.csv", columns)
    place = {"particle": 1, "molecule": "ball", "x_angstrom": 60, "y_angstrom": 60, "z_angstrom": 40}
    write_row(tmp_path / "t1.placed.csv", place | {"rot_deg": 0, "tilt_deg": 0, "psi_deg": 0})
    (tmp_path / "t1.placed.csv.json").write_text(json.dumps({"shape_voxels": [8, 12, 12], "voxel_size_angstrom": 10.0}))
    row = {"id": "t1", "total_dose_e_per_angstrom2": 100, "defocus_um": -3, "tilt_range_deg": 20, "tilt_step_deg": 20}
    (tmp_path / "row.json").write_text(json.dumps(row | {"ice_density_g_per_cm3": 0.94}))
    (tmp_path / "settings.json").write_text(json.dumps({"pixel_size_angstrom": 10.0}))
    inputs = ["--placed", "t1.placed.csv", "--library", ".", "--row", "row.json", "--settings", "settings.json"]
    run([command, "simulate", *inputs, "--output", "out"], tmp_path)
    assert (tmp_path / "out/t1.tlt").read_text().split() == ["-20.00", "0.00", "20.00"]
    versions = json.loads((tmp_path / "out/t1.tilts.mrc.json").read_text())["versions"]
    assert versions["template-learning"] == PROJECT["version"]


def write_row(path: Path, columns: dict[str, object]) -> None:
    path.write_text(",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n")


@pytest.mark.long
def test_the_sdist_installs_and_says_what_it_can(dist, tmp_path):
    command = environment_with(tmp_path / "empty", str(dist[1]))
    assert "report" in run([command, "--help"], tmp_path)
