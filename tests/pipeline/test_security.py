"""Nothing that a user names is run by a shell, and nothing secret gets into what a run leaves behind."""

import shutil

import pytest

from ..runs import ROOT

HOSTILE = ["$(touch pwned)", "x'; touch pwned; '", "x\ntouch${IFS}pwned\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_stops_the_run_and_runs_nothing(pipeline, name):
    folder = pipeline.folder / "inputs"
    folder.mkdir()
    shutil.copy(ROOT / "data/demo/distractors/3qm1.cif.gz", folder / f"{name}.cif.gz")
    run = pipeline.run("-profile", "demo", "-stub", "--distractors", f"{folder}/*.cif.gz")
    assert run.status != 0
    assert "not allowed in a path" in run.printed
    assert not list(pipeline.folder.rglob("pwned"))


@pytest.mark.parametrize("name", ["a b{touch,pwned}", "a..b"])
def test_hostile_names_in_earlier_results_stop_the_run_and_run_nothing(pipeline, name):
    results = pipeline.folder / "earlier"
    (results / "simulate").mkdir(parents=True)
    for ending in (".tilts.mrc", ".tilts.mrc.json", ".tlt"):
        (results / f"simulate/{name}{ending}").touch()
    run = pipeline.run("-stub", "--start_at", "reconstruct", "--stop_after", "reconstruct", "--from_results", str(results))
    assert run.status != 0
    assert "only letters, digits" in run.printed
    assert not list(pipeline.folder.rglob("pwned"))


def test_odd_but_harmless_names_work(pipeline):
    folder = pipeline.folder / "Smith & O'Neil; (own) inputs"
    folder.mkdir()
    for kind, name in (("templates", "7pex"), ("distractors", "3qm1")):
        shutil.copy(ROOT / f"data/demo/{kind}/{name}.cif.gz", folder / f"{name} (1) #2.cif.gz")
        (folder / f"{kind}.csv").write_text(f"id,path\n{name},{name} (1) #2.cif.gz\n")
    run = pipeline.run(
        "-profile", "demo", "--flex.conformers", "1", "--stop_after", "volume",
        "--templates", str(folder / "templates.csv"), "--distractors", str(folder / "distractors.csv"),
    )  # fmt: skip
    assert run.status == 0, run.printed
    assert (run.outdir / "volume/7pex/library.csv").is_file()


def test_no_secret_of_the_environment_is_written_down(pipeline, monkeypatch):
    secret = "sekret-7f3a91"
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DOCKER_PASSWORD"):
        monkeypatch.setenv(name, secret)
    run = pipeline.run("-profile", "demo", "-stub", "--stop_after", "design")
    assert run.status == 0, run.printed
    assert secret not in run.printed
    written = [path for path in pipeline.folder.rglob("*") if path.is_file()]
    assert any(path.name == ".nextflow.log" for path in written)
    assert [path for path in written if secret.encode() in path.read_bytes()] == []
