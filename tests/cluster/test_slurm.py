"""The pipeline as jobs of a real Slurm, in Apptainer images, by an ordinary user."""

import json
import time
from pathlib import Path

import mrcfile
import pytest

from ..runs import assert_same_results, few_structures_in

pytestmark = pytest.mark.long
# The first are a test's own: this Slurm answers at once.
TINY = (
    "-c", "quick.config", "-profile", "slurm,apptainer,demo",
    "-params-file", "../clone/tests/data/tiny.yml", "--job_array_size", "2",
)  # fmt: skip
QUICK = "executor { pollInterval = '1s'; queueStatInterval = '2s' }\n"


@pytest.fixture(scope="module")
def structures(account):
    folder = account.folder / "structures"
    folder.mkdir()
    return few_structures_in(folder)


@pytest.fixture
def new_pipeline(slurm):
    """Makes a pipeline that runs under Slurm in a folder of this name."""
    return lambda name: quick(slurm.pipeline(name))


def quick(pipeline):
    (pipeline.folder / "quick.config").write_text(QUICK)
    return pipeline


def written_jobs(folder: Path) -> list[str]:
    """What Nextflow handed to sbatch, one text a job."""
    return [path.read_text() for path in (folder / "work").glob("*/*/.command.run")]


def test_killed_under_slurm_and_resumed_is_the_same_as_undisturbed(slurm, structures, new_pipeline):
    undisturbed = new_pipeline("undisturbed")
    expected = undisturbed.run(*TINY, *structures)
    assert expected.status == 0, expected.printed
    assert expected.tasks("FAILED") == []
    jobs = written_jobs(undisturbed.folder)
    assert any("#SBATCH --array 0-1" in job for job in jobs)
    contained = [job for job in jobs if "apptainer exec" in job]
    assert len(contained) >= len(expected.tasks("COMPLETED"))
    assert all(f"{slurm.clone}/build/containers/" in job for job in contained)
    assert not any(".venv" in job for job in jobs)

    killed = new_pipeline("killed")
    killed.kill_during("simulate", *TINY, *structures)
    slurm.call("scancel", "--user", slurm.name)
    time.sleep(1.0)
    run = killed.run(*TINY, *structures, "-resume")
    assert run.status == 0, run.printed
    done_before = run.tasks("CACHED")
    assert any(name.startswith("TETRIS") for name in done_before)
    assert not any(name.startswith("TRAIN") for name in done_before)
    assert_same_results(run.outdir, expected.outdir)


def test_a_gpu_that_is_asked_for_reaches_the_container(slurm, new_pipeline):
    pipeline = new_pipeline("gpu")
    pipeline.main = slurm.clone / "tests/cluster/probe"
    run = pipeline.run("-c", "quick.config", "-profile", "slurm,apptainer,gpu", "--image", str(slurm.image("tetris")))
    assert run.status == 0, run.printed
    lines = [line for line in run.printed.splitlines() if line.startswith("task")]
    assert len(lines) == 3
    for line in lines:
        assert "threads 2 gpus 0" in line or "threads 2 gpus 1" in line
    assert all("#SBATCH --gres=gpu:1" in job for job in written_jobs(pipeline.folder))


def test_parakeet_simulates_two_nucleosomes_in_its_image(slurm, structures, new_pipeline):
    pipeline = new_pipeline("parakeet")
    settings = {
        "flex": {"conformers": 1, "modes": 8},
        "design": {
            "scheme": "sobol",
            "tomograms": 1,
            "validation_tomograms": 0,
            "test_tomograms": 0,
            "total_dose_e_per_angstrom2": [100.0],
            "tilt_step_deg": [40.0],
            "tilt_range_deg": [40.0],
            "defocus_um": [-3.0],
        },
        "tetris": {"shape_voxels": [24, 24, 24], "distractors_per_template": 0.0, "stop_at": {"templates": 2}},
        "simulate": {"engine": "parakeet"},
        "reconstruct": {"voxel_size_angstrom": 16.0},
        "stop_after": "reconstruct",
    }
    (pipeline.folder / "run.json").write_text(json.dumps(settings))
    run = pipeline.run("-c", "quick.config", "-profile", "slurm,apptainer,demo", "-params-file", "run.json", *structures)
    assert run.status == 0, run.printed
    jobs = [job for job in written_jobs(pipeline.folder) if "SIMULATE" in job]
    assert any(f"{slurm.image('parakeet')} " in job for job in jobs)
    placed = (run.outdir / "tetris/t001.placed.csv").read_text().splitlines()
    assert len(placed) == 1 + 2
    tilts = mrcfile.read(run.outdir / "simulate/t001.tilts.mrc")
    assert tilts.shape[0] == 3
    assert tilts.std() > 0
    facts = (run.outdir / "simulate/t001.tilts.mrc.json").read_text()
    assert '"engine": "parakeet"' in facts
    assert mrcfile.read(run.outdir / "reconstruct/t001.mrc").std() > 0
    print(run.record("trace").read_text())
