"""With the images there, a run needs no network: it pulls and downloads nothing."""

import pytest

from ..runs import few_structures_in

pytestmark = pytest.mark.long
NO_NETWORK = ("unshare", "--user", "--map-current-user", "--net", "--")


def test_a_run_without_any_network(account):
    routes = account.call(*NO_NETWORK, "cat", "/proc/net/route").stdout
    assert routes.splitlines()[1:] == [], "the test itself: there is a network in here"
    pipeline = account.pipeline("offline", prefix=NO_NETWORK)
    (pipeline.folder / "structures").mkdir()
    structures = few_structures_in(pipeline.folder / "structures")
    run = pipeline.run(
        "-profile", "apptainer,demo", "-params-file", "../clone/tests/data/tiny.yml", "--design.tomograms", "1",
        "--design.test_tomograms", "0", "--design.validation_tomograms", "0", "--stop_after", "label", *structures,
    )  # fmt: skip
    assert run.status == 0, run.printed
    assert len([name for name in run.tasks("COMPLETED") if name.startswith("LABEL")]) == 1
    log = (pipeline.folder / ".nextflow.log").read_text()
    assert "Pulling" not in log
    assert "Downloading" not in log
    jobs = [path.read_text() for path in (pipeline.folder / "work").glob("*/*/.command.run")]
    assert jobs
    assert all("apptainer exec" in job for job in jobs)


def test_images_need_neither_root_nor_network_nor_a_home(account):
    contained = (*NO_NETWORK, "apptainer", "-q", "exec", "--containall", "--no-home")
    for image in sorted((account.clone / "build/containers").glob("*.sif")):
        assert "tetris" in account.call(*contained, str(image), "template-learning", "--help").stdout, image
        assert account.call(*contained, str(image), "id", "-u").stdout.strip() != "0"
