"""Weights to and from the published DeepFinder (cryoet-deepfinder), whose network is that of ``network.py``.

Its files are Keras's older HDF5 form: layers in order, each with its kernel and bias.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from template_learning.common.errors import BadInput
from template_learning.common.files import existing, replacing
from template_learning.learning.network import build_network


def read_weights(path: Path) -> list[NDArray[np.float32]]:
    """The weights of DeepFinder's network in their order, from what its ``Train`` saves (.h5, whole model or weights).

    Raises BadInput for a file that is not such a one.
    """
    existing(path)
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            layers = [group[_text(name)] for name in group.attrs["layer_names"]]
            return [np.asarray(layer[_text(name)], np.float32) for layer in layers for name in layer.attrs["weight_names"]]
    except (OSError, KeyError):
        raise BadInput(f"{path}: not a file of Keras weights as DeepFinder saves them (.h5)") from None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def load_weights(network: Any, path: Path) -> None:
    """Put DeepFinder's weights into a network of ``build_network``; BadInput where filters or classes differ."""
    weights = read_weights(path)
    found, expected = [weight.shape for weight in weights], [weight.shape for weight in network.get_weights()]
    if found != expected:
        first = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), (len(found), len(expected)))
        raise BadInput(f"{path}: weights of another network: {first[0]} where {first[1]} was expected")
    network.set_weights(weights)


def network_sizes(weights: list[NDArray[np.float32]]) -> tuple[int, int]:
    """How many classes (with the background) and first-level filters a network with these weights has."""
    return weights[-1].shape[0], weights[0].shape[-1]


def save_weights(network: Any, path: Path) -> None:
    """Write a network's weights as DeepFinder reads them (``Segment(Ncl, path)``), by write-then-rename.

    BadInput for a network that is not DeepFinder's layer by layer.
    """
    own = build_network(network.output_shape[-1])
    if [weight.shape for weight in network.get_weights()] != [weight.shape for weight in own.get_weights()]:
        raise BadInput(
            "a network of other layers: DeepFinder's has 32 filters at first, no residual blocks, no batch normalisation"
        )
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        names = []
        for layer in network.layers:
            group = file.create_group(layer.name)
            names.append(layer.name)
            arrays = dict(zip((f"{layer.name}/kernel:0", f"{layer.name}/bias:0"), layer.get_weights(), strict=False))
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.13.1"
