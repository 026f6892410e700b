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
from harness import ROOT, SHARED, Figure, report
from numpy.typing import NDArray
from template_learning.common.mrc import read_mrc, write_mrc
from template_learning.reconstruction.back_projection import back_project
from template_learning.stages.reconstruct import read_angles

PROBLEMS = {"": (41, 256, 128), "_paper_size": (61, 480, 160)}
REPEATS = 5
SIZES = {
    name: f"{views} views of {width} x {width} pixels to {width} x {width} x {depth} voxels"
    for name, (views, width, depth) in PROBLEMS.items()
}
FIGURES = {
    "cc_imod": Figure("correlation with IMOD's tomogram of the reference series, plain linear interpolation", ">= 0.999"),
    "cc_imod_cosine_stretched": Figure("the same with tilt's default, cosine stretching"),
    **{f"seconds{name}": Figure(f"ours, file to file, all processors: {size}") for name, size in SIZES.items()},
    **{
        f"time_ratio_imod{name}": Figure(f"our seconds over tilt's: {size}", "" if name else "<= 0.6")
        for name, size in SIZES.items()
    },
    **{f"time_ratio_imod_plain{name}": Figure("the same over tilt's without cosine stretching") for name in SIZES},
    **{f"processor_ratio_imod{name}": Figure("processor seconds of ours over tilt's") for name in SIZES},
}


def shortest(work: Callable[[], object]) -> NDArray[np.float64]:
    """The shortest of several times in seconds: on the wall, and of all processors together."""
    times = []
    for _ in range(REPEATS):
        begun, used = time.perf_counter(), os.times()
        work()
        now = os.times()
        times.append((time.perf_counter() - begun, sum(now[:4]) - sum(used[:4])))
    return np.min(times, axis=0)


def timed(folder: Path, views: int, width: int, depth: int) -> list[NDArray[np.float64]]:
    """Times of ours and, where there is one, of tilt by default and without cosine stretching."""
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
    works = [ours, tilt, lambda: tilt("-COSINTERP", "0")] if shutil.which("tilt") else [ours]
    return [shortest(work) for work in works]


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
            ours, *theirs = timed(Path(folder), views, width, depth)
            figures[f"seconds{suffix}"] = ours[0]
            if theirs:
                figures[f"time_ratio_imod{suffix}"] = ours[0] / theirs[0][0]
                figures[f"time_ratio_imod_plain{suffix}"] = ours[0] / theirs[1][0]
                figures[f"processor_ratio_imod{suffix}"] = ours[1] / theirs[0][1]
            elif not suffix:
                recorded = json.loads((ROOT / "bench/reference/imod_tilt.json").read_text())
                figures["time_ratio_imod"] = ours[0] / min(recorded["seconds_default"])
                figures["time_ratio_imod_plain"] = ours[0] / min(recorded["seconds_cosinterp_0"])
                time_of = f"{recorded['program']}; {recorded['origin']}"
    report("reconstruct", figures, FIGURES, "IMOD 4.8.2 tilt", peer_time=time_of)


if __name__ == "__main__":
    main()
