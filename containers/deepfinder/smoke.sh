cd "$(mktemp -d)"
template-learning train --help >/dev/null
python3 - <<'PYTHON'
import json, subprocess, sys
from importlib.metadata import version
import numpy as np
from template_learning.deepfinder import program as deepfinder_program
assert version("cryoet-deepfinder") == "0.2.1"
labels = np.zeros((24, 24, 24), np.uint8)
labels[4:9, 4:9, 4:9] = 1
(found,) = deepfinder_program.clusters(labels, labels > 0, 5.0)
assert found[0] == 1 and abs(found[1] - 6).max() < 0.5, found
PYTHON
