"""Networks and losses in Keras 3, on any of its backends: DeepFinder's (Moebel et al., Nature Methods 2021), and a quicker one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import keras

from template_learning.common.errors import BadInput
from template_learning.settings import TrainSettings

# Only JAX needs XLA; with TensorFlow it makes 3D convolutions on the CPU ten times slower.
JIT_COMPILE = keras.backend.backend() == "jax"
# Probabilities and loss stay in float32 where the layers compute in half precision.
LAST: dict[str, Any] = {"activation": "softmax", "dtype": "float32"}


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, in training by TensorFlow's fused operation: fewer passes over the features.

    That operation is for images, so planes of z count as images here.  Weights and what the layer does are Keras's own; it is
    for training alone, models are kept with Keras's layer.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Features normalised by their own batch in training, else by the moving means."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow

        shape = tensorflow.shape(inputs)
        scale, offset = (tensorflow.cast(one, "float32") for one in (self.gamma, self.beta))
        planes = tensorflow.reshape(inputs, (-1, shape[2], shape[3], inputs.shape[-1]))
        planes, mean, variance = tensorflow.compat.v1.nn.fused_batch_norm(planes, scale, offset, epsilon=self.epsilon)
        count = tensorflow.cast(tensorflow.reduce_prod(shape[:-1]), "float32")
        # It gives the sample's unbiased variance, Keras takes the plain one.
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance * (1.0 - 1.0 / count))):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        result = tensorflow.reshape(planes, shape)
        result.set_shape(inputs.shape)
        return result


def build_network(
    classes: int,
    filters: int = 32,
    network: Literal["deepfinder", "residual"] = "deepfinder",
    batch_normalisation: bool = False,
    to_train: bool = False,
) -> Any:
    """A 3D U-Net: a tomogram's grey values to class probabilities.

    Parameters
    ----------
    classes : int
        The background is one of them.
    filters : int, optional
        Feature maps of the first level; other levels scale with it.
    network : {"deepfinder", "residual"}, optional
        deepfinder: with 32 filters the layers are those of cryoet-deepfinder 0.2.1 in their order, so that weights pass
        between the two.  residual: residual blocks on voxels of twice, four and eight times the size.
    batch_normalisation : bool, optional
        deepfinder: after each convolution but the last (Ioffe and Szegedy 2015).  residual has it always.
    to_train : bool, optional
        The same network and weights, its normalisation quicker to train; not to be saved.

    Returns
    -------
    keras.Model
        ``[batch, z, y, x, 1]`` to ``[batch, z, y, x, classes]``.  z, y and x are multiples of ``grid_multiple``.

    References
    ----------
    Moebel et al., Nature Methods 18 (2021) 1386 (DeepFinder).
    """
    grey = keras.layers.Input((None, None, None, 1))
    layers = _Layers(FusedBatchNormalization if to_train else keras.layers.BatchNormalization)
    if network == "residual":
        return keras.Model(grey, layers.residual_network(grey, classes, filters))
    first, second, third = filters, filters * 3 // 2, filters * 2

    def convolve(tensor: Any, count: int, edge: int = 3) -> Any:
        if batch_normalisation:
            return layers.normalised(tensor, count, edge)
        return keras.layers.Conv3D(count, edge, padding="same", activation="relu")(tensor)

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
    return keras.Model(grey, keras.layers.Conv3D(classes, 1, padding="same", **LAST)(joined))


class _Layers:
    """Layers with the batch normalisation of that class."""

    def __init__(self, normalisation: Callable[..., Any]) -> None:
        self.normalisation = normalisation

    def residual_network(self, grey: Any, classes: int, filters: int) -> Any:
        """A U-Net of residual blocks (He et al., CVPR 2016) on voxels of twice, four and eight times the size.

        The first convolution, of stride 2, has ``filters`` features, the levels below it two and three times as many; the last
        one's transpose goes back to single voxels.  Nothing is computed on the voxels themselves, where an eighth of the features
        would cost as much, and nothing pooled: convolutions of stride 2 keep where things are.
        """
        normalised, residual = self.normalised, self._residual
        high = residual(normalised(grey, filters, 4, 2), filters)
        middle = residual(residual(normalised(high, 2 * filters, 2, 2), 2 * filters), 2 * filters)
        deep = residual(normalised(middle, 3 * filters, 2, 2), 3 * filters)
        joined = keras.layers.UpSampling3D(2)(normalised(deep, 2 * filters, 1))
        joined = residual(normalised(keras.layers.Concatenate()([joined, middle]), 2 * filters, 1), 2 * filters)
        joined = keras.layers.UpSampling3D(2)(normalised(joined, filters, 1))
        joined = normalised(keras.layers.Concatenate()([joined, high]), filters, 1)
        return keras.layers.Conv3DTranspose(classes, 2, 2, padding="same", **LAST)(joined)

    def _convolved(self, tensor: Any, count: int, edge: int, stride: int = 1) -> Any:
        options: dict[str, Any] = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
        tensor = keras.layers.Conv3D(count, edge, stride, **options)(tensor)
        return self.normalisation(momentum=0.95)(tensor)

    def normalised(self, tensor: Any, count: int, edge: int = 3, stride: int = 1) -> Any:
        """A convolution of that edge to ``count`` features, normalised, and what is positive of it."""
        return keras.layers.ReLU()(self._convolved(tensor, count, edge, stride))

    def _residual(self, tensor: Any, count: int) -> Any:
        return keras.layers.ReLU()(keras.layers.Add()([tensor, self._convolved(self.normalised(tensor, count), count, 3)]))


def grid_multiple(network: Any) -> int:
    """What the edges of a network's inputs must be multiples of: 4, or 8 where its first convolution has a stride of 2."""
    return 4 * int(next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv3D)).strides[0])


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


