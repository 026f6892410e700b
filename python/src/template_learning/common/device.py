"""Where transforms are computed: NumPy and SciPy's FFT, or CuPy with the same functions on a GPU."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from scipy import fft

from template_learning.common.errors import BadInput
from template_learning.common.log import tell


@dataclass(frozen=True)
class Device:
    """``xp`` has NumPy's functions, ``fft`` SciPy's; arrays of one device do not mix with the other's."""

    name: Literal["cpu", "gpu"]
    xp: Any
    fft: ModuleType | Any

    def put(self, array: Any) -> Any:
        """A host array on the device."""
        return self.xp.asarray(array)

    def get(self, array: Any) -> Any:
        """A device's array on the host."""
        return np.asarray(array) if self.name == "cpu" else self.xp.asnumpy(array)


CPU = Device("cpu", np, fft)


def choose_device(asked: Literal["cpu", "gpu", "auto"], stage: str = "simulate") -> Device:
    """The device asked for by a stage; auto takes a GPU where CuPy finds one and says in one line when it does not.

    Raises BadInput where a GPU is asked for and absent.
    """
    if asked == "cpu":
        return CPU
    try:
        cupy = importlib.import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount() < 1:
            raise RuntimeError("no device")
        return Device("gpu", cupy, importlib.import_module("cupyx.scipy.fft"))
    except Exception as error:  # CuPy fails in its own ways where the driver, the libraries or the device are missing
        reason = "CuPy is not installed" if isinstance(error, ImportError) else " ".join(str(error).split())[:100]
        if asked == "gpu":
            raise BadInput(
                f"{stage}.device: a GPU was asked for and there is none ({reason}); cpu or auto was expected"
            ) from None
        tell(f"{stage}: no GPU ({reason}); the processor is used")
        return CPU
