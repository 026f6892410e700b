"""The simulator's physics: potentials, propagation, transfer function, ice, detector, doses, senses of the axes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.device import CPU
from template_learning.common.geometry import tilt_matrix
from template_learning.simulation import multislice as native
from template_learning.simulation.acquisition import acquire, tilt_angles
from template_learning.simulation.detector import count_electrons, detector_pass
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.multislice import Engine, Screen
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.physics import (
    VOLT_ANGSTROM2,
    interaction_radian_per_volt_angstrom,
    scattering_factor,
    wavelength_angstrom,
)
from template_learning.simulation.potential import Sample, deposit, deposit_shadow, element_channels, point_cloud
from template_learning.simulation.scattering import atom_radius_angstrom, cored_factor, parakeet_matter, physical_matter

from ..strict_device import STRICT, DeviceArray

VACUUM = replace(physical_matter(), ice_volt=0.0)


def sample_of(position, element, ice=None, centre=(0.0, 0.0, 0.0)) -> Sample:
    return Sample(
        atoms=[(np.array(position, np.float32).reshape(-1, 3), np.array(element, np.uint8))],
        kind=np.zeros(1, np.int64),
        rotation=np.eye(3)[None],
        position_angstrom=np.array([centre], dtype=float),
        ice=ice or Slab(200.0),
    )


def engine_of(sample: Sample, **changes) -> Engine:
    given_values = {
        "sample": sample,
        "matter": VACUUM,
        "lens": Lens(defocus_angstrom=-10000.0),
        "shape": (64, 64),
        "pixel_angstrom": 4.0,
        "padding_angstrom": 0.0,
        "damage_angstrom2_per_dose": 0.0,
    }
    return Engine(**{**given_values, **changes})


def blob(generator: np.random.Generator, radius: float, count: int = 300) -> np.ndarray:
    return generator.normal(size=(count, 3)) * radius


def test_electron_constants() -> None:
    # Kirkland 2010, tables of wavelength and interaction
    assert wavelength_angstrom(300.0) == pytest.approx(0.0196875, rel=1e-5)
    assert wavelength_angstrom(200.0) == pytest.approx(0.0250793, rel=1e-5)
    assert interaction_radian_per_volt_angstrom(300.0) == pytest.approx(6.5262e-4, rel=1e-4)
    assert pytest.approx(47.878, rel=1e-4) == VOLT_ANGSTROM2
    assert physical_matter(0.91).ice_volt == pytest.approx(4.43, abs=0.01)


@pytest.mark.parametrize("element", [6, 8, 15])
def test_potential_of_one_atom_is_its_closed_form(element: int) -> None:
    """Phase of the exit wave against the five Gaussians of the table, broadened by a displacement of 1 Å^2."""
    at = np.array([1.3, -2.1])
    engine = engine_of(sample_of([(*at, 0.0)], [element]), shape=(48, 48), pixel_angstrom=1.0, damage_angstrom2_per_dose=0.1)
    wave, _ = engine.exit_wave(0.0, 10.0, None)
    x, y = engine.axes_angstrom
    square = (x[None, :] - at[0]) ** 2 + (y[:, None] - at[1]) ** 2
    import gemmi

    table = gemmi.Element(element).c4322
    width = np.array(table.b) + 8 * np.pi**2 * 1.0
    volt_angstrom = VOLT_ANGSTROM2 * sum(
        a * 4 * np.pi / b * np.exp(-4 * np.pi**2 * square / b) for a, b in zip(table.a, width, strict=True)
    )
    expected = interaction_radian_per_volt_angstrom(300.0) * volt_angstrom
    # The channels hold the factors to 0.6 %; with one element they hold them exactly.
    np.testing.assert_allclose(np.angle(wave), expected, atol=2e-3 * expected.max())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(x=st.floats(-60, 60), y=st.floats(-60, 60), tilt=st.floats(-70, 70), element=st.sampled_from([6, 7, 8, 16]))
def test_the_phase_of_an_atom_sums_to_its_scattering_factor(x: float, y: float, tilt: float, element: int) -> None:
    engine = engine_of(sample_of([(x, y, 0.0)], [element]), propagation="projection", damage_angstrom2_per_dose=1.0)
    wave, _ = engine.exit_wave(tilt, 4.0, None)
    total = np.angle(wave).sum() * engine.working_pixel_angstrom**2
    expected = engine.phase_per_volt_angstrom * VOLT_ANGSTROM2 * scattering_factor(element, np.zeros(1))[0]
    assert total == pytest.approx(expected, rel=2e-3)


def test_channels_hold_the_scattering_factors() -> None:
    count = {1: 300, 6: 5000, 7: 1400, 8: 1500, 15: 80, 16: 40, 30: 2}
    channels = element_channels(count, physical_matter(), 0.2)
    frequency = channels.frequency
    error = norm = 0.0
    for element, number in count.items():
        exact = scattering_factor(element, frequency)
        error += number * ((channels.weight[element] @ channels.factor - exact) ** 2).sum()
        norm += number * (exact**2).sum()
    assert np.sqrt(error / norm) < 0.006
    assert len(channels.factor) <= 3
    assert channels.weight[1][0] == 0
    assert all(channels.weight[element][0] == 1 for element in count if element > 1)


def test_deposit_against_an_independent_one() -> None:
    generator = np.random.default_rng(1)
    position = generator.uniform(-20, 20, (200, 3)).astype(np.float32)
    weight = generator.normal(size=(200, 2)).astype(np.float32)
    rotation = tilt_matrix(25.0).astype(np.float32)[None]
    shift = np.array([[15.0, 12.0, 1.5]], np.float32)
    rotation[:, 2] /= 10
    slabs = np.zeros((4, 2, 24, 32), np.float32)
    deposit(slabs, position, weight, np.array([0, 200]), np.zeros(1, np.int64), rotation, shift)
    expected = np.zeros_like(slabs)
    for point, value in zip(position @ rotation[0].T + shift[0], weight, strict=True):
        (x, y), slab = np.round(point[:2]).astype(int), int(np.round(point[2]))
        if not (1 <= point[0] < 30 and 1 <= point[1] < 22 and -0.5 <= point[2] < 3.5):
            continue
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                share = spline(abs(y + row - point[1])) * spline(abs(x + column - point[0]))
                expected[slab, :, y + row, x + column] += value * share
    np.testing.assert_allclose(slabs, expected, atol=2e-5)


def spline(distance: float) -> float:
    """The quadratic B-spline."""
    return 0.75 - distance**2 if distance < 0.5 else 0.5 * max(0.0, 1.5 - distance) ** 2


def test_what_a_molecule_displaces_is_a_union_of_discs() -> None:
    generator = np.random.default_rng(2)
    position = blob(generator, 8.0, 150).astype(np.float32)
    reach = generator.uniform(2.0, 2.6, 150).astype(np.float32)
    slabs = np.zeros((1, 1, 80, 80), np.float32)
    scale = np.array([[1.0, 40.0], [1.0, 40.0], [0.001, 0.0]], np.float32)
    centre = np.array([[1.2, -3.4, 0.7]], np.float32)
    radius = np.array([np.linalg.norm(position, axis=1).max()], np.float32)
    deposit_shadow(
        slabs, position, reach, radius, np.array([0, 150]), np.zeros(1, np.int64), np.eye(3, dtype=np.float32)[None], centre, scale, 1.0, 3.0
    )  # fmt: skip
    at = position + centre
    y, x = np.mgrid[-40:40, -40:40]
    expected = np.zeros((80, 80))
    for story in range(-20, 20):
        inside = np.floor(at[:, 2] / 3.0) == story
        taken = np.zeros((80, 80), bool)
        for (u, v, _), r in zip(at[inside], reach[inside], strict=True):
            taken |= (x - u) ** 2 + (y - v) ** 2 <= r**2
        expected += 3.0 * taken
    assert np.abs(slabs[0, 0] - expected).sum() < 0.01 * expected.sum()


def test_slabs_held_in_turns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(
        sample_of(blob(np.random.default_rng(3), 30.0), [6] * 300), slab_angstrom=10.0, matter=parakeet_matter(0.91, 1.0)
    )
    whole, _ = engine.exit_wave(30.0, 10.0, None)
    monkeypatch.setattr(native, "SLAB_BYTES", 3 * 128 * 128 * 4 * 4)
    parts, _ = engine.exit_wave(30.0, 10.0, None)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_image_of_a_weak_object_is_its_phase_times_the_transfer_function() -> None:
    """Zeros and sign: to first order the image's transform is -2 Im(T) times that of the phase."""
    for lens in (
        Lens(defocus_angstrom=-10000.0),
        Lens(defocus_angstrom=-3000.0, phase_shift_deg=90.0),
        Lens(defocus_angstrom=8000.0, astigmatism_angstrom=2000.0, astigmatism_deg=30.0),
    ):
        engine = engine_of(sample_of([(0.0, 0.0, 0.0)], [16]), lens=lens, damage_angstrom2_per_dose=1.0, shape=(96, 96))
        wave, distance = engine.exit_wave(0.0, 3.0, None)
        phase = np.fft.fft2(np.angle(wave))
        transform = np.fft.fft2(engine.intensity(wave, distance) - 1.0)
        expected = -2 * phase * transfer_function(lens, *engine.grid.frequencies).imag
        kept = engine.grid.frequency_squared < 0.1**2
        np.testing.assert_allclose(transform[kept], expected[kept], atol=0.03 * np.abs(expected).max())


