cd "$(mktemp -d)"
python3 - <<'PYTHON'
import importlib
for name in ("prody", "numba", "gemmi", "tensorflow", "keras", "skimage", "sklearn", "matplotlib", "jinja2", "starfile", "copick", "zarr"):
    importlib.import_module(name)
PYTHON
template-learning flex --help >/dev/null