def balanced_crossentropy(labels: Any, probability: Any, balance: float = 1.0, weight: Any = None) -> Any:
    """Mean over the classes of each one's mean cross-entropy over its own voxels; shapes as for ``tversky_loss``.

    ``weight`` [batch, z, y, x]: how often each voxel counts (None: once).

    ``balance`` = 0 weighs the classes by their voxels instead: the plain mean, whose probabilities are true to how often
    a class is there; between, by that power.  The Tversky index of a small class has next to no gradient once the network
    says "background" everywhere, which is where a quick start ends; this loss leads out of there.
    """
    axes = (0, 1, 2, 3)
    truth = keras.ops.one_hot(keras.ops.cast(labels, "int32"), probability.shape[-1], dtype=probability.dtype)
    if weight is not None:
        truth = truth * weight[..., None]
    surprise = -keras.ops.sum(truth * keras.ops.log(keras.ops.maximum(probability, 1e-7)), axis=axes)
    voxels = keras.ops.maximum(keras.ops.sum(truth, axis=axes), 1.0)
    share = voxels ** (1.0 - balance)
    return keras.ops.sum(share * surprise / voxels) / keras.ops.sum(share)


def labels_and_weights(labels: Any) -> tuple[Any, Any]:
    """Labels [batch, z, y, x], and their voxels' weights where ``Patches`` gives them beside each other [batch, z, y, x, 2], else None."""
    return (labels[..., 0], labels[..., 1]) if len(labels.shape) == 5 else (labels, None)


def training_loss(settings: TrainSettings) -> Callable[[Any, Any], Any]:
    """The loss to train with: Tversky and cross-entropy, in the settings' weights; labels as ``Patches`` gives them."""

    def loss(labels: Any, probability: Any) -> Any:
        parts = []
        labels, weight = labels_and_weights(labels)
        if settings.loss.tversky_weight > 0:
            parts.append(settings.loss.tversky_weight * tversky_loss(labels, probability))
        if settings.loss.crossentropy_weight > 0:
            entropy = balanced_crossentropy(labels, probability, settings.loss.class_weight_exponent, weight)
            parts.append(settings.loss.crossentropy_weight * entropy)
        return sum(parts)

    return loss


def has_gpu() -> bool:
    """Whether the backend finds a GPU."""
    if keras.backend.backend() == "torch":  # keras lists no devices of it
        import torch

        return bool(torch.cuda.is_available())
    # All devices are listed: JAX raises where a kind of device is asked for by name and there is none.
    return any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())


def takes_gpu(device: Literal["cpu", "gpu", "auto"]) -> bool:
    """Whether networks asked onto ``device`` run on a GPU here."""
    return device != "cpu" and has_gpu()


def device_scope(device: Literal["cpu", "gpu", "auto"]) -> AbstractContextManager[Any]:
    """A context in which networks are built and run on that device; auto takes a GPU where there is one.

    Raises BadInput where a GPU is asked for and there is none.
    """
    if takes_gpu(device):
        return keras.device("gpu:0")
    if device == "gpu":
        raise BadInput(f"device = gpu: {keras.backend.backend()} finds no GPU on this machine; set device to cpu or auto")
    # To PyTorch "cpu:0" is another device than "cpu", where gradients are.
    return keras.device("cpu" if keras.backend.backend() == "torch" else "cpu:0")
