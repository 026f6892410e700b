cd "$(mktemp -d)"
parakeet.run --help >/dev/null
template-learning simulate --help >/dev/null
python3 - <<'PYTHON'
from importlib.metadata import version
import multem, parakeet.simulate, h5py
import template_learning.simulation.parakeet
assert (version("python-parakeet"), version("python-multem")) == ("0.6.8", "0.4.1")
multem.is_gpu_available()  # finds CUDA's libraries, whether there is a GPU or not
PYTHON
