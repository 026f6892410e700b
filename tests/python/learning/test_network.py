"""The network, its losses and where it runs."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from template_learning.common.errors import BadInput
from template_learning.learning.inference import segment_volume
from template_learning.learning.network import (
    balanced_crossentropy,
    build_network,
    device_scope,
    grid_multiple,
    has_gpu,
    tversky_loss,
)
from template_learning.settings import (
    SegmentSettings,
)

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_network_has_deepfinders_size_and_takes_any_multiple_of_four() -> None:
    network = build_network(classes=3, filters=32)
    # Counted by hand from the layers: 27 (or 8) x in x out + out, 14 convolutions and the last one.
    levels = [(27, 1, 32), (27, 32, 32), (27, 32, 48), (27, 48, 48), (27, 48, 64), *[(27, 64, 64)] * 3, (8, 64, 64)]
    levels += [(27, 112, 48), (27, 48, 48), (8, 48, 48), (27, 80, 32), (27, 32, 32), (1, 32, 3)]
    assert network.count_params() == sum(edge * before * after + after for edge, before, after in levels)
    small = build_network(classes=2, filters=4)
    probability = np.asarray(small.predict_on_batch(np.zeros((1, 8, 12, 16, 1), np.float32)))
    assert probability.shape == (1, 8, 12, 16, 2)
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-5)


def test_residual_network_takes_any_multiple_of_eight_and_is_the_same_in_tiles() -> None:
    import keras  # not at the top: before the package it would load TensorFlow as it comes, without oneDNN

    keras.utils.set_random_seed(3)
    network = build_network(classes=3, filters=8, network="residual")
    assert (grid_multiple(network), grid_multiple(build_network(3, 4))) == (8, 4)
    probability = np.asarray(network.predict_on_batch(np.zeros((1, 8, 16, 24, 1), np.float32)))
    assert probability.shape == (1, 8, 16, 24, 3)
    assert np.allclose(probability.sum(axis=-1), 1, atol=1e-5)
    volume = np.random.default_rng(2).standard_normal((21, 30, 44)).astype(np.float32)
    whole = segment_volume(network, volume, SegmentSettings(tile_voxels=64))
    tiled = segment_volume(network, volume, SegmentSettings(tile_voxels=36, overlap_voxels=16))
    assert whole.shape == tiled.shape == (21, 30, 44, 3)
    assert np.abs(whole - tiled).mean() < 0.2 * whole.std()


def losses_and_weights(policy: str, to_train: bool) -> tuple[list[float], list[NDArray[Any]]]:
    import keras

    generator = np.random.default_rng(0)
    grey = generator.standard_normal((3, 24, 24, 24, 1)).astype(np.float32)
    labels = (ndimage.gaussian_filter(grey[..., 0], (0, 1, 1, 1)) > 0.2).astype(np.int32)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        network = build_network(2, 8, "residual", to_train=to_train)
        network.compile(optimizer=keras.optimizers.SGD(0.05), loss=balanced_crossentropy)
        return [float(network.train_on_batch(grey, labels)) for _ in range(6)], network.get_weights()
    finally:
        keras.config.set_dtype_policy(before)


def test_fused_normalisation_trains_as_keras_own_does() -> None:
    losses, weights = losses_and_weights("float32", to_train=False)
    fused_losses, fused_weights = losses_and_weights("float32", to_train=True)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(fused_losses, losses, rtol=1e-5)
    for fused, plain in zip(fused_weights, weights, strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-5)


def test_fused_normalisation_learns_in_half_precision_as_in_single() -> None:
    single, _ = losses_and_weights("float32", to_train=True)
    half, _ = losses_and_weights("mixed_bfloat16", to_train=True)
    np.testing.assert_allclose(half, single, rtol=3e-2)


def test_crossentropy_between_balanced_and_plain() -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random((2, 4, 4, 4)) < 0.1).astype(np.int32)
    probability = generator.dirichlet(np.ones(2), labels.shape).astype(np.float32)
    surprise = -np.log(np.take_along_axis(probability, labels[..., None], axis=-1)[..., 0])
    means = [surprise[labels == number].mean() for number in (0, 1)]
    assert float(balanced_crossentropy(labels, probability)) == pytest.approx(np.mean(means), rel=1e-5)
    assert float(balanced_crossentropy(labels, probability, 0.0)) == pytest.approx(surprise.mean(), rel=1e-5)
    share = np.sqrt([(labels == number).sum() for number in (0, 1)])
    assert float(balanced_crossentropy(labels, probability, 0.5)) == pytest.approx(np.average(means, weights=share), rel=1e-5)


def test_a_voxel_of_weight_two_counts_as_two_voxels() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, (1, 2, 4, 4))
    probability = generator.dirichlet(np.ones(2), labels.shape).astype(np.float32)
    weight = np.ones(labels.shape, dtype=np.float32)
    weight[:, 1] = 2.0
    twice = [np.concatenate([one, one[:, 1:]], axis=1) for one in (labels, probability)]
    for balance in (0.0, 0.3, 1.0):
        assert float(balanced_crossentropy(labels, probability, balance, weight)) == pytest.approx(
            float(balanced_crossentropy(*twice, balance)), rel=1e-5
        )


def test_tversky_loss_is_classes_minus_dice() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, (2, 4, 4, 4))
    probability = generator.dirichlet(np.ones(3), (2, 4, 4, 4)).astype(np.float32)
    expected = 3.0
    for number in range(3):
        truth, found = labels == number, probability[..., number]
        expected -= (found * truth).sum() / (0.5 * found.sum() + 0.5 * truth.sum())
    assert float(np.asarray(tversky_loss(labels, probability))) == pytest.approx(expected, abs=1e-5)
    perfect = np.eye(3, dtype=np.float32)[labels]
    assert float(np.asarray(tversky_loss(labels, perfect))) == pytest.approx(1, abs=1e-6)  # class 2 is neither there nor found


def test_gpu_asked_and_absent() -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BadInput, match="no GPU"):
        device_scope("gpu")
