cd "$(mktemp -d)"
python3 - <<'PYTHON'
import importlib
for name in ("prody", "numba", "gemmi", "tensorflow", "keras", "skimage", "matplotlib", "jinja2", "zarr"):
    importlib.import_module(name)
PYTHON
template-learning flex --help >/dev/null