def test_zeros_of_the_transfer_function() -> None:
    wavelength, defocus = wavelength_angstrom(300.0), 25000.0
    lens = Lens(defocus_angstrom=-defocus, spherical_aberration_mm=0.0)
    order = np.arange(1, 8)
    zeros = np.sqrt(order / (wavelength * defocus))
    between = np.sqrt((order - 0.5) / (wavelength * defocus))
    y = np.zeros(1)
    assert np.abs(transfer_function(lens, zeros, y).imag).max() < 1e-5
    signs = np.sign(transfer_function(lens, between, y).imag)
    np.testing.assert_array_equal(signs, [1, -1, 1, -1, 1, -1, 1])
    plate = replace(lens, phase_shift_deg=90.0)
    assert np.abs(transfer_function(plate, between, y).imag[2:]).max() < 1e-3  # far outside the cut-on
    assert transfer_function(plate, y, y)[0] == pytest.approx(1.0)


def test_astigmatism_turns_with_its_angle() -> None:
    lens = Lens(defocus_angstrom=-10000.0, astigmatism_angstrom=1500.0, astigmatism_deg=20.0)
    along, across = np.deg2rad(20.0), np.deg2rad(110.0)
    for angle, defocus in ((along, -8500.0), (across, -11500.0)):
        g = np.array([0.05])
        round_lens = Lens(defocus_angstrom=defocus)
        np.testing.assert_allclose(
            transfer_function(lens, g * np.cos(angle), g * np.sin(angle)), transfer_function(round_lens, g, 0 * g), rtol=1e-6
        )


