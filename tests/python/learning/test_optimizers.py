"""Muon's step on kernels of convolutions beside NumPy's singular vectors, and what stays Adam's."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from template_learning.learning.network import build_network
from template_learning.learning.optimizers import build_optimizer
from template_learning.settings import TrainSettings

RATE = 0.01
MUON = TrainSettings(optimizer={"name": "muon", "learning_rate": RATE}, network="residual", filters=8, patch_voxels=48)


def steps(settings: TrainSettings) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """The first step of each trainable variable: its path, a random gradient, the change."""
    keras.utils.set_random_seed(3)
    network = build_network(2, settings.filters, settings.network)
    random = np.random.default_rng(4)
    variables = network.trainable_variables
    before = [variable.numpy() for variable in variables]
    gradients = [random.normal(size=variable.shape).astype(np.float32) for variable in variables]
    optimizer = build_optimizer(network, settings)
    optimizer.apply(list(map(keras.ops.convert_to_tensor, gradients)))
    after = [variable.numpy() for variable in variables]
    return [(variable.path, g, b - a) for variable, g, b, a in zip(variables, gradients, before, after, strict=True)]


def test_a_kernels_step_is_the_orthogonal_matrix_nearest_to_its_gradient_of_adams_size() -> None:
    middle = [(gradient, change) for _, gradient, change in steps(MUON) if gradient.ndim == 5][1:-1]
    assert len(middle) > 10
    for gradient, change in middle:
        matrix, moved = (one.reshape(-1, one.shape[-1]).astype(float) for one in (gradient, change))
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        # in the gradient's singular directions: along them all alike, across them nothing
        along = left.T @ moved @ right.T / (RATE * 0.2 * np.sqrt(max(matrix.shape)))
        np.testing.assert_allclose(np.diag(along), 1.0, atol=0.35)  # five Newton-Schulz steps come that near
        np.testing.assert_allclose(along - np.diag(np.diag(along)), 0.0, atol=0.02)


def test_first_and_last_kernel_and_all_vectors_take_adams_step() -> None:
    muon, adam = steps(MUON), steps(MUON.changed({"optimizer": {"name": "adam"}}))
    kernels = [number for number, (_, gradient, _) in enumerate(muon) if gradient.ndim == 5]
    for number, ((path, _, change), (_, gradient, expected)) in enumerate(zip(muon, adam, strict=True)):
        if number in kernels[1:-1]:
            assert not np.allclose(change, expected, atol=RATE / 10), path
        else:
            np.testing.assert_allclose(change, expected, atol=1e-6, err_msg=path)
            np.testing.assert_allclose(change, RATE * np.sign(gradient), rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_cosine_ends_at_nothing(optimizer: str) -> None:
    chosen = MUON.changed(
        {"optimizer": {"name": optimizer, "learning_rate_schedule": "cosine"}, "epochs": 2, "steps_per_epoch": 3}
    )
    built = build_optimizer(build_network(2, 8, "residual"), chosen)
    assert float(built.learning_rate) == pytest.approx(RATE)
    built.iterations.assign(6)
    assert float(built.learning_rate) == pytest.approx(0.0, abs=1e-9)
