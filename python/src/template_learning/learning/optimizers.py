"""Optimizers of a training: Adam, and Muon for the kernels of a convolutional network."""

import math
from typing import Any

import keras

from template_learning.settings import TrainSettings


class KernelMuon(keras.optimizers.Muon):
    """Keras's Muon (Jordan et al. 2024), which is for matrices, on convolutions' kernels as matrices [window x inputs, outputs].

    A step is the momentum's nearest orthogonal matrix, so that directions with small gradients are learnt as quickly as those
    with large ones.  It is scaled to the size of Adam's (Liu et al., arXiv:2502.16982).  Adam takes the variables of other
    ranks, and kernels whose path is among ``exclude_layers``.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 5 or variable.path in self.exclude_layers

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The nearest orthogonal matrix, in the kernel's shape."""
        matrix = keras.ops.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """A step of that kernel, with Adam's root mean square."""
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))


def build_optimizer(network: Any, settings: TrainSettings) -> Any:
    """The settings' optimizer and schedule for that network, with its variables; no weight decay.

    With ``muon`` the first kernel, on grey values, and the last, to the classes, stay Adam's, as its authors advise.
    """
    rate: Any = settings.optimizer.learning_rate
    if settings.optimizer.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, settings.epochs * settings.steps_per_epoch)
    if settings.optimizer.name == "adam":
        optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    else:
        kernels = [variable.path for variable in network.trainable_variables if len(variable.shape) == 5]
        optimizer = KernelMuon(
            rate, epsilon=1e-8, weight_decay=None, adam_weight_decay=None, exclude_layers=[kernels[0], kernels[-1]]
        )
    optimizer.build(network.trainable_variables)
    return optimizer