@pytest.mark.parametrize("tilt", [-40.0, 0.0, 40.0])
def test_an_asymmetric_object_lies_where_the_convention_puts_it(tilt: float) -> None:
    """u = x cos t + z sin t, v = y, from the image's middle; matter is dark in underfocus."""
    generator = np.random.default_rng(4)
    places = np.array([(60.0, 20.0, 50.0), (-40.0, -60.0, 10.0), (10.0, 70.0, -60.0)])
    for place in places:
        sample = sample_of(blob(generator, 6.0), [6] * 300, centre=place)
        engine = engine_of(sample, shape=(80, 80), lens=Lens(defocus_angstrom=-4000.0, phase_shift_deg=90.0))
        wave, distance = engine.exit_wave(tilt, 0.0, None)
        image = engine.image(engine.intensity(wave, distance))
        dark = np.clip(1 - image - 0.3 * (1 - image.min()), 0, None)
        rows, columns = np.mgrid[:80, :80]
        u, v = ((axis * dark).sum() / dark.sum() * 4.0 - 79 / 2 * 4.0 for axis in (columns, rows))
        cosine, sine = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        assert u == pytest.approx(place[0] * cosine + place[2] * sine, abs=2.0)
        assert v == pytest.approx(place[1], abs=2.0)


def test_depth_is_defocus() -> None:
    """A molecule displaced along the beam looks like one at the centre with another defocus."""
    points = blob(np.random.default_rng(5), 8.0)
    image = []
    for depth, defocus in ((300.0, -10000.0), (0.0, -10300.0)):
        engine = engine_of(sample_of(points, [6] * 300, centre=(0, 0, depth)), lens=Lens(defocus_angstrom=defocus))
        image.append(engine.image(engine.intensity(*engine.exit_wave(0.0, 0.0, None))))
    assert np.abs(image[0] - image[1]).max() < 0.02 * np.ptp(image[0])


