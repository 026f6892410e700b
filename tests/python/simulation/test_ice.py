"""Ice: its noise, and the path through it."""

import numpy as np
import pytest
from template_learning.common.geometry import tilt_matrix
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.potential import Sample
from template_learning.simulation.scattering import physical_scattering

from ..builders import engine_of


def test_grain_has_the_power_that_was_asked_for() -> None:
    empty = Sample([], np.zeros(0, np.int64), np.zeros((0, 3, 3)), np.zeros((0, 3)), Slab(500.0))
    engine = engine_of(empty, scattering=physical_scattering(), shape=(128, 128))
    power = []
    for seed in range(4):
        wave, _ = engine.exit_wave(60.0, 0.0, np.random.default_rng(seed))
        power.append(np.abs(np.fft.fft2(np.angle(wave))) ** 2)
    measured = np.mean(power) / wave.size * engine.working_pixel_angstrom**2
    frequency = np.sqrt(engine.grid.frequency_squared)
    expected = engine.phase_per_volt_angstrom**2 * 1000.0 * physical_scattering().solvent_noise_power(frequency).mean()
    # half of the propagated grating's power is phase, but at the exit plane (the axis's plane here) all of it is
    assert measured == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("tilt", [0.0, 17.0, -60.0, 90.0])
def test_path_through_a_cuboid(tilt: float) -> None:
    ice = Cuboid((300.0, 200.0, 120.0), (2.0, -3.0))
    u, v = np.arange(-220.0, 220.0, 4.0), np.arange(-140.0, 140.0, 4.0)
    w = np.arange(-250.0, 250.0, 0.5)
    points = np.stack(np.meshgrid(u - 2.0, w, indexing="ij"), axis=-1)
    matrix = tilt_matrix(tilt).T  # back to the sample's frame
    x = points[..., 0] * matrix[0, 0] + points[..., 1] * matrix[0, 2]
    z = points[..., 0] * matrix[2, 0] + points[..., 1] * matrix[2, 2]
    inside = (np.abs(x) < 150.0) & (np.abs(z) < 60.0) & (points[..., 1] > -30.0) & (points[..., 1] < 80.0)
    path = ice.path_between(tilt, u, v, -30.0, 80.0)
    row = path[np.argmin(np.abs(v))]
    np.testing.assert_allclose(row, 0.5 * inside.sum(axis=1), atol=60.0)  # edges lie within a pixel
    assert np.abs(row - 0.5 * inside.sum(axis=1)).mean() < 1.5
    assert path[np.abs(v + 3.0) > 104.0].max() == 0
