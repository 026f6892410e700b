import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from template_learning.common.geometry import (
    Grid,
    angles_from_rotation,
    move_between_grids,
    random_rotations,
    rotation_from_angles,
    tilt_matrix,
)


@given(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180))
def test_angles_survive_the_round_trip(rot, tilt, psi):
    rotation = rotation_from_angles((rot, tilt, psi))
    again = rotation_from_angles(angles_from_rotation(rotation))
    assert (rotation.inv() * again).magnitude() < 1e-6


def test_angles_follow_relion():
    # RELION's matrix of (rot, tilt, psi), written out as in its manual of conventions (Heymann, Chagoyen, Belnap 2005).
    rot, tilt, psi = np.deg2rad([20.0, 50.0, -70.0])

    def passive_z(a):
        return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])

    def passive_y(a):
        return np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])

    expected = passive_z(psi) @ passive_y(tilt) @ passive_z(rot)
    np.testing.assert_allclose(rotation_from_angles((20.0, 50.0, -70.0)).as_matrix(), expected, atol=1e-12)


def test_random_rotations_are_uniform():
    # Under the uniform measure any fixed axis ends uniform on the sphere: each coordinate is uniform in [-1, 1].
    axis = random_rotations(20000, np.random.default_rng(3)).apply([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    for coordinate in axis.T:
        ordered = np.sort(coordinate)
        distance = np.abs(ordered - np.linspace(-1, 1, len(ordered))).max() / 2
        assert distance < 1.95 / np.sqrt(len(ordered))  # Kolmogorov-Smirnov, p about 0.001


def test_grids_share_their_centre():
    fine, coarse = Grid(shape=(64, 96, 128), voxel_size_angstrom=8.0), Grid(shape=(32, 48, 64), voxel_size_angstrom=16.0)
    assert coarse.resampled(8.0) == fine
    np.testing.assert_allclose(move_between_grids(coarse.centre_angstrom, coarse, fine), fine.centre_angstrom)
    # The border of the box, half a voxel below voxel 0, is the same point in both.
    np.testing.assert_allclose(move_between_grids([-8.0] * 3, coarse, fine), [-4.0] * 3)


@given(st.floats(-80, 80), st.floats(-500, 500), st.floats(-500, 500))
def test_tilt_follows_the_convention(tilt, x, z):
    u, _, _ = tilt_matrix(tilt) @ [x, 7.0, z]
    t = np.deg2rad(tilt)
    assert np.isclose(u, x * np.cos(t) + z * np.sin(t))
    assert np.isclose(np.linalg.det(tilt_matrix(tilt)), 1)