def test_projection_and_multislice_agree_for_a_thin_sample() -> None:
    sample = sample_of(blob(np.random.default_rng(6), 10.0), [6] * 300)
    one, many = (engine_of(sample, propagation=kind, slab_angstrom=5.0) for kind in ("projection", "multislice"))
    images = [e.image(e.intensity(*e.exit_wave(20.0, 5.0, None))) for e in (one, many)]
    assert np.abs(images[0] - images[1]).max() < 0.03 * np.ptp(images[0])


def test_displaced_ice_lowers_contrast_and_damage_blurs() -> None:
    sample = sample_of(blob(np.random.default_rng(7), 12.0, 2000), [6] * 2000)
    contrast = []
    for matter, dose in ((VACUUM, 0.0), (physical_matter(), 0.0), (physical_matter(), 100.0)):
        engine = engine_of(sample, matter=matter, damage_angstrom2_per_dose=0.08)
        contrast.append(engine.image(engine.intensity(*engine.exit_wave(0.0, dose, None))).std())
    assert contrast[0] > 1.5 * contrast[1] > 1.5 * contrast[2]


def test_grain_has_the_power_that_was_asked_for() -> None:
    empty = Sample([], np.zeros(0, np.int64), np.zeros((0, 3, 3)), np.zeros((0, 3)), Slab(500.0))
    engine = engine_of(empty, matter=physical_matter(), shape=(128, 128))
    power = []
    for seed in range(4):
        wave, _ = engine.exit_wave(60.0, 0.0, np.random.default_rng(seed))
        power.append(np.abs(np.fft.fft2(np.angle(wave))) ** 2)
    measured = np.mean(power) / wave.size * engine.working_pixel_angstrom**2
    frequency = np.sqrt(engine.grid.frequency_squared)
    expected = engine.phase_per_volt_angstrom**2 * 1000.0 * physical_matter().grain_power(frequency).mean()
    # half of the propagated screen's power is phase, but at the exit plane (the axis's plane here) all of it is
    assert measured == pytest.approx(expected, rel=0.02)


def test_cored_atoms_are_parakeets() -> None:
    """What is left of water's mean potential at a pixel: MULTEM's own table, made by simulation, has these values."""
    for pixel, left in ((0.5, 0.840), (1.0, 0.488), (1.5, 0.207), (2.0, 0.083)):
        whole = sum(n * scattering_factor(z, np.zeros(1))[0] for z, n in ((8, 1), (1, 2)))
        cored = sum(n * cored_factor(z, np.zeros(1), pixel)[0] for z, n in ((8, 1), (1, 2)))
        assert cored / whole == pytest.approx(left, abs=0.012)
    frequency = np.array([[0.0, 0.1], [0.2, 0.3]])
    np.testing.assert_allclose(cored_factor(6, frequency, 1e-3), 1.011 * scattering_factor(6, frequency), rtol=0.01)
    assert atom_radius_angstrom(6) == pytest.approx(2.51, abs=0.01)


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


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    count=st.integers(0, 40), step=st.floats(0.5, 5), dose=st.floats(1, 300), scheme=st.sampled_from(["dose-symmetric", "bidirectional", "continuous"])
)  # fmt: skip
def test_each_tilt_is_taken_once_and_doses_add_up(count: int, step: float, dose: float, scheme: str) -> None:
    angles = tilt_angles(min(89.0, count * step), step)
    taken = acquire(angles, dose, scheme)
    assert sorted(taken.order) == list(range(len(angles)))
    assert taken.dose_at_end.max() == pytest.approx(dose)
    assert taken.dose_at_end.min() == pytest.approx(dose / len(angles))
    assert np.diff(np.sort(taken.dose_at_end)) == pytest.approx(taken.dose_per_tilt)
    first = {"dose-symmetric": 0.0, "bidirectional": 0.0, "continuous": angles[0]}[scheme]
    assert angles[np.argmin(taken.order)] == pytest.approx(first)
    if scheme == "dose-symmetric":
        assert np.all(np.diff(np.abs(angles[np.argsort(taken.order)])) > -1e-9)


