"""Multislice: propagation and the senses of the axes."""

from dataclasses import replace

import numpy as np
import pytest
from template_learning.common.device import CPU
from template_learning.simulation import multislice as native
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.multislice import PhaseGrating
from template_learning.simulation.optics import Lens, transfer_function
from template_learning.simulation.potential import Sample, point_cloud
from template_learning.simulation.scattering import parakeet_scattering, physical_scattering

from ..builders import VACUUM, atom_blob, engine_of, one_molecule
from ..strict_device import STRICT, DeviceArray


def test_slabs_held_in_turns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(
        one_molecule(atom_blob(np.random.default_rng(3), 30.0), [6] * 300),
        slice_angstrom=10.0,
        scattering=parakeet_scattering(0.91, 1.0),
    )
    whole, _ = engine.exit_wave(30.0, 10.0, None)
    monkeypatch.setattr(native, "SLICE_BYTES", 3 * 128 * 128 * 4 * 4)
    parts, _ = engine.exit_wave(30.0, 10.0, None)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_image_of_a_weak_object_is_its_phase_times_the_transfer_function() -> None:
    """Zeros and sign: to first order the image's transform is -2 Im(T) times that of the phase."""
    for lens in (
        Lens(defocus_angstrom=-10000.0),
        Lens(defocus_angstrom=-3000.0, phase_shift_deg=90.0),
        Lens(defocus_angstrom=8000.0, astigmatism_angstrom=2000.0, astigmatism_deg=30.0),
    ):
        engine = engine_of(one_molecule([(0.0, 0.0, 0.0)], [16]), lens=lens, damage_angstrom2_per_dose=1.0, shape=(96, 96))
        wave, distance = engine.exit_wave(0.0, 3.0, None)
        phase = np.fft.fft2(np.angle(wave))
        transform = np.fft.fft2(engine.intensity(wave, distance) - 1.0)
        expected = -2 * phase * transfer_function(lens, *engine.grid.frequencies).imag
        kept = engine.grid.frequency_squared < 0.1**2
        np.testing.assert_allclose(transform[kept], expected[kept], atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("tilt", [-40.0, 0.0, 40.0])
def test_an_asymmetric_object_lies_where_the_convention_puts_it(tilt: float) -> None:
    """u = x cos t + z sin t, v = y, from the image's middle; matter is dark in underfocus."""
    generator = np.random.default_rng(4)
    places = np.array([(60.0, 20.0, 50.0), (-40.0, -60.0, 10.0), (10.0, 70.0, -60.0)])
    for place in places:
        sample = one_molecule(atom_blob(generator, 6.0), [6] * 300, centre=place)
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
    points = atom_blob(np.random.default_rng(5), 8.0)
    image = []
    for depth, defocus in ((300.0, -10000.0), (0.0, -10300.0)):
        engine = engine_of(one_molecule(points, [6] * 300, centre=(0, 0, depth)), lens=Lens(defocus_angstrom=defocus))
        image.append(engine.image(engine.intensity(*engine.exit_wave(0.0, 0.0, None))))
    assert np.abs(image[0] - image[1]).max() < 0.02 * np.ptp(image[0])


def test_projection_and_multislice_agree_for_a_thin_sample() -> None:
    sample = one_molecule(atom_blob(np.random.default_rng(6), 10.0), [6] * 300)
    one, many = (engine_of(sample, propagation=kind, slice_angstrom=5.0) for kind in ("projection", "multislice"))
    images = [e.image(e.intensity(*e.exit_wave(20.0, 5.0, None))) for e in (one, many)]
    assert np.abs(images[0] - images[1]).max() < 0.03 * np.ptp(images[0])


def test_displaced_ice_lowers_contrast_and_damage_blurs() -> None:
    sample = one_molecule(atom_blob(np.random.default_rng(7), 12.0, 2000), [6] * 2000)
    contrast = []
    for matter, dose in ((VACUUM, 0.0), (physical_scattering(), 0.0), (physical_scattering(), 100.0)):
        engine = engine_of(sample, scattering=matter, damage_angstrom2_per_dose=0.08)
        contrast.append(engine.image(engine.intensity(*engine.exit_wave(0.0, dose, None))).std())
    assert contrast[0] > 1.5 * contrast[1] > 1.5 * contrast[2]


def test_an_empty_sample_is_vacuum() -> None:
    empty = Sample([], np.zeros(0, np.int64), np.zeros((0, 3, 3)), np.zeros((0, 3)), Slab(300.0))
    engine = engine_of(empty, scattering=physical_scattering())
    np.testing.assert_allclose(engine.image(engine.intensity(*engine.exit_wave(10.0, 5.0, None))), 1.0, atol=1e-5)
    assert len(point_cloud(empty, physical_scattering(), 0.1).position) == 0


def test_arrays_of_host_and_device_never_mix() -> None:
    """The engine on a device whose arrays refuse the host's: the same image, each array put there explicitly."""
    for ice, matter in ((Slab(200.0), physical_scattering()), (Cuboid((150.0, 150.0, 100.0)), parakeet_scattering(0.91, 1.0))):
        images = []
        for device in (CPU, STRICT):
            sample = one_molecule(atom_blob(np.random.default_rng(9), 20.0), [6] * 300, ice)
            engine = engine_of(sample, scattering=matter, device=device, slice_angstrom=20.0, padding_angstrom=32.0)
            grating = PhaseGrating(
                5.0, np.full(engine.grid.shape, 0.1, np.float32), np.full(engine.grid.shape, 0.2, np.float32)
            )
            wave, distance = engine.exit_wave(20.0, 5.0, np.random.default_rng(1), [grating])
            assert isinstance(wave, DeviceArray) == (device is STRICT)
            images.append(engine.image(engine.intensity(wave, distance)))
        assert type(images[1]) is np.ndarray
        np.testing.assert_allclose(images[0], images[1], rtol=1e-5)


def test_absorption_is_the_amplitude_part_of_a_weak_objects_transfer() -> None:
    """-2 (sqrt(1 - A^2) sin chi + A cos chi) over the phase, up to the absorption's own size; the exit wave loses electrons."""
    share = 0.1
    for lens in (Lens(defocus_angstrom=-10000.0), Lens(defocus_angstrom=-3000.0, phase_shift_deg=90.0)):
        engine = engine_of(one_molecule([(0.0, 0.0, 0.0)], [16]), lens=lens, damage_angstrom2_per_dose=3.0, shape=(96, 96))
        phase = np.fft.fft2(np.angle(engine.exit_wave(0.0, 3.0, None)[0]))
        wave, distance = replace(engine, amplitude_contrast=share).exit_wave(0.0, 3.0, None)
        assert np.abs(wave).min() < 1 - 0.05 * np.abs(np.angle(wave)).max()
        transform = np.fft.fft2(engine.intensity(wave, distance) - 1.0)
        through = transfer_function(lens, *engine.grid.frequencies)
        expected = -2 * phase * (np.sqrt(1 - share**2) * through.imag + share * through.real) / np.sqrt(1 - share**2)
        kept = engine.grid.frequency_squared < 0.1**2
        np.testing.assert_allclose(transform[kept], expected[kept], atol=0.05 * np.abs(expected).max())


def test_a_cuboids_ice_is_no_absorption() -> None:
    """Molecules take electrons out of the wave, whatever the shape of the ice."""
    molecule = one_molecule(atom_blob(np.random.default_rng(3), 10.0), [6] * 300)
    waves = [
        engine_of(replace(molecule, ice=ice), scattering=physical_scattering(), amplitude_contrast=0.05).exit_wave(0, 0, None)[
            0
        ]
        for ice in (Slab(100.0), Cuboid((2000.0, 2000.0, 100.0)))
    ]
    np.testing.assert_allclose(*(np.abs(wave) for wave in waves), atol=1e-4)


def test_pixels_are_means_over_their_area_or_samples_at_their_centres() -> None:
    """A wave of intensity up to the pixels' last frequency: sampled it keeps its amplitude, as means it has sinc of it."""
    engine = engine_of(one_molecule([(0.0, 0.0, 0.0)], [6]), shape=(64, 64), pixel_angstrom=4.0, oversampling=2)
    y, x = (np.arange(128) - 63.5) * 2.0, (np.arange(128) - 63.5) * 2.0
    centre = (np.arange(64) - 31.5) * 4.0
    for cycles_x, cycles_y in ((8, 0), (16, 5), (31, 0), (3, 31)):
        gx, gy = cycles_x / 256.0, cycles_y / 256.0
        intensity = (1 + 0.2 * np.cos(2 * np.pi * (gx * x[None, :] + gy * y[:, None]))).astype(np.float32)
        wanted = 1 + 0.2 * np.cos(2 * np.pi * (gx * centre[None, :] + gy * centre[:, None]))
        np.testing.assert_allclose(engine.image(intensity, area_means=False), wanted, atol=1e-4)
        means = 1 + (wanted - 1) * np.sinc(4 * gx) * np.sinc(4 * gy)
        np.testing.assert_allclose(engine.image(intensity), means, atol=1e-4)
    # What the pixels cannot hold does not come back as something else.
    beyond = (1 + 0.2 * np.cos(2 * np.pi * 40 / 256.0 * x))[None, :].repeat(128, axis=0).astype(np.float32)
    np.testing.assert_allclose(engine.image(beyond, area_means=False), 1.0, atol=1e-4)
