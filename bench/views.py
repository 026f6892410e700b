"""How much signal a nucleosome gives in Parakeet's tilt series, by the angle of its disc's axis with the beam.

The measure is that of a filter that knows all: the squared contrast of a lone molecule's noise-free images, between two
periods, summed over pixels and tilts and divided by the variance of counting.  Other molecules and the ice's grain are
left out.  It says which views any method will find less often, template matching or network.
"""

from dataclasses import replace

import numpy as np
from harness import SHARED, Figure, report
from numpy.typing import NDArray
from scenes import REFERENCE, SEED, SIDE_DEG, TOP_DEG
from scipy.spatial.transform import Rotation
from template_learning.common.geometry import random_rotations
from template_learning.common.provenance import generator_for
from template_learning.labelling.labels import molecule_axis
from template_learning.simulation.acquisition import Acquisition
from template_learning.simulation.multislice import Engine
from template_learning.simulation.parakeet_config import parakeet_acquisition, parakeet_engine, read_parakeet_config
from template_learning.structures.structure import read_structure

PERIODS_ANGSTROM = (16.0, 200.0)
"""Two voxels of 8 Å, and what reaches beyond a molecule's own place."""
BINNING = 4
PIXELS = 96
ORIENTATIONS = 80
FIGURES = {
    "top_views": Figure(f"orientations drawn whose axis is within {TOP_DEG:g} degrees of the beam"),
    "side_views": Figure(f"orientations drawn whose axis is {SIDE_DEG:g} degrees or more from it"),
    "signal_to_noise_of_top_views_at_15": Figure(
        "what the filter sees of a top view in a series of 15 e/Å^2, standard deviations"
    ),
    "signal_to_noise_of_side_views_at_15": Figure("the same of a side view"),
    "signal_of_top_views_to_side_views": Figure("squared signal to noise of a top view over a side view's"),
}


def engine_of_one(name: str) -> tuple[Engine, Acquisition, NDArray[np.float64], NDArray[np.float64]]:
    """The native engine with Parakeet's configuration and one molecule at its centre, the tilts with their changes of
    defocus, and the molecule's axis."""
    file = REFERENCE / "config.yaml"
    config = read_parakeet_config(file)
    acquisition, defocus_offset = parakeet_acquisition(config)
    engine = parakeet_engine(config, file.parent, SHARED / "structures", BINNING)
    structure = read_structure(SHARED / "structures" / "nucleosome" / f"{name}.cif.gz")
    sample = replace(
        engine.sample, atoms=[structure.atoms.bare()], kind=np.zeros(1, np.int64), position_angstrom=np.zeros((1, 3))
    )
    lone = replace(engine, sample=sample, shape=(PIXELS, PIXELS), centre_pixel=None, propagation="projection")
    return lone, acquisition, defocus_offset, molecule_axis(structure.position_angstrom)


def signal(engine: Engine, acquisition: Acquisition, defocus_offset: NDArray[np.float64], rotation: Rotation) -> float:
    """Squared signal to noise of the molecule so turned, for each e/Å^2 of the series."""
    turned = replace(engine, sample=replace(engine.sample, rotation=rotation.as_matrix()[None]))
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PIXELS, engine.pixel_angstrom)] * 2))
    short, long = PERIODS_ANGSTROM
    band = (frequency < 1 / short) & (frequency > 1 / long)
    total = 0.0
    for angle, dose, offset in zip(acquisition.angle_deg, acquisition.dose_at_end, defocus_offset, strict=True):
        image = turned.image(turned.intensity(*turned.exit_wave(angle, dose, None), offset))
        power = np.abs(np.fft.fft2(image)[band]) ** 2 / image.size
        total += float(power.sum()) * engine.pixel_angstrom**2 / float(image.mean())
    return total / len(acquisition.angle_deg)


def main() -> None:
    """Top views beside side views, and report."""
    engine, acquisition, defocus_offset, axis = engine_of_one("2pyo")
    rotations = random_rotations(ORIENTATIONS, generator_for(SEED, "views", "2pyo"))
    angle = np.rad2deg(np.arccos(np.abs(rotations.apply(axis)[:, 2])))
    chosen = (angle < TOP_DEG) | (angle >= SIDE_DEG)
    power = np.array([signal(engine, acquisition, defocus_offset, one) for one in rotations[chosen]])
    top = angle[chosen] < TOP_DEG
    figures = {
        "top_views": int(top.sum()),
        "side_views": int((~top).sum()),
        "signal_to_noise_of_top_views_at_15": float(np.sqrt(15 * power[top].mean())),
        "signal_to_noise_of_side_views_at_15": float(np.sqrt(15 * power[~top].mean())),
        "signal_of_top_views_to_side_views": float(power[top].mean() / power[~top].mean()),
    }
    report("views", figures, FIGURES, "a filter that knows the molecule, its place and its orientation")


if __name__ == "__main__":
    main()