@pytest.mark.shared
def test_dose_symmetric_order_is_that_of_the_reference(shared_data) -> None:
    reference = shared_data / "parakeet_reference"
    listed = np.loadtxt(reference / "acquisition_order.txt", dtype=int)
    taken = acquire(np.loadtxt(reference / "tilts.tlt"), 120.0, "dose-symmetric")
    np.testing.assert_array_equal(np.argsort(taken.order), listed)


def test_tilt_angles_hold_zero_and_both_ends() -> None:
    np.testing.assert_allclose(tilt_angles(60, 4), np.arange(-60, 61, 4))
    np.testing.assert_allclose(tilt_angles(10, 3), [-9, -6, -3, 0, 3, 6, 9])


def test_counts_are_poisson() -> None:
    generator = np.random.default_rng(8)
    counts = count_electrons(np.full((400, 400), 0.8), 12.5, generator)
    assert counts.dtype == np.float32
    assert counts.mean() == pytest.approx(10.0, rel=0.01)
    assert counts.var() == pytest.approx(10.0, rel=0.02)
    third = ((counts - counts.mean()) ** 3).mean()
    assert third == pytest.approx(10.0, rel=0.1)
    assert count_electrons(np.array([-0.5]), 10.0, generator)[0] == 0


def test_detector_pass_is_referred_to_its_own_pixel() -> None:
    assert detector_pass(np.zeros(1), 1.0, 1.0)[0] == pytest.approx(0.95)
    assert detector_pass(np.zeros(1), 1.0, 50.0)[0] == pytest.approx(0.80)
    assert detector_pass(np.zeros(1), 1.0, 3.25)[0] == pytest.approx(0.875)
    frequency = np.linspace(0, 0.5, 20)
    passed = detector_pass(frequency, 1.0, 1.0)
    assert np.all(np.diff(passed) < 0)
    np.testing.assert_allclose(detector_pass(frequency / 2, 2.0, 0.25), passed, rtol=1e-6)


def test_an_empty_sample_is_vacuum() -> None:
    empty = Sample([], np.zeros(0, np.int64), np.zeros((0, 3, 3)), np.zeros((0, 3)), Slab(300.0))
    engine = engine_of(empty, matter=physical_matter())
    np.testing.assert_allclose(engine.image(engine.intensity(*engine.exit_wave(10.0, 5.0, None))), 1.0, atol=1e-5)
    assert len(point_cloud(empty, physical_matter(), 0.1).position) == 0


def test_arrays_of_host_and_device_never_mix() -> None:
    """The engine on a device whose arrays refuse the host's: the same image, each array put there explicitly."""
    for ice, matter in ((Slab(200.0), physical_matter()), (Cuboid((150.0, 150.0, 100.0)), parakeet_matter(0.91, 1.0))):
        images = []
        for device in (CPU, STRICT):
            sample = sample_of(blob(np.random.default_rng(9), 20.0), [6] * 300, ice)
            engine = engine_of(sample, matter=matter, device=device, slab_angstrom=20.0, padding_angstrom=32.0)
            screen = Screen(5.0, np.full(engine.grid.shape, 0.1, np.float32), np.full(engine.grid.shape, 0.2, np.float32))
            wave, distance = engine.exit_wave(20.0, 5.0, np.random.default_rng(1), [screen])
            assert isinstance(wave, DeviceArray) == (device is STRICT)
            images.append(engine.image(engine.intensity(wave, distance)))
        assert type(images[1]) is np.ndarray
        np.testing.assert_allclose(images[0], images[1], rtol=1e-5)
