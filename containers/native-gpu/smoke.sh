python3 - <<'PYTHON'
import importlib
for name in ("prody", "numba", "gemmi", "keras", "skimage", "sklearn", "matplotlib", "jinja2", "starfile", "copick", "zarr", "cupy"):
    importlib.import_module(name)
import tensorflow
assert tensorflow.test.is_built_with_cuda(), "TensorFlow was expected with CUDA"
PYTHON
