python3 - <<'PYTHON'
import importlib
for name in ("prody", "numba", "gemmi", "keras", "skimage", "matplotlib", "jinja2", "zarr", "cupy"):
    importlib.import_module(name)
import tensorflow
assert tensorflow.test.is_built_with_cuda(), "TensorFlow was expected with CUDA"
PYTHON
