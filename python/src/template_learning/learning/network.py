"""DeepFinder's network and loss (Moebel et al., Nature Methods 2021) in Keras 3, on any of its backends."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import keras

from template_learning.errors import BadInput

DOWNSAMPLING = 4  # two poolings by two: inputs are multiples of this
# Only JAX needs XLA; with TensorFlow it makes 3D convolutions on the CPU ten times slower.
JIT_COMPILE = keras.backend.backend() == "jax"


def build_network(classes: int, filters: int = 32) -> Any:
    """DeepFinder's 3D U-Net: ``[batch, z, y, x, 1]`` to class probabilities ``[batch, z, y, x, classes]``.

    ``classes`` counts the background.  With ``filters`` = 32 the layers are those of cryoet-deepfinder 0.2.1 in their
    order, so that weights pass between the two (see ``deepfinder.py``); other values scale every level.  Any size
    is taken that is a multiple of 4 on each axis.
    """
    first, second, third = filters, filters * 3 // 2, filters * 2

    def convolve(tensor: Any, count: int, edge: int = 3) -> Any:
        return keras.layers.Conv3D(count, edge, padding="same", activation="relu")(tensor)

    grey = keras.layers.Input((None, None, None, 1))
    high = convolve(convolve(grey, first), first)
    middle = convolve(convolve(keras.layers.MaxPooling3D(2)(high), second), second)
    deep = keras.layers.MaxPooling3D(2)(middle)
    for _ in range(4):
        deep = convolve(deep, third)
    joined = convolve(keras.layers.UpSampling3D(2)(deep), third, 2)
    joined = keras.layers.Concatenate()([joined, middle])
    joined = convolve(convolve(joined, second), second)
    joined = convolve(keras.layers.UpSampling3D(2)(joined), second, 2)
    joined = keras.layers.Concatenate()([joined, high])
    joined = convolve(convolve(joined, first), first)
    # Probabilities and loss stay in float32 where the layers compute in half precision.
    probability = keras.layers.Conv3D(classes, 1, padding="same", activation="softmax", dtype="float32")(joined)
    return keras.Model(grey, probability)


def tversky_loss(labels: Any, probability: Any) -> Any:
    """Number of classes minus the sum of their Tversky indices (alpha = beta = 0.5, that is Dice), over the whole batch.

    ``labels`` [batch, z, y, x] integers, ``probability`` [batch, z, y, x, class].  DeepFinder's loss (Salehi et al.,
    MLMI 2017); a class that is neither there nor predicted has an index of zero instead of none.
    """
    axes = (0, 1, 2, 3)
    truth = keras.ops.one_hot(keras.ops.cast(labels, "int32"), probability.shape[-1], dtype=probability.dtype)
    common = keras.ops.sum(probability * truth, axis=axes)
    either = keras.ops.sum(probability, axis=axes) + keras.ops.sum(truth, axis=axes)
    return keras.ops.sum(1.0 - common / keras.ops.maximum(0.5 * either, 1e-7))


def balanced_crossentropy(labels: Any, probability: Any) -> Any:
    """Mean over the classes of each one's mean cross-entropy over its own voxels; shapes as for ``tversky_loss``.

    The Tversky index of a small class has next to no gradient once the network says "background" everywhere, which is
    where a quick start ends; this loss leads out of there.
    """
    axes = (0, 1, 2, 3)
    truth = keras.ops.one_hot(keras.ops.cast(labels, "int32"), probability.shape[-1], dtype=probability.dtype)
    surprise = -keras.ops.sum(truth * keras.ops.log(keras.ops.maximum(probability, 1e-7)), axis=axes)
    return keras.ops.mean(surprise / keras.ops.maximum(keras.ops.sum(truth, axis=axes), 1.0))


def training_loss(crossentropy_weight: float) -> Callable[[Any, Any], Any]:
    """The loss to train with: Tversky, plus so much of the balanced cross-entropy."""
    if crossentropy_weight == 0:
        return tversky_loss

    def loss(labels: Any, probability: Any) -> Any:
        return tversky_loss(labels, probability) + crossentropy_weight * balanced_crossentropy(labels, probability)

    return loss


def has_gpu() -> bool:
    """Whether the backend finds a GPU."""
    # All devices are listed: JAX raises where a kind of device is asked for by name and there is none.
    return any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())


def device_scope(device: Literal["cpu", "gpu", "auto"]) -> AbstractContextManager[Any]:
    """A context in which networks are built and run on that device; auto takes a GPU where there is one.

    Raises BadInput where a GPU is asked for and there is none.
    """
    found = has_gpu()
    if device == "gpu" and not found:
        raise BadInput(f"device = gpu: {keras.backend.backend()} finds no GPU on this machine; set device to cpu or auto")
    return keras.device("gpu:0" if found and device != "cpu" else "cpu:0")
