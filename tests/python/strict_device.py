"""Arrays that, like a GPU's, refuse to be mixed with the host's."""

import numpy as np
from scipy import fft
from template_learning.common.device import Device


class DeviceArray(np.ndarray):
    """An array of the device."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        for value in (*inputs, *(out or ())):
            if isinstance(value, np.ndarray) and value.ndim and not isinstance(value, DeviceArray):
                raise TypeError(f"{ufunc.__name__} mixes arrays of the host and the device")
        plain = [value.view(np.ndarray) if isinstance(value, DeviceArray) else value for value in inputs]
        if out is not None:
            keywords["out"] = tuple(value.view(np.ndarray) for value in out)
        result = getattr(ufunc, method)(*plain, **keywords)
        return result.view(DeviceArray) if isinstance(result, np.ndarray) else result


class FakeModule:
    """A module's functions, returning device arrays and refusing the host's."""

    def __init__(self, module) -> None:
        self.module = module

    def __getattr__(self, name: str):
        def call(*arguments, **keywords):
            if name == "asarray":
                return np.array(*arguments, **keywords).view(DeviceArray)
            if any(isinstance(a, np.ndarray) and not isinstance(a, DeviceArray) for a in arguments):
                raise TypeError(f"{name} was given an array of the host")
            plain = [a.view(np.ndarray) if isinstance(a, DeviceArray) else a for a in arguments]
            if name == "asnumpy":
                return plain[0]
            return getattr(self.module, name)(*plain, **keywords).view(DeviceArray)

        return call


STRICT = Device("gpu", FakeModule(np), FakeModule(fft))
