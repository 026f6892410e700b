"""RECONSTRUCT beside IMOD's tilt: agreement on a reference tomogram, and time.

tilt is timed where it is on the PATH, file to file on one thread; otherwise its time comes from
bench/reference/imod_tilt.json.  Ours is timed file to file too, on all cores, without the start of Python.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from harness import ROOT, SHARED, report
from template_learning.files import read_mrc, write_mrc
from template_learning.reconstruction.native import back_project
from template_learning.reconstruction.tomogram import read_angles

PROBLEMS = {"": (41, 256, 128), "_paper_size": (61, 480, 160)}
REPEATS = 5


def shortest(work: Callable[[], object]) -> float:
    """The shortest of several times in seconds."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def timed(folder: Path, views: int, width: int, depth: int) -> tuple[float, float | None, float | None]:
    """Seconds of ours, of tilt by default and of tilt without cosine stretching (None without tilt)."""
    series, angles = folder / "series.mrc", folder / "angles.tlt"
    images = np.random.default_rng(1).standard_normal((views, width, width)).astype(np.float32) + 10
    write_mrc(series, images, 8.0, stack=True)
    angles.write_text("".join(f"{angle}\n" for angle in np.linspace(-60, 60, views)))

    def ours() -> None:
        volume = back_project(read_mrc(series)[0], read_angles(angles), (depth, width, width))
        write_mrc(folder / "ours.mrc", volume, 8.0)

    def tilt(*more: str) -> None:
        command = ["tilt", "-InputProjections", str(series), "-OutputFile", str(folder / "imod.rec"), "-TILTFILE", str(angles)]
        command += ["-THICKNESS", str(depth), "-RADIAL", "0.5,0.5", "-MODE", "2", "-PERPENDICULAR", *more]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    ours()
    if shutil.which("tilt") is None:
        return shortest(ours), None, None
    return shortest(ours), shortest(tilt), shortest(lambda: tilt("-COSINTERP", "0"))


def main() -> None:
    """Measure and report."""
    figures: dict[str, float] = {}
    reference = SHARED / "imod_reference"
    if reference.is_dir():
        series, _ = read_mrc(reference / "series_8A.mrc.gz")
        for name, file in (("cc_imod", "tomogram_cosinterp0"), ("cc_imod_cosine_stretched", "tomogram_default")):
            expected, _ = read_mrc(reference / f"{file}.mrc.gz")
            found = back_project(series.astype(np.float32), read_angles(reference / "tilts.tlt"), expected.shape)
            figures[name] = float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
    time_of = "tilt on the PATH, one thread, this run"
    with TemporaryDirectory() as folder:
        for suffix, (views, width, depth) in PROBLEMS.items():
            ours, default, plain = timed(Path(folder), views, width, depth)
            figures[f"seconds{suffix}"] = ours
            if default is None and not suffix:
                recorded = json.loads((ROOT / "bench/reference/imod_tilt.json").read_text())
                default, plain = min(recorded["seconds_default"]), min(recorded["seconds_cosinterp_0"])
                time_of = f"{recorded['program']}; {recorded['origin']}"
            if default is not None and plain is not None:
                figures[f"time_ratio_imod{suffix}"] = ours / default
                figures[f"time_ratio_imod_plain{suffix}"] = ours / plain
    goals = {"cc_imod": ">= 0.999", "time_ratio_imod": "<= 0.6"}
    report("reconstruct", figures, goals, "IMOD 4.8.2 tilt", peer_time=time_of)


if __name__ == "__main__":
    main()
